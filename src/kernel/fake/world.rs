//! What the fake kernel has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::faults::Faults;
use crate::model::address::Families;
use crate::model::bandwidth::Shaping;
use crate::model::host::element::Element;
use crate::model::host::observed::{HostFacts, ObservedInterface};
use crate::model::host::parent::{Device, Parent};
use crate::model::host::step::{BridgeLink, DefaultRoute, EndpointLink, Flows, HostPort, HostPorts, ShimLink};
use crate::model::inside::Inside;
use crate::model::names::IfName;

/// The state of the fake kernel. Tests inspect it, and change it without the engine's knowledge.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Bridges by name.
    pub bridges: BTreeMap<IfName, BridgeLink>,
    /// Interfaces of the host that networks can be on.
    pub parents: BTreeMap<IfName, Parent>,
    /// Kinds of interfaces that the kernel lacks.
    pub lacks: BTreeSet<Device>,
    /// The host's own interfaces on networks of stacked ones, by name.
    pub shims: BTreeMap<IfName, ShimLink>,
    /// Interfaces that netd made in containers, by the name of their host end.
    pub links: BTreeMap<IfName, EndpointLink>,
    /// Interfaces that other programs made in containers, by namespace inode and name.
    pub found: BTreeMap<(u64, IfName), ObservedInterface>,
    /// Interfaces of other programs that were prepared.
    pub prepared: BTreeSet<IfName>,
    /// Host ends on which another program has enabled IPv6.
    pub with_ipv6: BTreeSet<IfName>,
    /// Bridges and host ends that are down.
    pub down: BTreeSet<IfName>,
    /// The host ends of the container's ends that are down.
    pub down_inside: BTreeSet<IfName>,
    /// The host ends of the interfaces whose subnets have no route.
    pub unrouted_inside: BTreeSet<IfName>,
    /// Limits on interfaces of the host, by the interface; gone with it.
    pub shapings: BTreeMap<IfName, Shaping>,
    /// Intermediate devices by name, with the limits that they were made for; they stay when that interface is gone.
    pub ifbs: BTreeMap<IfName, Shaping>,
    /// Default routes by namespace inode.
    pub routes: BTreeMap<u64, Vec<DefaultRoute>>,
    /// The elements of all tables; `None`: no tables.
    pub elements: Option<BTreeSet<Element>>,
    /// Whether the chains, rules or sets of `table inet netd` are not those that netd writes.
    pub structure_differs: bool,
    /// Packets that `table bridge netd` dropped, by host end.
    pub refused: BTreeMap<IfName, u64>,
    /// The kernel has no tables of the family bridge.
    pub unguarded: bool,
    /// The kernel cannot have `table inet netd_services`.
    pub no_services: bool,
    /// The kernel cannot hand packets to netd.
    pub hands_nothing_over: bool,
    /// Ports that netd holds.
    pub held: BTreeSet<HostPorts>,
    /// Ports that other processes hold.
    pub foreign_ports: BTreeSet<HostPort>,
    /// Interfaces that exist in containers besides netd's, by namespace inode.
    pub foreign_ifnames: BTreeSet<(u64, IfName)>,
    /// Named namespaces that exist, by path, with their inode.
    pub namespaces: BTreeMap<std::path::PathBuf, u64>,
    /// The last inode number assigned.
    pub last_inode: u64,
    /// Forwarding, per address family.
    pub forwarding: Families,
    /// The address families for which the host's configuration asks.
    pub asked: Families,
    /// Bridges of other engines.
    pub engines: BTreeSet<IfName>,
    /// Namespaces that other engines made, by inode.
    pub of_engines: BTreeSet<u64>,
    /// Namespaces in which another resolver answers at 127.0.0.11, by inode.
    pub resolvers: BTreeSet<u64>,
    /// The redirection to the name service within containers, by namespace inode.
    pub inside: BTreeMap<u64, Inside>,
    /// Whether the host's firewall drops containers' questions to their gateways.
    pub drops_questions: bool,
    /// The most questions that were sent at once.
    pub asked_at_once: usize,
    /// Namespaces in which a firewall of their own drops questions, by inode.
    pub own_firewalls: BTreeSet<u64>,
    /// The addresses of bridges that other programs made.
    pub gateways: BTreeMap<IfName, Vec<IpAddr>>,
    /// Other programs' IPv4 firewall, as `iptables-save` prints it.
    pub iptables: String,
    /// The interfaces through which packets leave the host.
    pub ways: Vec<IfName>,
    /// Content of each `/etc/netns/NAME/resolv.conf`.
    pub resolv: BTreeMap<String, String>,
    /// The facts of the host, to which links and forwarding are added.
    pub facts: HostFacts,
    /// The flows whose connection tracking entries were deleted.
    pub forgotten: Vec<Flows>,
    /// Frames that the engine sent: the inode of the namespace, the interface, the bytes.
    pub frames: Vec<(u64, IfName, Vec<u8>)>,
    /// What fails.
    pub faults: Faults,
}
