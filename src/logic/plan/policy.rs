//! Plans for policies, and what follows for policies from any other change.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::States;
use crate::logic::target;
use crate::model::desired::Desired;
use crate::model::host::element::Element;
use crate::model::host::step::{Flows, Step};
use crate::model::ids::ContainerId;
use crate::model::names::NetworkName;
use crate::model::policy::ruling::{Edge, Edges, Ended, Ruling};

/// The elements before and after a change that follow from policies: which flows pass, and what depends on whether a network
/// has policies. Of a container everything is among both, also if it is on such a network on one side of the change only:
/// what it has on its other networks stays.
pub fn compared(states: States<'_>) -> (BTreeSet<Element>, BTreeSet<Element>) {
    let States { before, after } = states;
    if before.policies().len() == 0 && after.policies().len() == 0 {
        return Default::default();
    }
    let (old, new) = (before.ruling(), after.ruling());
    let treated = |ruling: &Ruling, name: &NetworkName| (ruling.policed.contains(name), ruling.shut.contains_key(name));
    let either = old.policed.union(&new.policed);
    let networks: Vec<&NetworkName> = either.filter(|name| treated(old, name) != treated(new, name)).collect();
    let on = |desired: &'_ Desired| -> BTreeSet<ContainerId> {
        let endpoints = networks.iter().flat_map(|network| desired.endpoints_of(network));
        endpoints.map(|endpoint| endpoint.container.id.clone()).collect()
    };
    let containers = on(before).into_iter().chain(on(after)).collect();
    (elements(before, &networks, &containers), elements(after, &networks, &containers))
}

fn elements(desired: &Desired, networks: &[&NetworkName], containers: &BTreeSet<ContainerId>) -> BTreeSet<Element> {
    let mut elements = target::policy_elements(desired);
    let networks = networks.iter().filter_map(|name| desired.network(name));
    elements.extend(networks.flat_map(|network| target::network_elements(desired, network)));
    let containers = containers.iter().filter_map(|id| desired.container(id));
    elements.extend(containers.flat_map(|attached| target::container_elements(desired, &attached.endpoints)));
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
