//! Networks as they are shown, and the request that creates one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::options::Options;
use super::time::rfc3339;
use super::{options, parse, text};
use crate::model::address::Family;
use crate::model::network::HostAccess;
use crate::model::request::NetworkSpec;
use crate::model::subnets::{SubnetSpec, Subnets};
use crate::model::upstream::Upstream;
use crate::model::{Invalid, address, network, reservation};

/// The only driver that can be asked for.
const DRIVER: &str = "bridge";
/// Smallest MTU of an IPv4 link (RFC 791, 3.2).
const MTU_MIN: u32 = 68;
/// Smallest MTU of an IPv6 link (RFC 8200, 5); below it the kernel takes IPv6 off the interface.
const MTU_MIN_V6: u32 = 1280;
/// Largest MTU of bridges and veth pairs (`ETH_MAX_MTU`, linux/if_ether.h).
const MTU_MAX: u32 = 65535;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Unique on the host.
    pub name: String,
    /// 64 hex digits, given once.
    pub id: String,
    /// `bridge`; `adopted` if another CNI plugin makes the interfaces.
    pub driver: String,
    /// The bridge's interface name; empty if the containers' interfaces are not bridge ports.
    pub bridge: String,
    /// In the order in which addresses are tried.
    pub subnets: Vec<Subnet>,
    /// No access to or from other networks and hosts.
    pub internal: bool,
    /// Whether its containers reach each other.
    pub icc: bool,
    /// Whether outgoing traffic is masqueraded with the host's address.
    pub masquerade: bool,
    /// Bytes.
    pub mtu: u32,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// RFC 3339, UTC, to the second.
    #[schema(format = DateTime)]
    pub created: String,
    /// How the name service answers its containers.
    #[serde(default)]
    pub dns: NetworkDns,
    /// What its containers may reach on the host, besides the name service: `none`, `ports` that are published, `all`.
    #[serde(default = "all")]
    pub host_access: String,
    /// Whether a container that returns under the same name gets the same address if that is free.
    #[serde(default)]
    pub sticky: bool,
    /// Whether its containers may send from addresses that are not their own, as routers and DHCP servers do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
    /// Whether a runtime defines it: it is removed with its last container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// The ids of the reservations on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<String>,
}

/// How the name service answers a network's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkDns {
    /// Upstreams for external names; empty: those of the daemon.
    pub servers: Vec<String>,
    /// Where the name service listens: `gateway`, `container` (inside each, at 127.0.0.11), or `auto`: at the gateway
    /// if the containers can reach it there.
    pub listen: String,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subnet {
    /// The prefix, as in `10.77.0.0/24`.
    pub subnet: String,
    /// The bridge's address in it.
    #[schema(value_type = String)]
    pub gateway: IpAddr,
    /// The range of automatic addresses, if not the whole subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
}

/// A network to create. Only the name is required.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNetwork {
    /// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 63 bytes.
    #[schema(value_type = text::NetworkName)]
    pub name: String,
    /// `bridge`, also when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::NetworkDriver>)]
    pub driver: Option<String>,
    /// Empty: one IPv4 subnet from the pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<SubnetRequest>,
    /// Each lies in one of the subnets; the others get their first address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::IpAddress>)]
    pub gateways: Vec<String>,
    /// Each lies in one of the subnets; automatic addresses come from there only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Prefix>)]
    pub ip_ranges: Vec<String>,
    /// Enables IPv6: with a random /64 if no IPv6 subnet is given.
    #[serde(default)]
    pub ipv6: bool,
    /// No access to or from other networks and hosts.
    #[serde(default)]
    pub internal: bool,
    /// Whether its containers reach each other; absent: they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icc: Option<bool>,
    /// Whether outgoing traffic is masqueraded with the host's address; absent: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<bool>,
    /// Bytes, 68 (with IPv6 1280) to 65535; absent: the uplink's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 68, maximum = 65535)]
    pub mtu: Option<u32>,
    /// The user's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<text::LabelKey, String>)]
    pub labels: BTreeMap<String, String>,
    /// Upstreams for external names, at most 16: `IP`, `IP:PORT`, `tls://IP[:PORT][#NAME]` or
    /// `https://IP[:PORT][/PATH][#NAME]`; empty: those of the daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::NameServer>)]
    pub dns: Vec<Upstream>,
    /// What its containers may reach on the host, besides the name service: `none`, `ports` that are published, `all`;
    /// absent: `none` on an internal network, else `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::HostAccess>)]
    pub host_access: Option<String>,
    /// Whether a container that returns under the same name gets the same address if that is free; absent: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<bool>,
    /// Whether it is removed with its last container and reservation, because a runtime has its definition and gives it
    /// with each container. A definition that differs replaces the network if nothing uses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// Options: `bridge`, `mtu`, `icc`, `masquerade`, `gateway_mode`, or Docker's names of the same; `dns.listen`,
    /// `dns.servers` (joined by commas), `sticky`, `trusted`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// The name servers of a network, to be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NameServers {
    /// As `dns` of a network to create; empty: those of the daemon.
    #[schema(value_type = Vec<text::NameServer>)]
    pub servers: Vec<Upstream>,
}

impl NameServers {
    /// The servers, checked.
    pub fn upstreams(self) -> Result<Vec<Upstream>, Invalid> {
        parse::upstreams(self.servers)
    }
}

/// A subnet to create: `"10.77.0.0/24"`, or an object with its gateway and range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum SubnetRequest {
    /// The prefix alone.
    #[schema(value_type = text::Prefix)]
    Prefix(String),
    /// With gateway and range.
    Object(SubnetObject),
}

