//! Observed state: facts about the host, and the objects that netd made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::element::{Element, Table};
pub use super::kind::ObservedKind;
use super::parent::{Device, Parent};
use super::routing::Routing;
use super::step::HostPorts;
use crate::model::address::{Families, Family, Mac, Subnet};
use crate::model::driver::VlanId;
use crate::model::endpoint::Netns;
use crate::model::names::{ContainerName, IfName, NetworkName};
use crate::model::publication::{PortRange, Protocol};
use crate::model::route::Route;

/// The facts about the host that decisions need; read again for each such decision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Every route of every table except default routes, with its interface; also routes that forbid a destination.
    pub routes: Vec<(Subnet, Option<IfName>)>,
    /// Every address, with its prefix and interface.
    pub addresses: Vec<(IpNetwork, IfName)>,
    /// MTU of the interface of the default route.
    pub uplink_mtu: Option<u32>,
    /// Every interface name in use.
    pub interfaces: BTreeSet<IfName>,
    /// The range from which free host ports are taken (`net.ipv4.ip_local_port_range`).
    pub local_ports: Option<PortRange>,
    /// Ports that are never chosen automatically (`net.ipv4.ip_local_reserved_ports`).
    pub reserved_ports: Vec<PortRange>,
    /// `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`.
    pub forwarding: Families,
    /// Whether the host has IPv6 at all.
    pub ipv6: bool,
    /// Search domains of the host's resolver.
    pub search: Vec<String>,
    /// Interfaces that networks are to be on, by name; looked at only for these.
    pub parents: BTreeMap<IfName, Parent>,
    /// Kinds of interfaces that are needed and that the kernel lacks.
    pub lacks: BTreeSet<Device>,
    /// Networks of other programs, queried only if a subnet is chosen or checked.
    pub foreign: Vec<ForeignNetwork>,
}

/// What the kernel counts of packets that policies deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedFlow {
    /// What it is counted for.
    pub key: DeniedKey,
    /// How many, since the key was added.
    pub packets: u64,
}

/// The sender, the receiver, and what was sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeniedKey {
    /// The sender.
    pub from: IpAddr,
    /// The receiver, after destination NAT.
    pub to: IpAddr,
    /// The IP protocol number.
    pub number: u8,
    /// The destination port, of protocols that have ports.
    pub port: Option<u16>,
}

impl DeniedKey {
    /// The protocol, if it has ports.
    pub fn protocol(&self) -> Option<Protocol> {
        Protocol::from_number(self.number)
    }
}

/// A network as another program defines it, whether or not it exists now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignNetwork {
    /// The program and the network's name: "Docker's network app_default".
    pub whose: String,
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
}

/// A link in one of netd's link groups, or any bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedLink {
    /// Its kind.
    pub kind: ObservedKind,
    /// The bridge it is a port of.
    pub master: Option<IfName>,
    /// Administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Bridge port isolation (`IFLA_BRPORT_ISOLATED`).
    pub isolated: bool,
    /// For a bridge port: the only VLAN that it is in, without a tag.
    #[serde(default)]
    pub vlan: Option<VlanId>,
    /// IPv6 is enabled on it.
    #[serde(default)]
    pub ipv6: bool,
    /// Its addresses, without link-local ones.
    pub addresses: Vec<IpNetwork>,
    /// Whether it is in one of netd's link groups.
    pub ours: bool,
    /// Whether netd finished making it.
    pub finished: bool,
    /// Its alias, which shows that netd made it even if its name or group was changed.
    pub alias: Option<String>,
    /// `None` if it has no address of six bytes.
    pub mac: Option<Mac>,
    /// For a macvlan interface of netd: the single addresses to which routes over it lead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<IpAddr>,
    /// For a bridge of netd; `None` for other links.
    pub bridge: Option<ObservedBridge>,
}

/// What only a bridge has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedBridge {
    /// `net.ipv4.conf.IF.route_localnet`: ports published on 127.0.0.1 can be routed through it.
    pub route_localnet: bool,
    /// Whether IPv6 is enabled (`net.ipv6.conf.IF.disable_ipv6` is 0).
    pub ipv6: bool,
    /// Whether routers on it could configure the host (`net.ipv6.conf.IF.accept_ra` is not 0).
    #[serde(default)]
    pub accept_ra: bool,
    /// Whether the kernel checks new addresses for duplicates, before which they are not usable
    /// (`net.ipv6.conf.IF.accept_dad` is not 0).
    #[serde(default)]
    pub accept_dad: bool,
    /// Whether it has an IPv6 link-local address.
    pub link_local: bool,
    /// Those of its addresses whose subnet has the route that the kernel makes for it.
    pub connected: Vec<IpNetwork>,
}

