//! From the request that creates a network to what the engine is asked for.

use std::net::IpAddr;

use super::given::{egress, once, servers};
use super::{CreateNetwork, SubnetObject, SubnetRequest};
use crate::api::v1::options::{GatewayMode, Kind, Options};
use crate::api::v1::{options, parse};
use crate::model::address::Family;
use crate::model::network::{HostAccess, StackedMode};
use crate::model::request::{DriverSpec, NetworkSpec};
use crate::model::subnets::{SubnetSpec, Subnets};
use crate::model::{Invalid, address, network};

/// Smallest MTU of an IPv4 link (RFC 791, 3.2).
const MTU_MIN: u32 = 68;
/// Smallest MTU of an IPv6 link (RFC 8200, 5); below it the kernel takes IPv6 off the interface.
const MTU_MIN_V6: u32 = 1280;
/// Largest MTU of bridges and veth pairs (`ETH_MAX_MTU`, linux/if_ether.h).
const MTU_MAX: u32 = 65535;

impl TryFrom<CreateNetwork> for NetworkSpec {
    type Error = Invalid;
    fn try_from(request: CreateNetwork) -> Result<Self, Invalid> {
        let name = request.name.parse()?;
        let kind = request.driver.as_deref().map_or(Ok(Kind::default()), Kind::named)?;
        if request.labels.contains_key("") {
            return Err(Invalid::new("label", "", "its key is empty"));
        }
        let subnets = subnets(request.subnets, &request.gateways, &request.ip_ranges)?;
        let options: Options = options::read(&request.options, kind)?;
        let driver = described(kind, &options)?;
        let isolated = options.gateway_mode == Some(GatewayMode::Isolated);
        let routed = options.gateway_mode == Some(GatewayMode::Routed);
        if isolated && !request.internal {
            let why = "without an address of the host, the network must be internal (--internal)";
            return Err(Invalid::new("option", "gateway_mode=isolated", why));
        }
        let access = request.host_access.map(|access| host_access(&access, request.internal)).transpose()?;
        let access = once("host_access", access.map(HostAccess::as_str), options.host_access.map(HostAccess::as_str))?;
        let access = access.map(|access| host_access(access, request.internal)).transpose()?;
        if !options.host_addresses.is_empty() && access != Some(HostAccess::All) {
            let why = "the host has addresses on the network with --host-access all only";
            return Err(Invalid::new("option", "host_address", why));
        }
        if let Some(relay) = &options.relay {
            relay.check(&name, request.internal)?;
        }
        let ipv6 = request.ipv6 || subnets.as_slice().iter().any(|spec| spec.subnet.family() == Family::V6);
        let dhcp = options.dhcp.unwrap_or(false);
        if dhcp {
            can_use_dhcp(&driver, (&subnets, ipv6), access)?;
        }
        Ok(Self {
            subnets,
            ipv6: request.ipv6,
            dhcp,
            internal: request.internal,
            icc: once("icc", request.icc, options.icc)?.unwrap_or(true),
            masquerade: once("masquerade", request.masquerade, options.masquerade)?.unwrap_or(true),
            mtu: once("mtu", request.mtu, options.mtu)?.map(|mtu| sane_mtu(mtu, ipv6)).transpose()?,
            bridge: options.bridge.filter(|_| driver == DriverSpec::Bridge),
            driver,
            isolated,
            routed,
            unprotected: options.gateway_mode == Some(GatewayMode::Unprotected),
            source: options.source,
            labels: request.labels,
            dns: network::NetworkDns {
                upstreams: servers(request.dns, options.servers)?,
                listen: options.listen.unwrap_or_default(),
            },
            host_access: access,
            sticky: once("sticky", request.sticky, options.sticky)?.unwrap_or(false),
            trusted: options.trusted.unwrap_or(false),
            publish: options.publish,
            on_demand: request.on_demand,
            relay: options.relay,
            egress: egress(request.egress, request.egress_allow, options.egress)?,
            ..Self::named(name)
        })
    }
}

/// The name of a driver, checked.
pub fn driver(name: &str) -> Result<&str, Invalid> {
    Kind::named(name).map(|_| name)
}

