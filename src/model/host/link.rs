//! Links as netd makes them: bridges, containers' interfaces, and the host's own interface on networks without a bridge.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::model::address::Mac;
use crate::model::driver::{StackedMode, VlanId};
use crate::model::endpoint::Netns;
use crate::model::names::{ContainerName, IfName, NetworkName};
use crate::model::route::Route;

/// The target of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeLink {
    /// The network it carries (for the link's alias).
    pub network: NetworkName,
    /// Interface name.
    pub name: IfName,
    /// Gateway addresses with prefix.
    pub addresses: Vec<IpNetwork>,
    /// Virtual addresses of services, which have no subnet of their own there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub virtual_addresses: BTreeSet<IpAddr>,
    /// MTU in bytes.
    pub mtu: u32,
}

impl BridgeLink {
    /// The alias of the link (`ip link show`), which shows that netd made it even if its name or group was changed.
    pub fn alias(&self) -> String {
        format!("netd network {}", self.network)
    }

    /// The MAC address: it stays the same as ports come and go. `None` for a bridge without addresses.
    pub fn mac(&self) -> Option<Mac> {
        self.addresses.first().map(|gateway| Mac::for_address(gateway.ip()))
    }

    /// The link-local address, if the network has IPv6.
    pub fn link_local(&self) -> Option<IpNetwork> {
        let v6 = self.addresses.iter().any(IpNetwork::is_ipv6);
        self.mac().filter(|_| v6).map(|mac| mac.link_local().into())
    }

    /// Those of the bridge's addresses that are in the way of containers: netd may give them to one.
    pub fn in_the_way<'a>(&'a self, observed: &'a [IpNetwork]) -> impl Iterator<Item = &'a IpNetwork> {
        let is_ours = |address: &IpNetwork| self.addresses.iter().any(|gateway| gateway.contains(address.ip()));
        let is_virtual = |address: &IpNetwork| is_single(address) && self.virtual_addresses.contains(&address.ip());
        let wanted = move |address: &IpNetwork| self.addresses.contains(address) || is_virtual(address);
        observed.iter().filter(move |address| !wanted(address) && is_ours(address))
    }
}

/// Whether the address has no subnet.
pub fn is_single(address: &IpNetwork) -> bool {
    address.prefix() == if address.is_ipv4() { 32 } else { 128 }
}

/// The beginning of the alias of a host end.
const ALIAS: &str = "netd: ";

/// The target of a container's interface that netd makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointLink {
    /// For the link's alias.
    pub network: NetworkName,
    /// For the link's alias.
    pub container: ContainerName,
    /// Interface in the container.
    pub ifname: IfName,
    /// The container's namespace.
    pub netns: Netns,
    /// MAC address in the container.
    pub mac: Mac,
    /// MTU in bytes, of both ends if it has two.
    pub mtu: u32,
    /// Addresses with prefix, without duplicate address detection.
    pub addresses: Vec<IpNetwork>,
    /// Default routes to set on this interface, at most one per address family. An existing one from elsewhere stays.
    pub default_gateways: Vec<IpAddr>,
    /// Metric of those routes, as in [`DefaultRoute::metric`](super::step::DefaultRoute::metric).
    pub default_metric: Option<u32>,
    /// Further routes on this interface.
    pub routes: Vec<Route>,
    /// What leads from it to its network.
    pub kind: LinkKind,
}

/// The kinds of interfaces that netd makes in containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkKind {
    /// One end of a veth pair, whose other end is a port of a bridge.
    Veth(VethPair),
    /// An interface on top of one of the host's. It has no other end.
    Stacked(StackedLink),
}

/// What a stacked interface is on top of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackedLink {
    /// The name by which it is known; no interface of the host has it.
    pub host_ifname: IfName,
    /// The interface of the host.
    pub parent: IfName,
    /// Its kind and mode.
    pub mode: StackedMode,
}

/// What a veth pair has on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VethPair {
    /// The bridge.
    pub bridge: IfName,
    /// The host end.
    pub host_ifname: IfName,
    /// Bridge port isolation: no traffic to other isolated ports (`--no-icc`).
    pub isolated: bool,
    /// The only VLAN that the host end is in, without a tag; `None`: those that the bridge gives it.
    #[serde(default)]
    pub vlan: Option<VlanId>,
}

impl LinkKind {
    /// The name by which the link is known on the host: that of the host end, if there is one.
    pub fn host_ifname(&self) -> &IfName {
        match self {
            Self::Veth(pair) => &pair.host_ifname,
            Self::Stacked(stacked) => &stacked.host_ifname,
        }
    }

    /// The pair, if it is one.
    pub fn pair(&self) -> Option<&VethPair> {
        match self {
            Self::Veth(pair) => Some(pair),
            Self::Stacked(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn pair_mut(&mut self) -> Option<&mut VethPair> {
        match self {
            Self::Veth(pair) => Some(pair),
            Self::Stacked(_) => None,
        }
    }
}

/// The target of the host's interface on a network of stacked ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimLink {
    /// The network (for the link's alias).
    pub network: NetworkName,
    /// Interface name.
    pub name: IfName,
    /// The interface that it is on top of.
    pub parent: IfName,
    /// The host's addresses on the network, each without a subnet: the other addresses of the subnet stay where they are.
    pub addresses: Vec<IpAddr>,
    /// The containers' addresses, to which it leads.
    pub routes: BTreeSet<IpAddr>,
    /// MTU in bytes.
    pub mtu: u32,
}

impl ShimLink {
    /// The alias of the link (`ip link show`).
    pub fn alias(&self) -> String {
        format!("netd host on network {}", self.network)
    }

    /// Its MAC address.
    pub fn mac(&self) -> Option<Mac> {
        self.addresses.first().map(|address| Mac::for_address(*address))
    }

    /// The address from which the host sends to a container.
    pub fn source_for(&self, container: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|own| own.is_ipv4() == container.is_ipv4())
    }
}

impl EndpointLink {
    /// The alias of the host end (`ip link show`): the trace that a lost record leaves.
    pub fn alias(&self) -> String {
        format!("{ALIAS}{} on {}", self.container, self.network)
    }

    /// Container and network of the host end with this alias.
    pub fn read_alias(alias: &str) -> Option<(ContainerName, NetworkName)> {
        let (container, network) = alias.strip_prefix(ALIAS)?.rsplit_once(" on ")?;
        Some((container.parse().ok()?, network.parse().ok()?))
    }
}
