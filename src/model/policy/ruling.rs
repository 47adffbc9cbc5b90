//! What follows from all policies together: which flows pass, by address.
//!
//! A deny stands before every allow. What no policy is about is decided by the networks, and by `shut`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Action, Ports};
use crate::model::names::NetworkName;
use crate::model::publication::Protocol;

/// Where flows go or come from that are not between containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    /// This host.
    Host,
    /// Elsewhere.
    Outside,
}

impl Edge {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Host, Self::Outside];

    /// The name of the value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Outside => "outside",
        }
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether flows pass, and the policy that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// They pass.
    pub permit: bool,
    /// The policy's id.
    pub by: u64,
}

/// What is decided between two sides. A decision for a port stands before the one for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decisions {
    /// For every port and protocol.
    pub whole: Option<Decision>,
    /// For single ports.
    pub ports: BTreeMap<(Protocol, u16), Decision>,
}

/// Flows between two containers' addresses, of the same family.
pub type Pairs = BTreeMap<(IpAddr, IpAddr), Decisions>;
/// Flows between a container's address and what is not a container.
pub type Edges = BTreeMap<(Edge, IpAddr), Decisions>;

/// What follows from all policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ruling {
    /// From the first address to the second.
    pub pairs: Pairs,
    /// From the address to the edge.
    pub sent: Edges,
    /// From the edge to the address.
    pub received: Edges,
    /// The networks whose traffic is compared with it: those with containers that a policy is about, and those of `shut`.
    pub policed: BTreeSet<NetworkName>,
    /// The networks that nothing enters unless a policy allows it, with that policy.
    pub shut: BTreeMap<NetworkName, u64>,
    /// Their containers' addresses.
    pub shut_addresses: BTreeMap<IpAddr, u64>,
}

impl Ruling {
    /// How many elements a table needs for it.
    pub fn size(&self) -> usize {
        let count = |decisions: &Decisions| usize::from(decisions.whole.is_some()) + decisions.ports.len();
        let edges = self.sent.values().chain(self.received.values());
        self.pairs.values().chain(edges).map(count).sum()
    }

    /// What is decided about a flow between two containers.
    pub fn pair(&self, from: IpAddr, to: IpAddr, port: Option<(Protocol, u16)>) -> Option<Decision> {
        let decided = self.pairs.get(&(from, to)).and_then(|decisions| decisions.of(port));
        decided.or_else(|| self.not_entered(to))
    }

    /// What is decided about a flow from a container.
    pub fn sent(&self, from: IpAddr, to: Edge, port: Option<(Protocol, u16)>) -> Option<Decision> {
        self.sent.get(&(to, from)).and_then(|decisions| decisions.of(port))
    }

    /// What is decided about a flow to a container.
    pub fn received(&self, from: Edge, to: IpAddr, port: Option<(Protocol, u16)>) -> Option<Decision> {
        let decided = self.received.get(&(from, to)).and_then(|decisions| decisions.of(port));
        decided.or_else(|| self.not_entered(to))
    }

    /// What is decided about a flow between containers or of one. `is_local`: whether the host has an address.
    pub fn decide(
        &self,
        (from, to): (IpAddr, IpAddr),
        port: Option<(Protocol, u16)>,
        is_local: impl Fn(IpAddr) -> bool,
    ) -> Option<Decision> {
        let edges = |edges: &Edges, own: IpAddr, other: IpAddr| {
            let is_known = Edge::ALL.iter().any(|edge| edges.contains_key(&(*edge, own)));
            let edge = || if is_local(other) { Edge::Host } else { Edge::Outside };
            let decisions = if is_known { edges.get(&(edge(), own)) } else { None };
            decisions.and_then(|decisions| decisions.of(port))
        };
        let between = self.pairs.get(&(from, to)).and_then(|decisions| decisions.of(port));
        let decided = between.or_else(|| edges(&self.received, to, from)).or_else(|| edges(&self.sent, from, to));
        decided.or_else(|| self.not_entered(to))
    }