/// The driver that the options describe.
fn described(kind: Kind, options: &Options) -> Result<DriverSpec, Invalid> {
    let stacked = |mode: StackedMode| {
        let lacks =
            || Invalid::new("option", "parent", format!("the {} driver needs -o parent=INTERFACE", mode.driver()));
        let parent = options.parent.clone().ok_or_else(lacks)?;
        Ok(DriverSpec::Stacked { parent, mode, host: options.host_addresses.clone() })
    };
    match kind {
        Kind::Macvlan => stacked(StackedMode::Macvlan(options.macvlan.unwrap_or_default())),
        Kind::Ipvlan => stacked(StackedMode::Ipvlan(options.ipvlan.unwrap_or_default())),
        Kind::Nothing => Ok(DriverSpec::Nothing),
        Kind::Bridge if options.unmanaged == Some(true) => {
            let lacks = || Invalid::new("option", "mode=unmanaged", "name the host's bridge as well: -o bridge=br0");
            let bridge = options.bridge.clone().ok_or_else(lacks)?;
            let own = [options.masquerade.is_some(), options.gateway_mode.is_some(), !options.source.is_empty()];
            if own.contains(&true) {
                let why = "the host translates and routes nothing for containers on its own bridge";
                return Err(Invalid::new("option", "mode=unmanaged", why));
            }
            if options.relay.is_some() {
                let why = "containers on the host's own bridge hear what is sent there";
                return Err(Invalid::new("option", "relay", why));
            }
            Ok(DriverSpec::Unmanaged { bridge, vlan: options.vlan })
        }
        Kind::Bridge => match options.vlan {
            Some(vlan) => {
                let why =
                    "bridges of netd's own have no VLANs: it is for one of the host (-o mode=unmanaged -o bridge=br0)";
                Err(Invalid::new("option", format!("vlan={vlan}"), why))
            }
            None => Ok(DriverSpec::Bridge),
        },
    }
}

/// Whether a DHCP server can give the addresses.
fn can_use_dhcp(
    driver: &DriverSpec,
    (subnets, ipv6): (&Subnets, bool),
    access: Option<HostAccess>,
) -> Result<(), Invalid> {
    let why = match driver {
        DriverSpec::Bridge | DriverSpec::Nothing => {
            "there is no DHCP server on a network of netd's own: use --driver macvlan -o parent=INTERFACE, or -o \
             mode=unmanaged -o bridge=BRIDGE"
        }
        DriverSpec::Stacked { mode: StackedMode::Ipvlan(_), .. } => {
            "a DHCP server tells its clients apart by their MAC addresses, and those of ipvlan have one: use macvlan"
        }
        _ if ipv6 => "netd's client speaks DHCP for IPv4 only: leave out --ipv6 and subnets of IPv6",
        _ if !subnets.as_slice().is_empty() => {
            "the server gives addresses, subnet and gateway: leave out --subnet, --gateway and --ip-range"
        }
        DriverSpec::Stacked { .. } if access == Some(HostAccess::All) => {
            "the host's own interface there would need an address that netd chooses: leave out --host-access"
        }
        DriverSpec::Stacked { .. } | DriverSpec::Unmanaged { .. } => return Ok(()),
    };
    Err(Invalid::new("option", "ipam=dhcp", why))
}

/// Subnets with the gateways and ranges that belong to them.
fn subnets(requests: Vec<SubnetRequest>, gateways: &[String], ranges: &[String]) -> Result<Subnets, Invalid> {
    let subnet = |request| match request {
        SubnetRequest::Prefix(prefix) => prefix.parse().map(|subnet: address::Subnet| subnet.into()),
        SubnetRequest::Object(SubnetObject { subnet, gateway, ip_range }) => Ok(SubnetSpec {
            subnet: subnet.parse()?,
            gateway: gateway.map(|gateway| parse::gateway(&gateway)).transpose()?,
            range: ip_range.map(|range| parse::ip_range(&range)).transpose()?,
        }),
    };
    let subnets: Vec<SubnetSpec> = requests.into_iter().map(subnet).collect::<Result<_, Invalid>>()?;
    let gateways: Vec<IpAddr> = gateways.iter().map(|text| parse::gateway(text)).collect::<Result<_, _>>()?;
    let ranges: Vec<address::Subnet> = ranges.iter().map(|text| parse::ip_range(text)).collect::<Result<_, _>>()?;
    Subnets::new(subnets, &gateways, &ranges)
}

/// What of the host is reached. Nothing leads from an internal network to a published port, which is in another.
fn host_access(text: &str, internal: bool) -> Result<HostAccess, Invalid> {
    match text.parse()? {
        HostAccess::Ports if internal => Err(Invalid::new(
            "host access",
            text,
            "containers on an internal network cannot reach published ports: use none or all",
        )),
        access => Ok(access),
    }
}

fn sane_mtu(mtu: u32, ipv6: bool) -> Result<u32, Invalid> {
    let (least, with) = if ipv6 { (MTU_MIN_V6, " with IPv6") } else { (MTU_MIN, "") };
    if (least..=MTU_MAX).contains(&mtu) {
        return Ok(mtu);
    }
    Err(Invalid::new("mtu", mtu.to_string(), format!("use {least} to {MTU_MAX} bytes{with}")))
}
