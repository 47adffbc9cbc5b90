//! An in-memory store for tests: it outlives the engine that uses it, and fails on request.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Record, Store, StoreError, Stored};

/// Shared between the engine and the test. A clone sees the same records, as a second start sees the same files.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    stored: Stored,
    /// How many commits succeed before one fails; `None`: none fails.
    fail_in: Option<usize>,
}

impl Memory {
    /// Makes the `nth` commit from now (0: the next) fail, once.
    pub fn fail_in(&self, nth: usize) {
        self.lock().fail_in = Some(nth);
    }

    /// The stored records.
    pub fn stored(&self) -> Stored {
        self.lock().stored.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Records are replaced as whole values only, so a panic elsewhere leaves them usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn load(&mut self) -> Result<Stored, StoreError> {
        Ok(self.stored())
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut inner = self.lock();
        match inner.fail_in {
            Some(0) => {
                inner.fail_in = None;
                return Err(StoreError {
                    attempted: "commit to",
                    path: "memory".into(),
                    source: "told to fail".into(),
                    look: "the test",
                });
            }
            Some(more) => inner.fail_in = Some(more - 1),
            None => {}
        }
        for record in records {
            put(&mut inner.stored, record.clone());
        }
        Ok(())
    }
}

fn put(stored: &mut Stored, record: Record) {
    match record {
        Record::PutNetwork(network) => {
            stored.networks.retain(|other| other.name != network.name);
            stored.networks.push(network);
        }
        Record::DeleteNetwork(name) => {
            stored.networks.retain(|network| network.name != name);
            stored.sticky.retain(|(network, ..)| *network != name);
        }
        Record::PutSticky(network, address, name) => {
            stored.sticky.retain(|(n, a, _)| (n, a) != (&network, &address));
            stored.sticky.push((network, address, name));
        }
        Record::DeleteSticky(network, address) => stored.sticky.retain(|(n, a, _)| (n, a) != (&network, &address)),
        Record::PutEndpoint(endpoint) => {
            stored.endpoints.retain(|other| other.key() != endpoint.key());
            stored.endpoints.push(*endpoint);
        }
        Record::DeleteEndpoint(key) => stored.endpoints.retain(|endpoint| endpoint.key() != key),
        Record::PutReleased(network, address, order) => {
            stored.released.retain(|(n, a, _)| (n, a) != (&network, &address));
            stored.released.push((network, address, order));
        }
        Record::DeleteReleased(network, address) => {
            stored.released.retain(|(n, a, _)| (n, a) != (&network, &address));
        }
        Record::PutSetting(name, value) => drop(stored.settings.insert(name, value)),
    }
}
