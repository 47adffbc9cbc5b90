//! Sockets that receive what nobody else does (linux/inet_diag.h): those that listen or are bound without a peer, of the
//! calling thread's network namespace. One dump for each family and protocol.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_DUMP, NetlinkBuffer, NetlinkSerializable, NlasIterator};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::client::Client;
use crate::model::address::Family;
use crate::model::publication::Protocol;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `sizeof(struct inet_diag_req_v2)`.
const REQUEST: usize = 56;
/// `sizeof(struct inet_diag_msg)`.
const REPLY: usize = 72;
/// `INET_DIAG_SKV6ONLY`.
const V6ONLY: u16 = 11;
/// `TCP_CLOSE`, `TCP_LISTEN`, `TCP_BOUND_INACTIVE` (since Linux 6.8) as bits of `idiag_states`.
const CLOSE: u32 = 1 << 7;
const LISTEN: u32 = 1 << 10;
const BOUND_INACTIVE: u32 = 1 << 13;

/// A socket that has a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) struct Bound {
    /// Its address; an IPv4-mapped one is the IPv4 address.
    pub(in crate::kernel) address: IpAddr,
    pub(in crate::kernel) port: u16,
    /// Its number in /proc/PID/fd.
    pub(in crate::kernel) inode: u64,
    /// Whether a socket at `::` leaves IPv4 to others.
    pub(in crate::kernel) v6only: bool,
}

/// The sockets of the protocol in that family. Those that are connected, as clients are, are left out: what they receive
/// is not for a published port.
pub(in crate::kernel) fn bound(family: Family, protocol: Protocol) -> io::Result<Vec<Bound>> {
    let mut client = Client::open(NETLINK_SOCK_DIAG)?;
    Ok(client.ask(&Request { family, protocol }, NLM_F_DUMP, read)?)
}

#[derive(Debug, Clone, Copy)]
struct Request {
    family: Family,
    protocol: Protocol,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        REQUEST
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let states = match self.protocol {
            Protocol::Tcp => LISTEN | BOUND_INACTIVE,
            Protocol::Udp => CLOSE,
            Protocol::Sctp => LISTEN | CLOSE,
        };
        buffer.fill(0);
        buffer[0] = match self.family {
            Family::V4 => libc::AF_INET as u8,
            Family::V6 => libc::AF_INET6 as u8,
        };
        buffer[1] = self.protocol.number();
        buffer[4..8].copy_from_slice(&states.to_ne_bytes());
    }
}

/// `struct inet_diag_msg`: family, state, timer, retransmissions; ports and addresses (48 bytes); five numbers, the last
/// of which is the inode; attributes.
fn read(message: &NetlinkBuffer<&[u8]>) -> Option<Bound> {
    let (fixed, attributes) = message.payload().split_at_checked(REPLY)?;
    let family = i32::from(*fixed.first()?);
    let port = u16::from_be_bytes(fixed.get(4..6)?.try_into().ok()?);
    let source = fixed.get(8..24)?;
    let address = if family == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(source.get(..4)?).ok()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(source).ok()?)).to_canonical()
    };
    let inode = u32::from_ne_bytes(fixed.get(68..72)?.try_into().ok()?).into();
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let v6only = attributes.any(|attribute| attribute.kind() == V6ONLY && attribute.value().first() == Some(&1));
    Some(Bound { address, port, inode, v6only })
}
