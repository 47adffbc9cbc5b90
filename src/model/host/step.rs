//! Steps: the single changes to the kernel that make up a plan, most of them with an inverse.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::element::{Element, Table};
use super::foreign_firewall::ForeignChange;
pub use super::link::{BridgeLink, EndpointLink, LinkKind, ShimLink, StackedLink, VethPair, is_single};
use super::routing::TurnedOn;
use crate::model::address::{Families, Family};
use crate::model::bandwidth::{LimitedInterface, Shaping};
use crate::model::endpoint::Netns;
use crate::model::ids::ContainerId;
use crate::model::names::IfName;
use crate::model::policy::ruling::Ended;
use crate::model::publication::{PortRange, Protocol};

/// A default route in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRoute {
    /// The interface.
    pub ifname: IfName,
    /// The gateway, which determines the address family of the route.
    pub gateway: IpAddr,
    /// A higher metric has lower precedence; `None`: the kernel's default, which has the highest precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// A host port that a bound socket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// Unspecified (`0.0.0.0`, `::`): every address of that family (`IPV6_V6ONLY` is set).
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// The same as ports; `None` for port 0, which nothing is published at.
    pub fn alone(self) -> Option<HostPorts> {
        let Self { address, protocol, port } = self;
        Some(HostPorts { address, protocol, ports: PortRange::single(port)? })
    }
}

/// Host ports at one address: one that a bound socket holds, or a longer range without sockets, which netd checks when
/// it takes it and watches from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPorts {
    /// As in [`HostPort::address`].
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortRange,
}

impl HostPorts {
    /// The port, if it is one, which a socket holds.
    pub fn single(self) -> Option<HostPort> {
        let Self { address, protocol, ports } = self;
        (ports.count() == 1).then_some(HostPort { address, protocol, port: ports.first() })
    }
}

