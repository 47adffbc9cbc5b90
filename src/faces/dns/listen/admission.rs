//! Admission to the slow path for UDP: bounded, and fair between clients.
//!
//! A message occupies a permit until the slow path has answered it or has begun to forward it; forwarded questions have
//! their own bounds. At most [`TOTAL`] messages with at most [`BYTES`] bytes are admitted at a time, and at most
//! [`PER_CLIENT`] messages of one client. The loop answers an ordinary question beyond that with SERVFAIL at once and
//! drops any other message.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Messages admitted at a time. The slow path needs about 20 us for each, so the last one waits less than 0.1 s.
pub(crate) const TOTAL: usize = 4096;
/// Bytes of all admitted messages. An ordinary question has about 50 bytes.
const BYTES: usize = 1 << 20;
/// Admitted messages of one client.
pub(crate) const PER_CLIENT: usize = 512;
/// Counters that clients are hashed to. Two clients with the same counter share its limit. The hash is seeded at each
/// start, so that the collisions differ from start to start.
const COUNTERS: usize = 1024;

/// The occupancy of the queue, in total and per client. It uses atomics only, so that the loop never waits for a lock.
#[derive(Debug)]
pub(crate) struct Admission {
    total: AtomicUsize,
    bytes: AtomicUsize,
    clients: Box<[AtomicUsize]>,
    hasher: RandomState,
}

/// A slot in the queue. Dropping the permit releases the slot.
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

    /// Admits a message of `bytes` bytes. `None` if the client or all clients together have reached a limit.
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
    fn one_client_leaves_room_for_others() {
        let admission = Admission::new();
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let held: Vec<_> = std::iter::from_fn(|| admission.take(one, 50)).collect();
        assert_eq!(held.len(), PER_CLIENT);
        // Once in [`COUNTERS`] starts the two clients share a counter.
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
