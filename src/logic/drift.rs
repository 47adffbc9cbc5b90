//! Drift: the differences between the target (`logic::target`) and the observed state, part by part. Repair corrects
//! it, the check of an attachment reports it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::target;
use crate::model::address::{Family, Mac};
use crate::model::endpoint::Endpoint;
use crate::model::host::element::Element;
use crate::model::host::observed::{HostEnd, Observed, ObservedInterface, ObservedLink, Structure};
use crate::model::host::step::{BridgeLink, HostPort};
use crate::model::names::IfName;
use crate::model::network::{Driver, Network};
use crate::model::request::CheckSpec;

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
    /// The MAC address of the container's interface.
    Mac {
        /// The interface's name.
        ifname: IfName,
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
    /// The firewall table does not exist.
    TableGone,
    /// The chains, rules or sets of the firewall table are not those that netd writes.
    TableChanged,
    /// The firewall table lacks this element.
    Element(Element),
    /// No socket holds this published port.
    HostPort(HostPort),
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
}

impl Link {
    fn name(&self) -> &IfName {
        match self {
            Self::Bridge(name) | Self::Container(name) | Self::HostEnd(name) => name,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(name) => write!(f, "bridge {name}"),
            Self::Container(name) => write!(f, "interface {name}"),
            Self::HostEnd(name) => write!(f, "the host's end {name}"),
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
            Self::Mac { ifname, has, wants } => {
                let has = has.map_or("none".to_owned(), |mac| mac.to_string());
                write!(f, "MAC address of {ifname} is {has} instead of {wants}")
            }
            Self::Address { link: link @ Link::Bridge(_), address } => write!(f, "gateway {address} of {link} is gone"),
            Self::Address { link, address } => write!(f, "address {address} of {} is gone", link.name()),
            Self::DefaultRoute { ifname, gateway } => write!(f, "default route by {gateway} over {ifname} is gone"),
            Self::Route { ifname, destination } => write!(f, "route to {destination} over {ifname} is gone"),
            Self::HostEndName { has, wants } => write!(f, "the host's end is {has} instead of {wants}"),
            Self::Bridge { port, has, wants } => {
                write!(f, "bridge port {port}: its bridge is {} instead of {}", name(has), name(wants))
            }
            Self::Isolation(port) => write!(f, "bridge port {port}: its isolation was changed"),
            Self::TableGone => f.write_str("nft: table inet netd is gone"),
            Self::TableChanged => f.write_str("nft: table inet netd is not as netd writes it"),
            Self::Element(element) => write!(f, "nft: an element of table inet netd is gone ({element:?})"),
            Self::HostPort(port) => write!(f, "host port {}/{} is not held", port.port, port.protocol),
        }
    }
}

/// Compares a network's bridge.
pub fn bridge(target: &BridgeLink, observed: &Observed) -> Option<Drift> {
    let name = || Link::Bridge(target.name.clone());
    let Some(link) = observed.links.get(&target.name) else { return Some(Drift::Gone(name())) };
    if !link.ours {
        return Some(Drift::Unfinished(name()));
    }
    if !link.up {
        return Some(Drift::Down(name()));
    }
    if link.mtu != target.mtu {
        return Some(Drift::Mtu { link: name(), has: link.mtu, wants: target.mtu });
    }
    let lost = target.addresses.iter().find(|address| !link.addresses.contains(address))?;
    Some(Drift::Address { link: name(), address: lost.to_string() })
}

/// Compares the host end of an interface that netd made, as a link of the host.
pub fn host_link(network: &Network, endpoint: &Endpoint, link: Option<&ObservedLink>) -> Option<Drift> {
    let name = &endpoint.host_ifname;
    let Some(link) = link else { return Some(Drift::Gone(Link::HostEnd(name.clone()))) };
    if !link.ours || !link.finished {
        return Some(Drift::Unfinished(Link::HostEnd(name.clone())));
    }
    let (bridge, up, isolated) = (link.master.clone(), link.up, link.isolated);
    host_end(network, endpoint, Some(&HostEnd { name: name.clone(), bridge, up, isolated }))
}

