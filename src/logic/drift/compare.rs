//! Compares the target with the observed state, part by part. Each function returns every difference that it finds.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::{Drift, Link};
use crate::logic::target;
use crate::model::address::{Family, Mac};
use crate::model::endpoint::Endpoint;
use crate::model::host::element::{Element, Table};
use crate::model::host::observed::{HostEnd, Observed, ObservedInterface, ObservedLink, Structure};
use crate::model::host::step::{BridgeLink, EndpointLink, HostPorts, is_single};
use crate::model::network::{Driver, Network, Unmanaged};
use crate::model::request::CheckSpec;

/// What every interface of netd on the host has: it is up, with this MTU and this MAC address.
pub(super) fn properties(name: &Link, link: &ObservedLink, (mtu, mac): (u32, Option<Mac>)) -> Vec<Drift> {
    let down = (!link.up).then(|| Drift::Down(name.clone()));
    let other_mtu = (link.mtu != mtu).then(|| Drift::Mtu { link: name.clone(), has: link.mtu, wants: mtu });
    let other_mac = mac.filter(|wants| link.mac != Some(*wants));
    let other_mac = other_mac.map(|wants| Drift::Mac { link: name.clone(), has: link.mac, wants });
    [down, other_mtu, other_mac].into_iter().flatten().collect()
}

/// Compares a network's bridge. [`Drift::Gone`] and [`Drift::Unfinished`] stand alone.
pub fn bridge(target: &BridgeLink, observed: &Observed) -> Vec<Drift> {
    let name = || Link::Bridge(target.name.clone());
    let Some(link) = observed.links.get(&target.name) else { return vec![Drift::Gone(name())] };
    if !link.ours {
        let drift = if link.alias.as_ref() == Some(&target.alias()) { Drift::Group } else { Drift::Unfinished };
        return vec![drift(name())];
    }
    let mut drift = properties(&name(), link, (target.mtu, target.mac()));
    if let Some(bridge) = &link.bridge {
        if !bridge.route_localnet {
            drift.push(Drift::RouteLocalnet(target.name.clone()));
        }
        for (setting, is_on) in [("accept_ra", bridge.accept_ra), ("accept_dad", bridge.accept_dad)] {
            if is_on {
                drift.push(Drift::SettingOn { bridge: target.name.clone(), setting });
            }
        }
        if !bridge.ipv6 && target.addresses.iter().any(IpNetwork::is_ipv6) {
            drift.push(Drift::Ipv6Off(target.name.clone()));
        }
    }
    let (there, missing): (Vec<&IpNetwork>, Vec<&IpNetwork>) =
        target.addresses.iter().partition(|address| link.addresses.contains(address));
    drift.extend(missing.iter().map(|lost| Drift::Address { link: name(), address: lost.to_string() }));
    let single: BTreeSet<IpAddr> =
        link.addresses.iter().filter(|address| is_single(address)).map(IpNetwork::ip).collect();
    let lost = target.virtual_addresses.difference(&single);
    drift.extend(lost.map(|lost| Drift::Address { link: name(), address: lost.to_string() }));
    if link.bridge.as_ref().is_some_and(|bridge| link.up && !bridge.link_local)
        && let Some(lost) = target.link_local()
    {
        drift.push(Drift::Address { link: name(), address: lost.to_string() });
    }
    let connected =
        |address: &&&IpNetwork| link.bridge.as_ref().is_none_or(|bridge| bridge.connected.contains(address));
    drift.extend(there.iter().filter(|address| link.up && !connected(address)).map(|address| Drift::SubnetRoute {
        bridge: target.name.clone(),
        subnet: format!("{}/{}", address.network(), address.prefix()),
    }));
    drift.extend(
        target
            .in_the_way(&link.addresses)
            .map(|address| Drift::ForeignAddress { bridge: target.name.clone(), address: address.to_string() }),
    );
    drift
}

