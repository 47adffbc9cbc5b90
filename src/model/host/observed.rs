//! What the kernel has: facts about the host, and the objects that netd made.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::element::Element;
use super::step::HostPort;
use crate::model::address::{Family, Mac, Subnet};
use crate::model::names::IfName;
use crate::model::publication::PortRange;
use crate::model::route::Route;

/// What a decision must know about the host; read anew for each decision that needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Every route of every table that is not a default route, with its interface; also those that lead nowhere.
    pub routes: Vec<(Subnet, Option<IfName>)>,
    /// Every address, with its prefix and interface.
    pub addresses: Vec<(IpNetwork, IfName)>,
    /// MTU of the interface of the default route.
    pub uplink_mtu: Option<u32>,
    /// Every interface name in use.
    pub interfaces: BTreeSet<IfName>,
    /// Where free host ports are taken from (`net.ipv4.ip_local_port_range`).
    pub local_ports: Option<PortRange>,
    /// Never taken automatically (`net.ipv4.ip_local_reserved_ports`).
    pub reserved_ports: Vec<PortRange>,
    /// `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`.
    pub forwarding: (bool, bool),
    /// Whether the host has IPv6 at all.
    pub ipv6: bool,
    /// Search domains of the host's resolver.
    pub search: Vec<String>,
    /// Networks of other programs, asked for only where a subnet is chosen or checked.
    pub foreign: Vec<ForeignNetwork>,
}

/// A network as another program defines it, whether or not it is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignNetwork {
    /// Whose it is, with its name: "Docker's network app_default".
    pub whose: String,
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
}

/// A link that carries netd's link group, or a bridge of a name that a network has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedLink {
    /// `bridge`, `veth`, … (`IFLA_INFO_KIND`); empty for hardware.
    pub kind: String,
    /// The bridge it is a port of.
    pub master: Option<IfName>,
    /// Administratively up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Bridge port isolation (`IFLA_BRPORT_ISOLATED`).
    pub isolated: bool,
    /// Its addresses, without link-local ones.
    pub addresses: Vec<IpNetwork>,
    /// Whether it carries one of netd's link groups.
    pub ours: bool,
    /// Whether netd finished making it.
    pub finished: bool,
}

/// The state of the table's chains, rules, set and map declarations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Structure {
    /// As netd wrote it.
    Intact,
    /// There, but not as this netd writes it: somebody changed it, or another version wrote it.
    Different,
    /// No such table.
    Missing,
}

/// What the kernel has of netd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Links of the host's namespace, by name: every one of ours, and every bridge.
    pub links: BTreeMap<IfName, ObservedLink>,
    /// The table's structure.
    pub structure: Structure,
    /// The table's elements; empty when the table is missing.
    pub elements: BTreeSet<Element>,
    /// `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`.
    pub forwarding: (bool, bool),
    /// Host ports that this process holds.
    pub held: BTreeSet<HostPort>,
}

/// An interface in a container, and its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedInterface {
    /// Its MAC address; `None` where it has none of six bytes.
    pub mac: Option<Mac>,
    /// Administratively up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Its addresses, without link-local ones.
    pub addresses: Vec<IpNetwork>,
    /// The unicast routes over it in every table, default routes included, without those that the kernel makes for its
    /// addresses.
    pub routes: Vec<Route>,
    /// The families that have a default route over another interface.
    pub default_elsewhere: Vec<Family>,
    /// The other end of a veth pair, when it is in the host's namespace.
    pub host_end: Option<HostEnd>,
}

/// The host's end of a veth pair.
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
}