/// The state of a table's chains, rules, set and map declarations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Structure {
    /// As netd wrote it.
    Intact,
    /// It exists, but not as this netd writes it: another program changed it, or another version wrote it.
    Different,
    /// The table does not exist.
    Missing,
}

/// netd's tables in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The structure of `table inet netd`.
    pub inet: Structure,
    /// The structure of `table bridge netd`. Intact on a kernel that has no such tables.
    pub bridge: Structure,
    /// The structure of `table inet netd_services`, which is missing while no element of it is wanted. Intact on a kernel
    /// that cannot have it.
    pub services: Structure,
    /// The elements of the tables that are intact; those of `table bridge netd` and of `table inet netd_services` as if
    /// they were there on a kernel that has no such tables.
    pub elements: BTreeSet<Element>,
    /// Packets that `table bridge netd` dropped since it was loaded, by host end; without those that sent none.
    pub refused: BTreeMap<IfName, u64>,
    /// Somebody else may have changed what is open for containers since it was read.
    pub opened_unsure: bool,
    /// The kernel has no tables of the family bridge: containers of one bridge can take each other's addresses.
    pub unguarded: bool,
    /// The kernel cannot compute hashes of packets (`CONFIG_NFT_HASH`): services have names only.
    pub no_services: bool,
    /// A rule cannot hand packets to netd (`CONFIG_NFT_LOG`, `CONFIG_NETFILTER_NETLINK_LOG`): no port can be strict.
    pub hands_nothing_over: bool,
    /// Why first packets to the strict ports that are there are not sent again, if that is so.
    pub resends_nothing: Option<String>,
}

impl Firewall {
    /// Tables of this structure, without elements.
    pub fn new(structure: Structure) -> Self {
        let (elements, refused) = (BTreeSet::new(), BTreeMap::new());
        Self {
            inet: structure,
            bridge: structure,
            services: structure,
            elements,
            refused,
            opened_unsure: true,
            unguarded: false,
            no_services: false,
            hands_nothing_over: false,
            resends_nothing: None,
        }
    }

    /// The structure of this table.
    pub fn structure(&self, table: Table) -> Structure {
        match table {
            Table::Inet => self.inet,
            Table::Bridge => self.bridge,
            Table::Services => self.services,
        }
    }
}

/// What the kernel has of netd's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Links of the host's namespace, by name: all of netd's, and every bridge.
    pub links: BTreeMap<IfName, ObservedLink>,
    /// Interfaces of the host that carry limits of netd, whichever program made them; without intermediate devices.
    pub limited: BTreeSet<IfName>,
    /// netd's tables.
    pub firewall: Firewall,
    /// Forwarding, and where the host's interfaces lead.
    pub routing: Routing,
    /// Host ports that this process holds, and ranges that it watches and in which no other process has a port.
    pub held: BTreeSet<HostPorts>,
}

/// An interface in a container, and its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedInterface {
    /// Its MAC address; `None` if it has no address of six bytes.
    pub mac: Option<Mac>,
    /// Administratively up.
    pub up: bool,
    /// Whether `lo` is up there.
    pub loopback_up: bool,
    /// Whether it has an IPv6 link-local address.
    pub link_local: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its addresses, without link-local ones.
    pub addresses: Vec<IpNetwork>,
    /// The unicast routes on it in all tables, default routes included, without those that the kernel makes for its
    /// addresses.
    pub routes: Vec<Route>,
    /// Those of its addresses whose subnet lost the route that the kernel makes with the address.
    pub unrouted: Vec<IpNetwork>,
    /// The address families with a default route on another interface.
    pub default_elsewhere: Vec<Family>,
    /// The other end of a veth pair, if it is in the host's namespace.
    pub host_end: Option<HostEnd>,
}

/// The host end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEnd {
    /// Interface name.
    pub name: IfName,
    /// The bridge it is a port of.
    pub bridge: Option<IfName>,
    /// Administratively up.
    pub up: bool,
    /// Bridge port isolation.
    pub isolated: bool,
    /// The only VLAN that it is in, without a tag.
    pub vlan: Option<VlanId>,
}

/// An interface that netd made in a container, found by its host end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// The name of the container that it was made for.
    pub container: ContainerName,
    /// The network that it was made for.
    pub network: NetworkName,
    /// The namespace that it is in.
    pub netns: Netns,
    /// Its name there.
    pub ifname: IfName,
    /// The name of its host end.
    pub host_ifname: IfName,
    /// What it is like.
    pub inside: ObservedInterface,
}

/// An interface that netd made in a container and that has no other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// The namespace that it is in.
    pub netns: Netns,
    /// Its name there.
    pub ifname: IfName,
}
