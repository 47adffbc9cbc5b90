//! Sockets that receive what nobody else does (linux/inet_diag.h), of the calling thread's network namespace: all that
//! listen or are bound without a peer, with one dump for each family and protocol; and whether one listens at an address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

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
/// `INET_DIAG_NOCOOKIE`, twice: a socket with any cookie.
const ANY_COOKIE: [u8; 8] = [0xff; 8];
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

/// Looks for listeners in the network namespace of the thread that opened it.
pub(in crate::kernel) struct Listeners(Client);

impl AsFd for Listeners {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

impl Listeners {
    pub(in crate::kernel) fn open() -> io::Result<Self> {
        Ok(Self(Client::open(NETLINK_SOCK_DIAG)?))
    }

    /// Whether a TCP socket gets the connections that arrive for this address and port on the interface with this
    /// index. The kernel looks it up as for an arriving connection (`inet_lookup`), so sockets at every address count,
    /// IPv6 ones with IPv4 too, and not those of another interface. A kernel that cannot look it up says that there is
    /// none; where [`bound`] succeeds, it can.
    pub(in crate::kernel) fn any_at(&mut self, at: SocketAddr, interface: u32) -> io::Result<bool> {
        match self.0.ask(&Exactly { at, interface }, 0, |message| message.payload().get(1).copied()) {
            Ok(states) => Ok(states.iter().any(|state| 1u32.checked_shl((*state).into()) == Some(LISTEN))),
            Err(error) if error.errno == libc::ENOENT => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Asks for the socket of a connection from nobody (address and port 0), which a listener only can have.
#[derive(Debug, Clone, Copy)]
struct Exactly {
    at: SocketAddr,
    interface: u32,
}

impl NetlinkSerializable for Exactly {
    fn message_type(&self) -> u16 {
        BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        REQUEST
    }

    /// `struct inet_diag_req_v2`: family, protocol, 2 bytes, states; `struct inet_diag_sockid`: ports, addresses (16
    /// bytes each), interface, cookie.
    fn serialize(&self, buffer: &mut [u8]) {
        head(buffer, Family::of(self.at.ip()), Protocol::Tcp, LISTEN);
        buffer[8..10].copy_from_slice(&self.at.port().to_be_bytes());
        match self.at.ip() {
            IpAddr::V4(at) => buffer[12..16].copy_from_slice(&at.octets()),
            IpAddr::V6(at) => buffer[12..28].copy_from_slice(&at.octets()),
        }
        buffer[44..48].copy_from_slice(&self.interface.to_ne_bytes());
        buffer[48..56].copy_from_slice(&ANY_COOKIE);
    }
}

/// Fills the part of a request that all have, and the rest with 0.
fn head(buffer: &mut [u8], family: Family, protocol: Protocol, states: u32) {
    buffer.fill(0);
    buffer[0] = match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    };
    buffer[1] = protocol.number();
    buffer[4..8].copy_from_slice(&states.to_ne_bytes());
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
        head(buffer, self.family, self.protocol, states);
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