/// Compares the host end of an interface that netd made, as a link of the host. [`Drift::Gone`] and
/// [`Drift::Unfinished`] stand alone.
pub fn host_link(
    target: &EndpointLink,
    network: &Network,
    endpoint: &Endpoint,
    link: Option<&ObservedLink>,
) -> Vec<Drift> {
    let name = || Link::HostEnd(endpoint.host_ifname.clone());
    let Some(link) = link else { return vec![Drift::Gone(name())] };
    if !link.finished {
        return vec![Drift::Unfinished(name())];
    }
    if !link.ours {
        let drift = if link.alias.as_ref() == Some(&target.alias()) { Drift::Group } else { Drift::Unfinished };
        return vec![drift(name())];
    }
    let mut drift = Vec::new();
    let (bridge, up, isolated, vlan) = (link.master.clone(), link.up, link.isolated, link.vlan);
    let end = HostEnd { name: endpoint.host_ifname.clone(), bridge, up, isolated, vlan };
    drift.extend(host_end(network, endpoint, Some(&end)));
    if link.mtu != target.mtu {
        drift.push(Drift::Mtu { link: name(), has: link.mtu, wants: target.mtu });
    }
    let wants = target.mac.of_host_end();
    if link.mac != Some(wants) {
        drift.push(Drift::Mac { link: name(), has: link.mac, wants });
    }
    if link.ipv6 {
        drift.push(Drift::Ipv6On(endpoint.host_ifname.clone()));
    }
    drift
}

/// Compares the host end, as the other end of the container's interface.
pub fn host_end(network: &Network, endpoint: &Endpoint, end: Option<&HostEnd>) -> Vec<Drift> {
    let wants = &endpoint.host_ifname;
    let Some(end) = end else { return vec![Drift::Gone(Link::HostEnd(wants.clone()))] };
    if end.name != *wants {
        return vec![Drift::HostEndName { has: end.name.clone(), wants: wants.clone() }];
    }
    let mut drift = Vec::new();
    if !end.up {
        drift.push(Drift::Down(Link::HostEnd(wants.clone())));
    }
    if end.bridge.as_ref() != network.bridge() {
        let (port, has) = (wants.clone(), end.bridge.clone());
        drift.push(Drift::Bridge { port, has, wants: network.bridge().cloned() });
    }
    let isolated = match &network.driver {
        Driver::Bridge(bridge) => !bridge.icc,
        Driver::Unmanaged(unmanaged) => !unmanaged.icc,
        // The other program decides, or there is none.
        Driver::Adopted(_) | Driver::Stacked(_) | Driver::Nothing => end.isolated,
    };
    if end.isolated != isolated {
        drift.push(Drift::Isolation(wants.clone()));
    }
    if let Driver::Unmanaged(Unmanaged { vlan: Some(vlan), .. }) = network.driver
        && end.vlan != Some(vlan)
    {
        drift.push(Drift::Vlan { port: wants.clone(), vlan });
    }
    drift
}

/// Compares the container's interface, for a runtime that recorded no other MAC address or MTU: a later plugin of a
/// chain may have changed them, and the runtime's result contains the change.
pub fn interface(
    network: &Network,
    endpoint: &Endpoint,
    remembered: &CheckSpec,
    seen: &ObservedInterface,
) -> Vec<Drift> {
    let link = || Link::Container(endpoint.ifname.clone());
    let mut drift = Vec::new();
    if !seen.up {
        drift.push(Drift::Down(link()));
    }
    let wants = remembered.mac.unwrap_or(endpoint.mac);
    if seen.mac != Some(wants) {
        drift.push(Drift::Mac { link: link(), has: seen.mac, wants });
    }
    if let Some(wants) = remembered.mtu.filter(|mtu| network.makes_interfaces() && seen.mtu != *mtu) {
        drift.push(Drift::Mtu { link: link(), has: seen.mtu, wants });
    }
    drift
}

/// Compares the container's interface, its addresses and its routes with what netd made. `all`: the container's
/// endpoints.
pub fn inside(network: &Network, endpoint: &Endpoint, all: &[Arc<Endpoint>], seen: &ObservedInterface) -> Vec<Drift> {
    let mut drift = made_interface(network, endpoint, seen);
    drift.extend(addresses(endpoint, &[], seen));
    drift.extend(subnet_routes(endpoint, seen));
    drift.extend(routes(network, endpoint, all, seen));
    drift
}

/// The missing routes to the subnets of its addresses; only if no runtime requested the endpoint, because a later plugin
/// of its chain may have moved them to another table.
fn subnet_routes(endpoint: &Endpoint, seen: &ObservedInterface) -> Vec<Drift> {
    let is_ours = |address: &&IpNetwork| endpoint.owner.is_none() && endpoint.addresses.contains(address);
    let lost = seen.unrouted.iter().filter(|_| seen.up).filter(is_ours);
    lost.map(|address| Drift::Route {
        ifname: endpoint.ifname.clone(),
        destination: format!("{}/{}", address.network(), address.prefix()),
    })
    .collect()
}

