//! The request to the daemon, from Podman's definition of the networks and what the container gets on them.
//!
//! What netd cannot do as the definition says is refused, and the sentence names the option and what to do.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use super::failure::Failure;
use super::input::{Network, Options, PerNetwork, PortMapping, Route, Subnet};
use crate::api::v1::{
    self, AddressRequest, AttachOne, AttachTogether, CreateNetwork, Interface, PortObject, PortRequest, SubnetObject,
    SubnetRequest,
};
use crate::model::address;
use crate::model::names::{Alias, ContainerName, IfName, NetworkName};
use crate::model::publication::Protocol;
use crate::model::request::NetworkSpec;

/// The name of netd's driver: that of its plugin, and of `podman network create --driver`.
pub(super) const DRIVER: &str = "netd";
/// The option of a network that is an existing one of netd, with the driver `netd`.
pub(super) const JOINED: &str = "netd.network";
/// Metric of a default route for which none was asked (netavark).
const METRIC: u32 = 100;
/// How many bytes of a name that is too long for netd its network keeps, before the beginning of Podman's id.
const NAME_KEPT: usize = 50;

/// What a network's options say, besides what its definition is made of.
#[derive(Default)]
struct Settings {
    mtu: Option<u32>,
    metric: Option<u32>,
    no_default_route: bool,
    /// The bridge is the host's.
    unmanaged: bool,
    /// Those of netd, with the driver `netd`.
    ours: BTreeMap<String, String>,
}

/// The request, and what it leaves out.
pub(super) fn attach(options: &Options, netns: &str) -> Result<(AttachTogether, Vec<String>), Failure> {
    let netns = std::path::absolute(netns).map_err(|error| Failure(format!("network namespace {netns:?}: {error}")))?;
    let netns = netns.into_os_string().into_string();
    let netns = netns.map_err(|_| Failure::new("the path of the network namespace is not UTF-8"))?;
    let ports = ports(&options.port_mappings)?;
    let mut left_out = Vec::new();
    let mut attachments = Vec::new();
    for (wanted, network) in &options.networks {
        let (metric, one) = one(wanted, network, &mut left_out)?;
        let dns = options.dns_servers.iter().filter(|_| network.dns_enabled || options.is_plugin);
        let dns = dns.map(|server| server.to_string().parse()).collect::<Result<_, _>>()?;
        attachments.push((metric, AttachOne { ports: ports.clone(), dns, ..one }));
    }
    // The default route leads over the first that can have it. The order is stable: with equal metrics it is Podman's.
    attachments.sort_by_key(|(metric, _)| *metric);
    let name = options.container_name.parse::<ContainerName>().is_ok().then(|| options.container_name.clone());
    let attachments = attachments.into_iter().map(|(_, one)| one).collect();
    Ok((AttachTogether { netns, name, scope: None, attachments }, left_out))
}

fn one(wanted: &PerNetwork, network: &Network, left_out: &mut Vec<String>) -> Result<(u32, AttachOne), Failure> {
    let refuse = |why: String| Failure::network(&network.name, why);
    if let Some(option) = wanted.options.iter().flatten().map(|(key, _)| key).next() {
        return Err(refuse(format!("option {option:?} of the container: netd does not know it: leave it out")));
    }
    let is_ours = network.driver == DRIVER;
    check_driver(network)?;
    let settings = settings(network)?;
    let mut addresses = Vec::new();
    match network.ipam() {
        "" | "host-local" if network.subnets.is_some() || !is_ours => {
            let given = wanted.static_ips.as_deref().unwrap_or_default();
            if given.is_empty() {
                return Err(refuse("no static ips provided: Podman gives the addresses of its networks".into()));
            }
            addresses.extend(given.iter().map(|ip| AddressRequest { address: ip.to_string(), gateway: None }));
        }
        "" | "host-local" | "none" if is_ours => {
            let given = wanted.static_ips.iter().flatten();
            addresses.extend(given.map(|ip| AddressRequest { address: ip.to_string(), gateway: None }));
        }
        "none" => {
            return Err(refuse(
                "ipam driver \"none\": a network of netd gives addresses: create it again without".into(),
            ));
        }
        // The daemon refuses requested addresses, and networks that can have no server.
        "dhcp" => {
            let given = wanted.static_ips.iter().flatten();
            addresses.extend(given.map(|ip| AddressRequest { address: ip.to_string(), gateway: None }));
        }
        other => return Err(refuse(format!("ipam driver {other:?} is unknown: use host-local or dhcp"))),
    }
    let exact = !addresses.is_empty() && network.ipam() != "none";
    let aliases = wanted.aliases.iter().flatten().filter_map(|alias| match alias.parse::<Alias>() {
        Ok(alias) => Some(alias),
        Err(invalid) => {
            left_out.push(format!("network {}: {invalid}", network.name));
            None
        }
    });
    let lacks_gateway = network.subnets.iter().flatten().any(|subnet| subnet.gateway.is_none());
    let mac = wanted.static_mac.as_deref().filter(|mac| !mac.is_empty()).map(str::parse).transpose()?;
    let one = AttachOne {
        owner: None,
        ifname: wanted.interface_name.clone(),
        network: definition(network, &settings)?,
        aliases: aliases.collect(),
        interface: if exact { Interface::Given } else { Interface::Made },
        addresses,
        routes: network.routes.iter().flatten().map(|given| route(network, given)).collect::<Result<_, _>>()?,
        no_default_route: settings.no_default_route || (lacks_gateway && !network.internal),
        mac,
        ..AttachOne::default()
    };
    Ok((settings.metric.unwrap_or(METRIC), one))
}

