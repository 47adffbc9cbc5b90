//! Drift: the differences between the target (`logic::target`) and the observed state, part by part. Repair corrects
//! it, the check of an attachment reports it.

mod compare;
mod shim;

use std::fmt;
use std::net::IpAddr;

pub use self::compare::{
    addresses, bridge, elements, host_end, host_link, host_ports, inside, interface, routes, tables,
};
pub use self::shim::shim;

use crate::model::address::Mac;
use crate::model::host::element::{Element, Table};
use crate::model::host::step::HostPorts;
use crate::model::names::IfName;
use crate::model::network::VlanId;

/// One difference; its text names the part, the observed value and the target value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// The bridge, the container's interface or its host end does not exist.
    Gone(Link),
    /// The link exists and is not up.
    Down(Link),
    /// netd did not make the link, or was killed while making it.
    Unfinished(Link),
    /// The MTU in bytes.
    Mtu {
        /// The link.
        link: Link,
        /// The observed value.
        has: u32,
        /// The target value.
        wants: u32,
    },
    /// The MAC address.
    Mac {
        /// The link.
        link: Link,
        /// The observed value; `None` if it has none.
        has: Option<Mac>,
        /// The target value.
        wants: Mac,
    },
    /// The link lacks this address: a gateway of the bridge, or an address of the container.
    Address {
        /// The link.
        link: Link,
        /// The address, with or without its prefix.
        address: String,
    },
    /// The bridge has this further address in a subnet of its network, which netd may give to a container.
    ForeignAddress {
        /// The bridge.
        bridge: IfName,
        /// The address with its prefix.
        address: String,
    },
    /// IPv6 is disabled on the bridge.
    Ipv6Off(IfName),
    /// IPv6 is enabled on the host end: containers reach the host at its link-local address.
    Ipv6On(IfName),
    /// `net.ipv4.conf.IF.route_localnet` is 0: ports published on 127.0.0.1 do not answer.
    RouteLocalnet(IfName),
    /// A setting of a bridge that must be 0 is not: with `accept_ra` a container could configure the host, with
    /// `accept_dad` gateway addresses are not usable at once.
    SettingOn {
        /// The bridge.
        bridge: IfName,
        /// Below `net.ipv6.conf.IF`.
        setting: &'static str,
    },
    /// The host has no route to this subnet over the bridge.
    SubnetRoute {
        /// The bridge.
        bridge: IfName,
        /// The subnet.
        subnet: String,
    },
    /// The host has no route to this container over its own interface on the network.
    HostRoute {
        /// The interface.
        shim: IfName,
        /// The container's address.
        to: IpAddr,
    },
    /// The host has a route to an address over its own interface on the network that no container has.
    StrayRoute {
        /// The interface.
        shim: IfName,
        /// The address.
        to: IpAddr,
    },
    /// Another program changed the link group, by which netd finds its links.
    Group(Link),
    /// `lo` in the container is down.
    LoopbackDown,
    /// The container has no default route through this gateway.
    DefaultRoute {
        /// The interface.
        ifname: IfName,
        /// The gateway.
        gateway: IpAddr,
    },
    /// The container has no route to this destination.
    Route {
        /// The interface.
        ifname: IfName,
        /// The destination.
        destination: String,
    },
    /// The host end has another name.
    HostEndName {
        /// The observed name.
        has: IfName,
        /// The target name.
        wants: IfName,
    },
    /// The host end is a port of another bridge, or of none.
    Bridge {
        /// The host end.
        port: IfName,
        /// The observed bridge.
        has: Option<IfName>,
        /// The target bridge.
        wants: Option<IfName>,
    },
    /// The isolation of the bridge port was changed.
    Isolation(IfName),
    /// The bridge port is not in this VLAN alone.
    Vlan {
        /// The host end.
        port: IfName,
        /// The VLAN.
        vlan: VlanId,
    },
    /// The firewall table does not exist.
    TableGone(Table),
    /// The chains, rules or sets of the firewall table are not those that netd writes.
    TableChanged(Table),
    /// The firewall table lacks this element.
    Element(Element),
    /// No socket holds this published port.
    HostPorts(HostPorts),
}