    fn not_entered(&self, to: IpAddr) -> Option<Decision> {
        self.shut_addresses.get(&to).map(|by| Decision { permit: false, by: *by })
    }

    /// Drops what a decision for everything says already.
    pub fn settle(&mut self) {
        let edges = self.sent.values_mut().chain(self.received.values_mut());
        self.pairs.values_mut().chain(edges).for_each(Decisions::settle);
    }
}

/// Flows that do not pass any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// What the policies say now.
    pub ruling: Ruling,
    /// From the first address to the second, a policy let flows pass that would not pass without one.
    pub between: BTreeSet<(IpAddr, IpAddr)>,
    /// The same from outside to the address, if it is not published.
    pub received: BTreeSet<IpAddr>,
    /// The same from the address.
    pub sent: BTreeSet<IpAddr>,
}

impl Ended {
    /// Whether a flow is one of them.
    pub fn has(
        &self,
        (from, to): (IpAddr, IpAddr),
        port: Option<(Protocol, u16)>,
        (is_translated, is_local): (bool, impl Fn(IpAddr) -> bool),
    ) -> bool {
        match self.ruling.decide((from, to), port, is_local) {
            Some(decision) => !decision.permit,
            None => {
                self.between.contains(&(from, to))
                    || self.sent.contains(&from)
                    || (!is_translated && self.received.contains(&to))
            }
        }
    }
}

impl Decisions {
    /// Whether a flow passed before because of it, and nothing is decided now.
    pub fn is_revoked_in(&self, now: Option<&Self>) -> bool {
        let all = self.ports.iter().map(|(port, decision)| (Some(*port), decision));
        let mut permitted = all.chain(self.whole.iter().map(|whole| (None, whole))).filter(|(_, d)| d.permit);
        permitted.any(|(port, _)| now.and_then(|now| now.of(port)).is_none())
    }

    /// Adds what a policy says.
    pub fn add(&mut self, action: Action, ports: Option<Ports>, by: u64) {
        let decision = Decision { permit: action == Action::Allow, by };
        let decide = |known: Option<&Decision>| match known {
            Some(known) if !known.permit || decision.permit => *known,
            _ => decision,
        };
        match ports {
            None => self.whole = Some(decide(self.whole.as_ref())),
            Some(ports) => {
                for port in ports.range.ports() {
                    let key = (ports.protocol, port);
                    self.ports.insert(key, decide(self.ports.get(&key)));
                }
            }
        }
    }

    fn of(&self, port: Option<(Protocol, u16)>) -> Option<Decision> {
        port.and_then(|port| self.ports.get(&port)).copied().or(self.whole)
    }

    fn settle(&mut self) {
        if let Some(whole) = self.whole {
            self.ports.retain(|_, decision| whole.permit && !decision.permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(policies: &[(Action, &str)]) -> String {
        let mut decisions = Decisions::default();
        for (id, (action, ports)) in (1..).zip(policies) {
            decisions.add(*action, ports.parse().ok(), id);
        }
        decisions.settle();
        let shown = |decision: Decision| format!("{}{}", if decision.permit { "+" } else { "-" }, decision.by);
        let ports = decisions.ports.iter().map(|((protocol, port), by)| format!("{port}/{protocol}{}", shown(*by)));
        decisions.whole.map(shown).into_iter().chain(ports).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_deny_stands_before_every_allow() {
        use Action::{Allow, Deny};
        for (policies, expected) in [
            (&[(Allow, "80"), (Deny, "80")][..], "80/tcp-2"),
            (&[(Deny, "80"), (Allow, "80"), (Allow, "81")], "80/tcp-1 81/tcp+3"),
            (&[(Allow, "80"), (Deny, "")], "-2"),
            (&[(Allow, ""), (Deny, "80"), (Allow, "81")], "+1 80/tcp-2"),
            (&[(Allow, ""), (Allow, ""), (Deny, "")], "-3"),
            (&[(Allow, "53/udp"), (Allow, "53")], "53/tcp+2 53/udp+1"),
        ] {
            assert_eq!(decided(policies), expected, "{policies:?}");
        }
    }
}
