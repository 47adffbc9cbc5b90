//! Keeps values that faces need again after a restart.

use crate::engine::Error;
use crate::engine::state::State;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Keeps a value of a face. When the reply arrives, it survives a power failure.
    pub(crate) fn keep(&mut self, key: &str, value: String) -> Result<(), Error> {
        self.commit(&[State::kept_record(key, value)])?;
        self.publish();
        Ok(())
    }
}
