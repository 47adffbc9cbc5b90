//! Elements: the members of the sets and maps of netd's tables, which change with networks, endpoints and ports.
//!
//! `logic::firewall` defines the structure around them, `kernel::nft` their wire format.

mod egress;
mod policies;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::model::address::{Family, Mac, Subnet};
use crate::model::names::IfName;
use crate::model::publication::{PortRange, Protocol};
pub use egress::{EgressTo, EgressToPorts};
pub use policies::{EdgePair, EdgePort, Pair, PairPort, Verdict, VerdictCode};

/// One member of one set or map. A publication of consecutive ports that keep their numbers is one interval; any other
/// has one element per port (address and port: a pair of nft elements that are written together).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Element {
    /// `set bridges`: a bridge of netd.
    Bridge(IfName),
    /// `set direct`: a host interface that leads to one container of netd without a bridge.
    Direct(IfName),
    /// `set internal`: the bridge of an internal network.
    Internal(IfName),
    /// `map leaving`: what a container sends from this bridge, internal or with policies, passes this chain.
    Leaving(IfName, Verdict),
    /// `map entering`: what is forwarded to this bridge, internal or with policies, passes this chain.
    Entering(IfName, Verdict),
    /// `map to_host`: what containers on this bridge send to the host passes this chain.
    ToHost(IfName, Verdict),
    /// `map from_host`: what the host sends to this bridge, which has policies, passes this chain.
    FromHost(IfName, Verdict),
    /// `set within`: traffic may be forwarded from the bridge to itself, unless a policy denies it.
    Within(IfName, IfName),
    /// `map policy4_port`…: the flows from one address to a port of another pass, or do not.
    PairPort(PairPort),
    /// `map policy4`…: the flows from one address to another pass, or do not, except for their ports.
    Pair(Pair),
    /// `map sent4_port`…: the flows from an address to a port at an edge pass, or do not.
    SentPort(EdgePort),
    /// `map sent4`…: the flows from an address to an edge pass, or do not.
    Sent(EdgePair),
    /// `map received4_port`…: the flows from an edge to a port of an address pass, or do not.
    ReceivedPort(EdgePort),
    /// `map received4`…: the flows from an edge to an address pass, or do not.
    Received(EdgePair),
    /// `set shut4`…: flows to this address do not pass unless a policy allows them.
    Shut(IpAddr),
    /// `set shut_within4`… of `table bridge netd`: the same within the bridge.
    ShutWithin(IpAddr),
    /// `set receivers4`/`receivers6` of `table bridge netd`: a network with policies has this subnet, and a container with
    /// this address, of the same family.
    Receiver(Subnet, IpAddr),
    /// `set policed4`/`policed6` of `table bridge netd`: the containers of all [`Self::Receiver`]s.
    Policed(IpAddr),
    /// `set egress4`…: what this container's address begins to send passes only if it is allowed.
    Egress(IpAddr),
    /// `set egress_macs`: a container whose egress is denied has this MAC address.
    EgressMac(Mac),
    /// `set egress4_to`…: what an address may send to ports of a subnet.
    EgressToPorts(EgressToPorts),
    /// `set egress4_to_any`…: what an address may send to a subnet.
    EgressTo(EgressTo),
    /// `set ports_closed`: a bridge of netd from which even published ports are unreachable at the host's addresses.
    PortsClosed(IfName),
    /// `set isolated`: a bridge of netd on which the host has no address.
    Isolated(IfName),
    /// `set allowed`: traffic may be forwarded from the first bridge to the second.
    Allowed(IfName, IfName),
    /// `set uplinks4`/`uplinks6`: an interface of the host between which and others of this set nothing is forwarded.
    Uplink(Family, IfName),
    /// `set masquerade4`/`masquerade6`: sources that get the host's address when their traffic leaves.
    Masquerade(Subnet),
    /// `set hairpin4`/`hairpin6`: (subnet, subnet): published traffic within one network gets the gateway's address,
    /// because otherwise the reply would not return through the host.
    Hairpin(Subnet),
    /// `map outbound4`/`outbound6`: sources that get this address instead.
    Outbound(Subnet, IpAddr),
    /// `set routed`: a bridge of netd whose containers are reached at their own addresses where their ports are open.
    Routed(IfName),
    /// `set unprotected`: a bridge of netd whose containers are reached at their own addresses.
    Unprotected(IfName),
    /// `set opened4`/`opened6`: ports that are reached at this container's own address.
    Opened(IpAddr, Protocol, PortRange),
    /// `map publish4`… : a published port.
    Publish(Published),
    /// `map publish4_range`… : published ports that keep their numbers.
    PublishRange(PublishedRange),
    /// `set strict4`/`strict6`: published ports of every address about which the host's own input rules decide.
    Strict(Family, Protocol, PortRange),
    /// `set strict4_at`/`strict6_at`: the same at one address.
    StrictAt(IpAddr, Protocol, PortRange),
    /// `map dns4`/`dns6`: redirects questions to port 53 of this gateway to the port of the name service there.
    AskAt(NameServer),
    /// `set dns4_from`/`dns6_from`: packets from there are answers, and get the source port 53.
    AnswerFrom(NameServer),
    /// `set guarded` of `table bridge netd`: what arrives from this host end, and is not allowed below, is dropped.
    Guarded(IfName),
    /// `set macs` of `table bridge netd`: the host end's container may send from this MAC address.
    Mac(IfName, Mac),
    /// `map sources4`/`sources6` of `table bridge netd`: the host end's container may send from this address, and what it
    /// sends passes this chain.
    Source(IfName, IpAddr, Verdict),
    /// `set targets6` of `table bridge netd`: the host end's container may say that it has this address (RFC 4861).
    Target(IfName, Ipv6Addr),
    /// `set own_vips4`/`own_vips6`: the containers on this bridge may use this virtual address, even if the host is
    /// closed to them.
    OwnVip(IfName, IpAddr),
    /// `set vips4`/`vips6` of `table inet netd_services`: the virtual address of a service. New connections that reach
    /// the host itself are refused; what the host opens is translated.
    Vip(IpAddr),
    /// `set vip_from4`/`vip_from6` of `table inet netd_services`: what arrives from this bridge for this virtual address
    /// is translated.
    VipFrom(IfName, IpAddr),
    /// `map vip4_8`… of `table inet netd_services`: a slot of a virtual address.
    VipSlot(VipSlot),
    /// `map service_ports4`/`service_ports6` of `table inet netd_services`: a published port of a service.
    ServicePort(ServicePort),
    /// `set service_strict4`/`service_strict6` of `table inet netd_services`: a published port of a service about which the
    /// host's own input rules decide; it is in `strict4`/`strict6` too.
    StrictService(Family, Protocol, u16),
    /// `map port4_8`… of `table inet netd_services`: a slot of a published port.
    PortSlot(PortSlot),
}

