//! Networks as they are shown, and the request that creates one.

mod create;
mod given;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

pub use self::create::driver;
use super::time::rfc3339;
use super::{parse, text};
use crate::model::egress::{Allowance, Stance};
use crate::model::network::{HostAccess, VlanId};
use crate::model::upstream::Upstream;
use crate::model::{Invalid, network, reservation};

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Unique on the host.
    pub name: String,
    /// 64 hex digits, given once.
    pub id: String,
    /// `bridge`, `macvlan`, `ipvlan` or `none`; `adopted` if another CNI plugin makes the interfaces.
    pub driver: String,
    /// The bridge's interface name; empty if the containers' interfaces are not bridge ports.
    pub bridge: String,
    /// Whether the bridge is the host's, which netd neither makes nor changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmanaged: bool,
    /// The VLAN of that bridge in which containers are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4094)]
    pub vlan: Option<u16>,
    /// The interface of the host that the containers' interfaces are on top of (`macvlan`, `ipvlan`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How they reach each other: `bridge`, `private`, `vepa`, `passthru`; `l2`, `l3`, `l3s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The host's own interface among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_interface: Option<HostInterface>,
    /// What becomes of addresses at the gateway, if it is not `nat`: `nat-unprotected`, `routed`, `isolated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_mode: Option<String>,
    /// What outgoing traffic gets instead of the host's address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub source_addresses: Vec<IpAddr>,
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
    /// Who decides which packets reach the ports that its containers publish: `open`, netd, or `strict`, the host's own
    /// rules about packets to itself; absent: as `publish` in `[firewall]` of the daemon's configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<String>,
    /// Whether a runtime defines it: it is removed with its last container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// The discovery protocols that are relayed to other interfaces: `mdns`, `ssdp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay: Vec<String>,
    /// Those interfaces, by name or as the bridges of other networks; empty: the interfaces of the default routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay_interfaces: Vec<String>,
    /// Whether anything but what is allowed may be sent to the outside and to the host: `open` or `deny`; absent: nobody has
    /// said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
    /// What may be sent all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_allow: Vec<String>,
    /// `dhcp` if a DHCP server gives its containers their addresses; absent: netd does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<String>,
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

/// The host's own interface on a network of stacked interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostInterface {
    /// Its name.
    pub name: String,
    /// The host's addresses on the network.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subnet {
    /// The prefix, as in `10.77.0.0/24`.
    pub subnet: String,
    /// The containers' gateway: the bridge's address in it, or a router of the network that the host is on; absent if there
    /// is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<IpAddr>,
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
    /// Whether anything but what is allowed may be sent to the outside and to the host: `open` or `deny` of its
    /// containers; absent: open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::EgressStance>)]
    pub egress: Option<Stance>,
    /// What may be sent all the same: `NAME`, `*.NAME` (the names below it), an address or a prefix, each with
    /// `:PORT[-END][/PROTOCOL]` if wanted, an IPv6 one then in brackets. Without `egress` it means deny.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Allowance>)]
    pub egress_allow: Vec<Allowance>,
    /// Options: `bridge`, `mtu`, `icc`, `masquerade`, `gateway_mode`, `host_ipv4`, `host_ipv6`, or Docker's names of the
    /// same; `mode` (`unmanaged`), `parent`, `macvlan_mode`, `ipvlan_mode`, `host_address`; `dns.listen`, `dns.servers` (joined
    /// by commas), `sticky`, `trusted`, `host_access`, `publish` (`open` or `strict`), `relay`, `relay_interfaces`,
    /// `egress`, `egress-allow` (joined by commas), `ipam` (`netd` or `dhcp`).
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

/// Other subnets of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Renumber {
    /// Each takes the place of one of the same family and length; empty: the daemon chooses for those that overlap with
    /// the host's routes and addresses.
    #[serde(default)]
    #[schema(value_type = Vec<text::Prefix>)]
    pub subnets: Vec<String>,
}

impl Renumber {
    /// The subnets, checked.
    pub fn subnets(&self) -> Result<Vec<crate::model::address::Subnet>, Invalid> {
        self.subnets.iter().map(|subnet| subnet.parse()).collect()
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
            unmanaged: network.bridge().is_some() && !network.is_behind_host(),
            vlan: network.vlan().map(VlanId::get),
            parent: network.stacked().map(|stacked| stacked.parent.to_string()),
            mode: network.stacked().map(|stacked| stacked.mode.mode().to_owned()),
            host_interface: network.stacked().and_then(|stacked| stacked.shim.as_ref()).map(HostInterface::from),
            gateway_mode: network.own_bridge().and_then(gateway_mode).map(str::to_owned),
            source_addresses: network.own_bridge().map(|bridge| bridge.source.clone()).unwrap_or_default(),
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
            publish: network.publish.map(|mode| mode.to_string()),
            on_demand: network.on_demand,
            relay: network.relay.iter().flat_map(|relay| &relay.protocols).map(|one| one.as_str().into()).collect(),
            relay_interfaces: network.relay.iter().flat_map(|relay| &relay.interfaces).cloned().collect(),
            egress: network.egress.stance.map(|stance| stance.to_string()),
            egress_allow: network.egress.allow.iter().map(ToString::to_string).collect(),
            ipam: network.dhcp.then(|| "dhcp".into()),
            reservations: reservations.map(|reservation| reservation.id.to_string()).collect(),
        }
    }
}

fn gateway_mode(bridge: &network::Bridge) -> Option<&'static str> {
    match bridge {
        bridge if bridge.isolated => Some("isolated"),
        bridge if bridge.routed => Some("routed"),
        bridge if bridge.unprotected => Some("nat-unprotected"),
        _ => None,
    }
}

impl From<&network::Shim> for HostInterface {
    fn from(shim: &network::Shim) -> Self {
        Self { name: shim.name.to_string(), addresses: shim.addresses.clone() }
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