/// One change to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Enable forwarding for the address families (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`).
    Forwarding(Families),
    /// Disable it again, and accept router advertisements as before on these interfaces, where `accept_ra` is still 2.
    StopForwarding(TurnedOn),
    /// Create the bridge, or make netd's existing one match.
    AddBridge(BridgeLink),
    /// Delete the bridge; a missing one is no error.
    DeleteBridge(BridgeLink),
    /// Give a link of the host that another program renamed its name back.
    Rename {
        /// Its name now.
        from: IfName,
        /// The name that netd gave it.
        to: IfName,
    },
    /// Remove and add virtual addresses of a bridge; missing and existing ones are no errors.
    VirtualAddresses {
        /// The bridge.
        bridge: IfName,
        /// Addresses to remove.
        remove: BTreeSet<IpAddr>,
        /// Addresses to add.
        add: BTreeSet<IpAddr>,
    },
    /// Create the host's interface on a network of stacked ones, or make netd's existing one match.
    AddShim(ShimLink),
    /// Delete it; a missing one is no error.
    DeleteShim(ShimLink),
    /// Change the routes to containers over it: remove, then add. Missing and existing ones are no errors, and removing
    /// from one that is gone is none either.
    ShimRoutes {
        /// The interface.
        shim: ShimLink,
        /// Addresses to which it does not lead any more.
        remove: BTreeSet<IpAddr>,
        /// Addresses to which it leads.
        add: BTreeSet<IpAddr>,
    },
    /// Create the interface, assign its addresses and bring it up. Fails, changing nothing, if an interface with that
    /// name exists in the container, or with the other end's name on the host.
    Attach(Box<EndpointLink>),
    /// Delete the interfaces together; missing ones are no error.
    Detach(Vec<EndpointLink>),
    /// Delete a link of netd that belongs to no network and no endpoint; a missing one is no error.
    DeleteStray(IfName),
    /// The same within a container; a missing namespace is no error.
    DeleteInner {
        /// The container.
        netns: Netns,
        /// The interface there.
        ifname: IfName,
    },
    /// Make the existing host ends match: bridge, hairpin mode, isolation, MAC address, MTU, up. Continues after an error
    /// and reports the first one.
    RestorePorts(Vec<EndpointLink>),
    /// Make the container's existing interface match: up, addresses, routes; `lo` up.
    Restore {
        /// The target.
        link: Box<EndpointLink>,
        /// Whether its MAC address and MTU must match too: a later plugin of a chain may have set others.
        link_layer: bool,
    },
    /// Add the link's addresses and routes to its existing interface; existing ones are no error.
    Address(Box<EndpointLink>),
    /// Remove the addresses, and with them their routes, from the interface; a missing namespace is no error.
    RemoveAddresses(Box<EndpointLink>),
    /// Prepare an interface of the host that another program made, so that ports published on 127.0.0.1 can be routed
    /// through it (`net.ipv4.conf.IF.route_localnet`).
    Adopt(IfName),
    /// Limit an interface of the host: a token bucket for what it sends, and one on an intermediate device for what it
    /// receives. Existing limits are replaced. All or nothing.
    Shape(Box<Shaping>),
    /// Change netd's rules in another program's firewall table.
    Foreign(ForeignChange),
    /// Remove the limits and delete the intermediate devices; missing ones are no error.
    Unshape(Vec<LimitedInterface>),
    /// Change the container's default routes: remove, then add. A missing namespace is no error.
    DefaultRoutes {
        /// The container.
        netns: Netns,
        /// Routes to remove; missing ones are no error.
        remove: Vec<DefaultRoute>,
        /// Routes to add.
        add: Vec<DefaultRoute>,
    },
    /// Change the table's elements in one netlink batch. Removing missing and adding existing elements are no errors.
    Elements {
        /// Elements to remove, before adding.
        remove: Vec<Element>,
        /// Elements to add.
        add: Vec<Element>,
    },
    /// Replace a whole table, structure and those of the elements that belong to it, in one transaction.
    Table(Table, Vec<Element>),
    /// Delete netd's tables; a missing one is no error.
    DropTables,
    /// Bind the ports, and watch the ranges, all or none; fails if another process has one.
    Hold(Vec<HostPorts>),
    /// Fail if another process has one of the ports; netd does not hold them afterwards. The runtime may have them, and
    /// the processes that it started for the container.
    CheckPortsFree {
        /// The ports.
        ports: Vec<HostPorts>,
        /// The container.
        container: ContainerId,
        /// The runtime's plugin, while it waits for the answer.
        plugin: Option<u32>,
    },
    /// Release the ports.
    Release(Vec<HostPorts>),
    /// Delete the conntrack entries of a host port or an address: flows follow their entry, not the map.
    ForgetFlows(Vec<Flows>),
    /// Write (`now`) or remove (`None`) `/etc/netns/NAME/resolv.conf`; a file that netd did not write stays.
    Resolv {
        /// The namespace's name.
        netns: String,
        /// The current content, if netd wrote it.
        before: Option<String>,
        /// The new content.
        now: Option<String>,
    },
}

/// Conntrack entries to delete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Flows {
    /// Entries whose original destination is one of these host ports (unspecified address: any of the host's).
    To(HostPorts),
    /// Entries with this container address as original source or as reply source.
    Of(IpAddr),
    /// Entries that a service has led to a member.
    Through(Through),
    /// Entries of flows that policies do not let pass any more. Never stored or sent.
    #[serde(skip)]
    Denied(Box<Ended>),
}

/// Connection tracking entries of a service; what is `None` is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Through {
    /// The address family.
    pub family: Family,
    /// The original destination: a virtual address.
    pub address: Option<IpAddr>,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// The original destination port: a published one.
    pub port: Option<u16>,
    /// The source of replies: a member.
    pub member: Option<IpAddr>,
}

impl Flows {
    /// The address family of their entries; `None`: both.
    pub fn family(&self) -> Option<Family> {
        Some(match self {
            Self::To(ports) => Family::of(ports.address),
            Self::Of(address) => Family::of(*address),
            Self::Through(through) => through.family,
            Self::Denied(_) => return None,
        })
    }
}

