//! An address that nobody has, for netd's own use for a moment.

use std::net::IpAddr;

use super::ipam;
use crate::model::address::Subnet;

/// How many addresses are looked at. An IPv4 subnet that has more is hardly full.
const LOOKS: usize = 1 << 16;

/// The highest usable address of the subnet that is not taken, because addresses are assigned from the lowest one on;
/// `None` if there is none. One that `rests`, because it was released lately, is chosen if there is no other.
pub fn spare(subnet: Subnet, is_taken: impl Fn(IpAddr) -> bool, rests: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (low, high) = ipam::usable(subnet);
    let numbers = (low..=high).rev().take(LOOKS);
    let mut second = None;
    for address in numbers.filter_map(|number| subnet.address(number)).filter(|address| !is_taken(*address)) {
        if !rests(address) {
            return Some(address);
        }
        second = second.or(Some(address));
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(subnet: &str, taken: &[&str], resting: &[&str]) -> Option<String> {
        let is_in = |list: &[&str], address: IpAddr| list.iter().any(|text| text.parse() == Ok(address));
        let found = spare(subnet.parse().unwrap(), |address| is_in(taken, address), |address| is_in(resting, address))?;
        Some(found.to_string())
    }

    #[test]
    fn nobody_has_it_and_nobody_gets_it_soon() {
        assert_eq!(chosen("10.0.0.0/29", &["10.0.0.1"], &[]).as_deref(), Some("10.0.0.6"));
        assert_eq!(chosen("10.0.0.0/29", &["10.0.0.6", "10.0.0.5"], &["10.0.0.4"]).as_deref(), Some("10.0.0.3"));
        assert_eq!(chosen("10.0.0.0/30", &["10.0.0.1"], &["10.0.0.2"]).as_deref(), Some("10.0.0.2"));
        assert_eq!(chosen("10.0.0.0/30", &["10.0.0.1", "10.0.0.2"], &[]), None);
        assert_eq!(chosen("10.0.0.0/32", &["10.0.0.0"], &[]), None);
        assert_eq!(chosen("fd00::/64", &[], &[]).as_deref(), Some("fd00::ffff:ffff:ffff:ffff"));
    }
}
