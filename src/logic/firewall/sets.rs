//! The sets and maps of the table: their names, the types of their keys and data, and the entries of each [`Element`].
//!
//! Only this module defines the correspondence, in both directions; JSON for `nft` and netlink attributes are made from
//! [`Entry`] alone, so the two cannot diverge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::address::{Family, Subnet};
use crate::model::host::element::{Element, NameServer, Published, PublishedRange};
use crate::model::names::IfName;
use crate::model::publication::{PortRange, Protocol};

/// A named set or map of `table inet netd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// `bridges`: interface names.
    Bridges,
    /// `direct`: interface names.
    Direct,
    /// `internal`: interface names.
    Internal,
    /// `isolated`: interface names.
    Isolated,
    /// `host_closed`: interface names.
    HostClosed,
    /// `ports_closed`: interface names.
    PortsClosed,
    /// `allowed`: (in, out) interface names.
    Allowed,
    /// `masquerade4`, `masquerade6`: source subnets.
    Masquerade(Family),
    /// `hairpin4`, `hairpin6`: (source, destination) subnets.
    Hairpin(Family),
    /// `publish4`…: (protocol, port) to container address.
    Publish(Family),
    /// `publish4_port`…: (protocol, port) to container port.
    PublishPort(Family),
    /// `publish4_at`…: (host address, protocol, port) to container address.
    PublishAt(Family),
    /// `publish4_at_port`…: (host address, protocol, port) to container port.
    PublishAtPort(Family),
    /// `publish4_range`…: (protocol, ports) to container address; the port stays.
    PublishRange(Family),
    /// `publish4_at_range`…: (host address, protocol, ports) to container address; the port stays.
    PublishAtRange(Family),
    /// `dns4`, `dns6`: gateway to the port of the name service there.
    Dns(Family),
    /// `dns4_from`, `dns6_from`: (gateway, port) from which the name service answers.
    DnsFrom(Family),
}

/// The type of a key field or of a map's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An interface name (nft `ifname`).
    Interface,
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
    /// All sets and maps, in the order of their declaration.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Bridges,
            Self::Direct,
            Self::Internal,
            Self::Isolated,
            Self::HostClosed,
            Self::PortsClosed,
            Self::Allowed,
        ];
        for family in [Family::V4, Family::V6] {
            all.extend([
                Self::Masquerade(family),
                Self::Hairpin(family),
                Self::PublishAt(family),
                Self::PublishAtPort(family),
                Self::PublishAtRange(family),
                Self::Publish(family),
                Self::PublishPort(family),
                Self::PublishRange(family),
                Self::Dns(family),
                Self::DnsFrom(family),
            ]);
        }
        all
    }

    /// The name in the table.
    pub fn name(self) -> &'static str {
        use Family::{V4, V6};
        match self {
            Self::Bridges => "bridges",
            Self::Direct => "direct",
            Self::Internal => "internal",
            Self::Isolated => "isolated",
            Self::HostClosed => "host_closed",
            Self::PortsClosed => "ports_closed",
            Self::Allowed => "allowed",
            Self::Masquerade(V4) => "masquerade4",
            Self::Masquerade(V6) => "masquerade6",
            Self::Hairpin(V4) => "hairpin4",
            Self::Hairpin(V6) => "hairpin6",
            Self::Publish(V4) => "publish4",
            Self::Publish(V6) => "publish6",
            Self::PublishPort(V4) => "publish4_port",
            Self::PublishPort(V6) => "publish6_port",
            Self::PublishAt(V4) => "publish4_at",
            Self::PublishAt(V6) => "publish6_at",
            Self::PublishAtPort(V4) => "publish4_at_port",
            Self::PublishAtPort(V6) => "publish6_at_port",
            Self::PublishRange(V4) => "publish4_range",
            Self::PublishRange(V6) => "publish6_range",
            Self::PublishAtRange(V4) => "publish4_at_range",
            Self::PublishAtRange(V6) => "publish6_at_range",
            Self::Dns(V4) => "dns4",
            Self::Dns(V6) => "dns6",
            Self::DnsFrom(V4) => "dns4_from",
            Self::DnsFrom(V6) => "dns6_from",
        }
    }

    /// The set with that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|set| set.name() == name)
    }

    /// The fields of its key.
    pub fn key(self) -> Vec<Kind> {
        match self {
            Self::Bridges | Self::Direct | Self::Internal | Self::Isolated | Self::HostClosed | Self::PortsClosed => {
                vec![Kind::Interface]
            }
            Self::Allowed => vec![Kind::Interface, Kind::Interface],
            Self::Masquerade(family) => vec![Kind::Subnet(family)],
            Self::Hairpin(family) => vec![Kind::Subnet(family), Kind::Subnet(family)],
            Self::Publish(_) | Self::PublishPort(_) => vec![Kind::Protocol, Kind::Port],
            Self::PublishRange(_) => vec![Kind::Protocol, Kind::Ports],
            Self::PublishAt(family) | Self::PublishAtPort(family) => {
                vec![Kind::Address(family), Kind::Protocol, Kind::Port]
            }
            Self::PublishAtRange(family) => vec![Kind::Address(family), Kind::Protocol, Kind::Ports],
            Self::Dns(family) => vec![Kind::Address(family)],
            Self::DnsFrom(family) => vec![Kind::Address(family), Kind::Port],
        }
    }

    /// The type of a map's data; `None` for a set.
    pub fn data(self) -> Option<Kind> {
        match self {
            Self::Bridges
            | Self::Direct
            | Self::Internal
            | Self::Isolated
            | Self::HostClosed
            | Self::PortsClosed
            | Self::Allowed
            | Self::Masquerade(_)
            | Self::Hairpin(_)
            | Self::DnsFrom(_) => None,
            Self::PublishPort(_) | Self::PublishAtPort(_) | Self::Dns(_) => Some(Kind::Port),
            Self::Publish(family)
            | Self::PublishAt(family)
            | Self::PublishRange(family)
            | Self::PublishAtRange(family) => Some(Kind::Address(family)),
        }
    }

    /// Whether it holds intervals.
    pub fn interval(self) -> bool {
        self.key().into_iter().any(Kind::interval)
    }
}

