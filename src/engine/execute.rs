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
        let Err(Failed { error, undo }) = all_or_nothing(&mut self.kernel, steps) else { return Ok(()) };
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
        self.publish();
        before(self);
        Ok(best_effort(&mut self.kernel, &transaction.steps))
    }

    /// Commits the records; the state follows.
    pub(crate) fn commit(&mut self, records: &[Record]) -> Result<(), Error> {
        self.write(records)?;
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

    /// Writes the records, after those that the store owes.
    fn write(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if !self.owed.is_empty() {
            self.store.commit(&self.owed)?;
            self.owed.clear();
            self.problems.clear(&Subject::Store);
        }
        if records.is_empty() { Ok(()) } else { self.store.commit(records) }
    }

    /// Writes the records of a change that is made whatever the store says, such as the end of a failed command. If the
    /// store refuses, this is reported, and they are written before the next change or with the next repair. Until then
    /// an intent may remain that a start carries out or drops.
    pub(crate) fn compensate(&mut self, records: &[Record]) {
        self.state.apply(records);
        if let Err(error) = self.write(records) {
            self.problem(
                Subject::Store,
                format!("cannot store a change (netd tries again with the next one): {error}"),
            );
            self.owed.extend_from_slice(records);
        }
    }
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
