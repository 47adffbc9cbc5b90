//! Routes of a container's interface, converted between [`Route`] and the kernel's messages.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};

use super::route::{dump, family, unspecified};
use crate::kernel::KernelError;
use crate::kernel::netlink::socket::{Netlink, Request};
use crate::model::address::Subnet;
use crate::model::route::Route;

/// Adds the route, as `ip route add` does; `EEXIST` if the table has a route to the same destination with the same
/// metric.
pub fn add(index: u32, route: &Route) -> Request {
    Request::create(RouteNetlinkMessage::NewRoute(message(index, route)))
}

/// Removes the route; `ESRCH` if it does not exist.
pub fn remove(index: u32, route: &Route) -> Request {
    Request::plain(RouteNetlinkMessage::DelRoute(message(index, route)))
}

fn message(index: u32, route: &Route) -> RouteMessage {
    let route = route.clone().normal();
    let destination = route.destination.network();
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(destination);
    header.destination_prefix_length = route.destination.prefix();
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::Static;
    header.kind = RouteType::Unicast;
    // IPv4 refuses a route without a next hop whose scope is wider than the link.
    let fitting = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    header.scope = route.scope.map_or(fitting, RouteScope::from);
    let attributes = &mut message.attributes;
    attributes.extend([RouteAttribute::Destination(destination.into()), RouteAttribute::Oif(index)]);
    attributes.extend(route.gateway.map(|gateway| next_hop(destination, gateway)));
    attributes.extend(route.priority.map(RouteAttribute::Priority));
    if let Some(table) = route.table {
        // The header has room for eight bits of it; the attribute decides.
        header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        attributes.push(RouteAttribute::Table(table));
    }
    let metrics = [route.mtu.map(RouteMetric::Mtu), route.advmss.map(RouteMetric::Advmss)];
    let metrics: Vec<RouteMetric> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

/// An IPv4 destination may have an IPv6 next hop (`ip route add … via inet6 …`, Linux 5.2).
fn next_hop(destination: IpAddr, gateway: IpAddr) -> RouteAttribute {
    match (destination, gateway) {
        (IpAddr::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        _ => RouteAttribute::Gateway(gateway.into()),
    }
}

/// The unicast routes of all tables on that interface, each in normal form, without those that the kernel made for
/// addresses. A route with several next hops belongs to no interface.
pub fn list(netlink: &mut Netlink, index: u32) -> Result<Vec<Route>, KernelError> {
    Ok(of(&dump(netlink)?, index))
}

/// Those among these routes.
pub fn of(all: &[RouteMessage], index: u32) -> Vec<Route> {
    all.iter().filter_map(|message| read(message, index)).collect()
}

fn read(message: &RouteMessage, index: u32) -> Option<Route> {
    let header = &message.header;
    let is_listed = header.kind == RouteType::Unicast && header.protocol != RouteProtocol::Kernel;
    let over = message.attributes.contains(&RouteAttribute::Oif(index));
    if !is_listed || !over || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut destination = unspecified(header.address_family)?;
    let mut route = Route::via(Subnet::containing(destination, 0)?, None);
    (route.table, route.scope) = (Some(header.table.into()), Some(header.scope.into()));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(gateway) => route.gateway = ip(gateway),
            RouteAttribute::Via(RouteVia::Inet(gateway)) => route.gateway = Some((*gateway).into()),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => route.gateway = Some((*gateway).into()),
            RouteAttribute::Priority(priority) => route.priority = Some(*priority),
            RouteAttribute::Table(table) => route.table = Some(*table),
            RouteAttribute::Metrics(metrics) => read_metrics(&mut route, metrics),
            _ => {}
        }
    }
    route.destination = Subnet::containing(destination, header.destination_prefix_length)?;
    Some(route.normal())
}

fn read_metrics(route: &mut Route, metrics: &[RouteMetric]) {
    for metric in metrics {
        match metric {
            RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
            RouteMetric::Advmss(advmss) => route.advmss = Some(*advmss),
            _ => {}
        }
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
