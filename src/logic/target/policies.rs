//! The elements that follow from policies.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::model::address::Family;
use crate::model::desired::Desired;
use crate::model::host::element::{EdgePair, EdgePort, Element, Pair, PairPort, Verdict};
use crate::model::names::IfName;
use crate::model::network::{HostAccess, Network};
use crate::model::policy::ruling::{Decision, Decisions, Edge, Ruling};

/// What the host sends to its own addresses leaves by it.
const LOOPBACK: &str = "lo";

/// What the chains do with a network's traffic.
pub(super) fn network_elements(ruling: &Ruling, network: &Network, bridge: &IfName) -> Vec<Element> {
    let is_policed = ruling.policed.contains(&network.name);
    let either = |plain, policed| if is_policed { policed } else { plain };
    let mut elements = Vec::new();
    elements.extend(network.internal.then(|| Element::Internal(bridge.clone())));
    if network.internal || is_policed {
        let (leaving, entering) = match (network.internal, is_policed) {
            (true, true) => (Verdict::SentInternal, Verdict::ReceivedInternal),
            (true, false) => (Verdict::FromInternal, Verdict::ToInternal),
            (false, _) => (Verdict::Sent, Verdict::Received),
        };
        elements.extend([Element::Leaving(bridge.clone(), leaving), Element::Entering(bridge.clone(), entering)]);
    }
    if network.host_access != HostAccess::All {
        elements.push(Element::ToHost(bridge.clone(), either(Verdict::Closed, Verdict::HostClosed)));
    } else if is_policed {
        elements.push(Element::ToHost(bridge.clone(), Verdict::Host));
    }
    if is_policed {
        elements.push(Element::FromHost(bridge.clone(), Verdict::OfHost));
    }
    if network.icc() {
        let (from, to) = (bridge.clone(), bridge.clone());
        elements.push(if is_policed { Element::Within(from, to) } else { Element::Allowed(from, to) });
    }
    elements
}

/// What may be sent from the addresses of a container on this network.
pub(super) fn sender(ruling: &Ruling, network: &Network) -> Verdict {
    match (ruling.policed.contains(&network.name), ruling.shut.contains_key(&network.name)) {
        (false, _) => Verdict::Accept,
        (true, false) => Verdict::Policy,
        (true, true) => Verdict::PolicyShut,
    }
}

/// Which flows pass.
pub(super) fn elements(desired: &Desired) -> BTreeSet<Element> {
    let ruling = desired.ruling();
    let mut elements = BTreeSet::new();
    for ((from, to), decisions) in &ruling.pairs {
        pair(&mut elements, false, (*from, *to), decisions);
        if from != to && share_a_bridge(desired, *from, *to) {
            pair(&mut elements, true, (*from, *to), decisions);
        }
    }
    for ((edge, address), decisions) in &ruling.sent {
        each(decisions, |port, decision| {
            elements.insert(match port {
                Some(port) => Element::SentPort(edge_port(*edge, *address, port, decision)),
                None => Element::Sent(edge_pair(*edge, *address, decision)),
            });
        });
    }
    for ((edge, address), decisions) in &ruling.received {
        each(decisions, |port, decision| {
            elements.insert(match port {
                Some(port) => Element::ReceivedPort(edge_port(*edge, *address, port, decision)),
                None => Element::Received(edge_pair(*edge, *address, decision)),
            });
        });
    }
    for address in ruling.shut_addresses.keys() {
        elements.extend([Element::Shut(*address), Element::ShutWithin(*address)]);
    }
    if !ruling.policed.is_empty() {
        elements.extend(LOOPBACK.parse().ok().map(|loopback| Element::FromHost(loopback, Verdict::OfHostTranslated)));
    }
    for network in ruling.policed.iter().filter_map(|network| desired.network(network)) {
        for address in desired.endpoints_of(&network.name).flat_map(|endpoint| &endpoint.addresses).map(IpNetwork::ip) {
            let subnets = network.subnets.iter().map(|subnet| subnet.subnet);
            let of_the_family = subnets.filter(|subnet| subnet.family() == Family::of(address));
            elements.extend(of_the_family.map(|subnet| Element::Receiver(subnet, address)));
            elements.insert(Element::Policed(address));
        }
    }
    elements
}

type Port = (crate::model::publication::Protocol, u16);

fn each(decisions: &Decisions, mut tell: impl FnMut(Option<Port>, Decision)) {
    decisions.ports.iter().for_each(|(port, decision)| tell(Some(*port), *decision));
    decisions.whole.into_iter().for_each(|decision| tell(None, decision));
}

fn pair(elements: &mut BTreeSet<Element>, within: bool, (from, to): (IpAddr, IpAddr), decisions: &Decisions) {
    let verdict = |decision: Decision| match (decision.permit, within) {
        (false, false) => Verdict::Denied,
        (false, true) => Verdict::DeniedWithin,
        (true, true) => Verdict::Begin,
        (true, false) => Verdict::Accept,
    };
    each(decisions, |port, decision| {
        let verdict = verdict(decision);
        elements.insert(match port {
            Some((protocol, port)) => Element::PairPort(PairPort { within, from, to, protocol, port, verdict }),
            None => Element::Pair(Pair { within, from, to, verdict }),
        });
    });
}

fn edge_verdict(decision: Decision) -> Verdict {
    if decision.permit { Verdict::Accept } else { Verdict::Denied }
}

fn edge_port(edge: Edge, address: IpAddr, (protocol, port): Port, decision: Decision) -> EdgePort {
    EdgePort { edge, address, protocol, port, verdict: edge_verdict(decision) }
}

fn edge_pair(edge: Edge, address: IpAddr, decision: Decision) -> EdgePair {
    EdgePair { edge, address, verdict: edge_verdict(decision) }
}

fn share_a_bridge(desired: &Desired, one: IpAddr, other: IpAddr) -> bool {
    let network = |address| desired.at_address(address).map(|endpoint| &endpoint.network);
    network(one).is_some_and(|found| network(other) == Some(found))
}
