//! The request to create a network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::egress::Egress;
use crate::model::handover::EngineNetwork;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{Driver, HostAccess, Network, NetworkDns, NetworkSubnet, Stacked, StackedMode, VlanId};
use crate::model::publication::PublishMode;
use crate::model::relay::Relay;
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
    /// How its containers are connected.
    pub driver: DriverSpec,
    /// The bridge's interface name; `None`: derived from the network's name.
    pub bridge: Option<IfName>,
    /// The host has no address on it; for internal networks only.
    pub isolated: bool,
    /// Nothing is translated for its containers.
    pub routed: bool,
    /// What is not published is reached at the containers' own addresses, too.
    pub unprotected: bool,
    /// What outgoing traffic gets instead of the host's address, at most one per address family.
    pub source: Vec<IpAddr>,
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
    /// Who decides about packets to published ports; `None`: as the daemon has it.
    pub publish: Option<PublishMode>,
    /// The network of another engine that it is made for.
    pub engine: Option<EngineNetwork>,
    /// Whether it is removed with its last endpoint and reservation.
    pub on_demand: bool,
    /// The discovery protocols that are relayed.
    pub relay: Option<Relay>,
    /// What its containers may begin to send to the outside and to the host.
    pub egress: Egress,
    /// Whether a DHCP server there gives its containers their addresses.
    pub dhcp: bool,
}

/// How the containers of a network to create are connected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DriverSpec {
    /// By a bridge of netd's own.
    #[default]
    Bridge,
    /// By interfaces on top of one of the host's.
    Stacked {
        /// The interface of the host.
        parent: IfName,
        /// The kind of the interfaces, and how they reach each other.
        mode: StackedMode,
        /// The host's addresses on the network, if it is to have its own interface there; free ones of the families that
        /// have none.
        host: Vec<IpAddr>,
    },
    /// By a bridge that the host has.
    Unmanaged {
        /// Its interface name.
        bridge: IfName,
        /// The VLAN that its ports for containers are kept in.
        vlan: Option<VlanId>,
    },
    /// Not at all.
    Nothing,
}

impl DriverSpec {
    /// Whether a network with this driver is as `asked`, who may leave the host's addresses to netd.
    pub fn fits(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Stacked { parent, mode, .. }, Self::Stacked { parent: other, mode: like, host }) => {
                let has = |address| matches!(self, Self::Stacked { host: own, .. } if own.contains(address));
                parent == other && mode == like && host.iter().all(has)
            }
            _ => self == asked,
        }
    }

    /// The interface of the host that must be there.
    pub fn parent(&self) -> Option<&IfName> {
        match self {
            Self::Stacked { parent, .. } | Self::Unmanaged { bridge: parent, .. } => Some(parent),
            Self::Bridge | Self::Nothing => None,
        }
    }
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
            driver: DriverSpec::Bridge,
            bridge: None,
            isolated: false,
            routed: false,
            unprotected: false,
            source: Vec::new(),
            labels: BTreeMap::new(),
            dns: NetworkDns::default(),
            host_access: None,
            sticky: false,
            trusted: false,
            publish: None,
            engine: None,
            on_demand: false,
            relay: None,
            egress: Egress::default(),
            dhcp: false,
        }
    }

    /// The request that creates the network as it is; `None` for an adopted one, which nobody requests.
    pub fn of(network: &Network) -> Option<Self> {
        let (driver, bridge) = match &network.driver {
            Driver::Bridge(bridge) => (DriverSpec::Bridge, Some(bridge)),
            Driver::Adopted(_) => return None,
            Driver::Stacked(Stacked { parent, mode, shim }) => {
                let host = shim.iter().flat_map(|shim| shim.addresses.clone()).collect();
                (DriverSpec::Stacked { parent: parent.clone(), mode: *mode, host }, None)
            }
            Driver::Unmanaged(unmanaged) => {
                let (bridge, vlan) = (unmanaged.bridge.clone(), unmanaged.vlan);
                (DriverSpec::Unmanaged { bridge, vlan }, None)
            }
            Driver::Nothing => (DriverSpec::Nothing, None),
        };
        let subnet = |subnet: &NetworkSubnet| {
            let NetworkSubnet { subnet, gateway, range } = *subnet;
            SubnetSpec { subnet, gateway, range }
        };
        Some(Self {
            name: network.name.clone(),
            subnets: Subnets::of_network(network.subnets.iter().map(subnet).collect()),
            ipv6: false,
            internal: network.internal,
            icc: bridge.map_or_else(|| icc_of(network), |bridge| bridge.icc),
            masquerade: bridge.is_none_or(|bridge| bridge.masquerade),
            mtu: Some(network.mtu),
            driver,
            bridge: bridge.map(|bridge| bridge.name.clone()),
            isolated: bridge.is_some_and(|bridge| bridge.isolated),
            routed: bridge.is_some_and(|bridge| bridge.routed),
            unprotected: bridge.is_some_and(|bridge| bridge.unprotected),
            source: bridge.map(|bridge| bridge.source.clone()).unwrap_or_default(),
            labels: network.labels.clone(),
            dns: network.dns.clone(),
            host_access: Some(network.host_access),
            sticky: network.sticky,
            trusted: network.trusted,
            publish: network.publish,
            // Where a backup is restored, Docker may not have it: it must not go because of that.
            engine: None,
            on_demand: network.on_demand,
            relay: network.relay.clone(),
            egress: network.egress.clone(),
            dhcp: network.dhcp,
        })
    }
}

/// Whether it was requested that containers reach each other: of stacked interfaces, the mode says that.
fn icc_of(network: &Network) -> bool {
    match &network.driver {
        Driver::Unmanaged(unmanaged) => unmanaged.icc,
        _ => true,
    }
}
