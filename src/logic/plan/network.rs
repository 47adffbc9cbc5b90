//! Plans for networks.

use crate::logic::target;
use crate::model::desired::Desired;
use crate::model::host::step::Step;
use crate::model::network::Network;

/// The steps for a new network, which is one of `after`: forwarding (first, if the network needs it), its bridge, its elements.
pub fn create(after: &Desired, network: &Network) -> Vec<Step> {
    let add = target::network_elements(after, network).into_iter().collect();
    let elements = Step::Elements { remove: Vec::new(), add };
    let bridge = target::bridge_link(network).map(Step::AddBridge);
    let shim = target::shim(network).map(Step::AddShim);
    let forwarding = Step::Forwarding(target::forwarding_of(network));
    let steps = [forwarding].into_iter().chain(bridge).chain(shim).chain([elements]);
    steps.filter(|step| !step.is_noop()).collect()
}

/// The steps that remove a network, which is one of `before`.
pub fn remove(before: &Desired, network: &Network) -> Vec<Step> {
    let remove = target::network_elements(before, network).into_iter().collect();
    let elements = Step::Elements { remove, add: Vec::new() };
    let bridge = target::bridge_link(network).map(Step::DeleteBridge);
    let steps = [elements].into_iter().chain(bridge).chain(target::shim(network).map(Step::DeleteShim));
    steps.filter(|step| !step.is_noop()).collect()
}
