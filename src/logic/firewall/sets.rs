//! The sets and maps of netd's tables, described once: name, types of key and data, purpose, and the [`Element`] that is in
//! them. Everything else works from this description: the declarations, the entries of an element in both directions,
//! JSON for `nft`, netlink attributes, and the samples of the tests.

mod describe;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use self::describe::describe;
use crate::model::address::{Family, Mac, Subnet};
use crate::model::host::element::{Element, NameServer, Published, PublishedRange, Table};
use crate::model::names::IfName;
use crate::model::publication::{PortRange, Protocol};

describe! {
    once:

    Element::Bridge(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges of netd.
        Bridges "bridges";
    }
    Element::Direct(interface) as [Interface(interface)], for Interfaces {
        /// Host interfaces that lead to one container without a bridge.
        Direct "direct";
    }
    Element::Internal(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges without outside access.
        Internal "internal";
    }
    Element::Isolated(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges on which the host has no address.
        Isolated "isolated";
    }
    Element::HostClosed(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges from which the host's own services are unreachable.
        HostClosed "host_closed";
    }
    Element::PortsClosed(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges from which published ports are unreachable at the host's addresses.
        PortsClosed "ports_closed";
    }
    Element::Allowed(from, to) as [Interface(from), Interface(to)], for Interfaces {
        /// (in, out) bridges between which traffic may be forwarded.
        Allowed "allowed";
    }
    Element::Guarded(interface) as [Interface(interface)], for Guard {
        /// Host ends of containers that may send from their own addresses only.
        Guarded "guarded";
    }
    Element::Target(interface, address) as [Interface(interface), Target(address)], for Guard {
        /// (host end, address of its container), for comparison with the target of neighbour discovery.
        Targets "targets6";
    }
    Element::Mac(interface, mac) as [Interface(interface), Mac(mac)], for Guard {
        /// (host end, MAC address of its container).
        Macs "macs";
    }

    Element::Uplink(Family::V4, interface) as [Interface(interface)], for Interfaces {
        /// Interfaces between which no IPv4 is forwarded.
        Uplinks4 "uplinks4";
    }
    Element::Uplink(Family::V6, interface) as [Interface(interface)], for Interfaces {
        /// Interfaces between which no IPv6 is forwarded.
        Uplinks6 "uplinks6";
    }

    per family:

    Element::Masquerade(subnet) as [Subnet(subnet)], of subnet.family(), for SourceNat {
        /// Source subnets that get the host's address.
        Masquerade "masquerade4" "masquerade6";
    }
    Element::Hairpin(subnet) as [Subnet(subnet), Subnet(to)] where to == subnet, of subnet.family(), for SourceNat {
        /// (source, destination) subnets between which published traffic gets the gateway's address.
        Hairpin "hairpin4" "hairpin6";
    }
    Element::Publish(Published { host_ip: None, protocol, port, to, to_port })
        as [Protocol(protocol), Port(port)], of Family::of(to), for Published
    {
        /// (protocol, port) to container address.
        Publish "publish4" "publish6": Address(to);
        /// (protocol, port) to container port.
        PublishPort "publish4_port" "publish6_port": Port(to_port);
    }
    Element::Publish(Published { host_ip: Some(host_ip), protocol, port, to, to_port })
        as [Address(host_ip), Protocol(protocol), Port(port)], of Family::of(to), for PublishedAtAddress
    {
        /// (host address, protocol, port) to container address.
        PublishAt "publish4_at" "publish6_at": Address(to);
        /// (host address, protocol, port) to container port.
        PublishAtPort "publish4_at_port" "publish6_at_port": Port(to_port);
    }
    Element::PublishRange(PublishedRange { host_ip: None, protocol, ports, to })
        as [Protocol(protocol), Ports(ports)], of Family::of(to), for Published
    {
        /// (protocol, ports) to container address; the port stays.
        PublishRange "publish4_range" "publish6_range": Address(to);
    }
    Element::PublishRange(PublishedRange { host_ip: Some(host_ip), protocol, ports, to })
        as [Address(host_ip), Protocol(protocol), Ports(ports)], of Family::of(to), for PublishedAtAddress
    {
        /// (host address, protocol, ports) to container address; the port stays.
        PublishAtRange "publish4_at_range" "publish6_at_range": Address(to);
    }
    Element::AskAt(NameServer { gateway, port }) as [Address(gateway)], of Family::of(gateway), for NameService {
        /// Gateway to the port of the name service there.
        Dns "dns4" "dns6": Port(port);
    }
    Element::AnswerFrom(NameServer { gateway, port })
        as [Address(gateway), Port(port)], of Family::of(gateway), for NameService
    {
        /// (gateway, port) from which the name service answers.
        DnsFrom "dns4_from" "dns6_from";
    }
    Element::Source(interface, address) as [Interface(interface), Address(address)], of Family::of(address), for Guard {
        /// (host end, address of its container).
        Sources "sources4" "sources6";
    }
}

