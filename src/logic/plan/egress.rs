//! What follows for egress from a change of containers: where the bridges of their networks lead, and which flows end.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::States;
use crate::logic::target;
use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::host::element::Element;
use crate::model::host::step::Flows;
use crate::model::names::NetworkName;

/// The elements before and after a change of the networks on which the first container is held now, or none any more.
pub fn compared(states: States<'_>) -> (BTreeSet<Element>, BTreeSet<Element>) {
    let States { before, after } = states;
    let holding = before.holding().chain(after.holding());
    let changed: BTreeSet<&NetworkName> = holding.filter(|name| before.holds(name) != after.holds(name)).collect();
    let elements = |desired: &Desired| -> BTreeSet<Element> {
        let networks = changed.iter().filter_map(|name| desired.network(name));
        networks.flat_map(|network| target::network_elements(desired, network)).collect()
    };
    (elements(before), elements(after))
}

/// The flows of addresses that a container has had and that are held from now on: what was open to it must be allowed anew.
pub fn ended(had: &[Arc<Endpoint>], add: &[Element]) -> Vec<Flows> {
    let has_had = |address: &IpAddr| had.iter().any(|endpoint| endpoint.addresses.iter().any(|a| a.ip() == *address));
    let of = |element: &Element| match element {
        Element::Egress(address) if has_had(address) => Some(Flows::Of(*address)),
        _ => None,
    };
    add.iter().filter_map(of).collect()
}
