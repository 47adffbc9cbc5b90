//! Transactions: a command's intent is committed to the store, its steps are applied to the kernel, and both are taken back
//! when one fails.

use super::Error;
use super::state::State;
use super::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::model::host::step::Step;
use crate::store::{Record, Store};

/// What a command changes. The engine's state has changed already when it is executed.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// Committed before the kernel changes: what a crash leaves is finished or dropped at the next start.
    pub(crate) records: Vec<Record>,
    /// Applied in this order; undone in reverse.
    pub(crate) steps: Vec<Step>,
}

/// Why a plan was not carried out; its effects are taken back.
#[derive(Debug)]
struct Failed {
    error: KernelError,
    /// What could not be taken back.
    undo: Vec<KernelError>,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Commits and applies the transaction, or changes nothing: `rollback` takes back the state, and returns the records
    /// that take back what was committed.
    pub(crate) fn execute(
        &mut self,
        Transaction { records, steps }: Transaction,
        rollback: impl FnOnce(&mut State) -> Vec<Record>,
    ) -> Result<(), Error> {
        if let Err(error) = self.store.commit(&records) {
            rollback(&mut self.state);
            return Err(error.into());
        }
        let Err(Failed { error, undo }) = all_or_nothing(&mut self.kernel, &steps) else { return Ok(()) };
        let records = rollback(&mut self.state);
        self.compensate(&records);
        self.after_undo(&undo);
        Err(Error::Kernel { error, undo })
    }

    /// A deletion that the kernel did not carry out whole is repaired at once; where that fails too, the caller hears
    /// what went wrong, and `netd status` keeps saying it.
    pub(crate) fn finish(&mut self, mut errors: Vec<KernelError>) -> Result<(), Error> {
        if errors.is_empty() {
            return Ok(());
        }
        self.reconcile();
        if self.problems.is_empty() {
            return Ok(());
        }
        let undo = errors.split_off(1);
        match errors.pop() {
            None => Ok(()),
            Some(error) => Err(Error::Kernel { error, undo }),
        }
    }

    /// Where undoing failed too, a look at everything puts it right.
    pub(crate) fn after_undo(&mut self, undo: &[KernelError]) {
        if !undo.is_empty() {
            self.reconcile();
        }
    }

    /// Takes back what was committed for a command that failed. A store that refuses this too leaves an intent that
    /// the next start carries out or drops; it is said.
    pub(crate) fn compensate(&mut self, records: &[Record]) {
        if let Err(error) = self.store.commit(records) {
            self.problem("store", format!("cannot take back an undone change: {error}"));
        }
    }
}

/// Does every step, or undoes those that were done.
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

/// Does every step, whatever becomes of the others: what must go, goes as far as it can. Such steps may be done twice,
/// so one that met a passing state of the kernel is tried once more.
pub(crate) fn best_effort(kernel: &mut impl Kernel, steps: &[Step]) -> Vec<KernelError> {
    steps.iter().filter_map(|step| kernel.apply(step).or_else(|_| kernel.apply(step)).err()).collect()
}