/// Compares the container's interface with what netd made, for repair: MAC address and MTU only if no runtime requested
/// the endpoint, because a later plugin of its chain may have changed them.
fn made_interface(network: &Network, endpoint: &Endpoint, seen: &ObservedInterface) -> Vec<Drift> {
    let link = || Link::Container(endpoint.ifname.clone());
    let mut drift = Vec::new();
    if !seen.up {
        drift.push(Drift::Down(link()));
    }
    if !seen.loopback_up {
        drift.push(Drift::LoopbackDown);
    }
    if seen.up && !seen.link_local && endpoint.addresses.iter().any(IpNetwork::is_ipv6) {
        drift.push(Drift::Address { link: link(), address: endpoint.mac.link_local().to_string() });
    }
    if endpoint.owner.is_none() {
        if seen.mac != Some(endpoint.mac) {
            drift.push(Drift::Mac { link: link(), has: seen.mac, wants: endpoint.mac });
        }
        if seen.mtu != network.mtu {
            drift.push(Drift::Mtu { link: link(), has: seen.mtu, wants: network.mtu });
        }
    }
    drift
}

/// The missing addresses: those that netd assigned, then the `remembered` ones.
pub fn addresses(endpoint: &Endpoint, remembered: &[IpAddr], seen: &ObservedInterface) -> Vec<Drift> {
    let lacks = |address: &&IpNetwork| !seen.addresses.contains(address);
    let has = |ip: &IpAddr| seen.addresses.iter().any(|address| address.ip() == *ip);
    let ours = endpoint.addresses.iter().filter(lacks).map(ToString::to_string);
    let remembered = remembered.iter().filter(|ip| !has(ip)).map(ToString::to_string);
    let link = || Link::Container(endpoint.ifname.clone());
    ours.chain(remembered).map(|address| Drift::Address { link: link(), address }).collect()
}

/// The missing routes. `all`: the container's endpoints.
pub fn routes(network: &Network, endpoint: &Endpoint, all: &[Arc<Endpoint>], seen: &ObservedInterface) -> Vec<Drift> {
    if !network.makes_interfaces() {
        return Vec::new();
    }
    let ifname = &endpoint.ifname;
    // A default route on an interface of another program is left in place when a container is attached; in a container
    // of another engine, netd's has a lower precedence.
    let elsewhere =
        |gateway: &IpAddr| !endpoint.is_beside_engine() && seen.default_elsewhere.contains(&Family::of(*gateway));
    let over_this = target::default_routes(all).into_iter().filter(|route| route.ifname == *ifname);
    let expected = over_this.map(|route| route.gateway).filter(|gateway| !elsewhere(gateway));
    let has_default = |gateway: &IpAddr| {
        seen.routes.iter().any(|route| route.destination.prefix() == 0 && route.gateway == Some(*gateway))
    };
    let defaults = expected.filter(|gateway| !has_default(gateway));
    let defaults = defaults.map(|gateway| Drift::DefaultRoute { ifname: ifname.clone(), gateway });
    let lost = endpoint.routes.iter().filter(|route| !seen.routes.contains(&(*route).clone().normal()));
    let lost = lost.map(|lost| Drift::Route { ifname: ifname.clone(), destination: lost.destination.to_string() });
    defaults.chain(lost).collect()
}

/// Compares the structure of the firewall tables. The elements of a table are compared only if this finds no difference.
/// The table of services is there only if some of the elements belong to it.
pub fn tables(wants: &BTreeSet<Element>, observed: &Observed) -> Vec<(Table, Drift)> {
    let is_wanted = |table| table != Table::Services || wants.iter().any(|element| element.table() == table);
    let drift = |table| match observed.firewall.structure(table) {
        Structure::Missing if !is_wanted(table) => None,
        Structure::Missing => Some((table, Drift::TableGone(table))),
        Structure::Different => Some((table, Drift::TableChanged(table))),
        Structure::Intact => None,
    };
    Table::ALL.into_iter().filter_map(drift).collect()
}

/// Those of these elements that tables lack whose structure is as netd writes it.
pub fn elements(wants: &BTreeSet<Element>, observed: &Observed) -> Vec<Drift> {
    let is_intact = |element: &&Element| observed.firewall.structure(element.table()) == Structure::Intact;
    let lost = wants.difference(&observed.firewall.elements).filter(is_intact);
    lost.cloned().map(Drift::Element).collect()
}

/// The published ports that no socket holds.
pub fn host_ports(wants: &BTreeSet<HostPorts>, observed: &Observed) -> Vec<Drift> {
    wants.difference(&observed.held).copied().map(Drift::HostPorts).collect()
}
