//! A network definition, complete: all defaults are filled in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::address::{Family, Subnet};
pub use super::driver::{
    Adopted, BRIDGE_PORTS, Bridge, Driver, IpvlanMode, MacvlanMode, Shim, Stacked, StackedMode, Unmanaged, VlanId,
};
use super::egress::Egress;
use super::handover::EngineNetwork;
use super::ids::NetworkId;
use super::names::{IfName, NetworkName};
use super::publication::PublishMode;
use super::relay::Relay;
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
    /// In the order in which addresses are tried; none where netd chooses no addresses.
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
    /// Who decides about packets to ports that its containers publish; `None`: as the daemon has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishMode>,
    /// The networks of other engines that are this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<EngineNetwork>,
    /// A runtime defines it: the first container that the runtime attaches makes it, and it is removed with the last
    /// endpoint and reservation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// The discovery protocols that are relayed between its bridge and other interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Relay>,
    /// What its containers may begin to send to the outside and to the host.
    #[serde(default, skip_serializing_if = "Egress::is_unsaid")]
    pub egress: Egress,
    /// A DHCP server there gives its containers their addresses, and netd knows no subnets of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dhcp: bool,
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

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSubnet {
    /// The prefix.
    pub subnet: Subnet,
    /// The containers' gateway: the bridge's address, where the name service answers too, unless the network is one of
    /// the host's; `None` on such a network without one.
    pub gateway: Option<IpAddr>,
    /// The range of automatic addresses, if not the whole subnet.
    pub range: Option<Subnet>,
}

impl Network {
    /// The VLAN of the host's bridge in which containers are kept.
    pub fn vlan(&self) -> Option<VlanId> {
        match &self.driver {
            Driver::Unmanaged(unmanaged) => unmanaged.vlan,
            Driver::Bridge(_) | Driver::Adopted(_) | Driver::Stacked(_) | Driver::Nothing => None,
        }
    }

    /// The bridge that netd makes for the network, and its options.
    pub fn own_bridge(&self) -> Option<&Bridge> {
        match &self.driver {
            Driver::Bridge(bridge) => Some(bridge),
            Driver::Adopted(_) | Driver::Stacked(_) | Driver::Unmanaged(_) | Driver::Nothing => None,
        }
    }

    /// The bridge that its containers are ports of, whichever program made it.
    pub fn bridge(&self) -> Option<&IfName> {
        match &self.driver {
            Driver::Unmanaged(unmanaged) => Some(&unmanaged.bridge),
            _ => self.guest_bridge(),
        }
    }

    /// The same, if only containers are its ports: then the host's firewall decides about what enters and leaves it.
    pub fn guest_bridge(&self) -> Option<&IfName> {
        match &self.driver {
            Driver::Bridge(bridge) => Some(&bridge.name),
            Driver::Adopted(adopted) => adopted.bridge.as_ref(),
            Driver::Stacked(_) | Driver::Unmanaged(_) | Driver::Nothing => None,
        }
    }

    /// The interface of the host that its containers' interfaces are on top of, and how.
    pub fn stacked(&self) -> Option<&Stacked> {
        match &self.driver {
            Driver::Stacked(stacked) => Some(stacked),
            Driver::Bridge(_) | Driver::Adopted(_) | Driver::Unmanaged(_) | Driver::Nothing => None,
        }
    }

    /// Whether its containers' interfaces have another end on the host.
    pub fn has_host_ends(&self) -> bool {
        match &self.driver {
            Driver::Bridge(_) | Driver::Adopted(_) | Driver::Unmanaged(_) => true,
            Driver::Stacked(_) | Driver::Nothing => false,
        }
    }

    /// Whether its containers are behind the host, which routes and translates for them; else they are beside it, on a
    /// network of the host's, or nowhere.
    pub fn is_behind_host(&self) -> bool {
        match &self.driver {
            Driver::Bridge(_) | Driver::Adopted(_) => true,
            Driver::Stacked(_) | Driver::Unmanaged(_) | Driver::Nothing => false,
        }
    }

