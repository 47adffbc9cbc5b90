//! Whether one subject reaches another, and what decides: policies, then the networks.

mod admit;

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::model::address::Family;
use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::network::HostAccess;
use crate::model::policy::ruling::{Decision, Edge};
use crate::model::policy::{Ports, Subject};
use crate::model::publication::Protocol;

pub use admit::{Arrival, Behind, admits};

/// Whether one reaches the other, for one address of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Who would begin the flow: a container and its address, `host` or `outside`.
    pub from: String,
    /// To whom.
    pub to: String,
    /// It passes.
    pub allowed: bool,
    /// What decides.
    pub why: String,
    /// The policy that decides.
    pub policy: Option<u64>,
}

type Port = Option<(Protocol, u16)>;

/// Every pair of what the subjects stand for; none if one of them stands for nothing.
pub fn judge(desired: &Desired, from: &Subject, to: &Subject, ports: Option<Ports>) -> Vec<Judgement> {
    let port = ports.map(|ports| (ports.protocol, ports.range.first()));
    let (senders, receivers) = (desired.endpoints_meant(from), desired.endpoints_meant(to));
    let mut judged = Vec::new();
    for sender in &senders {
        let others = receivers.iter().filter(|receiver| receiver.container.id != sender.container.id);
        judged.extend(others.filter_map(|receiver| between(desired, sender, receiver, port)));
        judged.extend(edges(to).iter().map(|edge| sent(desired, sender, *edge, port)));
    }
    for receiver in &receivers {
        judged.extend(edges(from).iter().map(|edge| received(desired, *edge, receiver, port)));
    }
    judged
}

fn edges(subject: &Subject) -> &'static [Edge] {
    match subject {
        Subject::Any => &Edge::ALL,
        Subject::Host => &[Edge::Host],
        Subject::Outside => &[Edge::Outside],
        _ => &[],
    }
}

fn shown(endpoint: &Endpoint, address: IpAddr) -> String {
    format!("{} ({} on {})", endpoint.container.name, address, endpoint.network)
}

fn of_policy(desired: &Desired, decision: Decision) -> (bool, String, Option<u64>) {
    let rule = desired.policy(decision.by).map(|policy| policy.rule.to_string()).unwrap_or_default();
    (decision.permit, format!("policy {}: {rule}", decision.by), Some(decision.by))
}

fn between(desired: &Desired, sender: &Arc<Endpoint>, receiver: &Arc<Endpoint>, port: Port) -> Option<Judgement> {
    let common = |family| Some((sender.address(family)?, receiver.address(family)?));
    let (from, to) = common(Family::V4).or_else(|| common(Family::V6))?;
    let (allowed, why, policy) = match desired.ruling().pair(from, to, port) {
        Some(decision) => of_policy(desired, decision),
        None if sender.network != receiver.network => {
            let why = format!("{} and {} are different networks", sender.network, receiver.network);
            (false, why, None)
        }
        None => match desired.network(&sender.network).is_some_and(|network| network.icc()) {
            true => (true, format!("both are on {}, and no policy is about it", sender.network), None),
            false => (false, format!("containers on {} do not reach each other (icc)", sender.network), None),
        },
    };
    Some(Judgement { from: shown(sender, from), to: shown(receiver, to), allowed, why, policy })
}

fn first(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first().map(IpNetwork::ip)
}

fn sent(desired: &Desired, sender: &Arc<Endpoint>, edge: Edge, port: Port) -> Judgement {
    let from = first(sender);
    let decision = from.and_then(|from| desired.ruling().sent(from, edge, port));
    let network = desired.network(&sender.network);
    let (allowed, why, policy) = match (decision, edge) {
        (Some(decision), _) => of_policy(desired, decision),
        (None, Edge::Host) => match network.map(|network| network.host_access) {
            Some(HostAccess::All) | None => (true, "the host is open to its containers".to_owned(), None),
            Some(access) => (false, format!("host_access of {} is {}", sender.network, access.as_str()), None),
        },
        (None, Edge::Outside) => match network.is_some_and(|network| network.internal) {
            true => (false, format!("network {} is internal", sender.network), None),
            false => (true, "no policy is about it".to_owned(), None),
        },
    };
    let from = from.map_or_else(|| sender.container.name.to_string(), |from| shown(sender, from));
    Judgement { from, to: edge.to_string(), allowed, why, policy }
}

fn received(desired: &Desired, edge: Edge, receiver: &Arc<Endpoint>, port: Port) -> Judgement {
    let to = first(receiver);
    let decision = to.and_then(|to| desired.ruling().received(edge, to, port));
    let is_published = || {
        let attached = desired.container(&receiver.container.id);
        let mut publications = attached.into_iter().flat_map(|attached| attached.publications());
        publications.any(|(_, publication)| match port {
            Some((protocol, port)) => publication.protocol == protocol && publication.container.contains(port),
            None => true,
        })
    };
    let (allowed, why, policy) = match (decision, edge) {
        (Some(decision), _) => of_policy(desired, decision),
        (None, Edge::Host) => (true, "the host reaches its containers".to_owned(), None),
        (None, Edge::Outside) if is_published() => (true, "it is published".to_owned(), None),
        (None, Edge::Outside) => (false, "it is not published".to_owned(), None),
    };
    let to = to.map_or_else(|| receiver.container.name.to_string(), |to| shown(receiver, to));
    Judgement { from: edge.to_string(), to, allowed, why, policy }
}
