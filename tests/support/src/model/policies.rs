//! Policies and egress. What they lead to is shown with real flows (`tests/netns/policy.rs`, `tests/netns/egress.rs`): here
//! the elements are the product's own, and what is judged is that the kernel has all of them and no others.

use std::collections::BTreeSet;

use netd::engine::Snapshot;
use netd::logic::target;
use netd::model::host::element::Element;

use super::services;

/// All elements of networks, containers, services and policies, where there are policies or containers whose egress
/// somebody has decided about; the elements of everything else are other ones then.
pub(super) fn elements(snapshot: &Snapshot) -> Option<BTreeSet<Element>> {
    let desired = &snapshot.desired;
    let are_there = desired.policies().len() > 0 || desired.has_stances();
    let all = || target::all_elements(desired).into_iter().filter(|element| !services::lead_to_members(element));
    are_there.then(|| all().collect())
}