impl Step {
    /// Whether the step changes nothing, because its lists are empty.
    pub fn is_noop(&self) -> bool {
        match self {
            Self::Forwarding(families) | Self::StopForwarding(TurnedOn { families, .. }) => families.is_empty(),
            Self::Detach(links) | Self::RestorePorts(links) => links.is_empty(),
            Self::DefaultRoutes { remove, add, .. } => remove.is_empty() && add.is_empty(),
            Self::Elements { remove, add } => remove.is_empty() && add.is_empty(),
            Self::Hold(ports) | Self::CheckPortsFree { ports, .. } | Self::Release(ports) => ports.is_empty(),
            Self::ForgetFlows(flows) => flows.is_empty(),
            Self::Unshape(interfaces) => interfaces.is_empty(),
            Self::VirtualAddresses { remove, add, .. } | Self::ShimRoutes { remove, add, .. } => {
                remove.is_empty() && add.is_empty()
            }
            Self::AddBridge(_)
            | Self::DeleteBridge(_)
            | Self::AddShim(_)
            | Self::DeleteShim(_)
            | Self::DeleteInner { .. }
            | Self::Rename { .. }
            | Self::Restore { .. }
            | Self::Attach(_)
            | Self::DeleteStray(_)
            | Self::Address(_)
            | Self::RemoveAddresses(_)
            | Self::Adopt(_)
            | Self::Shape(_)
            | Self::Table(..)
            | Self::DropTables
            | Self::Foreign(_)
            | Self::Resolv { .. } => false,
        }
    }

    /// The step that undoes this one; `None` if there is nothing to undo.
    pub fn inverse(&self) -> Option<Step> {
        match self {
            Self::Forwarding(_)
            | Self::StopForwarding(_)
            | Self::ForgetFlows(_)
            | Self::Table(..)
            | Self::DropTables
            | Self::Adopt(_)
            | Self::Rename { .. }
            | Self::RestorePorts(_)
            | Self::Restore { .. }
            | Self::CheckPortsFree { .. } => None,
            // The changes needed in other programs' tables are planned again.
            Self::Foreign(_) => None,
            Self::AddBridge(bridge) => Some(Self::DeleteBridge(bridge.clone())),
            Self::DeleteBridge(bridge) => Some(Self::AddBridge(bridge.clone())),
            Self::VirtualAddresses { bridge, remove, add } => {
                Some(Self::VirtualAddresses { bridge: bridge.clone(), remove: add.clone(), add: remove.clone() })
            }
            Self::AddShim(shim) => Some(Self::DeleteShim(shim.clone())),
            Self::DeleteShim(shim) => Some(Self::AddShim(shim.clone())),
            Self::ShimRoutes { shim, remove, add } => {
                Some(Self::ShimRoutes { shim: shim.clone(), remove: add.clone(), add: remove.clone() })
            }
            Self::Attach(link) => Some(Self::Detach(vec![(**link).clone()])),
            Self::Address(link) => Some(Self::RemoveAddresses(link.clone())),
            Self::RemoveAddresses(link) => Some(Self::Address(link.clone())),
            Self::Shape(shaping) => Some(Self::Unshape(vec![shaping.interface()])),
            Self::Unshape(_) => None,
            // A deletion is not undone: the store has committed its command, and repair finishes it.
            Self::Detach(_) | Self::DeleteStray(_) | Self::DeleteInner { .. } => None,
            Self::DefaultRoutes { netns, remove, add } => {
                Some(Self::DefaultRoutes { netns: netns.clone(), remove: add.clone(), add: remove.clone() })
            }
            Self::Elements { remove, add } => Some(Self::Elements { remove: add.clone(), add: remove.clone() }),
            Self::Hold(ports) => Some(Self::Release(ports.clone())),
            Self::Release(ports) => Some(Self::Hold(ports.clone())),
            Self::Resolv { netns, before, now } => {
                Some(Self::Resolv { netns: netns.clone(), before: now.clone(), now: before.clone() })
            }
        }
    }
}
