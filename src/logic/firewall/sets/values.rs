//! What a field of a key, or the data of a map, can be.

use std::net::{IpAddr, Ipv6Addr};

use crate::model::address::{Family, Mac, Subnet};
use crate::model::host::element::Verdict;
use crate::model::names::IfName;
use crate::model::policy::ruling::Edge;
use crate::model::publication::{PortRange, Protocol};

/// The type of a key field or of a map's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An interface name (nft `ifname`).
    Interface,
    /// A MAC address (`ether_addr`).
    Mac,
    /// One IPv6 address, which older versions of nft know as a number only.
    Target,
    /// One address (`ipv4_addr`, `ipv6_addr`).
    Address(Family),
    /// An interval of addresses that is a prefix.
    Subnet(Family),
    /// An IP protocol (`inet_proto`).
    Protocol,
    /// One port (`inet_service`).
    Port,
    /// An interval of ports.
    Ports,
    /// The slot of a service, a number of 32 bits without a type of its own.
    Slot,
    /// The host or elsewhere, by the type of the address there (`fib_addrtype`).
    Edge,
    /// What follows (`verdict`), as data only.
    Verdict,
}

impl Kind {
    /// Whether it requires an interval set.
    pub fn interval(self) -> bool {
        matches!(self, Self::Subnet(_) | Self::Ports)
    }
}

/// A value of a [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A value of [`Kind::Interface`].
    Interface(IfName),
    /// A value of [`Kind::Mac`].
    Mac(Mac),
    /// A value of [`Kind::Target`].
    Target(Ipv6Addr),
    /// A value of [`Kind::Address`].
    Address(IpAddr),
    /// A value of [`Kind::Subnet`].
    Subnet(Subnet),
    /// A value of [`Kind::Protocol`].
    Protocol(Protocol),
    /// A value of [`Kind::Port`].
    Port(u16),
    /// A value of [`Kind::Ports`].
    Ports(PortRange),
    /// A value of [`Kind::Slot`].
    Slot(u16),
    /// A value of [`Kind::Edge`].
    Edge(Edge),
    /// A value of [`Kind::Verdict`].
    Verdict(Verdict),
}
