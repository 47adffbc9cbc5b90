//! The groups and ports of the protocols, and what of an IP packet the relay looks at (pure).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::model::address::Family;
use crate::model::relay::Protocol;

/// Bytes of a UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// Bytes of an IPv6 header (RFC 8200, 3).
const IPV6_HEADER: usize = 40;

/// The group that messages of the protocol are sent to (RFC 6762, 3; UPnP Device Architecture 2.0, 1.2.2 and A.3).
pub(super) fn group(protocol: Protocol, family: Family) -> IpAddr {
    match (protocol, family) {
        (Protocol::Mdns, Family::V4) => Ipv4Addr::new(224, 0, 0, 251).into(),
        (Protocol::Mdns, Family::V6) => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb).into(),
        (Protocol::Ssdp, Family::V4) => Ipv4Addr::new(239, 255, 255, 250).into(),
        (Protocol::Ssdp, Family::V6) => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc).into(),
    }
}

/// The port that they are sent to.
pub(super) fn port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Mdns => 5353,
        Protocol::Ssdp => 1900,
    }
}

/// The time to live of what the relay sends: mDNS never leaves the link and proves it so (RFC 6762, 11); SSDP may cross one
/// more router, as UPnP says (2.0, 1.2.2).
pub(super) fn hops(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Mdns => 255,
        Protocol::Ssdp => 2,
    }
}

/// A socket address on an interface, whose index a link-local one needs.
pub(super) fn on(interface: u32, address: IpAddr, port: u16) -> SocketAddr {
    let is_of_link = |v6: Ipv6Addr| v6.is_unicast_link_local() || v6.segments()[0] == 0xff02;
    match address {
        IpAddr::V6(v6) if is_of_link(v6) => SocketAddrV6::new(v6, port, 0, interface).into(),
        other => SocketAddr::new(other, port),
    }
}

/// A UDP datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    pub(super) from: IpAddr,
    pub(super) from_port: u16,
    pub(super) to: IpAddr,
    pub(super) to_port: u16,
    pub(super) payload: &'a [u8],
}

/// Reads a whole packet from its IP header on; `None`: it is none, or not one of UDP.
pub(super) fn read(packet: &[u8]) -> Option<Datagram<'_>> {
    let (from, to, udp): (IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0xf) * 4;
            let total = usize::from(number(packet, 2)?);
            let udp = packet.get(header.max(20)..total).filter(|_| packet.get(9) == Some(&17))?;
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            (address(12)?.into(), address(16)?.into(), udp)
        }
        6 => {
            let length = usize::from(number(packet, 4)?);
            let udp = packet.get(IPV6_HEADER..IPV6_HEADER + length).filter(|_| packet.get(6) == Some(&17))?;
            let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (address(8)?.into(), address(24)?.into(), udp)
        }
        _ => return None,
    };
    let payload = udp.get(UDP_HEADER..usize::from(number(udp, 4)?))?;
    Some(Datagram { from, from_port: number(udp, 0)?, to, to_port: number(udp, 2)?, payload })
}

/// Two bytes in network order.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A datagram from 10.0.0.2, port 5353, to the group of mDNS.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 255, 17, 0, 0, 10, 0, 0, 2, 224, 0, 0, 251];
        let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
        packet.extend([0x14, 0xe9, 0x14, 0xe9, length[0], length[1], 0, 0]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn a_datagram_is_read() {
        let mut whole = packet(b"hello");
        let read_as = |packet: &[u8]| read(packet).map(|datagram| datagram.payload.to_vec());
        let datagram = read(&whole).unwrap();
        assert_eq!((datagram.from, datagram.from_port), ([10, 0, 0, 2].into(), 5353));
        assert_eq!((datagram.to, datagram.to_port), (group(Protocol::Mdns, Family::V4), 5353));
        assert_eq!(datagram.payload, b"hello");
        // What Ethernet adds to short frames.
        whole.extend([0; 13]);
        assert_eq!(read_as(&whole), Some(b"hello".to_vec()));
    }

    #[test]
    fn what_is_cut_off_or_wrong_is_no_datagram() {
        let whole = packet(b"hello");
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "{length} bytes");
        }
        for (at, value) in [(0, 0x75), (9, 6), (25, 7), (25, 200)] {
            let mut wrong = whole.clone();
            wrong[at] = value;
            assert_eq!(read(&wrong), None, "{value} at {at}");
        }
    }
}