/// What the rules use a set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// Which interfaces are netd's, and what may pass them.
    Interfaces,
    /// The source address of what leaves.
    SourceNat,
    /// Published ports at one address of the host.
    PublishedAtAddress,
    /// Published ports at all addresses of the host.
    Published,
    /// Questions to the name service, and its answers.
    NameService,
    /// What containers may send.
    Guard,
}

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
}

/// One member of a set or map, in nft's representation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The set or map.
    pub set: Set,
    /// One value per kind of [`Set::key`].
    pub key: Vec<Value>,
    /// The data of a map's entry; `None` for a set.
    pub data: Option<Value>,
}

impl Set {
    /// All sets and maps, in the order of their declaration: by family, then by purpose.
    pub fn all() -> Vec<Self> {
        let mut all = DESCRIBED.to_vec();
        all.sort_by_key(|set| (set.family(), set.purpose()));
        all
    }

    /// The table that it is in.
    pub fn table(self) -> Table {
        match self.purpose() {
            Purpose::Guard => Table::Bridge,
            _ => Table::Inet,
        }
    }

    /// Whether it holds intervals.
    pub fn interval(self) -> bool {
        self.key().iter().any(|kind| kind.interval())
    }
}

/// The set and the data of one of the entries that have the same key and form one element.
type Half = (Set, Option<Value>);

/// The inverse of [`entries`] for all entries of a table: the elements, and how many entries belong to none (half of a
/// published port, subnets that do not match).
pub fn elements(entries: impl IntoIterator<Item = Entry>) -> (BTreeSet<Element>, usize) {
    let mut elements = BTreeSet::new();
    let mut pairs: BTreeMap<(&[Set], Vec<Value>), Vec<Half>> = BTreeMap::new();
    let mut undecodable = 0;
    let mut add = |whole: Option<Element>| match whole {
        Some(element) => _ = elements.insert(element),
        None => undecodable += 1,
    };
    for Entry { set, key, data } in entries {
        match set.with_same_element() {
            [_] => add(element(set, &key, &[data])),
            pair => pairs.entry((pair, key)).or_default().push((set, data)),
        }
    }
    for ((pair, key), mut halves) in pairs {
        // A dump may list an entry twice while the kernel resizes the set.
        halves.sort();
        halves.dedup();
        let (sets, data): (Vec<Set>, Vec<_>) = halves.into_iter().unzip();
        add(sets.first().filter(|_| sets == pair).and_then(|set| element(*set, &key, &data)));
    }
    (elements, undecodable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::{firewall, samples};

    /// A dump that lists half of a published port twice made repair replace the whole table.
    #[test]
    fn an_entry_that_is_listed_twice_is_one() {
        let (expected, _) = elements(samples::entries());
        let twice = samples::entries().into_iter().chain(samples::entries());
        assert_eq!(elements(twice), (expected, elements(samples::entries()).1));
    }

    #[test]
    fn an_entry_of_every_set_becomes_an_element_and_the_same_entry_again() {
        let (elements, undecodable) = elements(samples::entries());
        let mut again: Vec<Entry> = elements.iter().flat_map(entries).collect();
        again.sort();
        let mut expected = samples::entries();
        expected.sort();
        assert_eq!((again, undecodable), (expected, 0));
    }

    #[test]
    fn half_a_published_port_and_a_pair_of_different_subnets_are_no_elements() {
        for entry in samples::entries().into_iter().filter(|entry| entry.set.with_same_element().len() > 1) {
            assert_eq!(elements([entry.clone()]), (BTreeSet::new(), 1), "{entry:?}");
        }
        let key = ["10.0.1.0/24", "10.0.2.0/24"].map(|subnet| Value::Subnet(subnet.parse().unwrap())).into();
        assert_eq!(elements([Entry { set: Set::Hairpin(Family::V4), key, data: None }]), (BTreeSet::new(), 1));
    }

    #[test]
    fn every_set_has_a_name_of_its_own_and_is_looked_up_by_a_rule() {
        let inet = firewall::json(&firewall::structure()).to_string().replace('"', " ");
        let bridge = firewall::guard::text([], firewall::guard::Targets::Named);
        let mut names = BTreeSet::new();
        for set in Set::all() {
            assert!(names.insert(set.name()), "two sets have the name {}", set.name());
            let structure = if set.table() == Table::Inet { &inet } else { &bridge };
            assert!(structure.contains(&format!("@{} ", set.name())), "no rule looks up {}", set.name());
        }
    }
}
