//! The way from the loop to the slow path: bounded, and shared fairly between clients.
//!
//! The rule: a message waits here until the slow path has looked at it (answered it, or asked an upstream; those have
//! bounds of their own). At most [`TOTAL`] wait, of at most [`BYTES`], and at most [`PER_CLIENT`] of one client. A question
//! beyond that gets SERVFAIL at once, what is no ordinary question is dropped.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Messages that wait. Each is looked at in some 20 us, so the last has waited for less than 0.1 s.
pub(crate) const TOTAL: usize = 4096;
/// Bytes that they have together: an ordinary question has some 50.
const BYTES: usize = 1 << 20;
/// Messages of one client that wait.
pub(crate) const PER_CLIENT: usize = 512;
/// Counters that clients are spread over. Two on the same one permit its bound; which do differs from start to start.
const COUNTERS: usize = 1024;

/// How much of the queue is taken, and by whom. Without a lock: the loop waits for nobody.
#[derive(Debug)]
pub(crate) struct Admission {
    total: AtomicUsize,
    bytes: AtomicUsize,
    clients: Box<[AtomicUsize]>,
    hasher: RandomState,
}

/// A listener in the queue; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    counter: usize,
    bytes: usize,
}

impl Admission {
    pub(crate) fn new() -> Arc<Self> {
        let clients = (0..COUNTERS).map(|_| AtomicUsize::new(0)).collect();
        let (total, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { total, bytes, clients, hasher: RandomState::new() })
    }

    /// A listener for a message of so many bytes; `None`: the client has too many there, or all have.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr, bytes: usize) -> Option<Permit> {
        let counter = self.hasher.hash_one(client) as usize % COUNTERS;
        if !up(&self.total, 1, TOTAL) {
            return None;
        }
        if !up(&self.clients[counter], 1, PER_CLIENT) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if !up(&self.bytes, bytes, BYTES) {
            self.clients[counter].fetch_sub(1, Ordering::Relaxed);
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit { admission: self.clone(), counter, bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.admission.clients[self.counter].fetch_sub(1, Ordering::Relaxed);
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
    }
}

fn up(count: &AtomicUsize, by: usize, most: usize) -> bool {
    let more = |count: usize| count.checked_add(by).filter(|count| *count <= most);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asker_leaves_room_for_others() {
        let admission = Admission::new();
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let held: Vec<_> = std::iter::from_fn(|| admission.take(one, 50)).collect();
        assert_eq!(held.len(), PER_CLIENT);
        // They may have one counter in common, once in a thousand starts.
        let apart = admission.hasher.hash_one::<IpAddr>(one) as usize % COUNTERS
            != admission.hasher.hash_one::<IpAddr>(two) as usize % COUNTERS;
        assert_eq!(admission.take(two, 50).is_some(), apart);
        drop(held);
        let many: Vec<_> =
            (0..=u16::MAX).filter_map(|n| admission.take(IpAddr::from([10, 1, (n >> 8) as u8, n as u8]), 50)).collect();
        assert_eq!(many.len(), TOTAL);
        drop(many);
        let large: Vec<_> = (0..=u16::MAX)
            .filter_map(|n| admission.take(IpAddr::from([10, 1, (n >> 8) as u8, n as u8]), 4096))
            .collect();
        assert_eq!(large.len(), BYTES / 4096);
        drop(large);
        assert!(admission.take(one, 50).is_some());
        assert_eq!(admission.total.load(Ordering::Relaxed), 0);
    }
}
