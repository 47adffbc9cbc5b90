//! The firewalls of other programs: inspected after each firewall change, and adapted if they drop traffic that netd's
//! networks need. netd restores its rules there when they are removed, but gives up if another program keeps removing
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::deadline::Deadline;
use crate::engine::event::Change;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::firewall::foreign::{Plan, Planned, plan};
use crate::logic::target;
use crate::model::host::foreign_firewall::{Bridge, ForeignChange, Hook, Note};
use crate::model::host::step::Step;
use crate::store::Store;

/// How often netd's accept is restored in one table within [`SPAN`].
const TRIES: u32 = 5;
/// See [`TRIES`].
const SPAN: Duration = Duration::from_secs(60);

/// Why a change is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// netd's networks changed.
    Networks,
    /// Another program may have changed something.
    Others,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Adapts other programs' tables after a change of netd's networks.
    pub(crate) fn adapt_foreign(&mut self) {
        if self.kernel.may_foreign_differ() {
            self.foreign.observed = None;
        }
        self.settle_foreign(Cause::Networks);
    }

    /// Handles a possible firewall change by another program. Returns true if the snapshot must be published.
    pub(crate) fn look_at_foreign(&mut self) -> bool {
        self.foreign.observed = None;
        let nothing_there = self.foreign.notes.is_empty() && !self.foreign.unsettled;
        if self.state.desired.counts().0 == 0 && nothing_there && !self.initial_sync {
            return false;
        }
        let (notes, problems, last) = (self.foreign.notes.clone(), self.problems.clone(), self.foreign.last.clone());
        self.settle_foreign(Cause::Others);
        let is_same = Arc::ptr_eq(&last, &self.foreign.last);
        !is_same || notes != self.foreign.notes || problems != self.problems
    }

    /// Periodic check: `iptables-legacy` notifies nobody of its changes, the host's outgoing interfaces change, and what
    /// failed is tried again.
    pub(crate) fn foreign_tick(&mut self) {
        let networks = self.state.desired.counts().0 > 0;
        let looks = networks && (!self.foreign.notes.is_empty() || self.kernel.has_silent_tables());
        if !looks && !self.foreign.unsettled {
            return;
        }
        let before = self.foreign.observed.clone();
        let changed = self.look_at_foreign();
        if changed
            || self.foreign.observed.as_ref().map(|observed| &observed.tables)
                != before.as_ref().map(|observed| &observed.tables)
        {
            // What got through before may be blocked now.
            self.firewall_changed();
            self.publish();
        }
    }

    fn settle_foreign(&mut self, cause: Cause) {
        let bridges = target::foreign_bridges(&self.state.desired, &self.dns_listeners);
        self.foreign.unsettled = true;
        let Some(first) = self.plan_foreign(&bridges) else { return };
        let mut failures = BTreeMap::new();
        let notes = if first.changes.is_empty() {
            first.notes.clone()
        } else {
            for planned in &first.changes {
                if let Err(why) = self.change_foreign(planned, cause) {
                    failures.insert(planned.change.on.clone(), why);
                }
            }
            self.foreign.observed = None;
            let Some(second) = self.plan_foreign(&bridges) else { return };
            judged(second, &failures)
        };
        self.foreign.unsettled = !failures.is_empty();
        // Removals have no note that would report the failure.
        let mut removals = first.changes.iter().filter(|planned| planned.note.is_none());
        let removal = removals.find_map(|planned| failures.get(&planned.change.on));
        let removal = removal.map(|why| format!("cannot remove netd's accept rule: {why}"));
        self.note_foreign(notes, &failures, removal);
    }

    /// Plans the changes from the last observed tables.
    pub(crate) fn plan_foreign(&mut self, bridges: &[Bridge]) -> Option<Plan> {
        if self.foreign.observed.is_none() {
            match self.kernel.foreign() {
                Ok(observed) => {
                    if *self.foreign.last != observed {
                        self.foreign.last = Arc::new(observed.clone());
                    }
                    self.foreign.observed = Some(observed);
                }
                Err(error) => {
                    self.problem(
                        Subject::ForeignTables,
                        format!("cannot check whether other firewalls accept the traffic of netd's networks: {error}"),
                    );
                    return None;
                }
            }
        }
        self.problems.clear(&Subject::ForeignTables);
        self.foreign.observed.as_ref().map(|observed| plan(observed, bridges, self.config.foreign))
    }

    /// Makes one change; the error says why it failed.
    fn change_foreign(&mut self, planned: &Planned, cause: Cause) -> Result<(), String> {
        let on = &planned.change.on;
        let is_there = |note: &Note| {
            let same = |old: &&Note| {
                (&old.table, &old.chain, &old.accepted_in) == (&note.table, &note.chain, &note.accepted_in)
            };
            self.foreign.notes.iter().any(|old| same(&old))
        };
        let again = planned.note.as_ref().is_some_and(is_there);
        if planned.note.is_some() && cause == Cause::Others && !self.may_try(on) {
            return Err("another program keeps removing netd's accept rule; netd tries again in a minute".into());
        }
        self.kernel.apply(&Step::Foreign(planned.change.clone())).map_err(|error| error.to_string())?;
        match (again, cause) {
            // The rule exists and must cover one network more or less.
            (true, Cause::Networks) => {}
            (true, Cause::Others) => {
                self.repaired("foreign_firewall", &format!("netd's accept rule in {on} was missing or outdated"));
            }
            (false, _) => {
                tracing::warn!("{}", planned.says);
                self.tell(Change::HostChanged(planned.says.clone()));
            }
        }
        Ok(())
    }

    fn may_try(&mut self, on: &str) -> bool {
        let (count, until) = self.foreign.tries.entry(on.to_owned()).or_insert_with(|| (0, Deadline::after(SPAN)));
        if until.remaining().is_none() {
            (*count, *until) = (0, Deadline::after(SPAN));
        }
        *count += 1;
        *count <= TRIES
    }

    /// Stores the notes and reports dropped traffic. DNS questions that are meant to be dropped are no problem:
    /// containers are then served within their namespaces.
    fn note_foreign(&mut self, notes: Vec<Note>, failures: &BTreeMap<String, String>, removal: Option<String>) {
        let is_problem = |note: &&Note| {
            let failed = failures.contains_key(&ForeignChange::place(&note.table, note.hook));
            note.accepted_in.is_none() && (note.hook == Hook::Forward || failed)
        };
        let dropping = notes.iter().filter(is_problem).map(|note| (Subject::of_note(note), note.complaint()));
        let removal = removal.map(|message| (Subject::ForeignRemoval, message));
        let problems: BTreeMap<Subject, String> = dropping.chain(removal).collect();
        let is_chain = |subject: &Subject| subject.is_foreign_firewall() && *subject != Subject::ForeignTables;
        self.problems.retain(|known| !is_chain(known) || problems.contains_key(known));
        for (subject, message) in problems {
            self.problem(subject, message);
        }
        if *self.foreign.notes != notes {
            self.foreign.notes = Arc::new(notes);
        }
    }
}

/// The notes after the changes were tried: an accept that is still wanted is missing.
fn judged(plan: Plan, failures: &BTreeMap<String, String>) -> Vec<Note> {
    let Plan { changes, mut notes } = plan;
    for planned in changes {
        let Some(wanted) = planned.note else { continue };
        let failure = failures.get(&planned.change.on).cloned();
        for note in notes.iter_mut().filter(|note| **note == wanted) {
            note.accepted_in = None;
            note.why_not =
                failure.clone().unwrap_or_else(|| "netd's accept rule has no effect or was removed".to_owned());
        }
    }
    notes
}