impl Element {
    /// Whether more would pass without it.
    pub fn restrains(&self) -> bool {
        match self {
            Self::Internal(_) | Self::Leaving(..) | Self::Entering(..) | Self::ToHost(..) | Self::FromHost(..) => true,
            Self::PairPort(_) | Self::Pair(_) | Self::SentPort(_) | Self::Sent(_) => true,
            Self::ReceivedPort(_) | Self::Received(_) | Self::Shut(_) => true,
            Self::Egress(_) | Self::EgressMac(_) => true,
            _ => self.table() == Table::Bridge,
        }
    }

    /// The table that it is in.
    pub fn table(&self) -> Table {
        match self {
            Self::Guarded(_) | Self::Mac(..) | Self::Source(..) | Self::Target(..) => Table::Bridge,
            Self::Receiver(..) | Self::Policed(_) | Self::ShutWithin(_) => Table::Bridge,
            Self::PairPort(PairPort { within: true, .. }) | Self::Pair(Pair { within: true, .. }) => Table::Bridge,
            Self::Vip(_)
            | Self::VipFrom(..)
            | Self::VipSlot(_)
            | Self::ServicePort(_)
            | Self::StrictService(..)
            | Self::PortSlot(_) => Table::Services,
            _ => Table::Inet,
        }
    }
}

/// One of netd's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    /// `table inet netd`: what the host receives, sends and forwards.
    Inet,
    /// `table bridge netd`: what containers send to their bridge.
    Bridge,
    /// `table inet netd_services`: which member of a service gets a connection. It exists while it has elements.
    Services,
}

impl Table {
    /// Those of the elements that are in it.
    pub fn of(self, elements: &[Element]) -> BTreeSet<Element> {
        elements.iter().filter(|element| element.table() == self).cloned().collect()
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inet, Self::Bridge, Self::Services];

    /// The name without the family.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet | Self::Bridge => "netd",
            Self::Services => "netd_services",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self {
            Self::Inet | Self::Services => "inet",
            Self::Bridge => "bridge",
        };
        write!(f, "table {family} {}", self.name())
    }
}

/// How many slots a service has. A connection's addresses and ports select a slot, and the slot's element the member.
/// The number is a constant of a rule, so there are only a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slots {
    /// 8, for one or two members.
    Few,
    /// 64, for up to 16 members.
    Several,
    /// 1,024, for more.
    Many,
}

impl Slots {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Few, Self::Several, Self::Many];

    /// The number.
    pub const fn count(self) -> u16 {
        match self {
            Self::Few => 8,
            Self::Several => 64,
            Self::Many => 1024,
        }
    }

    /// Those of a service with that many members: at least four for each, up to 256.
    pub fn of(members: usize) -> Self {
        match members {
            0..=2 => Self::Few,
            3..=16 => Self::Several,
            _ => Self::Many,
        }
    }
}

/// One slot of a virtual address: the connections that fall into it go to one member, and keep their port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VipSlot {
    /// The virtual address.
    pub vip: IpAddr,
    /// How many slots the address has.
    pub slots: Slots,
    /// The client's address alone selects the slot.
    pub affinity: bool,
    /// From 0 on.
    pub slot: u16,
    /// The member, of the same family.
    pub to: IpAddr,
}

/// A published port of a service, at every local address of the family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// The family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the host.
    pub port: u16,
    /// The port of every member.
    pub to_port: u16,
}

/// One slot of a published port of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortSlot {
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the host.
    pub port: u16,
    /// How many slots the port has.
    pub slots: Slots,
    /// The client's address alone selects the slot.
    pub affinity: bool,
    /// From 0 on.
    pub slot: u16,
    /// The member, whose family is that of the connections.
    pub to: IpAddr,
}

/// The socket address of the name service at a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NameServer {
    /// The gateway.
    pub gateway: IpAddr,
    /// UDP and TCP port.
    pub port: u16,
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Published {
    /// `None`: every local address of `to`'s family.
    pub host_ip: Option<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the host.
    pub port: u16,
    /// The container's address.
    pub to: IpAddr,
    /// The container's port.
    pub to_port: u16,
}

/// Consecutive published ports, with the same numbers on both sides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedRange {
    /// `None`: every local address of `to`'s family.
    pub host_ip: Option<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortRange,
    /// The container's address.
    pub to: IpAddr,
}
