//! Addresses: subnets with no host bits, MAC addresses, and the pools automatic subnets are cut from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::Invalid;

/// Which of the two IP families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// A set of address families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Families {
    /// Whether IPv4 is in it.
    pub v4: bool,
    /// Whether IPv6 is in it.
    pub v6: bool,
}

impl Families {
    /// Both.
    pub const ALL: Self = Self { v4: true, v6: true };

    /// Those for which `is_in` returns true.
    pub fn which(is_in: impl Fn(Family) -> bool) -> Self {
        Self { v4: is_in(Family::V4), v6: is_in(Family::V6) }
    }

    /// Whether the family is in it.
    pub fn has(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Those that are not in the other set.
    pub fn without(self, other: Self) -> Self {
        Self::which(|family| self.has(family) && !other.has(family))
    }

    /// Those that are in one of the two sets.
    pub fn with(self, other: Self) -> Self {
        Self::which(|family| self.has(family) || other.has(family))
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The settings that turn forwarding on, as `sysctl` writes them.
    pub fn forwarding_settings(self) -> Vec<&'static str> {
        let settings = [(self.v4, "net.ipv4.ip_forward"), (self.v6, "net.ipv6.conf.all.forwarding")];
        settings.into_iter().filter_map(|(is_in, setting)| is_in.then_some(setting)).collect()
    }
}

/// An IP prefix without host bits ("10.77.0.0/24").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet(IpNetwork);

impl Subnet {
    /// The subnet that `address`/`prefix` lies in. `None` when the prefix is longer than the family allows.
    pub fn containing(address: IpAddr, prefix: u8) -> Option<Self> {
        let network = IpNetwork::new(address, prefix).ok()?;
        IpNetwork::new(network.network(), prefix).ok().map(Self)
    }

    /// First address: the network's own, never assigned in IPv4.
    pub fn network(self) -> IpAddr {
        self.0.network()
    }

    /// The first address that an interface can have: not the network's own, except in subnets of two addresses or one
    /// (RFC 3021, RFC 6164).
    pub fn first_usable(self) -> IpAddr {
        let (first, last) = self.bounds();
        address(if last - first < 2 { first } else { first + 1 }, self.family())
    }

    /// Prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.0.prefix()
    }

    /// The family of its addresses.
    pub fn family(self) -> Family {
        Family::of(self.network())
    }

    /// Whether the address lies in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whether the two subnets share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.family() == other.family() && (self.contains(other.network()) || other.contains(self.network()))
    }

    /// First and last address as numbers (IPv4 in the low 32 bits).
    pub fn bounds(self) -> (u128, u128) {
        let bits = if self.0.is_ipv4() { 32 } else { 128 };
        let first = number(self.network());
        let host_bits = bits - u32::from(self.prefix());
        let size = if host_bits == 128 { u128::MAX } else { (1u128 << host_bits) - 1 };
        (first, first | size)
    }

    /// The address with that number in this subnet's family; `None` when it lies outside.
    pub fn address(self, number: u128) -> Option<IpAddr> {
        let (first, last) = self.bounds();
        (first..=last).contains(&number).then(|| address(number, self.family()))
    }

    /// An address of this subnet with its prefix ("10.77.0.2/24"), as interfaces carry it.
    pub fn interface(self, address: IpAddr) -> IpNetwork {
        // The prefix is valid for the family because it came from this subnet.
        IpNetwork::new(address, self.prefix()).unwrap_or(self.0)
    }

    /// The subnet as the ipnetwork crate's type.
    pub fn as_ipnetwork(self) -> IpNetwork {
        self.0
    }
}

/// An address as a number: IPv4 in the low 32 bits.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The inverse of [`number`] within a family; IPv4 takes the low 32 bits.
pub fn address(number: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(((number & u128::from(u32::MAX)) as u32).into()),
        Family::V6 => IpAddr::V6(number.into()),
    }
}

impl FromStr for Subnet {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if !text.contains('/') {
            return Err(Invalid::new("subnet", text, "the prefix length is missing (as in 10.77.0.0/24)"));
        }
        let network: IpNetwork = text
            .parse()
            .map_err(|_| Invalid::new("subnet", text, "use ADDRESS/PREFIX, as in 10.77.0.0/24 or fd00:1::/64"))?;
        if network.ip() != network.network() {
            let why = format!("host bits are set, maybe you meant {}/{}", network.network(), network.prefix());
            return Err(Invalid::new("subnet", text, why));
        }
        Ok(Self(network))
    }
}

impl TryFrom<String> for Subnet {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A unicast Ethernet address, six bytes in transmission order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// A locally administered address from 32 random bits, for an endpoint without an IP address.
    pub fn random(bits: u32) -> Self {
        let [a, b, c, d] = bits.to_be_bytes();
        Self([0x02, 0x6f, a, b, c, d])
    }

