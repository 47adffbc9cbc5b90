//! An in-memory store for tests: it outlives the engine that uses it, and has the faults that a test selects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Record, Store, StoreError, Stored};

/// What goes wrong at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This commit fails.
    Fails,
    /// This commit and all later ones fail.
    FailsForGood,
    /// The process dies before anything is written.
    DiesBefore,
    /// The process dies after the records are written, and never learns of it.
    DiesAfter,
}

/// Shared between the engine and the test. A clone sees the same records, as a second start sees the same files.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
    dead: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Inner {
    stored: Stored,
    /// Since the faults were set.
    commits: usize,
    /// The commit (0: the first since then), and what happens to it.
    fault: Option<(usize, Fault)>,
}

impl Memory {
    /// The store of a process that can die at any commit: `dead` is true from then on. Its kernel must share `dead`.
    pub fn of_process(dead: Arc<AtomicBool>) -> Self {
        Self { dead, ..Self::default() }
    }

    /// Sets what happens to the `nth` commit from now (0: the next); `None`: nothing happens to any.
    pub fn set_fault(&self, fault: Option<(usize, Fault)>) {
        let mut inner = self.lock();
        (inner.commits, inner.fault) = (0, fault);
    }

    /// How many commits there were since the fault was set.
    pub fn commits(&self) -> usize {
        self.lock().commits
    }

    /// Loses the records until the next boot, and those of these networks, as damaged files do.
    pub fn lose(&self, networks: &[&str]) {
        let stored = &mut self.lock().stored;
        stored.networks.retain(|network| !networks.contains(&network.name.as_str()));
        (stored.endpoints, stored.released, stored.turned_on) = Default::default();
        stored.conditions.clear();
        stored.incomplete = true;
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
        if self.dead.load(Ordering::SeqCst) {
            return Err(refused("the process is dead"));
        }
        let mut inner = self.lock();
        let nth = inner.commits;
        inner.commits += 1;
        let fault = inner.fault.filter(|(at, fault)| nth == *at || (nth > *at && *fault == Fault::FailsForGood));
        let fault = fault.map(|(_, fault)| fault);
        if matches!(fault, Some(Fault::Fails | Fault::FailsForGood)) {
            return Err(refused("told to fail"));
        }
        if fault != Some(Fault::DiesBefore) {
            records.iter().for_each(|record| put(&mut inner.stored, record.clone()));
        }
        if fault.is_some() {
            self.dead.store(true, Ordering::SeqCst);
            return Err(refused("the process is dead"));
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), StoreError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(refused("the process is dead"));
        }
        self.lock().stored.incomplete = false;
        Ok(())
    }

    fn trouble(&mut self) -> Option<StoreError> {
        None
    }

    fn set_aside(&self) -> Vec<String> {
        Vec::new()
    }
    fn files(&self) -> Vec<String> {
        Vec::new()
    }

    fn destroy(&mut self) -> Result<(), StoreError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(refused("the process is dead"));
        }
        self.lock().stored = Stored::default();
        Ok(())
    }
}

fn refused(why: &str) -> StoreError {
    StoreError { attempted: "commit to", path: "memory".into(), source: why.into(), look: "the test" }
}

fn put(stored: &mut Stored, record: Record) {
    match record {
        Record::PutNetwork(network) => {
            stored.networks.retain(|other| other.name != network.name);
            stored.networks.push(*network);
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
        Record::PutService(service) => {
            stored.services.retain(|other| other.name != service.name);
            stored.services.push(*service);
        }
        Record::DeleteService(name) => stored.services.retain(|service| service.name != name),
        Record::PutPolicy(policy) => {
            stored.policies.retain(|other| other.id != policy.id);
            stored.policies.push(policy);
        }
        Record::DeletePolicy(id) => stored.policies.retain(|policy| policy.id != id),
        Record::PutCondition(condition) => {
            stored.conditions.retain(|other| other.container != condition.container);
            stored.conditions.push(*condition);
        }
        Record::DeleteCondition(id) => stored.conditions.retain(|condition| condition.container != id),
        Record::PutEndpoint(endpoint) => {
            stored.endpoints.retain(|other| other.key() != endpoint.key());
            stored.endpoints.push(*endpoint);
        }
        Record::DeleteEndpoint(key) => stored.endpoints.retain(|endpoint| endpoint.key() != key),
        Record::PutReservation(reservation) => {
            stored.reservations.retain(|other| other.id != reservation.id);
            stored.reservations.push(*reservation);
        }
        Record::DeleteReservation(id) => stored.reservations.retain(|reservation| reservation.id != id),
        Record::PutReleased(network, address, order) => {
            stored.released.retain(|(n, a, _)| (n, a) != (&network, &address));
            stored.released.push((network, address, order));
        }
        Record::DeleteReleased(network, address) => {
            stored.released.retain(|(n, a, _)| (n, a) != (&network, &address));
        }
        Record::PutTurnedOn(turned_on) => stored.turned_on = turned_on,
        Record::PutSetting(name, value) => drop(stored.settings.insert(name, value)),
    }
}
