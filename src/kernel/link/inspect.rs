//! Inspects one interface of a container: `Kernel::interface`.

use std::fs::File;

use ipnetwork::IpNetwork;
use netlink_packet_route::route::RouteMessage;

use super::container::LOOPBACK;
use super::route::HostRoute;
use super::{Link, address, container_route, route, vlan};
use crate::kernel::netlink::socket::{Netlink, failed};
use crate::kernel::netns::Visit;
use crate::kernel::{KernelError, link, netns};
use crate::model::address::Family;
use crate::model::endpoint::Netns;
use crate::model::host::observed::{HostEnd, ObservedInterface, ObservedKind};
use crate::model::names::IfName;

const LOOK: &str = "see `ip -d link` in the container";

/// The interface with that name in the container; `None` if there is none. `host`: a socket of the host's namespace.
///
/// # Errors
/// [`KernelError::NoNetns`] if that very namespace no longer exists.
pub fn interface(host: &mut Netlink, netns: &Netns, ifname: &IfName) -> Result<Option<ObservedInterface>, KernelError> {
    let namespace = netns::open_exactly(netns)?;
    let entered = namespace.try_clone().and_then(|namespace| netns::visit(namespace, Netlink::open));
    let path = netns.path.display();
    let mut inside = entered.and_then(Visit::end).map_err(failed("enter the namespace", path, LOOK))?;
    if !netns::same_cookie(netns, &inside) {
        return Err(netns::another(netns));
    }
    let Some(link) = link::get(&mut inside, ifname)? else { return Ok(None) };
    let addresses: Vec<IpNetwork> =
        address::list(&mut inside, Some(link.index))?.into_iter().map(|found| found.address).collect();
    let routes = route::dump(&mut inside)?;
    Ok(Some(ObservedInterface {
        mac: link.mac,
        up: link.up,
        loopback_up: link::get_by_index(&mut inside, LOOPBACK)?.is_some_and(|loopback| loopback.up),
        mtu: link.mtu,
        link_local: addresses.iter().any(|address| address::link_local(address.ip())),
        unrouted: unrouted(&addresses, link.index, &routes),
        addresses: addresses.into_iter().filter(|address| !address::link_local(address.ip())).collect(),
        default_elsewhere: default_elsewhere(&routes, link.index),
        routes: container_route::of(&routes, link.index),
        host_end: host_end(host, &namespace, &link)?,
    }))
}

/// The addresses whose subnet has no route over the interface.
fn unrouted(addresses: &[IpNetwork], index: u32, routes: &[RouteMessage]) -> Vec<IpNetwork> {
    let connected = route::connected_of(routes);
    let lacks = |address: &&IpNetwork| !connected.contains(&(index, address.network(), address.prefix()));
    let has_subnet = addresses.iter().filter(|address| route::has_subnet(address));
    has_subnet.filter(|address| !address::link_local(address.ip())).filter(lacks).copied().collect()
}

/// The address families with a default route on another interface.
fn default_elsewhere(routes: &[RouteMessage], index: u32) -> Vec<Family> {
    let elsewhere =
        |found: &&HostRoute| found.destination.prefix() == 0 && found.interface.is_some_and(|it| it != index);
    let mut families: Vec<Family> =
        route::of(routes).iter().filter(elsewhere).map(|found| found.destination.family()).collect();
    families.sort_unstable();
    families.dedup();
    families
}

/// The other end of the pair, if it is on the host. The container's end describes it by an index and a namespace
/// number, which may mean another container's namespace, and small index numbers occur in every namespace. Therefore
/// the host's link with that index must refer back to that index in this namespace.
fn host_end(host: &mut Netlink, namespace: &File, inner: &Link) -> Result<Option<HostEnd>, KernelError> {
    let (Some(index), Some(_), ObservedKind::Veth) = (inner.peer, inner.peer_netns, &inner.kind) else {
        return Ok(None);
    };
    let Some(outer) = link::get_by_index(host, index)? else { return Ok(None) };
    let back = outer.kind == ObservedKind::Veth && outer.peer == Some(inner.index) && outer.peer_netns.is_some();
    if !back || outer.peer_netns != link::netns_number(host, namespace)? {
        return Ok(None);
    }
    let Ok(name) = outer.name.parse() else { return Ok(None) };
    let master = outer.master.map(|master| link::get_by_index(host, master)).transpose()?.flatten();
    let filters_vlans = master.as_ref().is_some_and(|master| master.filters_vlans == Some(true));
    let vlan = filters_vlans.then(|| vlan::list(host)).transpose()?.and_then(|ports| ports.get(&index).copied());
    let bridge =
        master.filter(|master| master.kind == ObservedKind::Bridge).and_then(|master| master.name.parse().ok());
    Ok(Some(HostEnd { name, bridge, up: outer.up, isolated: outer.isolated, vlan }))
}

#[cfg(test)]
mod tests;
