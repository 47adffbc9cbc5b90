//! A packet as it is sent again: checked, and with its checksum computed anew. What another interface of this machine sent
//! has only a part of it, because hardware would compute the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::publication::Protocol;

/// Bytes of the headers without options.
const IPV4: usize = 20;
const IPV6: usize = 40;
/// Next headers of IPv6 with a length: hop-by-hop options, routing, destination options (IANA). A fragment is none: the
/// kernel puts fragments together before its firewall sees them.
const EXTENSIONS: [u8; 3] = [0, 43, 60];

/// A packet of IPv6 that is longer than this came in fragments, or by a link that has longer packets than the containers.
const WHOLE: usize = 1500;
/// Bytes of each fragment (RFC 8200, section 5), and of those the header that makes it one.
const FRAGMENT: usize = 1280;
const FRAGMENT_HEADER: usize = 8;
/// The next header of a fragment (IANA).
const IS_FRAGMENT: u8 = 44;

/// The packet as it is given to the kernel. Of IPv6 the kernel divides no packet that is longer than the link's, unless it
/// has put it together itself; it does that with these. `id`: another one for each packet.
pub(super) fn divided(packet: Vec<u8>, id: u32) -> Vec<Vec<u8>> {
    let Some(header) = packet.first_chunk::<IPV6>().copied() else { return vec![packet] };
    let next = header[6];
    // Those of the first two extensions stand before the fragment's.
    if header[0] >> 4 != 6 || packet.len() <= WHOLE || EXTENSIONS[..2].contains(&next) {
        return vec![packet];
    }
    let room = FRAGMENT - IPV6 - FRAGMENT_HEADER;
    let chunks = packet[IPV6..].chunks(room);
    let last = chunks.len() - 1;
    let fragment = |(number, chunk): (usize, &[u8])| {
        let mut fragment = header.to_vec();
        fragment[4..6].copy_from_slice(&((FRAGMENT_HEADER + chunk.len()) as u16).to_be_bytes());
        fragment[6] = IS_FRAGMENT;
        // In units of 8 bytes, which are the upper 13 bits; the lowest says that more follow.
        let offset = (number * room) as u16 | u16::from(number < last);
        fragment.extend([next, 0]);
        fragment.extend(offset.to_be_bytes());
        fragment.extend(id.to_be_bytes());
        fragment.extend(chunk);
        fragment
    };
    chunks.enumerate().map(fragment).collect()
}

/// Prepares the packet, and returns where it is to be sent. `None` for what is not a whole packet of a protocol with
/// ports, which the firewall never hands over.
pub(super) fn again(packet: &mut Vec<u8>) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => ipv4(packet),
        6 => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &mut Vec<u8>) -> Option<IpAddr> {
    let header = packet.first_chunk::<IPV4>()?;
    let length = usize::from(header[0] & 15) * 4;
    let whole = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // A flag that more fragments follow, and the offset of this one.
    let is_part = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if length < IPV4 || whole < length || whole > packet.len() || is_part {
        return None;
    }
    let [.., a, b, c, d] = *header;
    let (protocol, addresses) = (header[9], header[12..].to_vec());
    packet.truncate(whole);
    transport(packet.get_mut(length..)?, protocol, &addresses)?;
    Some(Ipv4Addr::new(a, b, c, d).into())
}

fn ipv6(packet: &mut Vec<u8>) -> Option<IpAddr> {
    let header = packet.first_chunk::<IPV6>()?;
    let whole = IPV6 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if whole > packet.len() {
        return None;
    }
    let (mut next, addresses) = (header[6], header[8..].to_vec());
    let to = Ipv6Addr::from(*header.last_chunk::<16>()?);
    packet.truncate(whole);
    let mut at = IPV6;
    while EXTENSIONS.contains(&next) {
        // The length is in units of 8 bytes, without the first (RFC 8200, 4.3).
        let [following, length] = *packet.get(at..)?.first_chunk()?;
        (next, at) = (following, at + (usize::from(length) + 1) * 8);
    }
    transport(packet.get_mut(at..)?, next, &addresses)?;
    Some(to.into())
}

