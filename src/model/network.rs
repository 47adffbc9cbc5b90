//! A network definition, complete: all defaults are filled in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::address::{Family, Subnet};
use super::handover::EngineNetwork;
use super::ids::NetworkId;
use super::names::{IfName, NetworkName};
use super::upstream::Upstream;

/// A network, as created by `netd network create`. The durable store keeps it unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Unique among the host's networks.
    pub name: NetworkName,
    /// Assigned once; a network that is created again under the same name gets another one.
    pub id: NetworkId,
    /// The driver that carries its traffic.
    pub driver: Driver,
    /// At least one, in the order in which addresses are tried.
    pub subnets: Vec<NetworkSubnet>,
    /// No outside access: no default route, no masquerading, no forwarding.
    pub internal: bool,
    /// MTU of the bridge and of both veth ends, in bytes.
    pub mtu: u32,
    /// User-defined labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// How the name service answers its containers.
    #[serde(default, skip_serializing_if = "NetworkDns::is_default")]
    pub dns: NetworkDns,
    /// What its containers can reach on the host.
    #[serde(default = "HostAccess::of_old_records", skip_serializing_if = "HostAccess::is_all")]
    pub host_access: HostAccess,
    /// Whether a container that returns under the same name gets the same address, as long as it is free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sticky: bool,
    /// Its containers may send from addresses that are not their own, as routers and DHCP servers do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
    /// The networks of other engines that are this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<EngineNetwork>,
    /// A runtime defines it: the first container that the runtime attaches makes it, and it is removed with the last
    /// endpoint and reservation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
}

/// How the name service answers a network's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDns {
    /// Upstreams for names that are not netd's; empty: those of the daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// Where the name service listens for them.
    #[serde(default)]
    pub listen: DnsListen,
}

/// Where the name service listens for a network's containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsListen {
    /// At the gateway; inside the containers if they cannot reach it there.
    #[default]
    Auto,
    /// At the gateway only.
    Gateway,
    /// Inside each container, at 127.0.0.11.
    Container,
}

/// What a network's containers can reach on the host. The name service answers them in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostAccess {
    /// Nothing.
    None,
    /// Published ports, at the host's addresses.
    Ports,
    /// Everything that the host's own firewall permits.
    All,
}

impl DnsListen {
    /// The name of the value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Gateway => "gateway",
            Self::Container => "container",
        }
    }
}

impl FromStr for DnsListen {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let all = [Self::Auto, Self::Gateway, Self::Container];
        let found = all.into_iter().find(|listen| listen.as_str() == text);
        found.ok_or_else(|| Invalid::new("dns.listen", text, "use auto, gateway or container"))
    }
}

impl NetworkDns {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl HostAccess {
    /// The name of the value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ports => "ports",
            Self::All => "all",
        }
    }

    /// The value of records without this field: when they were written, it was the only behaviour.
    fn of_old_records() -> Self {
        Self::All
    }

    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

impl FromStr for HostAccess {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = [Self::None, Self::Ports, Self::All].into_iter().find(|access| access.as_str() == text);
        found.ok_or_else(|| Invalid::new("host access", text, "use none, ports or all"))
    }
}

/// The drivers, each with its own options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge on this host, made by netd.
    Bridge(Bridge),
    /// Interfaces that another program makes (an earlier CNI plugin in the chain): netd adds names, ports and firewall
    /// elements.
    Adopted(Adopted),
}

impl Driver {
    /// The driver's name, as in `netd network create --driver`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bridge(_) => "bridge",
            Self::Adopted(_) => "adopted",
        }
    }
}

/// Options of the bridge driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The bridge's interface name.
    pub name: IfName,
    /// Whether containers of the network can reach each other.
    pub icc: bool,
    /// Whether outgoing traffic gets the host's address.
    pub masquerade: bool,
    /// The host has no address on it: an internal network that the host is not part of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
}

/// The properties of an adopted network, whose interfaces another program makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The bridge that they are ports of; `None` if each container has its own interface on the host.
    pub bridge: Option<IfName>,
    /// Whether containers of the network can reach each other; netd controls this only if there is a bridge.
    pub icc: bool,
    /// Whether outgoing traffic gets the host's address.
    pub masquerade: bool,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSubnet {
    /// The prefix.
    pub subnet: Subnet,
    /// The bridge's address in it: the containers' gateway and name server.
    pub gateway: IpAddr,
    /// The range of automatic addresses, if not the whole subnet.
    pub range: Option<Subnet>,
}

impl Network {
    /// The bridge that netd makes for the network, and its options.
    pub fn own_bridge(&self) -> Option<&Bridge> {
        match &self.driver {
            Driver::Bridge(bridge) => Some(bridge),
            Driver::Adopted(_) => None,
        }
    }

    /// The bridge that its containers are ports of, whichever program made it.
    pub fn bridge(&self) -> Option<&IfName> {
        match &self.driver {
            Driver::Bridge(bridge) => Some(&bridge.name),
            Driver::Adopted(adopted) => adopted.bridge.as_ref(),
        }
    }

    /// Whether netd makes, repairs and removes the interfaces of its containers, and their addresses and routes.
    pub fn makes_interfaces(&self) -> bool {
        match &self.driver {
            Driver::Bridge(_) => true,
            Driver::Adopted(_) => false,
        }
    }

    /// Whether netd chooses the addresses of its containers.
    pub fn assigns_addresses(&self) -> bool {
        match &self.driver {
            Driver::Bridge(_) => true,
            Driver::Adopted(_) => false,
        }
    }

    /// Whether its containers can reach each other.
    pub fn icc(&self) -> bool {
        match &self.driver {
            Driver::Bridge(bridge) => bridge.icc,
            Driver::Adopted(adopted) => adopted.icc,
        }
    }

    /// Whether outgoing traffic gets the host's address.
    pub fn masquerade(&self) -> bool {
        match &self.driver {
            Driver::Bridge(bridge) => bridge.masquerade,
            Driver::Adopted(adopted) => adopted.masquerade,
        }
    }

    /// The gateway addresses with their prefixes, as on the bridge.
    pub fn gateway_interfaces(&self) -> Vec<IpNetwork> {
        self.subnets.iter().map(|subnet| subnet.subnet.interface(subnet.gateway)).collect()
    }

    /// The gateway of the subnet that contains the address.
    pub fn gateway_for(&self, address: IpAddr) -> Option<IpAddr> {
        self.subnets.iter().find(|subnet| subnet.subnet.contains(address)).map(|subnet| subnet.gateway)
    }

    /// Whether the host has its gateway addresses, at which the name service can be reached.
    pub fn has_gateways(&self) -> bool {
        match &self.driver {
            Driver::Bridge(bridge) => !bridge.isolated,
            Driver::Adopted(_) => true,
        }
    }

    /// Whether one of its subnets is of that family.
    pub fn has(&self, family: Family) -> bool {
        self.subnets.iter().any(|subnet| subnet.subnet.family() == family)
    }
}
