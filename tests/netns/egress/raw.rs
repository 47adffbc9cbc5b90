//! Packets that no socket of the usual kind sends: of other protocols, from other sources, in fragments, with options.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};

use crate::lab::space::inside;

/// Sends it from a namespace, with all headers as they are given.
pub(crate) fn send(ns: &str, packet: &[u8]) {
    inside(ns, || {
        let sent = if packet[0] >> 4 == 4 {
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20]).expect("an address"));
            let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).expect("raw");
            sendto(raw.as_raw_fd(), packet, &SockaddrIn::from(SocketAddrV4::new(to, 0)), MsgFlags::empty())
        } else {
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(&packet[24..40]).expect("an address"));
            let raw = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).expect("raw");
            let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
            sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty())
        };
        // What the kernel of the container does not send does not pass either.
        let _ = sent;
    });
}

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default());
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("16 bits")
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// What a checksum of the transport covers besides.
fn pseudo((from, to): (IpAddr, IpAddr), protocol: u8, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).expect("short").to_be_bytes();
    [octets(from), octets(to), length.to_vec(), vec![0, 0, 0, protocol]].concat()
}

/// A datagram without its IP header.
pub(crate) fn udp(ends: (IpAddr, IpAddr), from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).expect("short");
    let mut bytes = [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], data].concat();
    let check = sum(&[&pseudo(ends, 17, bytes.len()), &bytes]);
    bytes[6..8].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// A TCP segment with these flags.
pub(crate) fn tcp(ends: (IpAddr, IpAddr), from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut bytes =
        [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]]
            .concat();
    let check = sum(&[&pseudo(ends, 6, bytes.len()), &bytes]);
    bytes[16..18].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// An ICMP message (IPv4) with the quotation of a packet.
pub(crate) fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0, 0, 0, 0, 0][..], rest].concat();
    let check = sum(&[&bytes]);
    bytes[2..4].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// With an IPv4 or IPv6 header; `offset`: the fragment's place in units of 8 bytes and whether more follow (IPv4);
/// `options` are padded to 4 bytes (IPv4).
pub(crate) fn packet(
    (from, to): (IpAddr, IpAddr),
    protocol: u8,
    offset: (u16, bool),
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let words = u8::try_from(5 + options.len() / 4).expect("short");
            let length = u16::try_from(20 + options.len() + data.len()).expect("short");
            let place = offset.0 | if offset.1 { 0x2000 } else { 0 };
            let head = [
                &[0x40 | words, 0][..],
                &length.to_be_bytes(),
                &[0x47, 0x11],
                &place.to_be_bytes(),
                &[64, protocol, 0, 0],
            ];
            let mut head = [head.concat(), from.octets().to_vec(), to.octets().to_vec(), options.to_vec()].concat();
            let check = sum(&[&head]);
            head[10..12].copy_from_slice(&check.to_be_bytes());
            [head, data.to_vec()].concat()
        }
        (from, to) => {
            let length = u16::try_from(data.len()).expect("short");
            let head = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[protocol, 64]].concat();
            [head, octets(from), octets(to), data.to_vec()].concat()
        }
    }
}

/// A whole packet of the usual form.
pub(crate) fn plain(ends: (IpAddr, IpAddr), protocol: u8, data: &[u8]) -> Vec<u8> {
    packet(ends, protocol, (0, false), &[], data)
}
