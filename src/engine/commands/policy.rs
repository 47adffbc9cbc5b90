//! Changes policies, makes the kernel follow what they mean, and counts what they deny.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::plan::planned;
use crate::engine::decide::{self, transaction};
use crate::engine::event::Change;
use crate::engine::report::PoliciesChanged;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::engine::{Error, Planned};
use crate::kernel::Kernel;
use crate::logic::plan::{States, policy};
use crate::model::policy::Policy;
use crate::model::request::PolicyChange;
use crate::store::Store;

/// Most events about denied packets at a time.
const EVENTS: usize = 10;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Adds and removes policies. When the reply arrives, new flows follow them, and flows that they deny have ended.
    pub(crate) fn change_policies(&mut self, change: &PolicyChange) -> Result<PoliciesChanged, Error> {
        let now = crate::base::clock::unix_seconds();
        let changed = decide::policy::change(&self.state, change, now)?;
        if changed.added.is_empty() && changed.removed.is_empty() {
            return Ok(changed);
        }
        self.execute(&transaction::change_policies(&self.state, &changed))?;
        self.publish();
        for policy in &changed.removed {
            tracing::info!(policy = policy.id, "policy removed: {}", policy.rule);
            self.tell(Change::PolicyRemoved(policy.clone()));
        }
        for policy in &changed.added {
            tracing::info!(policy = policy.id, "policy added: {}", policy.rule);
            self.tell(Change::PolicyAdded(policy.clone()));
        }
        Ok(changed)
    }

    /// Plans a change of policies.
    pub(super) fn plan_policies(&self, change: &PolicyChange) -> Result<Vec<Planned>, Error> {
        let changed = decide::policy::change(&self.state, change, crate::base::clock::unix_seconds())?;
        let line = |action, verb: &str, policies: &[Arc<Policy>]| {
            let one = |policy: &Arc<Policy>| Planned { action, text: format!("{verb} policy: {}", policy.rule) };
            policies.iter().map(one).collect::<Vec<_>>()
        };
        let lines = [line("remove-policy", "remove", &changed.removed), line("add-policy", "add", &changed.added)];
        let steps = transaction::change_policies(&self.state, &changed).steps;
        Ok(lines.into_iter().flatten().chain(planned(&steps)).collect())
    }

    /// Makes the kernel follow a change that is not about policies and whose steps do not know of them: of members of
    /// services, of labels.
    pub(crate) fn follow_policies(&mut self) {
        if self.state.desired.is_same(&self.policing.followed) {
            return;
        }
        let before = std::mem::replace(&mut self.policing.followed, self.state.desired.clone());
        for step in policy::follow(States { before: &before, after: &self.policing.followed }) {
            if let Err(error) = self.kernel.apply(&step) {
                self.problem(Subject::Elements, format!("policies do not follow their subjects: {error}"));
                self.agenda.look_at_host();
            }
        }
    }

    /// Reads what the kernel has counted, and tells who is denied what for the first time since the last look.
    pub(crate) fn count_denied(&mut self) {
        if self.state.desired.policies().len() == 0 && !self.state.desired.has_stances() {
            return;
        }
        let counted = match self.kernel.denied() {
            Ok(counted) => counted,
            Err(error) => return tracing::debug!("what policies deny is not counted: {error}"),
        };
        let new = self.policing.count(&self.state.desired, counted);
        if new.is_empty() {
            return;
        }
        self.note_denied_ways(&new);
        self.publish();
        let mut told = BTreeSet::new();
        for flow in new {
            if told.len() < EVENTS && told.insert((flow.from.clone(), flow.to.clone(), flow.service.clone())) {
                let (from, to, service, policy) = (&flow.from, &flow.to, &flow.service, flow.policy);
                tracing::info!(packets = flow.packets, policy, "denied: {from} to {to} ({service})");
                self.tell(Change::Denied(flow));
            }
        }
    }
}