/// Whether its interfaces are on top of one of the host's.
pub(super) fn is_stacked(driver: &str) -> bool {
    matches!(driver, "macvlan" | "ipvlan")
}

/// Whether the bridge of the network is the host's.
pub(super) fn is_unmanaged(network: &Network) -> bool {
    network.options.as_ref().and_then(|options| options.get("mode")).is_some_and(|mode| mode == "unmanaged")
}

pub(super) fn check_driver(network: &Network) -> Result<(), Failure> {
    match network.driver.as_str() {
        "bridge" | DRIVER => Ok(()),
        driver if is_stacked(driver) && network.network_interface.as_deref().unwrap_or_default().is_empty() => {
            let why = format!("driver {driver}: name the host's interface that it is to be on: -o parent=eth0");
            Err(Failure::network(&network.name, why))
        }
        driver if is_stacked(driver) => Ok(()),
        driver => Err(Failure::network(
            &network.name,
            format!("driver {driver:?} is not known to netd: create the network again with --driver bridge"),
        )),
    }
}

fn settings(network: &Network) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    let is_ours = network.driver == DRIVER;
    for (key, value) in network.options.iter().flatten() {
        let refuse = |why: &str| Failure::network(&network.name, format!("option {key}={value}: {why}"));
        match (key.as_str(), value.as_str()) {
            ("mtu", _) => settings.mtu = Some(read(network, key, value)?).filter(|mtu| *mtu != 0),
            ("metric", _) => settings.metric = Some(read(network, key, value)?),
            ("no_default_route", _) => {
                settings.no_default_route = v1::boolean(value).ok_or_else(|| refuse("use true or false"))?;
            }
            ("mode", mode) if is_stacked(&network.driver) => {
                settings.ours.insert("mode".into(), mode.to_owned());
            }
            ("mode", "unmanaged") => settings.unmanaged = true,
            ("isolate", "true" | "strict" | "1") | ("mode", "" | "managed") => {}
            ("isolate", _) => {
                return Err(refuse("netd keeps networks apart: leave it out, or connect the containers to both"));
            }
            ("mode", _) => return Err(refuse("use managed or unmanaged")),
            ("vlan", vlan) => drop(settings.ours.insert(key.clone(), vlan.to_owned())),
            ("vrf", _) => return Err(refuse("netd puts no bridge into a VRF: leave it out")),
            ("outbound_addr4" | "outbound_addr6", _) => drop(settings.ours.insert(key.clone(), value.clone())),
            _ if is_ours => drop(settings.ours.insert(key.clone(), value.clone())),
            _ => return Err(refuse("it is not known to netd: leave it out")),
        }
    }
    let vlan = settings.ours.get("vlan").filter(|vlan| *vlan != "0" && !settings.unmanaged);
    if let Some(vlan) = vlan {
        let why = "bridges of netd's own have no VLANs: leave it out, or use a bridge of the host (-o mode=unmanaged)";
        return Err(Failure::network(&network.name, format!("option vlan={vlan}: {why}")));
    }
    Ok(settings)
}

fn read<T: FromStr<Err: Display>>(network: &Network, key: &str, value: &str) -> Result<T, Failure> {
    value.parse().map_err(|why| Failure::network(&network.name, format!("option {key}={value}: {why}")))
}

/// Whether netd can make the network, as far as its definition tells.
pub(super) fn check(network: &Network) -> Result<(), Failure> {
    check_driver(network)?;
    let definition = definition(network, &settings(network)?)?;
    network.routes.iter().flatten().try_for_each(|given| route(network, given).map(drop))?;
    NetworkSpec::try_from(definition).map(drop).map_err(|invalid| Failure::network(&network.name, invalid))
}

/// The network as netd makes it with the first container, or for a service before that.
pub(super) fn defined(network: &Network) -> Result<CreateNetwork, Failure> {
    definition(network, &settings(network)?)
}