/// Compares the host end, as the other end of the container's interface.
pub fn host_end(network: &Network, endpoint: &Endpoint, end: Option<&HostEnd>) -> Option<Drift> {
    let wants = &endpoint.host_ifname;
    let Some(end) = end else { return Some(Drift::Gone(Link::HostEnd(wants.clone()))) };
    if end.name != *wants {
        return Some(Drift::HostEndName { has: end.name.clone(), wants: wants.clone() });
    }
    if !end.up {
        return Some(Drift::Down(Link::HostEnd(wants.clone())));
    }
    if end.bridge.as_ref() != network.bridge() {
        let (port, has) = (wants.clone(), end.bridge.clone());
        return Some(Drift::Bridge { port, has, wants: network.bridge().cloned() });
    }
    let isolated = match &network.driver {
        Driver::Bridge(bridge) => !bridge.icc,
        // The other program decides.
        Driver::Adopted(_) => end.isolated,
    };
    (end.isolated != isolated).then(|| Drift::Isolation(wants.clone()))
}

/// Compares the container's interface, for a runtime that recorded no other MAC address or MTU: a later plugin of a
/// chain may have changed them, and the runtime's result contains the change.
pub fn interface(
    network: &Network,
    endpoint: &Endpoint,
    remembered: &CheckSpec,
    seen: &ObservedInterface,
) -> Option<Drift> {
    let ifname = &endpoint.ifname;
    if !seen.up {
        return Some(Drift::Down(Link::Container(ifname.clone())));
    }
    let wants = remembered.mac.unwrap_or(endpoint.mac);
    if seen.mac != Some(wants) {
        return Some(Drift::Mac { ifname: ifname.clone(), has: seen.mac, wants });
    }
    let wants = remembered.mtu.filter(|mtu| network.makes_interfaces() && seen.mtu != *mtu)?;
    Some(Drift::Mtu { link: Link::Container(ifname.clone()), has: seen.mtu, wants })
}

/// The first missing address: of those that netd assigned, then of the `remembered` ones.
pub fn addresses(endpoint: &Endpoint, remembered: &[IpAddr], seen: &ObservedInterface) -> Option<Drift> {
    let lacks = |address: &&IpNetwork| !seen.addresses.contains(address);
    let has = |ip: &IpAddr| seen.addresses.iter().any(|address| address.ip() == *ip);
    let ours = endpoint.addresses.iter().find(lacks).map(ToString::to_string);
    let address = ours.or_else(|| remembered.iter().find(|ip| !has(ip)).map(ToString::to_string))?;
    Some(Drift::Address { link: Link::Container(endpoint.ifname.clone()), address })
}

/// The first missing route. `all`: the container's endpoints.
pub fn routes(
    network: &Network,
    endpoint: &Endpoint,
    all: &[Arc<Endpoint>],
    seen: &ObservedInterface,
) -> Option<Drift> {
    if !network.makes_interfaces() {
        return None;
    }
    let ifname = &endpoint.ifname;
    // A default route on an interface of another program is left in place when a container is attached; in a container
    // of another engine, netd's has a lower precedence.
    let elsewhere =
        |gateway: &IpAddr| !endpoint.is_beside_engine() && seen.default_elsewhere.contains(&Family::of(*gateway));
    let over_this = target::default_routes(all).into_iter().filter(|route| route.ifname == *ifname);
    let mut expected = over_this.map(|route| route.gateway).filter(|gateway| !elsewhere(gateway));
    let has_default = |gateway: &IpAddr| {
        seen.routes.iter().any(|route| route.destination.prefix() == 0 && route.gateway == Some(*gateway))
    };
    if let Some(gateway) = expected.find(|gateway| !has_default(gateway)) {
        return Some(Drift::DefaultRoute { ifname: ifname.clone(), gateway });
    }
    let lost = endpoint.routes.iter().find(|route| !seen.routes.contains(&(*route).clone().normal()))?;
    Some(Drift::Route { ifname: ifname.clone(), destination: lost.destination.to_string() })
}

/// Compares the structure of the firewall table; elements are compared only if this finds no difference.
pub fn table(observed: &Observed) -> Option<Drift> {
    match observed.structure {
        Structure::Missing => Some(Drift::TableGone),
        Structure::Different => Some(Drift::TableChanged),
        Structure::Intact => None,
    }
}

/// The first of these elements that the table lacks.
pub fn elements(wants: &BTreeSet<Element>, observed: &Observed) -> Option<Drift> {
    wants.difference(&observed.elements).next().cloned().map(Drift::Element)
}

/// The first published port that no socket holds.
pub fn host_ports(wants: &BTreeSet<HostPort>, observed: &Observed) -> Option<Drift> {
    wants.difference(&observed.held).next().copied().map(Drift::HostPort)
}