/// A subnet to create, with its gateway and range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubnetObject {
    /// The prefix, as in `10.77.0.0/24`.
    #[schema(value_type = text::Prefix)]
    pub subnet: String,
    /// Absent: its first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::IpAddress>)]
    pub gateway: Option<String>,
    /// Absent: the whole subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Prefix>)]
    pub ip_range: Option<String>,
}

impl Network {
    /// The network with the reservations on it.
    pub fn new<'a>(
        network: &network::Network,
        reservations: impl Iterator<Item = &'a Arc<reservation::Reservation>>,
    ) -> Self {
        Self {
            name: network.name.to_string(),
            id: network.id.to_string(),
            driver: network.driver.name().into(),
            bridge: network.bridge().map(ToString::to_string).unwrap_or_default(),
            subnets: network.subnets.iter().map(Subnet::from).collect(),
            internal: network.internal,
            icc: network.icc(),
            masquerade: network.masquerade(),
            mtu: network.mtu,
            labels: network.labels.clone(),
            created: rfc3339(network.created),
            dns: (&network.dns).into(),
            host_access: network.host_access.as_str().into(),
            sticky: network.sticky,
            trusted: network.trusted,
            on_demand: network.on_demand,
            reservations: reservations.map(|reservation| reservation.id.to_string()).collect(),
        }
    }
}

/// What a daemon that does not tell gives its containers.
fn all() -> String {
    HostAccess::All.as_str().into()
}

impl From<&network::NetworkDns> for NetworkDns {
    fn from(dns: &network::NetworkDns) -> Self {
        Self { servers: dns.upstreams.iter().map(ToString::to_string).collect(), listen: dns.listen.as_str().into() }
    }
}

impl From<&network::NetworkSubnet> for Subnet {
    fn from(subnet: &network::NetworkSubnet) -> Self {
        Self {
            subnet: subnet.subnet.to_string(),
            gateway: subnet.gateway,
            ip_range: subnet.range.map(|range| range.to_string()),
        }
    }
}

impl TryFrom<CreateNetwork> for NetworkSpec {
    type Error = Invalid;
    fn try_from(request: CreateNetwork) -> Result<Self, Invalid> {
        let name = request.name.parse()?;
        if let Some(driver) = request.driver.filter(|driver| driver != DRIVER) {
            return Err(Invalid::new("driver", driver, format!("the only driver is {DRIVER}")));
        }
        if request.labels.contains_key("") {
            return Err(Invalid::new("label", "", "its key is empty"));
        }
        let subnets = subnets(request.subnets, &request.gateways, &request.ip_ranges)?;
        let options: Options = options::read(&request.options)?;
        let isolated = options.isolated.unwrap_or(false);
        if isolated && !request.internal {
            let why = "without an address of the host, the network must be internal (--internal)";
            return Err(Invalid::new("option", "gateway_mode=isolated", why));
        }
        let ipv6 = request.ipv6 || subnets.as_slice().iter().any(|spec| spec.subnet.family() == Family::V6);
        Ok(Self {
            subnets,
            ipv6: request.ipv6,
            internal: request.internal,
            icc: once("icc", request.icc, options.icc)?.unwrap_or(true),
            masquerade: once("masquerade", request.masquerade, options.masquerade)?.unwrap_or(true),
            mtu: once("mtu", request.mtu, options.mtu)?.map(|mtu| sane_mtu(mtu, ipv6)).transpose()?,
            bridge: options.bridge,
            isolated,
            labels: request.labels,
            dns: network::NetworkDns {
                upstreams: servers(request.dns, options.servers)?,
                listen: options.listen.unwrap_or_default(),
            },
            host_access: request.host_access.map(|access| host_access(&access, request.internal)).transpose()?,
            sticky: once("sticky", request.sticky, options.sticky)?.unwrap_or(false),
            trusted: options.trusted.unwrap_or(false),
            on_demand: request.on_demand,
            ..Self::named(name)
        })
    }
}

/// Name servers, given as a field or as an option, but not differently as both.
fn servers(field: Vec<Upstream>, option: Option<Vec<Upstream>>) -> Result<Vec<Upstream>, Invalid> {
    let field = parse::upstreams(field)?;
    match option {
        Some(option) if !field.is_empty() && field != option => {
            Err(Invalid::new("option", "dns.servers", "the field dns gives other name servers"))
        }
        Some(option) => Ok(option),
        None => Ok(field),
    }
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

/// A setting that may be given as a field and as an option, but not with two values.
fn once<T: PartialEq + fmt::Display>(key: &str, field: Option<T>, option: Option<T>) -> Result<Option<T>, Invalid> {
    match (field, option) {
        (Some(field), Some(option)) if field != option => {
            Err(Invalid::new("option", format!("{key}={option}"), format!("{key} is also given as {field}")))
        }
        (field, option) => Ok(field.or(option)),
    }
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

// Not `untagged`: its error would not name the unknown field of the object.
impl<'de> Deserialize<'de> for SubnetRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SubnetRequest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a subnet such as \"10.77.0.0/24\", or an object with subnet, gateway and ip_range")
            }
            fn visit_str<E>(self, prefix: &str) -> Result<SubnetRequest, E> {
                Ok(SubnetRequest::Prefix(prefix.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SubnetRequest, A::Error> {
                SubnetObject::deserialize(MapAccessDeserializer::new(map)).map(SubnetRequest::Object)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests;
