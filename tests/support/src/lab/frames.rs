//! Ethernet frames, as a process with `CAP_NET_RAW` in a container sends and sees them.
#![allow(unsafe_code, reason = "the address of a packet socket is made from a C structure")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::look::ip_json;
use super::space::inside;
use crate::wait::PATIENCE;

/// EtherTypes (IEEE 802).
pub const IPV4: u16 = 0x0800;
/// See [`IPV4`].
pub const IPV6: u16 = 0x86dd;
/// See [`IPV4`].
pub const ARP: u16 = 0x0806;
/// The tag of a VLAN.
pub const VLAN: u16 = 0x8100;

/// A MAC address.
pub type Mac = [u8; 6];

/// A packet socket on one interface.
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Opens it on an interface in a namespace.
    pub fn open(ns: &str, ifname: &str) -> Self {
        let index = ip_json(ns, &format!("link show dev {ifname}"))[0]["ifindex"].as_i64().expect("an interface");
        let socket =
            inside(ns, || socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll));
        let socket = socket.unwrap_or_else(|error| panic!("a packet socket in {ns}: {error}"));
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).expect("a family"),
            sll_protocol: u16::try_from(libc::ETH_P_ALL).expect("a protocol").to_be(),
            sll_ifindex: i32::try_from(index).expect("an index"),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let size = libc::socklen_t::try_from(size_of_val(&address)).expect("a size");
        // SAFETY: the pointer leads to an address of that size, which is copied.
        let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(size)) }.expect("an address");
        bind(socket.as_raw_fd(), &address).unwrap_or_else(|error| panic!("bind to {ifname} in {ns}: {error}"));
        let patience = TimeVal::new(i64::try_from(PATIENCE.as_secs()).expect("seconds"), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).expect("a time limit");
        Self { socket }
    }

    /// Sends a whole frame.
    pub fn send(&self, frame: &[u8]) {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).expect("send a frame");
        assert_eq!(sent, frame.len());
    }

    /// Whether this frame arrives before the other one. Both must have been sent, in this order.
    pub fn sees_before(&self, frame: &[u8], last: &[u8]) -> bool {
        let mut seen = false;
        let mut buffer = [0; 2048];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(io::Error::from);
            let got = &buffer[..len.expect("the last frame arrives")];
            // A tag is taken off before a socket sees the frame.
            seen |= got == frame || got == untagged(frame);
            if got == last {
                return seen;
            }
        }
    }
}

fn untagged(frame: &[u8]) -> Vec<u8> {
    let is_tagged = frame.get(12..14) == Some(&VLAN.to_be_bytes());
    if is_tagged { [&frame[..12], &frame[16..]].concat() } else { frame.to_vec() }
}

/// A frame.
pub fn frame(to: Mac, from: Mac, kind: u16, content: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &kind.to_be_bytes()[..], content].concat()
}

/// The content of a frame with a VLAN tag.
pub fn tagged(vlan: u16, kind: u16, content: &[u8]) -> Vec<u8> {
    [&vlan.to_be_bytes()[..], &kind.to_be_bytes()[..], content].concat()
}

/// An ARP reply (RFC 826).
pub fn arp_reply(sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    [&head[..], &sender.0, &sender.1.octets(), &target.0, &target.1.octets()].concat()
}

/// An IPv4 packet.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + content.len()).expect("a short packet").to_be_bytes();
    let mut head = vec![0x45, 0, len[0], len[1], 0, 1, 0, 0, 64, protocol, 0, 0];
    head.extend(from.octets().into_iter().chain(to.octets()));
    let sum = checksum(&head).to_be_bytes();
    head[10..12].copy_from_slice(&sum);
    [head, content.to_vec()].concat()
}

/// An IPv6 packet, with the hop limit that neighbour discovery needs.
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("a short packet").to_be_bytes();
    [&[0x60, 0, 0, 0, len[0], len[1], protocol, 255][..], &from.octets(), &to.octets(), content].concat()
}

/// A UDP datagram without checksum, or over IPv6 with one.
pub fn udp(from: u16, to: u16, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + content.len()).expect("a short datagram");
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &len.to_be_bytes(), &[0, 0], content].concat()
}

/// An ICMPv6 packet within IPv6: type, code 0, and what follows the checksum.
pub fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], content].concat();
    let len = u32::try_from(message.len()).expect("a short message");
    let pseudo = [&from.octets()[..], &to.octets(), &len.to_be_bytes(), &[0, 0, 0, 58], &message].concat();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    ipv6(from, to, 58, &message)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("16 bits")
}
