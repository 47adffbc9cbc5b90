//! A network as people define it, complete: every default is already filled in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::address::{Family, Subnet};
use super::ids::NetworkId;
use super::names::{IfName, NetworkName};

/// A network: what `netd network create` made. Written to the durable store as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Unique among the host's networks.
    pub name: NetworkName,
    /// Given once; a network created again under the same name has another one.
    pub id: NetworkId,
    /// What carries it.
    pub driver: Driver,
    /// At least one; in the order in which addresses are tried.
    pub subnets: Vec<NetworkSubnet>,
    /// No way out: no default route, no masquerading, nothing forwarded.
    pub internal: bool,
    /// Bytes; of the bridge and of both veth ends.
    pub mtu: u32,
    /// The user's own notes.
    pub labels: BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    pub created: u64,
}

/// The drivers, each with its own options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge on this host.
    Bridge(Bridge),
}

/// Options of the bridge driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The bridge's interface name.
    pub name: IfName,
    /// Whether containers of the network reach each other.
    pub icc: bool,
    /// Whether traffic that leaves takes the host's address.
    pub masquerade: bool,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSubnet {
    /// The prefix.
    pub subnet: Subnet,
    /// The bridge's address in it: the containers' gateway and name server.
    pub gateway: IpAddr,
    /// Where automatic addresses come from, when not the whole subnet.
    pub range: Option<Subnet>,
}

impl Network {
    /// The bridge's name and options.
    pub fn bridge(&self) -> &Bridge {
        match &self.driver {
            Driver::Bridge(bridge) => bridge,
        }
    }

    /// The gateway addresses with their prefixes, as the bridge carries them.
    pub fn gateway_interfaces(&self) -> Vec<IpNetwork> {
        self.subnets.iter().map(|subnet| subnet.subnet.interface(subnet.gateway)).collect()
    }

    /// The gateway of the subnet that holds the address.
    pub fn gateway_for(&self, address: IpAddr) -> Option<IpAddr> {
        self.subnets.iter().find(|subnet| subnet.subnet.contains(address)).map(|subnet| subnet.gateway)
    }

    /// Whether one of its subnets is of that family.
    pub fn has(&self, family: Family) -> bool {
        self.subnets.iter().any(|subnet| subnet.subnet.family() == family)
    }
}
