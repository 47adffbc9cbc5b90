//! The host's neighbour entries: who was seen on a link, and forgetting one who is gone.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::route::family;
use crate::kernel::KernelError;
use crate::kernel::netlink::socket::{Netlink, NetlinkError, Request, failed};

const LOOK: &str = "see `ip neighbour`";

/// The addresses with an entry on that link that were not looked for in vain.
pub fn list(netlink: &mut Netlink, index: u32) -> Result<Vec<IpAddr>, KernelError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader { family, ..NeighbourHeader::default() };
        message.attributes = vec![NeighbourAttribute::IfIndex(index)];
        let of_link = |message| match message {
            RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == index => read(&message),
            _ => None,
        };
        match netlink.dump(&RouteNetlinkMessage::GetNeighbour(message), of_link) {
            // A kernel without IPv6.
            Err(error) if matches!(error.errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {}
            outcome => found.extend(outcome.map_err(failed("list", "neighbours", LOOK))?),
        }
    }
    Ok(found)
}

fn read(message: &NeighbourMessage) -> Option<IpAddr> {
    if matches!(message.header.state, NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None) {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}

/// Forgets the entries of these links and addresses; missing ones are no error. Continues after an error and returns the
/// first one.
pub fn forget(netlink: &mut Netlink, entries: &[(u32, IpAddr)]) -> Result<(), KernelError> {
    let requests: Vec<Request> = entries.iter().map(|(index, address)| delete(*index, *address)).collect();
    let outcomes = netlink.send(&requests).map_err(failed("forget", "neighbours", LOOK))?;
    let is_wrong = |error: &NetlinkError| !matches!(error.errno, libc::ENOENT | libc::ENODEV);
    let refused = outcomes.into_iter().filter_map(Result::err).find(is_wrong);
    refused.map_or(Ok(()), Err).map_err(failed("forget", "a neighbour", LOOK))
}

fn delete(index: u32, address: IpAddr) -> Request {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader { family: family(address), ifindex: index, ..NeighbourHeader::default() };
    message.attributes = vec![NeighbourAttribute::Destination(match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    })];
    Request::plain(RouteNetlinkMessage::DelNeighbour(message))
}