/// The entries of an element: two for a published port, one for any other.
pub fn entries(element: &Element) -> Vec<Entry> {
    let member = |set, key| vec![Entry { set, key, data: None }];
    match element {
        Element::Bridge(bridge) => member(Set::Bridges, vec![Value::Interface(bridge.clone())]),
        Element::Direct(name) => member(Set::Direct, vec![Value::Interface(name.clone())]),
        Element::Internal(bridge) => member(Set::Internal, vec![Value::Interface(bridge.clone())]),
        Element::Isolated(bridge) => member(Set::Isolated, vec![Value::Interface(bridge.clone())]),
        Element::HostClosed(bridge) => member(Set::HostClosed, vec![Value::Interface(bridge.clone())]),
        Element::PortsClosed(bridge) => member(Set::PortsClosed, vec![Value::Interface(bridge.clone())]),
        Element::Allowed(from, to) => {
            member(Set::Allowed, vec![Value::Interface(from.clone()), Value::Interface(to.clone())])
        }
        Element::Masquerade(subnet) => member(Set::Masquerade(subnet.family()), vec![Value::Subnet(*subnet)]),
        Element::Hairpin(subnet) => {
            member(Set::Hairpin(subnet.family()), vec![Value::Subnet(*subnet), Value::Subnet(*subnet)])
        }
        Element::Publish(published) => published_entries(published),
        Element::PublishRange(range) => {
            let family = Family::of(range.to);
            let set = if range.host_ip.is_some() { Set::PublishAtRange(family) } else { Set::PublishRange(family) };
            let key = publish_key(range.host_ip, range.protocol, Value::Ports(range.ports));
            vec![Entry { set, key, data: Some(Value::Address(range.to)) }]
        }
        Element::AskAt(NameServer { gateway, port }) => {
            let (set, data) = (Set::Dns(Family::of(*gateway)), Some(Value::Port(*port)));
            vec![Entry { set, key: vec![Value::Address(*gateway)], data }]
        }
        Element::AnswerFrom(NameServer { gateway, port }) => {
            member(Set::DnsFrom(Family::of(*gateway)), vec![Value::Address(*gateway), Value::Port(*port)])
        }
    }
}

fn published_entries(published: &Published) -> Vec<Entry> {
    let family = Family::of(published.to);
    let (address, port) = match published.host_ip {
        Some(_) => (Set::PublishAt(family), Set::PublishAtPort(family)),
        None => (Set::Publish(family), Set::PublishPort(family)),
    };
    let key = publish_key(published.host_ip, published.protocol, Value::Port(published.port));
    vec![
        Entry { set: address, key: key.clone(), data: Some(Value::Address(published.to)) },
        Entry { set: port, key, data: Some(Value::Port(published.to_port)) },
    ]
}

