//! Plans for policies, and what follows for policies from any other change.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::States;
use crate::logic::target;
use crate::model::desired::Desired;
use crate::model::host::element::Element;
use crate::model::host::step::{Flows, Step};
use crate::model::names::NetworkName;
use crate::model::policy::ruling::{Edge, Edges, Ended, Ruling};

/// The elements before and after a change that follow from policies, except those of containers that the change is about:
/// which flows pass, and what depends on whether a network has policies.
pub fn compared(states: States<'_>) -> (BTreeSet<Element>, BTreeSet<Element>) {
    if states.before.policies().len() == 0 && states.after.policies().len() == 0 {
        return Default::default();
    }
    let (before, after) = (states.before.ruling(), states.after.ruling());
    let treated = |ruling: &Ruling, name: &NetworkName| (ruling.policed.contains(name), ruling.shut.contains_key(name));
    let either = before.policed.union(&after.policed);
    let changed: Vec<&NetworkName> = either.filter(|name| treated(before, name) != treated(after, name)).collect();
    (elements(states.before, &changed), elements(states.after, &changed))
}

fn elements(desired: &Desired, changed: &[&NetworkName]) -> BTreeSet<Element> {
    let mut elements = target::policy_elements(desired);
    for network in changed.iter().filter_map(|name| desired.network(name)) {
        elements.extend(target::network_elements(desired, network));
        for endpoint in desired.endpoints_of(&network.name) {
            let attached = desired.container(&endpoint.container.id);
            elements.extend(attached.into_iter().flat_map(|a| target::container_elements(desired, &a.endpoints)));
        }
    }
    elements
}

/// The steps of a change that is about policies alone, or of members and labels: the elements, and the end of flows that
/// pass no longer.
pub fn follow(states: States<'_>) -> Vec<Step> {
    let (old, new) = compared(states);
    let remove: Vec<Element> = old.difference(&new).cloned().collect();
    let add: Vec<Element> = new.difference(&old).cloned().collect();
    let flows =
        if remove.is_empty() && add.is_empty() { Vec::new() } else { vec![Flows::Denied(Box::new(ended(states)))] };
    let steps = [Step::Elements { remove, add }, Step::ForgetFlows(flows)];
    steps.into_iter().filter(|step| !step.is_noop()).collect()
}

/// The flows that do not pass any more.
fn ended(States { before, after }: States<'_>) -> Ended {
    let (old, new) = (before.ruling(), after.ruling());
    let network = |address| after.network(&after.at_address(address)?.network);
    let are_together = |(from, to): &(IpAddr, IpAddr)| {
        let both = network(*from).zip(network(*to));
        both.is_some_and(|(from, to)| from.name == to.name && from.icc())
    };
    let between = old.pairs.iter().filter(|(pair, decisions)| decisions.is_revoked_in(new.pairs.get(pair)));
    let outside = |edges: &Edges, now: &Edges| -> BTreeSet<IpAddr> {
        let of = edges.iter().filter(|((edge, _), _)| *edge == Edge::Outside);
        of.filter(|(key, decisions)| decisions.is_revoked_in(now.get(key))).map(|((_, address), _)| *address).collect()
    };
    let mut sent = outside(&old.sent, &new.sent);
    sent.retain(|address| network(*address).is_some_and(|network| network.internal));
    Ended {
        between: between.map(|(pair, _)| *pair).filter(|pair| !are_together(pair)).collect(),
        received: outside(&old.received, &new.received),
        sent,
        ruling: new.clone(),
    }
}
