//! Applying a plan: step after step, and back in reverse when one fails.

use crate::kernel::{Kernel, KernelError};
use crate::model::host::step::Step;

/// Why a plan was not carried out; its effects are taken back.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: KernelError,
    /// What could not be taken back.
    pub(crate) undo: Vec<KernelError>,
}

/// Does every step, or undoes those that were done.
pub(crate) fn all_or_nothing(kernel: &mut impl Kernel, steps: &[Step]) -> Result<(), Failed> {
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