fn publish_key(host_ip: Option<IpAddr>, protocol: Protocol, ports: Value) -> Vec<Value> {
    host_ip.map(Value::Address).into_iter().chain([Value::Protocol(protocol), ports]).collect()
}

/// The inverse of [`entries`] for all entries of a table: the elements, and how many entries belong to none (half of a
/// published port, subnets that do not match).
pub fn elements(entries: impl IntoIterator<Item = Entry>) -> (BTreeSet<Element>, usize) {
    let mut elements = BTreeSet::new();
    let mut halves: BTreeMap<_, (Option<IpAddr>, Option<u16>)> = BTreeMap::new();
    let mut strange = 0;
    for entry in entries {
        match piece(entry) {
            Some(Piece::Whole(element)) => {
                elements.insert(element);
            }
            Some(Piece::Address(key, to)) => halves.entry(key).or_default().0 = Some(to),
            Some(Piece::Port(key, port)) => halves.entry(key).or_default().1 = Some(port),
            None => strange += 1,
        }
    }
    for ((_, host_ip, protocol, port), half) in halves {
        match half {
            (Some(to), Some(to_port)) => {
                elements.insert(Element::Publish(Published { host_ip, protocol, port, to, to_port }));
            }
            _ => strange += 1,
        }
    }
    (elements, strange)
}

/// The common part of the two halves of a published port.
type Half = (Family, Option<IpAddr>, Protocol, u16);

enum Piece {
    Whole(Element),
    Address(Half, IpAddr),
    Port(Half, u16),
}

fn piece(entry: Entry) -> Option<Piece> {
    use Value::{Address, Interface, Port, Ports};
    let Entry { set, mut key, data } = entry;
    let host_ip = match key.first() {
        Some(Address(_)) => match key.remove(0) {
            Address(address) => Some(address),
            _ => None,
        },
        _ => None,
    };
    Some(match (set, key.as_slice(), data) {
        (Set::Dns(_), [], Some(Port(port))) => Piece::Whole(Element::AskAt(NameServer { gateway: host_ip?, port })),
        (Set::DnsFrom(_), [Port(port)], None) => {
            Piece::Whole(Element::AnswerFrom(NameServer { gateway: host_ip?, port: *port }))
        }
        (Set::Bridges, [Interface(name)], None) => Piece::Whole(Element::Bridge(name.clone())),
        (Set::Direct, [Interface(name)], None) => Piece::Whole(Element::Direct(name.clone())),
        (Set::Internal, [Interface(name)], None) => Piece::Whole(Element::Internal(name.clone())),
        (Set::Isolated, [Interface(name)], None) => Piece::Whole(Element::Isolated(name.clone())),
        (Set::HostClosed, [Interface(name)], None) => Piece::Whole(Element::HostClosed(name.clone())),
        (Set::PortsClosed, [Interface(name)], None) => Piece::Whole(Element::PortsClosed(name.clone())),
        (Set::Allowed, [Interface(from), Interface(to)], None) => {
            Piece::Whole(Element::Allowed(from.clone(), to.clone()))
        }
        (Set::Masquerade(_), [Value::Subnet(subnet)], None) => Piece::Whole(Element::Masquerade(*subnet)),
        (Set::Hairpin(_), [Value::Subnet(from), Value::Subnet(to)], None) if from == to => {
            Piece::Whole(Element::Hairpin(*from))
        }
        (
            Set::PublishRange(_) | Set::PublishAtRange(_),
            [Value::Protocol(protocol), Ports(ports)],
            Some(Address(to)),
        ) => Piece::Whole(Element::PublishRange(PublishedRange { host_ip, protocol: *protocol, ports: *ports, to })),
        (Set::Publish(family) | Set::PublishAt(family), [Value::Protocol(protocol), Port(port)], Some(Address(to))) => {
            Piece::Address((family, host_ip, *protocol, *port), to)
        }
        (
            Set::PublishPort(family) | Set::PublishAtPort(family),
            [Value::Protocol(protocol), Port(port)],
            Some(Port(to_port)),
        ) => Piece::Port((family, host_ip, *protocol, *port), to_port),
        _ => return None,
    })
}