/// A network interface, by its role in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A network's bridge.
    Bridge(IfName),
    /// The interface in the container.
    Container(IfName),
    /// The host end of the pair.
    HostEnd(IfName),
    /// The host's own interface on a network of stacked ones.
    Shim(IfName),
}

impl Link {
    fn name(&self) -> &IfName {
        match self {
            Self::Bridge(name) | Self::Container(name) | Self::HostEnd(name) | Self::Shim(name) => name,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(name) => write!(f, "bridge {name}"),
            Self::Container(name) => write!(f, "interface {name}"),
            Self::HostEnd(name) => write!(f, "the host's end {name}"),
            Self::Shim(name) => write!(f, "the host's interface {name}"),
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &Option<IfName>| name.as_ref().map_or("none".to_owned(), ToString::to_string);
        match self {
            Self::Gone(link) => write!(f, "{link} is gone"),
            Self::Down(link) => write!(f, "{link} is down"),
            Self::Unfinished(link) => write!(f, "{link} is not one that netd finished making"),
            Self::Mtu { link: Link::Container(ifname), has, wants } => {
                write!(f, "MTU of {ifname} is {has} instead of {wants}")
            }
            Self::Mtu { link, has, wants } => write!(f, "{link}: MTU {has}, want {wants}"),
            Self::Mac { link, has, wants } => {
                let has = has.map_or("none".to_owned(), |mac| mac.to_string());
                write!(f, "MAC address of {} is {has} instead of {wants}", link.name())
            }
            Self::ForeignAddress { bridge, address } => {
                write!(f, "bridge {bridge}: {address}, an address of its network that is not its gateway")
            }
            Self::Ipv6On(end) => write!(f, "host end {end}: IPv6 is enabled"),
            Self::Ipv6Off(bridge) => write!(f, "bridge {bridge}: IPv6 is disabled"),
            Self::SettingOn { bridge, setting } => {
                write!(f, "bridge {bridge}: net.ipv6.conf.{bridge}.{setting} is not 0")
            }
            Self::RouteLocalnet(bridge) => write!(f, "bridge {bridge}: route_localnet is off"),
            Self::SubnetRoute { bridge, subnet } => write!(f, "route to {subnet} over {bridge} is gone"),
            Self::HostRoute { shim, to } => write!(f, "route to {to} over {shim} is gone"),
            Self::StrayRoute { shim, to } => write!(f, "route to {to} over {shim} leads to nobody"),
            Self::Group(link) => write!(f, "{link}: its link group was changed"),
            Self::LoopbackDown => f.write_str("lo is down"),
            Self::Address { link: link @ Link::Bridge(_), address } => write!(f, "gateway {address} of {link} is gone"),
            Self::Address { link, address } => write!(f, "address {address} of {} is gone", link.name()),
            Self::DefaultRoute { ifname, gateway } => write!(f, "default route by {gateway} over {ifname} is gone"),
            Self::Route { ifname, destination } => write!(f, "route to {destination} over {ifname} is gone"),
            Self::HostEndName { has, wants } => write!(f, "the host's end is {has} instead of {wants}"),
            Self::Bridge { port, has, wants } => {
                write!(f, "bridge port {port}: its bridge is {} instead of {}", name(has), name(wants))
            }
            Self::Isolation(port) => write!(f, "bridge port {port}: its isolation was changed"),
            Self::Vlan { port, vlan } => write!(f, "bridge port {port}: it is not in VLAN {vlan} alone, without a tag"),
            Self::TableGone(table) => write!(f, "nft: {table} is gone"),
            Self::TableChanged(table) => write!(f, "nft: {table} is not as netd writes it"),
            Self::Element(element) => write!(f, "nft: an element of {} is gone ({element:?})", element.table()),
            Self::HostPorts(ports) => write!(f, "host port {}/{} is not held", ports.ports, ports.protocol),
        }
    }
}
