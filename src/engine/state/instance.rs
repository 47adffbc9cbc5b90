//! The identity of this daemon among others that use the same files: drawn once and stored with the networks.

use crate::kernel::Kernel;
use crate::store::{Record, Store, Stored};

/// The key of the identity in the store.
const SETTING: &str = "instance";

/// Makes the kernel layer sign its files, and returns the identity. If the store does not accept the identity, the files stay unsigned, as in
/// earlier releases: with an identity that is lost, they would look like another daemon's after the next start.
pub(crate) fn sign(kernel: &mut impl Kernel, store: &mut impl Store, stored: &Stored) -> String {
    if let Some(known) = stored.settings.get(SETTING) {
        kernel.sign(known);
        return known.clone();
    }
    let drawn = format!("{:032x}", rand::random::<u128>());
    match store.commit(&[Record::PutSetting(SETTING.into(), drawn.clone())]) {
        Ok(()) => kernel.sign(&drawn),
        Err(error) => tracing::warn!("files are written without a signature: {error}"),
    }
    drawn
}
