//! The request to create a network.

use std::collections::BTreeMap;

use crate::model::handover::EngineNetwork;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{Driver, HostAccess, Network, NetworkDns, NetworkSubnet};
use crate::model::subnets::{SubnetSpec, Subnets};

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The name.
    pub name: NetworkName,
    /// Empty: one IPv4 subnet from the pools.
    pub subnets: Subnets,
    /// IPv6 as well: a random /64 if no IPv6 subnet is given.
    pub ipv6: bool,
    /// No outside access.
    pub internal: bool,
    /// Whether its containers can reach each other.
    pub icc: bool,
    /// Whether outgoing traffic gets the host's address.
    pub masquerade: bool,
    /// Bytes; `None`: the uplink's.
    pub mtu: Option<u32>,
    /// The bridge's interface name; `None`: derived from the network's name.
    pub bridge: Option<IfName>,
    /// The host has no address on it; for internal networks only.
    pub isolated: bool,
    /// User-defined labels.
    pub labels: BTreeMap<String, String>,
    /// How the name service answers its containers.
    pub dns: NetworkDns,
    /// What its containers can reach on the host; `None`: nothing on an internal network, else everything.
    pub host_access: Option<HostAccess>,
    /// Whether a container that returns under the same name gets the same address.
    pub sticky: bool,
    /// Whether its containers may send from addresses that are not their own.
    pub trusted: bool,
    /// The network of another engine that it is made for.
    pub engine: Option<EngineNetwork>,
    /// Whether it is removed with its last endpoint and reservation.
    pub on_demand: bool,
}

impl NetworkSpec {
    /// A network with this name and all other choices left to netd.
    pub fn named(name: NetworkName) -> Self {
        Self {
            name,
            subnets: Subnets::default(),
            ipv6: false,
            internal: false,
            icc: true,
            masquerade: true,
            mtu: None,
            bridge: None,
            isolated: false,
            labels: BTreeMap::new(),
            dns: NetworkDns::default(),
            host_access: None,
            sticky: false,
            trusted: false,
            engine: None,
            on_demand: false,
        }
    }

    /// The request that creates the network as it is; `None` for an adopted one, which nobody requests.
    pub fn of(network: &Network) -> Option<Self> {
        let Driver::Bridge(bridge) = &network.driver else { return None };
        let subnet = |subnet: &NetworkSubnet| {
            let NetworkSubnet { subnet, gateway, range } = *subnet;
            SubnetSpec { subnet, gateway: Some(gateway), range }
        };
        Some(Self {
            name: network.name.clone(),
            subnets: Subnets::of_network(network.subnets.iter().map(subnet).collect()),
            ipv6: false,
            internal: network.internal,
            icc: bridge.icc,
            masquerade: bridge.masquerade,
            mtu: Some(network.mtu),
            bridge: Some(bridge.name.clone()),
            isolated: bridge.isolated,
            labels: network.labels.clone(),
            dns: network.dns.clone(),
            host_access: Some(network.host_access),
            sticky: network.sticky,
            trusted: network.trusted,
            // Where a backup is restored, Docker may not have it: it must not go because of that.
            engine: None,
            on_demand: network.on_demand,
        })
    }
}
