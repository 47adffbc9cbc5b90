//! The sockets of one interface.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;
use tokio::task::AbortHandle;

use super::wire::{group, hops, on, port};
use crate::engine::relay::AttachedInterface;
use crate::model::address::Family;
use crate::model::relay::Protocol;
use crate::os::multicast::{self, Ports, Tap};

/// The ports of the sockets of searches: neither of the range from which Linux assigns ports to others, nor netd's for the
/// name service.
pub(super) const SEARCH_PORTS: RangeInclusive<u16> = 61100..=61227;

/// An interface between which and others is relayed. Its readers end when it is dropped.
#[derive(Debug)]
pub(super) struct Link {
    interface: AttachedInterface,
    protocols: BTreeSet<Protocol>,
    senders: BTreeMap<(Protocol, Family), UdpSocket>,
    /// Memberships, which end with their sockets.
    _joined: Vec<UdpSocket>,
    readers: Vec<AbortHandle>,
}

/// Its taps, to be read.
pub(super) type Taps = Vec<Tap>;

impl Link {
    /// Opens the sockets for these protocols, in the families in which the interface has addresses.
    pub(super) fn open(interface: AttachedInterface, protocols: BTreeSet<Protocol>) -> io::Result<(Self, Taps)> {
        let single: Vec<u16> = protocols.iter().map(|protocol| port(*protocol)).collect();
        let (mut senders, mut joined, mut taps) = (BTreeMap::new(), Vec::new(), Vec::new());
        for family in families(&interface) {
            let groups = protocols.iter().map(|protocol| group(*protocol, family));
            joined.push(multicast::join(interface.index, groups, family)?);
            for protocol in &protocols {
                let from = on(interface.index, group(*protocol, family), port(*protocol));
                let sender = multicast::sender(interface.name.as_str(), from, hops(*protocol), true)?;
                senders.insert((*protocol, family), sender);
            }
            let ports = Ports { single: &single, range: SEARCH_PORTS };
            taps.push(Tap::open(interface.index, family, &ports)?);
        }
        Ok((Self { interface, protocols, senders, _joined: joined, readers: Vec::new() }, taps))
    }

    /// Keeps the tasks that read its taps.
    pub(super) fn read_by(&mut self, readers: Vec<AbortHandle>) {
        self.readers = readers;
    }

    /// Takes other addresses of the same interface. False: it needs other sockets.
    pub(super) fn follow(&mut self, now: &AttachedInterface, protocols: &BTreeSet<Protocol>) -> bool {
        let is_same = self.interface.index == now.index
            && self.protocols == *protocols
            && families(&self.interface) == families(now);
        if is_same {
            self.interface.addresses.clone_from(&now.addresses);
        }
        is_same
    }

    /// The interface's index.
    pub(super) fn index(&self) -> u32 {
        self.interface.index
    }

    /// Whether it is an address of the host there.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.interface.addresses.iter().any(|own| own.ip() == address)
    }

    /// Whether the address is of a neighbour on the link (RFC 6762, 11).
    pub(super) fn is_neighbour(&self, address: IpAddr) -> bool {
        let is_one = match address {
            IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_broadcast() && !v4.is_multicast(),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
        };
        let is_of_link = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let is_in = |own: &IpNetwork| own.contains(address);
        is_one && !self.has(address) && (is_of_link || self.interface.addresses.iter().any(is_in))
    }

    /// Sends to the group.
    pub(super) fn spread(&self, protocol: Protocol, family: Family, message: &[u8]) -> io::Result<()> {
        self.send(protocol, on(self.index(), group(protocol, family), port(protocol)), message)
    }

    /// Sends from the protocol's port.
    pub(super) fn send(&self, protocol: Protocol, to: SocketAddr, message: &[u8]) -> io::Result<()> {
        let sender = self.senders.get(&(protocol, Family::of(to.ip()))).ok_or(io::ErrorKind::AddrNotAvailable)?;
        sender.send_to(message, to).map(drop)
    }

    /// A socket that sends a search to the group from this port.
    pub(super) fn searcher(&self, protocol: Protocol, family: Family, from: u16) -> io::Result<UdpSocket> {
        let any: IpAddr = match family {
            Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        multicast::sender(self.interface.name.as_str(), SocketAddr::new(any, from), hops(protocol), false)
    }

    /// Where a search goes to.
    pub(super) fn towards(&self, protocol: Protocol, family: Family) -> SocketAddr {
        on(self.index(), group(protocol, family), port(protocol))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.readers.iter().for_each(AbortHandle::abort);
    }
}

/// The families in which the interface can send: IPv6 from its link-local address.
fn families(interface: &AttachedInterface) -> BTreeSet<Family> {
    let sends = |address: &IpNetwork| match address.ip() {
        IpAddr::V4(_) => Some(Family::V4),
        IpAddr::V6(v6) => v6.is_unicast_link_local().then_some(Family::V6),
    };
    interface.addresses.iter().filter_map(sends).collect()
}