/// Writes the checksum. That of SCTP the kernel computes when it translates the port.
fn transport(segment: &mut [u8], protocol: u8, addresses: &[u8]) -> Option<()> {
    let protocol = Protocol::from_number(protocol)?;
    let (least, at) = match protocol {
        Protocol::Tcp => (20, 16),
        Protocol::Udp => (8, 6),
        Protocol::Sctp => return (segment.len() >= 12).then_some(()),
    };
    if segment.len() < least {
        return None;
    }
    let mut length = segment.len();
    if protocol == Protocol::Udp {
        length = usize::from(u16::from_be_bytes([segment[4], segment[5]]));
        if length < least || length > segment.len() {
            return None;
        }
        let is_without = segment[at..at + 2] == [0, 0] && addresses.len() == 8;
        if is_without {
            return Some(());
        }
    }
    segment[at..at + 2].fill(0);
    let pseudo = [addresses, &(length as u32).to_be_bytes(), &[0, 0, 0, protocol.number()]].concat();
    let sum = !folded(added(&pseudo) + added(&segment[..length]));
    // In UDP, 0 would mean that there is none (RFC 768).
    let sum = if sum == 0 && protocol == Protocol::Udp { 0xffff } else { sum };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// The sum of the 16-bit words; 64 bits hold that of any packet.
fn added(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    bytes.chunks(2).map(word).sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16 // at most 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of 192.0.2.2 to 192.0.2.1, or of 2001:db8::2 to 2001:db8::1, with a wrong checksum.
    fn packet(v6: bool, protocol: u8, segment: &[u8]) -> Vec<u8> {
        let mut packet = if v6 {
            let mut header = vec![0x60, 0, 0, 0, 0, segment.len() as u8, protocol, 64];
            for last in [2, 1] {
                header.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets());
            }
            header
        } else {
            let mut header = vec![0x45, 0, 0, 20 + segment.len() as u8, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend([192, 0, 2, 2, 192, 0, 2, 1]);
            header
        };
        packet.extend(segment);
        packet
    }

    fn udp(data: &[u8]) -> Vec<u8> {
        let mut segment = vec![0xc0, 0, 0x0f, 0xa0, 0, 8 + data.len() as u8, 0x12, 0x34];
        segment.extend(data);
        segment
    }

    fn tcp() -> Vec<u8> {
        let mut segment = vec![0xc0, 0, 0x0f, 0xa0, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0xab, 0xcd, 0, 0];
        segment.extend([1, 2, 3]);
        segment
    }

    /// The receiver's computation: with the checksum, the sum is all ones.
    fn is_right(packet: &[u8], from: usize, addresses: std::ops::Range<usize>, protocol: u8) -> bool {
        let segment = &packet[from..];
        let pseudo = added(&packet[addresses]) + segment.len() as u64 + u64::from(protocol);
        folded(pseudo + added(segment)) == 0xffff
    }

    #[test]
    fn the_checksum_is_that_of_the_packet() {
        for (protocol, segment) in [(6, tcp()), (17, udp(b"who")), (17, udp(b""))] {
            let mut four = packet(false, protocol, &segment);
            assert_eq!(again(&mut four), Some("192.0.2.1".parse().unwrap()));
            assert!(is_right(&four, 20, 12..20, protocol), "{protocol} {four:?}");
            let mut six = packet(true, protocol, &segment);
            assert_eq!(again(&mut six), Some("2001:db8::1".parse().unwrap()));
            assert!(is_right(&six, 40, 8..40, protocol), "{protocol} {six:?}");
        }
    }

    #[test]
    fn a_packet_without_checksum_stays_without() {
        let mut segment = udp(b"who");
        segment[6..8].fill(0);
        let mut four = packet(false, 17, &segment);
        assert!(again(&mut four).is_some() && four[26..28] == [0, 0]);
        let mut six = packet(true, 17, &segment);
        assert!(again(&mut six).is_some() && six[46..48] != [0, 0], "IPv6 has no such packets");
    }

    #[test]
    fn options_are_passed_over_and_what_follows_the_packet_is_not_sent() {
        let options = [vec![17, 0, 1, 4, 0, 0, 0, 0], udp(b"who")].concat();
        let mut six = packet(true, 60, &options);
        six.extend([9; 5]);
        assert!(again(&mut six).is_some() && six.len() == 40 + options.len());
        assert_ne!(six[54..56], [0x12, 0x34], "the checksum is in the segment");
    }

    #[test]
    fn a_long_packet_of_ipv6_is_divided() {
        let mut long = packet(true, 17, &[]);
        long.extend((0..4000).map(|at| at as u8));
        let parts = divided(long.clone(), 7);
        let mut whole = long[..6].to_vec();
        whole.push(parts[0][40]);
        whole.extend(&long[7..40]);
        for (number, part) in parts.iter().enumerate() {
            assert!(part.len() <= 1280 && part[6] == 44 && part[44..48] == [0, 0, 0, 7]);
            assert_eq!(usize::from(u16::from_be_bytes([part[4], part[5]])), part.len() - 40);
            let offset = u16::from_be_bytes([part[42], part[43]]);
            assert_eq!((usize::from(offset & !7), offset & 7), (whole.len() - 40, u16::from(number + 1 < parts.len())));
            whole.extend(&part[48..]);
        }
        assert_eq!(whole, long);
        long.truncate(1500);
        assert_eq!(divided(long.clone(), 7), [long]);
        let four = vec![0x45; 4000];
        assert_eq!(divided(four.clone(), 7), [four]);
    }

    #[test]
    fn what_is_no_whole_packet_is_not_sent() {
        let fragment = |flags: u8, offset: u8| {
            let mut packet = packet(false, 17, &udp(b"who"));
            (packet[6], packet[7]) = (flags, offset);
            packet
        };
        let mut short = packet(false, 6, &tcp());
        short.pop();
        let mut long = udp(b"who");
        long[5] = 200;
        for mut odd in [
            Vec::new(),
            vec![0x45; 19],
            vec![0x60; 39],
            short,
            fragment(0x20, 0),
            fragment(0, 7),
            packet(false, 1, &tcp()),
            packet(false, 6, &tcp()[..19]),
            packet(false, 17, &udp(b"")[..7]),
            packet(false, 17, &long),
            packet(true, 44, &[17, 0, 0, 0, 0, 0, 0, 0]),
            packet(true, 0, &[17, 9]),
        ] {
            let shown = odd.clone();
            assert_eq!(again(&mut odd), None, "{shown:?}");
        }
    }
}
