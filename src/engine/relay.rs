//! What the relay of discovery needs of the host: its interfaces.

use std::collections::BTreeSet;

use crate::engine::Error;
pub use crate::kernel::host::attached::{AttachedInterface, Looked};
use crate::model::names::IfName;

/// Looks at these interfaces, and at those of the default routes. It may wait for the kernel.
pub fn look(names: &BTreeSet<IfName>) -> Result<Looked, Error> {
    Ok(crate::kernel::host::attached::look(names)?)
}
