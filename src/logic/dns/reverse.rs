//! Reverse names (RFC 1035, 3.5; RFC 3596, 2.5): `in-addr.arpa` and `ip6.arpa`, their addresses and the holders.
//!
//! The reverse names of netd's subnets never leave the host, visible or not. The same applies to addresses that are
//! meaningful on one host or link only, because no other server can know them (RFC 6303, 4.2 to 4.5). Other private
//! addresses (RFC 1918, RFC 4193) belong to the site, whose servers know their names: they are forwarded as if the host
//! itself asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::view::View;
use super::{LOCALHOST, inside, suffixes};
use crate::model::address::Subnet;
use crate::model::question::{Answer, RecordType};

/// The answer if the name (lower case) is a reverse name; `None` if it is not.
pub(super) fn answer(view: &View<'_>, domain: &str, name: &str, kind: RecordType) -> Option<Answer> {
    let ours = |(address, bits): (IpAddr, u8)| {
        let within = |subnet: Subnet| subnet.contains(address) && subnet.prefix() <= bits;
        view.desired.networks().flat_map(|network| &network.subnets).any(|subnet| within(subnet.subnet))
    };
    let Some((address, bits)) = prefix(name)? else {
        // It denotes no address ("lb._dns-sd._udp.0.0.77.10.in-addr.arpa"). Below a zone of netd there is no such name,
        // and it is not forwarded, because the host's resolver may send the question back to netd.
        let above = suffixes(name).find_map(|above| prefix(above).flatten());
        return Some(if above.is_some_and(ours) { Answer::NxDomain } else { Answer::Forward });
    };
    if bits == full(address) {
        return Some(of_address(view, domain, address, kind));
    }
    Some(if ours((address, bits)) || is_local(address, bits) { Answer::NoData } else { Answer::Forward })
}

/// Whether all addresses with this prefix are meaningful on one host or link only.
fn is_local(address: IpAddr, bits: u8) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            bits >= 8 && matches!(first, 0 | 127) || bits >= 16 && (first, second) == (169, 254) || ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            let whole = bits == full(address) && (ip.is_unspecified() || ip.is_loopback());
            // fe80::/10 corresponds to four names of three hex digits.
            whole || bits >= 12 && ip.is_unicast_link_local()
        }
    }
}

/// Whether the name (lower case) is in the reverse zones.
pub(super) fn is_reverse(name: &str) -> bool {
    prefix(name).is_some()
}

/// Whether it is an address of `localhost`.
fn is_localhost(address: IpAddr) -> bool {
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

/// The address of a reverse name (lower case).
pub(super) fn address(name: &str) -> Option<IpAddr> {
    prefix(name)?.filter(|(address, bits)| *bits == full(*address)).map(|(address, _)| address)
}

fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `None`: not a reverse name; `Some(None)`: a reverse name that denotes no prefix.
fn prefix(name: &str) -> Option<Option<(IpAddr, u8)>> {
    inside(name, "in-addr.arpa").map(v4).or_else(|| inside(name, "ip6.arpa").map(v6))
}

fn of_address(view: &View<'_>, domain: &str, address: IpAddr, kind: RecordType) -> Answer {
    let subnets = |network: &crate::model::network::Network| network.subnets.iter().any(|s| s.subnet.contains(address));
    // Of a network without known subnets, netd knows the addresses of its containers.
    let leased = || {
        let holder =
            view.desired.at_address(address).filter(|holder| holder.addresses.iter().any(|own| own.ip() == address));
        view.desired.network(&holder.filter(|holder| holder.dhcp.is_some())?.network)
    };
    let Some(network) = view.desired.networks().find(|network| subnets(network)).or_else(leased) else {
        return match kind {
            RecordType::Ptr if is_localhost(address) => Answer::Ptr(vec![LOCALHOST.into()]),
            _ if is_localhost(address) => Answer::NoData,
            _ if is_local(address, full(address)) => Answer::NxDomain,
            _ => Answer::Forward,
        };
    };
    if !view.sees(&network.name) {
        return Answer::NxDomain;
    }
    let names = if let Some(endpoint) = view.desired.at_address(address) {
        let name = endpoint.main_name();
        vec![name.to_string(), format!("{name}.{}.{domain}", endpoint.network)]
    } else if let Some(service) = view.desired.service_at(address) {
        vec![service.name.to_string(), format!("{}.{}.{domain}", service.name, network.name)]
    } else if view.desired.at_gateway(address).is_some() {
        vec![format!("host.{domain}")]
    } else {
        return Answer::NxDomain;
    };
    if kind == RecordType::Ptr { Answer::Ptr(names) } else { Answer::NoData }
}

/// The prefix that up to four labels of decimal numbers denote, and its length in bits.
fn v4(labels: &str) -> Option<(IpAddr, u8)> {
    let mut octets = [0u8; 4];
    let mut count = 0;
    for label in labels.rsplit('.') {
        let plain = label.len() <= 3 && label.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = plain && (label == "0" || !label.starts_with('0'));
        *octets.get_mut(count)? = label.parse().ok().filter(|_| canonical)?;
        count += 1;
    }
    Some((Ipv4Addr::from(octets).into(), 8 * count as u8))
}

/// The prefix that up to 32 labels of one hex digit denote, and its length in bits.
fn v6(labels: &str) -> Option<(IpAddr, u8)> {
    let mut number = 0u128;
    let mut count = 0u8;
    for label in labels.rsplit('.') {
        let digit = label.parse::<char>().ok()?.to_digit(16)?;
        if count == 32 {
            return None;
        }
        number |= u128::from(digit) << (124 - 4 * u32::from(count));
        count += 1;
    }
    Some((Ipv6Addr::from(number).into(), 4 * count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_are_read_from_the_right() {
        assert_eq!(v4("2.0.77.10"), Some(("10.77.0.2".parse().unwrap(), 32)));
        assert_eq!(v4("77.10"), Some(("10.77.0.0".parse().unwrap(), 16)));
        let loopback = format!("1{}", ".0".repeat(31));
        assert_eq!(v6(&loopback), Some(("::1".parse().unwrap(), 128)));
        assert_eq!(v6("d.f"), Some(("fd00::".parse().unwrap(), 8)));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for bad in ["", "256", "1.2.3.4.5", "a.2.3.4", "01.2.3.4", "+1", "1..2", "\u{0661}"] {
            assert_eq!(v4(bad), None, "{bad:?}");
        }
        for bad in ["", "g", "00", "1..2", &format!("1{}", ".0".repeat(32))] {
            assert_eq!(v6(bad), None, "{bad:?}");
        }
    }
}
