//! Plans that change the published ports of a connected container.

use super::{Change, Difference, States, flows_to};
use crate::model::host::step::Step;

/// Takes the ports and publishes them. What arrived at them before has entries without translation, which are deleted
/// once there is one.
pub fn publish(states: States<'_>, change: Change<'_>) -> Vec<Step> {
    let Difference { remove, add, release: _, hold } = Difference::of(states, change);
    let stale = flows_to(&add);
    let steps = [Step::Hold(hold), Step::Elements { remove, add }, Step::ForgetFlows(stale)];
    steps.into_iter().filter(|step| !step.is_noop()).collect()
}

/// Stops publishing ports, and releases them. Their flows end unless they `drain`: the entries keep translating.
pub fn unpublish(states: States<'_>, change: Change<'_>, drain: bool) -> Vec<Step> {
    let Difference { remove, add, release, hold: _ } = Difference::of(states, change);
    let flows = if drain { Vec::new() } else { flows_to(&remove) };
    let steps = [Step::Elements { remove, add }, Step::Release(release), Step::ForgetFlows(flows)];
    steps.into_iter().filter(|step| !step.is_noop()).collect()
}
