//! Steps: the single changes to the kernel that a plan is made of, each with its inverse.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::element::Element;
use super::foreign_firewall::ForeignChange;
use crate::model::address::Mac;
use crate::model::bandwidth::Shaping;
use crate::model::endpoint::Netns;
use crate::model::ids::ContainerId;
use crate::model::names::{ContainerName, IfName, NetworkName};
use crate::model::publication::Protocol;
use crate::model::route::Route;

/// A bridge as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeLink {
    /// The network it carries (for the link's alias).
    pub network: NetworkName,
    /// Interface name.
    pub name: IfName,
    /// Gateway addresses with prefix.
    pub addresses: Vec<IpNetwork>,
    /// Bytes.
    pub mtu: u32,
}

/// A veth pair as it must be: one end a port of the bridge, the other the container's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointLink {
    /// For the link's alias.
    pub network: NetworkName,
    /// For the link's alias.
    pub container: ContainerName,
    /// The bridge.
    pub bridge: IfName,
    /// Interface on the host.
    pub host_ifname: IfName,
    /// Interface in the container.
    pub ifname: IfName,
    /// Where the container's end goes.
    pub netns: Netns,
    /// Of the container's end.
    pub mac: Mac,
    /// Bytes, both ends.
    pub mtu: u32,
    /// With prefix; no duplicate address detection.
    pub addresses: Vec<IpNetwork>,
    /// Default routes to set over this interface, at most one per family. One that the container already has from
    /// elsewhere is left in place.
    pub default_gateways: Vec<IpAddr>,
    /// Of those routes, as in [`DefaultRoute::metric`].
    pub default_metric: Option<u32>,
    /// Further routes over this interface.
    pub routes: Vec<Route>,
    /// Bridge port isolation: no traffic to other isolated ports (`--no-icc`).
    pub isolated: bool,
}

/// A default route in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRoute {
    /// Over which interface.
    pub ifname: IfName,
    /// To which gateway; its family is the route's.
    pub gateway: IpAddr,
    /// The higher, the later it is taken; `None`: the kernel's own, before which there is none.
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

/// One change to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Turn on forwarding for the families that are true. Never turned off again: others may rely on it.
    Forwarding {
        /// `net.ipv4.ip_forward`.
        v4: bool,
        /// `net.ipv6.conf.all.forwarding`.
        v6: bool,
    },
    /// Create the bridge, or make an existing one of ours as it must be.
    AddBridge(BridgeLink),
    /// Delete the bridge; one that is gone is fine.
    DeleteBridge(BridgeLink),
    /// Create the veth pair, address it and bring it up. Fails, changing nothing, when an interface of that name
    /// exists on either side.
    Attach(Box<EndpointLink>),
    /// Delete the veth pairs, all together; those that are gone are fine.
    Detach(Vec<EndpointLink>),
    /// Give the addresses and routes of the link to its interface, which is there; those it has are fine.
    Address(Box<EndpointLink>),
    /// Take the addresses (and with them their routes) off the interface again; a namespace that is gone is fine.
    RemoveAddresses(Box<EndpointLink>),
    /// Prepare an interface of the host that another program made: what the host publishes on 127.0.0.1 leads through it
    /// (`net.ipv4.conf.IF.route_localnet`).
    Adopt(IfName),
    /// Limit an interface of the host: a token bucket on what it sends, and on what it receives by way of an
    /// intermediate device. Limits that are there are replaced. All or nothing.
    Shape(Box<Shaping>),
    /// Change what netd has in another program's firewall table.
    Foreign(ForeignChange),
    /// Take the limits off and delete the intermediate devices; what is gone is fine.
    Unshape(Vec<Shaping>),
    /// Change the container's default routes: remove, then add. A namespace that is gone is fine.
    DefaultRoutes {
        /// The container.
        netns: Netns,
        /// To remove; one that is gone is fine.
        remove: Vec<DefaultRoute>,
        /// To add.
        add: Vec<DefaultRoute>,
    },
    /// Change the table's elements in one netlink batch. Removing what is gone and adding what is there is fine.
    Elements {
        /// To remove, first.
        remove: Vec<Element>,
        /// To add.
        add: Vec<Element>,
    },
    /// Replace the whole table, structure and elements, in one transaction.
    Table(Vec<Element>),
    /// Bind the ports, all or none; fails when somebody else has one.
    Hold(Vec<HostPort>),
    /// Fail when somebody else has one of the ports; they are not held afterwards. Processes that a runtime started for
    /// the container may have them.
    CheckPortsFree {
        /// The ports.
        ports: Vec<HostPort>,
        /// The container.
        container: ContainerId,
    },
    /// Let the ports go.
    Release(Vec<HostPort>),
    /// Make the conntrack entries forget a host port or an address: UDP flows follow their entry, not the map.
    ForgetFlows(Vec<Flows>),
    /// Write (`now`), or remove (`None`), `/etc/netns/NAME/resolv.conf`; a file that netd did not write stays.
    Resolv {
        /// The namespace's name.
        netns: String,
        /// The content that is there now, if netd wrote one.
        before: Option<String>,
        /// The content that must be there.
        now: Option<String>,
    },
}

/// Conntrack entries to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flows {
    /// Entries whose original destination is this host port (unspecified address: any) over UDP or SCTP.
    To(HostPort),
    /// Entries that have this container address as original source or as reply source.
    Of(IpAddr),
}

impl Step {
    /// Whether it changes nothing at all: its lists are empty.
    pub fn is_noop(&self) -> bool {
        match self {
            Self::Forwarding { v4, v6 } => !*v4 && !*v6,
            Self::Detach(links) => links.is_empty(),
            Self::DefaultRoutes { remove, add, .. } => remove.is_empty() && add.is_empty(),
            Self::Elements { remove, add } => remove.is_empty() && add.is_empty(),
            Self::Hold(ports) | Self::CheckPortsFree { ports, .. } | Self::Release(ports) => ports.is_empty(),
            Self::ForgetFlows(flows) => flows.is_empty(),
            Self::Unshape(shapings) => shapings.is_empty(),
            Self::AddBridge(_)
            | Self::DeleteBridge(_)
            | Self::Attach(_)
            | Self::Address(_)
            | Self::RemoveAddresses(_)
            | Self::Adopt(_)
            | Self::Shape(_)
            | Self::Table(_)
            | Self::Foreign(_)
            | Self::Resolv { .. } => false,
        }
    }

    /// The step that takes this one back; `None` where there is nothing to take back.
    pub fn inverse(&self) -> Option<Step> {
        match self {
            Self::Forwarding { .. }
            | Self::ForgetFlows(_)
            | Self::Table(_)
            | Self::Adopt(_)
            | Self::CheckPortsFree { .. } => None,
            // What other programs' rules need is looked at anew.
            Self::Foreign(_) => None,
            Self::AddBridge(bridge) => Some(Self::DeleteBridge(bridge.clone())),
            Self::DeleteBridge(bridge) => Some(Self::AddBridge(bridge.clone())),
            Self::Attach(link) => Some(Self::Detach(vec![(**link).clone()])),
            Self::Address(link) => Some(Self::RemoveAddresses(link.clone())),
            Self::RemoveAddresses(link) => Some(Self::Address(link.clone())),
            Self::Shape(shaping) => Some(Self::Unshape(vec![(**shaping).clone()])),
            Self::Unshape(_) => None,
            // A deletion is not undone: its command has been acknowledged by the store, and is finished by repair.
            Self::Detach(_) => None,
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
