//! What tells this daemon from every other that works with the same files: drawn once, kept with the networks.

use crate::kernel::Kernel;
use crate::store::{Record, Store, Stored};

/// Under which name the store keeps it.
const SETTING: &str = "instance";

/// Has the kernel's files signed. A daemon whose store takes nothing signs nothing, as earlier releases did: with a name
/// that is lost, its files would be a stranger's after the next start.
pub(crate) fn sign(kernel: &mut impl Kernel, store: &mut impl Store, stored: &Stored) {
    if let Some(known) = stored.settings.get(SETTING) {
        return kernel.sign(known);
    }
    let drawn = format!("{:032x}", rand::random::<u128>());
    match store.commit(&[Record::PutSetting(SETTING.into(), drawn.clone())]) {
        Ok(()) => kernel.sign(&drawn),
        Err(error) => tracing::warn!("files are written without a signature: {error}"),
    }
}