/// The network as netd makes it with the first container.
fn definition(network: &Network, settings: &Settings) -> Result<CreateNetwork, Failure> {
    let mut options = settings.ours.clone();
    if let Some(joined) = options.remove(JOINED) {
        return Ok(CreateNetwork { name: joined, ..CreateNetwork::default() });
    }
    let subnets = network.subnets.as_deref().unwrap_or_default();
    let is_stacked = is_stacked(&network.driver);
    if let Some(interface) = network.network_interface.as_ref().filter(|name| name.parse::<IfName>().is_ok()) {
        options.insert(if is_stacked { "parent" } else { "bridge" }.into(), interface.clone());
    }
    if settings.unmanaged {
        options.insert("mode".into(), "unmanaged".into());
    }
    if network.ipam() == "dhcp" {
        options.insert("ipam".into(), "dhcp".into());
    }
    let is_own = !is_stacked && !settings.unmanaged;
    if is_own && network.internal && !subnets.is_empty() && subnets.iter().all(|subnet| subnet.gateway.is_none()) {
        // As Podman has it: the host has no address there.
        options.insert("gateway_mode".into(), "isolated".into());
    }
    let servers = network.network_dns_servers.iter().flatten();
    let labels = network.labels.iter().flatten().filter(|(key, _)| !key.is_empty());
    Ok(CreateNetwork {
        name: name(network),
        driver: is_stacked.then(|| network.driver.clone()),
        subnets: subnets.iter().map(|given| subnet(given, is_own)).collect::<Result<_, _>>()?,
        ipv6: network.ipv6_enabled,
        internal: network.internal,
        mtu: settings.mtu,
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        dns: servers.map(|server| server.to_string().parse()).collect::<Result<_, _>>()?,
        on_demand: true,
        options,
        ..CreateNetwork::default()
    })
}

/// The name of netd's network: the same, unless netd cannot have it.
pub(super) fn name(network: &Network) -> String {
    let options = network.options.as_ref().filter(|_| network.driver == DRIVER);
    if let Some(joined) = options.and_then(|options| options.get(JOINED)) {
        return joined.clone();
    }
    if network.name.parse::<NetworkName>().is_ok() {
        return network.name.clone();
    }
    let kept = network.name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(NAME_KEPT);
    let kept: String = kept.collect();
    format!("{kept}-{}", network.id.get(..12).unwrap_or(&network.id))
}

/// Where Podman has no gateway, netd's is the last address of a bridge of its own, which Podman gives last.
fn subnet(given: &Subnet, is_own: bool) -> Result<SubnetRequest, Failure> {
    let subnet: address::Subnet = given.subnet.parse()?;
    let last = || {
        let (_, last) = subnet.bounds();
        let broadcast = u128::from(subnet.family() == address::Family::V4);
        address::address(last - broadcast, subnet.family())
    };
    let gateway = given.gateway.or_else(|| is_own.then(last)).map(|gateway| gateway.to_string());
    Ok(SubnetRequest::Object(SubnetObject { subnet: given.subnet.clone(), gateway, ip_range: None }))
}

fn route(network: &Network, given: &Route) -> Result<v1::Route, Failure> {
    let Route { destination, gateway, metric, route_type } = given;
    let refuse = |why: String| Failure::network(&network.name, format!("route {destination}: {why}"));
    match route_type.as_deref() {
        None | Some("" | "unicast") if gateway.is_none() => Err(refuse("it needs a gateway".into())),
        None | Some("" | "unicast") => Ok(v1::Route {
            destination: destination.clone(),
            gateway: *gateway,
            mtu: None,
            advmss: None,
            priority: Some(metric.unwrap_or(METRIC)),
            table: None,
            scope: None,
        }),
        Some(other) => Err(refuse(format!("netd sets no routes of the type {other}: leave it out"))),
    }
}

fn ports(mappings: &[PortMapping]) -> Result<Vec<PortRequest>, Failure> {
    let mut ports = Vec::new();
    for mapping in mappings {
        let PortMapping { host_ip, host_port, container_port, protocol, range } = mapping;
        let refuse = |why: &str| Failure(format!("port {host_port}:{container_port} (range {range}): {why}"));
        if *host_port == 0 || *container_port == 0 {
            return Err(refuse("0 is no port"));
        }
        let host_ip: Option<IpAddr> = match host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| refuse("its host address is no IP address"))?),
        };
        let more = range.saturating_sub(1);
        let end = |port: u16| port.checked_add(more).ok_or_else(|| refuse("it ends behind 65535"));
        let (host_end, container_end) = (end(*host_port)?, end(*container_port)?);
        let protocols = if protocol.is_empty() { "tcp" } else { protocol };
        for protocol in protocols.split(',') {
            let protocol: Protocol = protocol.trim().to_ascii_lowercase().parse()?;
            ports.push(PortRequest::Object(PortObject {
                host_ip,
                host_port: Some(*host_port),
                host_port_end: (more > 0).then_some(host_end),
                container_port: *container_port,
                container_port_end: (more > 0).then_some(container_end),
                protocol: Some(protocol),
                publish: None,
            }));
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests;