    /// Whether netd makes, repairs and removes the interfaces of its containers, and their addresses and routes.
    pub fn makes_interfaces(&self) -> bool {
        match &self.driver {
            Driver::Bridge(_) | Driver::Stacked(_) | Driver::Unmanaged(_) => true,
            Driver::Adopted(_) | Driver::Nothing => false,
        }
    }

    /// Whether netd chooses the addresses of its containers.
    pub fn assigns_addresses(&self) -> bool {
        self.makes_interfaces() && !self.dhcp
    }

    /// Whether its containers can reach each other.
    pub fn icc(&self) -> bool {
        match &self.driver {
            Driver::Bridge(bridge) => bridge.icc,
            Driver::Adopted(adopted) => adopted.icc,
            Driver::Stacked(stacked) => stacked.mode != StackedMode::Macvlan(MacvlanMode::Private),
            Driver::Unmanaged(unmanaged) => unmanaged.icc,
            Driver::Nothing => false,
        }
    }

    /// Whether outgoing traffic gets the host's address.
    pub fn masquerade(&self) -> bool {
        match &self.driver {
            Driver::Bridge(bridge) => bridge.masquerade && !bridge.routed,
            Driver::Adopted(adopted) => adopted.masquerade,
            Driver::Stacked(_) | Driver::Unmanaged(_) | Driver::Nothing => false,
        }
    }

    /// Whether published ports are reached at the containers' own addresses only.
    pub fn is_routed(&self) -> bool {
        self.own_bridge().is_some_and(|bridge| bridge.routed)
    }

    /// The gateway addresses with their prefixes, as on the bridge.
    pub fn gateway_interfaces(&self) -> Vec<IpNetwork> {
        self.subnets.iter().filter_map(|subnet| Some(subnet.subnet.interface(subnet.gateway?))).collect()
    }

    /// The gateway of the subnet that contains the address.
    pub fn gateway_for(&self, address: IpAddr) -> Option<IpAddr> {
        self.subnet_of(address)?.gateway
    }

    /// The same, if it is an address of the host, at which the name service answers.
    pub fn name_server_for(&self, address: IpAddr) -> Option<IpAddr> {
        self.gateway_for(address).filter(|_| self.has_gateways())
    }

    /// The subnet that contains the address.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&NetworkSubnet> {
        self.subnets.iter().find(|subnet| subnet.subnet.contains(address))
    }

    /// Whether the host has its gateway addresses, at which the name service can be reached.
    pub fn has_gateways(&self) -> bool {
        match &self.driver {
            Driver::Bridge(bridge) => !bridge.isolated,
            Driver::Adopted(_) => true,
            Driver::Stacked(_) | Driver::Unmanaged(_) | Driver::Nothing => false,
        }
    }

    /// Its gateways of which that is so.
    pub fn host_gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.subnets.iter().filter(|_| self.has_gateways()).filter_map(|subnet| subnet.gateway)
    }

    /// Its gateways, if they are or could be addresses of the host, and of nothing else.
    pub fn behind_gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.subnets.iter().filter(|_| self.is_behind_host()).filter_map(|subnet| subnet.gateway)
    }

    /// Whether the address is not for containers: a gateway, or the host's own on a network of stacked interfaces.
    pub fn is_reserved(&self, address: IpAddr) -> bool {
        let shim = self.stacked().and_then(|stacked| stacked.shim.as_ref());
        self.subnets.iter().any(|subnet| subnet.gateway == Some(address))
            || shim.is_some_and(|shim| shim.addresses.contains(&address))
    }

    /// Whether one of its subnets is of that family.
    pub fn has(&self, family: Family) -> bool {
        self.subnets.iter().any(|subnet| subnet.subnet.family() == family)
    }
}
