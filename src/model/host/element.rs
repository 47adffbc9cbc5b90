//! Elements: the members of the sets and maps of `table inet netd`, which change with networks, endpoints and ports.
//!
//! What the structure around them is stands in `logic::firewall`; how they look on the wire in `kernel::nft`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::address::{Family, Subnet};
use crate::model::names::IfName;
use crate::model::publication::{PortRange, Protocol};

/// One member of one set or map. A publication of several ports in a row that keeps their numbers is one interval;
/// any other is one element (address and port: a pair of nft elements that are written together) per port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Element {
    /// `set bridges`: a bridge of ours.
    Bridge(IfName),
    /// `set direct`: an interface of the host that leads to one container of ours, without a bridge.
    Direct(IfName),
    /// `set internal`: a bridge of ours without a way out.
    Internal(IfName),
    /// `set host_closed`: a bridge of ours from which the host's own services are not reached, but for the name service.
    HostClosed(IfName),
    /// `set ports_closed`: a bridge of ours from which not even published ports are reached at the host's addresses.
    PortsClosed(IfName),
    /// `set isolated`: a bridge of ours that the host has no address on.
    Isolated(IfName),
    /// `set allowed`: traffic may be forwarded from the first bridge to the second.
    Allowed(IfName, IfName),
    /// `set masquerade4`/`masquerade6`: sources that take the host's address when they leave.
    Masquerade(Subnet),
    /// `set hairpin4`/`hairpin6`: (subnet, subnet): published traffic within one network takes the gateway's address,
    /// or the answer would not come back through the host.
    Hairpin(Subnet),
    /// `map publish4`… : a published port.
    Publish(Published),
    /// `map publish4_range`… : published ports that keep their numbers.
    PublishRange(PublishedRange),
    /// `map dns4`/`dns6`: questions to port 53 of this gateway go to the port at which the name service listens there.
    AskAt(NameServer),
    /// `set dns4_from`/`dns6_from`: what comes from there is an answer, and comes from port 53.
    AnswerFrom(NameServer),
}

/// Where the name service listens at a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NameServer {
    /// The gateway.
    pub gateway: IpAddr,
    /// UDP and TCP.
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

/// Published ports in a row, the same numbers on both sides.
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

impl Element {
    /// The family it belongs to; `None` for interface names.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Bridge(_)
            | Self::Direct(_)
            | Self::Internal(_)
            | Self::Isolated(_)
            | Self::HostClosed(_)
            | Self::PortsClosed(_)
            | Self::Allowed(..) => None,
            Self::Masquerade(subnet) | Self::Hairpin(subnet) => Some(subnet.family()),
            Self::Publish(published) => Some(Family::of(published.to)),
            Self::PublishRange(range) => Some(Family::of(range.to)),
            Self::AskAt(server) | Self::AnswerFrom(server) => Some(Family::of(server.gateway)),
        }
    }
}
