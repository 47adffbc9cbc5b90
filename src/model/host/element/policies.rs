//! The elements that say which flows pass, and what packets meet next.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::policy::ruling::Edge;
use crate::model::publication::Protocol;

/// What a packet meets next: the data of a verdict map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// It passes the hook.
    Accept,
    /// It leaves an internal network.
    FromInternal,
    /// It enters an internal network.
    ToInternal,
    /// It leaves a network with policies.
    Sent,
    /// It leaves an internal network with policies.
    SentInternal,
    /// It enters a network with policies.
    Received,
    /// It enters an internal network with policies.
    ReceivedInternal,
    /// It goes to a host that is closed.
    Closed,
    /// It goes from a network with policies to the host.
    Host,
    /// It goes from a network with policies to a host that is closed.
    HostClosed,
    /// It goes from the host to a network with policies.
    OfHost,
    /// It goes from the host over its loopback, maybe translated to a container.
    OfHostTranslated,
    /// A policy denies it.
    Denied,
    /// A policy denies the pair to begin it within a bridge; it may be the answer to a flow that passes.
    DeniedWithin,
    /// A container on a network with policies may send it; to whom?
    Policy,
    /// The same on a network that is denied by default.
    PolicyShut,
    /// It may begin a flow within a bridge.
    Begin,
    /// It leaves a network with containers whose egress is denied.
    SentEgress,
    /// It leaves an internal one.
    SentInternalEgress,
    /// It goes from such a network to the host.
    HostEgress,
    /// It goes from such a network to a host that is closed.
    HostClosedEgress,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Accept,
        Self::FromInternal,
        Self::ToInternal,
        Self::Sent,
        Self::SentInternal,
        Self::Received,
        Self::ReceivedInternal,
        Self::Closed,
        Self::Host,
        Self::HostClosed,
        Self::OfHost,
        Self::OfHostTranslated,
        Self::Denied,
        Self::DeniedWithin,
        Self::Policy,
        Self::PolicyShut,
        Self::Begin,
        Self::SentEgress,
        Self::SentInternalEgress,
        Self::HostEgress,
        Self::HostClosedEgress,
    ];

    /// What nft does then.
    pub const fn code(self) -> VerdictCode {
        VerdictCode::Goto(match self {
            Self::Accept => return VerdictCode::Accept,
            Self::DeniedWithin => return VerdictCode::Return,
            Self::Sent => return VerdictCode::Jump("sent"),
            Self::SentEgress => return VerdictCode::Jump("sent_egress"),
            Self::FromInternal => "from_internal",
            Self::ToInternal => "to_internal",
            Self::SentInternal => "sent_internal",
            Self::Received => "received",
            Self::ReceivedInternal => "received_internal",
            Self::Closed => "host_closed",
            Self::Host => "host_received",
            Self::HostClosed => "closed_host_received",
            Self::OfHost => "host_sent",
            Self::OfHostTranslated => "host_translated",
            Self::Denied => "denied",
            Self::Policy => "policed",
            Self::PolicyShut => "policed_shut",
            Self::Begin => "begin",
            Self::SentInternalEgress => "sent_internal_egress",
            Self::HostEgress => "host_egress",
            Self::HostClosedEgress => "closed_host_egress",
        })
    }
}

/// A verdict statement of nft (nft(8), "VERDICT STATEMENT").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictCode {
    /// `accept`.
    Accept,
    /// `return`: the chain that called this one decides.
    Return,
    /// `goto` this chain.
    Goto(&'static str),
    /// `jump` to this chain, which may return.
    Jump(&'static str),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            VerdictCode::Accept => f.write_str("accept"),
            VerdictCode::Return => f.write_str("return"),
            VerdictCode::Goto(chain) => write!(f, "goto {chain}"),
            VerdictCode::Jump(chain) => write!(f, "jump {chain}"),
        }
    }
}

/// Flows from one container to a port of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PairPort {
    /// Within a bridge, in `table bridge netd`.
    pub within: bool,
    /// Who begins them.
    pub from: IpAddr,
    /// To whom, of the same family.
    pub to: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the receiver.
    pub port: u16,
    /// What happens to them.
    pub verdict: Verdict,
}

/// All flows from one container to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// Within a bridge, in `table bridge netd`.
    pub within: bool,
    /// Who begins them.
    pub from: IpAddr,
    /// To whom, of the same family.
    pub to: IpAddr,
    /// What happens to them.
    pub verdict: Verdict,
}

/// Flows between a container and a port of the host or of somebody outside, or the inverse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgePort {
    /// The other side.
    pub edge: Edge,
    /// The container's address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the receiver.
    pub port: u16,
    /// What happens to them.
    pub verdict: Verdict,
}

/// All flows between a container and the host or somebody outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgePair {
    /// The other side.
    pub edge: Edge,
    /// The container's address.
    pub address: IpAddr,
    /// What happens to them.
    pub verdict: Verdict,
}

impl fmt::Display for PairPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { within: _, from, to, protocol, port, verdict } = self;
        write!(f, "{from} . {to} . {port}/{protocol} : {verdict}")
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { within: _, from, to, verdict } = self;
        write!(f, "{from} . {to} : {verdict}")
    }
}

impl fmt::Display for EdgePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edge, address, protocol, port, verdict } = self;
        write!(f, "{edge} . {address} . {port}/{protocol} : {verdict}")
    }
}

impl fmt::Display for EdgePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edge, address, verdict } = self;
        write!(f, "{edge} . {address} : {verdict}")
    }
}
