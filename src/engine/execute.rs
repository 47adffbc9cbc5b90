//! Executes transactions: the intent of a command is committed to the store, its steps are applied to the kernel, and
//! both are undone if one of them fails.

use super::Error;
use super::decide::transaction::Transaction;
use super::state::problems::Subject;
use super::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::model::host::step::Step;
use crate::store::{Record, Store, StoreError};

/// Why a plan failed. The completed steps have been undone.
#[derive(Debug)]
struct Failed {
    error: KernelError,
    /// The errors of the steps that could not be undone.
    undo: Vec<KernelError>,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Commits and applies the transaction, or changes nothing.
    pub(crate) fn execute(&mut self, transaction: &Transaction) -> Result<(), Error> {
        let Transaction { records, steps, rollback } = transaction;
        let before = self.state.desired.clone();
        self.commit(records)?;
        let Err(Failed { error, undo }) = all_or_nothing(&mut self.kernel, steps) else {
            self.services_follow(transaction);
            self.policies_follow(transaction);
            return Ok(());
        };
        self.compensate(rollback);
        self.state.desired.settle_as(&before);
        self.after_undo(&undo);
        Err(Error::Kernel { error, undo })
    }

    /// Commits a removal and publishes it: from now on names are gone. Then `before` closes what is not part of the plan,
    /// and the steps are applied as far as possible. Returns what the kernel refused, for [`Self::finish`].
    pub(crate) fn remove(
        &mut self,
        transaction: &Transaction,
        before: impl FnOnce(&mut Self),
    ) -> Result<Vec<KernelError>, Error> {
        self.commit(&transaction.records)?;
        Ok(self.remove_committed(transaction, before))
    }

    /// Like [`Self::remove`], for what has ended whatever the store says.
    pub(crate) fn remove_ended(
        &mut self,
        transaction: &Transaction,
        before: impl FnOnce(&mut Self),
    ) -> Vec<KernelError> {
        self.compensate(&transaction.records);
        self.remove_committed(transaction, before)
    }

    fn remove_committed(&mut self, transaction: &Transaction, before: impl FnOnce(&mut Self)) -> Vec<KernelError> {
        self.publish();
        self.services_follow(transaction);
        before(self);
        let errors = best_effort(&mut self.kernel, &transaction.steps);
        self.policies_follow(transaction);
        errors
    }

    /// Makes the kernel follow what the change means for policies, where its steps do not do that themselves.
    fn policies_follow(&mut self, transaction: &Transaction) {
        self.close_ways(&transaction.steps);
        if transaction.is_of_service() {
            self.follow_policies();
        } else {
            self.policing.followed = self.state.desired.clone();
        }
    }

    /// Makes services follow the change of their members. The steps of a service's own change do that themselves.
    fn services_follow(&mut self, transaction: &Transaction) {
        if transaction.is_of_service() {
            self.served_as_it_is();
        } else {
            self.follow_services();
        }
    }

    /// Commits the records; the state follows. A refusal is published.
    pub(crate) fn commit(&mut self, records: &[Record]) -> Result<(), Error> {
        let written = self.write(records);
        if written.is_err() {
            self.publish();
        }
        written?;
        self.state.apply(records);
        Ok(())
    }

    /// If the kernel did not complete a deletion, repairs it at once. If the repair fails too, the caller gets the
    /// error, and `netd status` continues to report it.
    pub(crate) fn finish(&mut self, mut errors: Vec<KernelError>) -> Result<(), Error> {
        if errors.is_empty() {
            return Ok(());
        }
        self.look_inside = true;
        self.reconcile();
        // Problems of other origin, such as a stopped monitor, say nothing about this repair.
        if !self.problems.any(Subject::is_about_what_netd_made) {
            return Ok(());
        }
        let undo = errors.split_off(1);
        match errors.pop() {
            None => Ok(()),
            Some(error) => Err(Error::Kernel { error, undo }),
        }
    }

    /// If undoing failed too, a reconcile repairs what is left.
    pub(crate) fn after_undo(&mut self, undo: &[KernelError]) {
        if !undo.is_empty() {
            self.look_inside = true;
            self.reconcile();
        }
    }

    /// Writes the records, after those that the store owes. A refusal is a problem until the store accepts a change.
    fn write(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if !records.is_empty() || !self.owed.is_empty() {
            let written = self.write_all(records);
            match &written {
                // A full disk may accept this change and refuse the next.
                Ok(()) if self.problems.has(&Subject::Store) && self.store.trouble().is_none() => {
                    self.problems.clear(&Subject::Store);
                }
                Ok(()) => {}
                Err(error) => self.problem(Subject::Store, refusal(error)),
            }
            return written;
        }
        Ok(())
    }

    fn write_all(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if !self.owed.is_empty() {
            self.store.commit(&self.owed)?;
            self.owed.clear();
        }
        if records.is_empty() { Ok(()) } else { self.store.commit(records) }
    }

    /// Writes the records of a change that is made whatever the store says, such as the end of a container, or of a failed
    /// command. If the store refuses, this is reported, and they are written before the next change or when the store
    /// accepts changes again. Until then an intent may remain that a start carries out or drops.
    pub(crate) fn compensate(&mut self, records: &[Record]) {
        self.state.apply(records);
        if self.write(records).is_err() {
            self.owed.extend_from_slice(records);
        }
    }

    /// Looks at the files of the store, and tries again what it refused.
    pub(crate) fn look_at_store(&mut self) {
        let complaints = self.store.set_aside();
        self.problems.retain(|subject| !matches!(subject, Subject::SetAside(line) if !complaints.contains(line)));
        for line in complaints {
            self.problem(Subject::SetAside(line.clone()), line);
        }
        if let Some(error) = self.store.trouble() {
            return self.problem(Subject::Store, refusal(&error));
        }
        let was_refused = self.problems.has(&Subject::Store);
        if self.owed.is_empty() && !was_refused {
            return;
        }
        match self.store.commit(&self.owed) {
            Ok(()) if was_refused => {
                self.owed.clear();
                self.problems.clear(&Subject::Store);
                tracing::info!("the store accepts changes again");
            }
            Ok(()) => self.owed.clear(),
            Err(error) => self.problem(Subject::Store, refusal(&error)),
        }
    }
}

fn refusal(error: &StoreError) -> String {
    format!("cannot store changes (netd keeps trying): {error}")
}

/// Applies every step. If one fails, undoes the steps before it.
fn all_or_nothing(kernel: &mut impl Kernel, steps: &[Step]) -> Result<(), Failed> {
    for (index, step) in steps.iter().enumerate() {
        if let Err(error) = kernel.apply(step) {
            let inverses = steps[..index].iter().rev().filter_map(Step::inverse);
            let undo = inverses.filter_map(|inverse| kernel.apply(&inverse).err()).collect();
            return Err(Failed { error, undo });
        }
    }
    Ok(())
}

/// Applies every step even if others fail, for removals that must get as far as they can. Such steps are idempotent, so
/// a failed step is retried once in case the kernel was in a transient state.
fn best_effort(kernel: &mut impl Kernel, steps: &[Step]) -> Vec<KernelError> {
    steps.iter().filter_map(|step| kernel.apply(step).or_else(|_| kernel.apply(step)).err()).collect()
}