    /// The address of the host end of a pair whose other end has this one: the same with another first byte, locally
    /// administered. It is set explicitly, because udev replaces random ones while netd works
    /// (`MACAddressPolicy=persistent`, systemd.link(5)).
    pub fn of_host_end(self) -> Self {
        let mut bytes = self.0;
        bytes[0] = (bytes[0] | 0x02) ^ 0x04;
        Self(bytes)
    }

    /// The link-local address that the kernel makes for an interface with this address (RFC 4291, appendix A), with its
    /// prefix.
    pub fn link_local(self) -> Ipv6Network {
        let [a, b, c, d, e, f] = self.0.map(u16::from);
        let address = Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f);
        #[expect(clippy::expect_used, reason = "64 is a prefix length of IPv6")]
        Ipv6Network::new(address, 64).expect("a prefix length")
    }

    /// `None` for bytes that cannot be an interface's address: multicast or all zero.
    pub fn from_bytes(bytes: [u8; 6]) -> Option<Self> {
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }

    /// Whether netd could give it to an interface ([`Self::random`], [`Self::for_address`], [`Self::of_host_end`]).
    pub fn is_of_netd(self) -> bool {
        matches!(self.0, [0x02 | 0x06, 0x6e | 0x6f, ..])
    }

    /// The bytes, most significant first.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The locally administered address that netd assigns to the holder of an IP address: `02:6e` and the last 32 bits
    /// of the IP address. The same IP address always has the same MAC address, so a neighbour entry of a former holder
    /// cannot be stale.
    pub fn for_address(address: IpAddr) -> Self {
        let low = (number(address) & u128::from(u32::MAX)) as u32;
        let [a, b, c, d] = low.to_be_bytes();
        Self([0x02, 0x6e, a, b, c, d])
    }
}

impl FromStr for Mac {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let form = || Invalid::new("MAC address", text, "use six hex pairs, as in 02:42:ac:11:00:02");
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            // A sign is no digit, but part of a number to `from_str_radix`.
            let is_pair = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            let part = parts.next().filter(is_pair).ok_or_else(form)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| form())?;
        }
        if parts.next().is_some() {
            return Err(form());
        }
        let why = "a multicast or all-zero address cannot name an interface";
        Self::from_bytes(bytes).ok_or_else(|| Invalid::new("MAC address", text, why))
    }
}

impl TryFrom<String> for Mac {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A range from which automatic subnets are taken: `base` is divided into subnets of prefix length `size`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The whole range.
    pub base: Subnet,
    /// Prefix length of each subnet cut from it.
    pub size: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_no_host_bits() {
        let error = "10.0.0.5/24".parse::<Subnet>().unwrap_err().to_string();
        assert!(error.contains("maybe you meant 10.0.0.0/24"), "{error}");
        assert!("10.0.0.0".parse::<Subnet>().is_err());
        assert!("10.0.0.0/33".parse::<Subnet>().is_err());
    }

    #[test]
    fn subnets_overlap_when_one_holds_the_other() {
        let subnet = |text: &str| text.parse::<Subnet>().unwrap();
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.1.0.0/16")));
        assert!(subnet("10.1.0.0/16").overlaps(subnet("10.0.0.0/8")));
        assert!(!subnet("10.1.0.0/16").overlaps(subnet("10.2.0.0/16")));
        assert!(!subnet("0.0.0.0/0").overlaps(subnet("::/0")));
    }

    #[test]
    fn numbers_and_addresses_are_inverse() {
        let subnet: Subnet = "fd00::/64".parse().unwrap();
        let (first, last) = subnet.bounds();
        assert_eq!(subnet.address(first + 5), Some("fd00::5".parse().unwrap()));
        assert_eq!(subnet.address(last + 1), None);
        let all: Subnet = "::/0".parse().unwrap();
        assert_eq!(all.bounds(), (0, u128::MAX));
    }

    #[test]
    fn a_mac_is_unicast() {
        assert!("01:00:5e:00:00:01".parse::<Mac>().is_err());
        assert!("02:42:ac:11:00".parse::<Mac>().is_err());
        assert!("+2:42:ac:11:00:02".parse::<Mac>().is_err());
        assert_eq!("02-42-AC-11-00-02".parse::<Mac>().unwrap().to_string(), "02:42:ac:11:00:02");
        let mac = Mac::for_address("10.77.0.2".parse().unwrap());
        assert_eq!(mac.to_string(), "02:6e:0a:4d:00:02");
        assert_eq!(mac.link_local().to_string(), "fe80::6e:aff:fe4d:2/64");
    }
}
