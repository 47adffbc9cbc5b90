//! Routes: default routes in containers, and the contents of the host's tables.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::LinkUnspec;

use crate::base::deadline::Deadline;
use crate::kernel::KernelError;
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::model::address::Subnet;

/// An address settles within one or two attempts of some 10 microseconds each, or as soon as others release the lock.
const SETTLE_SPINS: usize = 50;
/// After that, the kernel's worker waits for a processor: the caller yields its own for this long between attempts.
const SETTLE_STEP: Duration = Duration::from_millis(1);
/// The longest wait. The address becomes usable later all the same.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// The metric that the kernel gives IPv6 routes (`IP6_RT_PRIO_ADDRCONF`, net/ipv6/addrconf.c).
const CONNECTED_METRIC: u32 = 256;

/// A route of any table, including those that forbid a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// The destination.
    pub destination: Subnet,
    /// Index of the interface; `None` for a route with several next hops.
    pub interface: Option<u32>,
}

/// Adds a default route; `EEXIST` if the namespace has one with that metric.
pub fn add_default(index: u32, gateway: IpAddr, metric: Option<u32>) -> Request {
    Request::create(RouteNetlinkMessage::NewRoute(default(index, gateway, metric)))
}

/// Removes a default route; `ESRCH` if it does not exist.
pub fn remove_default(index: u32, gateway: IpAddr, metric: Option<u32>) -> Request {
    Request::plain(RouteNetlinkMessage::DelRoute(default(index, gateway, metric)))
}

fn default(index: u32, gateway: IpAddr, metric: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(gateway.into()), RouteAttribute::Oif(index)];
    message.attributes.extend(metric.map(RouteAttribute::Priority));
    message
}

/// Adds the route that the kernel makes for an address of the host; `EEXIST` if it exists.
pub fn connect(index: u32, address: IpNetwork) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address.ip());
    message.header.destination_prefix_length = address.prefix();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Kernel;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Destination(address.network().into()), RouteAttribute::Oif(index)];
    if address.is_ipv4() {
        message.header.scope = RouteScope::Link;
        message.attributes.push(RouteAttribute::PrefSource(address.ip().into()));
    } else {
        message.attributes.push(RouteAttribute::Priority(CONNECTED_METRIC));
    }
    Request::create(RouteNetlinkMessage::NewRoute(message))
}

/// The subnets to which the kernel made a route for an address of the host, each with the interface.
pub fn connected(netlink: &mut Netlink) -> Result<BTreeSet<(u32, IpAddr, u8)>, KernelError> {
    let mut filter = RouteHeader { table: RouteHeader::RT_TABLE_MAIN, ..RouteHeader::default() };
    filter.protocol = RouteProtocol::Kernel;
    Ok(connected_of(&dump_some(netlink, &filter)?))
}

/// The connected subnets among these routes.
pub(in crate::kernel) fn connected_of(all: &[RouteMessage]) -> BTreeSet<(u32, IpAddr, u8)> {
    let of_kernel = all.iter().filter(|message| message.header.protocol == RouteProtocol::Kernel);
    let read = of_kernel.filter_map(read);
    read.filter_map(|r| Some((r.interface?, r.destination.network(), r.destination.prefix()))).collect()
}

pub(in crate::kernel) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The routes of every table, IPv4 and IPv6, including default routes: a VPN keeps its own in a separate table.
pub fn list(netlink: &mut Netlink) -> Result<Vec<HostRoute>, KernelError> {
    Ok(of(&dump(netlink)?))
}

/// Those among these messages.
pub(in crate::kernel) fn of(all: &[RouteMessage]) -> Vec<HostRoute> {
    all.iter().filter_map(read).collect()
}

/// Whether the kernel makes a route to the subnet of an address of the host.
pub(in crate::kernel) fn has_subnet(address: &IpNetwork) -> bool {
    address.prefix() < if address.is_ipv4() { 32 } else { 128 }
}

/// The kernel's messages about all routes of all tables, IPv4 and IPv6.
pub(in crate::kernel) fn dump(netlink: &mut Netlink) -> Result<Vec<RouteMessage>, KernelError> {
    dump_some(netlink, &RouteHeader::default())
}

/// Those routes that match what the filter sets, where the kernel filters (Linux 4.20).
fn dump_some(netlink: &mut Netlink, filter: &RouteHeader) -> Result<Vec<RouteMessage>, KernelError> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header = filter.clone();
        message.header.address_family = family;
        let found = netlink.dump(&RouteNetlinkMessage::GetRoute(message), |message| match message {
            RouteNetlinkMessage::NewRoute(message) => Some(message),
            _ => None,
        });
        match found {
            // A kernel without IPv6.
            Err(error) if matches!(error.errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {}
            outcome => routes.extend(outcome.map_err(failed("list", "routes", "see `ip route show table all`"))?),
        }
    }
    Ok(routes)
}

fn read(message: &RouteMessage) -> Option<HostRoute> {
    let header = &message.header;
    let kinds =
        [RouteType::BlackHole, RouteType::Local, RouteType::Prohibit, RouteType::Unicast, RouteType::Unreachable];
    let is_listed = kinds.contains(&header.kind);
    if !is_listed || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let (mut destination, mut interface) = (unspecified(header.address_family)?, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => destination = (*v4).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => destination = (*v6).into(),
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    Some(HostRoute { destination: Subnet::containing(destination, header.destination_prefix_length)?, interface })
}

pub(in crate::kernel) fn unspecified(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(std::net::Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(std::net::Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

/// The index of the interface through which the host would send to that address now, policy routing included (as `ip
/// route get`); `None` if there is no route. Nothing is sent.
pub fn interface_towards(netlink: &mut Netlink, address: IpAddr) -> Option<u32> {
    let route = look_up(netlink, address).filter(|route| route.header.kind == RouteType::Unicast)?;
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn look_up(netlink: &mut Netlink, address: IpAddr) -> Option<RouteMessage> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    let messages = netlink.one(Request::plain(RouteNetlinkMessage::GetRoute(message))).ok()?;
    messages.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    })
}

/// Returns when the namespace accepts packets to an IPv6 address that was just added to the interface, which is up. The
/// kernel installs the address's local route and its solicited-node group on a work queue after it has acknowledged the
/// address, and sends no notification when this is done (`addrconf_dad_work`, net/ipv6/addrconf.c); until then packets
/// to the address are dropped. That work waits for the lock that every link change takes. This function therefore sets
/// the interface up again, which queues behind the work, and checks again.
pub fn settle_address(netlink: &mut Netlink, index: u32, address: IpAddr) {
    let deadline = Deadline::after(SETTLE_MAX);
    for attempt in 0.. {
        let local = |route: RouteMessage| route.header.kind == RouteType::Local;
        if address.is_ipv4() || look_up(netlink, address).is_some_and(local) {
            return;
        }
        let up = LinkUnspec::new_with_index(index).up().build();
        if netlink.one(Request::plain(RouteNetlinkMessage::SetLink(up))).is_err() {
            break;
        }
        if attempt >= SETTLE_SPINS && !deadline.pause(SETTLE_STEP) {
            break;
        }
    }
    tracing::debug!(%address, "the address is not usable yet");
}
