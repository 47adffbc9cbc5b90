//! DHCP messages of a client in Ethernet frames: UDP (RFC 768) in IPv4 (RFC 791). An interface without an address needs
//! whole frames.

use std::net::Ipv4Addr;

use crate::model::address::Mac;

/// The port of servers.
const SERVER: u16 = 67;
/// The port of clients.
const CLIENT: u16 = 68;
/// The broadcast address of Ethernet.
pub const EVERYBODY: [u8; 6] = [0xff; 6];

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
/// `ETH_P_IP` (linux/if_ether.h).
const IPV4: [u8; 2] = [0x08, 0x00];
const UDP_PROTOCOL: u8 = 17;
/// Version 4, five words.
const VERSION: u8 = 0x45;
/// "More fragments", and the offset.
const FRAGMENT: u16 = 0x3fff;

/// Where a message comes from, or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The MAC address of the client.
    pub mac: Mac,
    /// Its address, if it has one.
    pub from: Ipv4Addr,
    /// The next hop.
    pub to_mac: [u8; 6],
    /// The server, or everybody.
    pub to: Ipv4Addr,
}

/// The frame with a client's message.
pub fn wrap(ends: Ends, message: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(UDP + message.len()).unwrap_or(u16::MAX);
    let length = u16::try_from(IP).unwrap_or_default().saturating_add(udp_length);
    let mut ip = [0; IP];
    (ip[0], ip[8], ip[9]) = (VERSION, 64, UDP_PROTOCOL);
    ip[2..4].copy_from_slice(&length.to_be_bytes());
    ip[12..16].copy_from_slice(&ends.from.octets());
    ip[16..20].copy_from_slice(&ends.to.octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = [0; UDP];
    udp[0..2].copy_from_slice(&CLIENT.to_be_bytes());
    udp[2..4].copy_from_slice(&SERVER.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
    let pseudo = [0, UDP_PROTOCOL];
    let sum = match checksum(&[&ip[12..20], &pseudo, &udp[4..6], &udp, message]) {
        // 0 means that there is none.
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let parts: [&[u8]; 6] = [&ends.to_mac, &ends.mac.bytes(), &IPV4, &ip, &udp, message];
    parts.concat()
}

/// A server's message to a client, and the MAC address that it came from; `None` if the frame is anything else. The
/// checksum of UDP is not looked at: a server on this host may leave it to hardware that frames within the host never
/// meet.
pub fn unwrap(frame: &[u8]) -> Option<(Mac, &[u8])> {
    let from = Mac::from_bytes(frame.get(6..12)?.try_into().ok()?)?;
    let packet = frame.get(12..14).filter(|kind| *kind == IPV4).and(frame.get(ETHERNET..))?;
    let number = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let header = usize::from(packet.first().filter(|first| **first >> 4 == 4)? & 0xf) * 4;
    if header < IP || *packet.get(9)? != UDP_PROTOCOL || number(6)? & FRAGMENT != 0 {
        return None;
    }
    let datagram = packet.get(header..usize::from(number(2)?))?;
    let number = |at: usize| Some(u16::from_be_bytes(datagram.get(at..at + 2)?.try_into().ok()?));
    if (number(0)?, number(2)?) != (SERVER, CLIENT) {
        return None;
    }
    Some((from, datagram.get(UDP..usize::from(number(4)?))?))
}

/// The internet checksum (RFC 1071) of these parts, each but the last of an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> Ends {
        let mac = "02:00:00:00:00:01".parse().unwrap();
        Ends { mac, from: Ipv4Addr::UNSPECIFIED, to_mac: EVERYBODY, to: Ipv4Addr::BROADCAST }
    }

    /// As a server would send it: the ports exchanged.
    fn answer(message: &[u8]) -> Vec<u8> {
        let mut frame = wrap(ends(), message);
        let ports: Vec<u8> = frame[36..38].iter().chain(&frame[34..36]).copied().collect();
        frame[34..38].copy_from_slice(&ports);
        frame
    }

    #[test]
    fn checksums_are_those_of_the_protocols() {
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        let frame = wrap(ends(), b"odd");
        assert_eq!(checksum(&[&frame[14..34]]), 0, "of the header");
        assert_eq!(checksum(&[&frame[26..34], &[0, 17], &frame[38..40], &frame[34..]]), 0, "of the datagram");
    }

    #[test]
    fn a_servers_message_is_found_and_nothing_else_is_one() {
        let frame = answer(b"message");
        assert_eq!(unwrap(&frame), Some((ends().mac, &b"message"[..])));
        let mut longer = frame.clone();
        longer.extend([0; 20]);
        assert_eq!(unwrap(&longer).unwrap().1, b"message", "short frames are filled up");
        for end in 0..frame.len() {
            assert_eq!(unwrap(&frame[..end]), None, "cut off after {end}");
        }
        for (at, value) in
            [(6, 1), (12, 0x86), (14, 0x65), (14, 0x44), (20, 0x20), (21, 1), (23, 6), (35, 68), (37, 67)]
        {
            let mut other = frame.clone();
            other[at] = value;
            assert_eq!(unwrap(&other), None, "byte {at}");
        }
        assert_eq!(unwrap(&wrap(ends(), b"message")), None, "a client's");
    }
}
