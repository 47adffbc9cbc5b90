//! The way from the loop to the slow way: bounded, and shared fairly between askers.
//!
//! The rule: a message waits here until the slow way has looked at it (answered it, or asked an upstream; those have
//! bounds of their own). At most [`TOTAL`] wait, of at most [`BYTES`], and at most [`PER_ASKER`] of one asker. A question
//! beyond that gets SERVFAIL at once, what is no ordinary question is dropped.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Messages that wait. Each is looked at in some 20 us, so the last has waited for less than 0.1 s.
pub(crate) const TOTAL: usize = 4096;
/// Bytes that they have together: an ordinary question has some 50.
const BYTES: usize = 1 << 20;
/// Messages of one asker that wait.
pub(crate) const PER_ASKER: usize = 512;
/// Counters that askers are spread over. Two on the same one share its bound; which do differs from start to start.
const COUNTERS: usize = 1024;

/// How much of the queue is taken, and by whom. Without a lock: the loop waits for nobody.
#[derive(Debug)]
pub(crate) struct Shares {
    total: AtomicUsize,
    bytes: AtomicUsize,
    askers: Box<[AtomicUsize]>,
    hasher: RandomState,
}

/// A place in the queue; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    counter: usize,
    bytes: usize,
}

impl Shares {
    pub(crate) fn new() -> Arc<Self> {
        let askers = (0..COUNTERS).map(|_| AtomicUsize::new(0)).collect();
        let (total, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { total, bytes, askers, hasher: RandomState::new() })
    }

    /// A place for a message of so many bytes; `None`: the asker has too many there, or all have.
    pub(crate) fn take(self: &Arc<Self>, asker: IpAddr, bytes: usize) -> Option<Share> {
        let counter = self.hasher.hash_one(asker) as usize % COUNTERS;
        if !up(&self.total, 1, TOTAL) {
            return None;
        }
        if !up(&self.askers[counter], 1, PER_ASKER) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if !up(&self.bytes, bytes, BYTES) {
            self.askers[counter].fetch_sub(1, Ordering::Relaxed);
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Share { shares: self.clone(), counter, bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.shares.askers[self.counter].fetch_sub(1, Ordering::Relaxed);
        self.shares.total.fetch_sub(1, Ordering::Relaxed);
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
        let shares = Shares::new();
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let held: Vec<_> = std::iter::from_fn(|| shares.take(one, 50)).collect();
        assert_eq!(held.len(), PER_ASKER);
        // They may have one counter in common, once in a thousand starts.
        let apart = shares.hasher.hash_one::<IpAddr>(one) as usize % COUNTERS
            != shares.hasher.hash_one::<IpAddr>(two) as usize % COUNTERS;
        assert_eq!(shares.take(two, 50).is_some(), apart);
        drop(held);
        let many: Vec<_> =
            (0..=u16::MAX).filter_map(|n| shares.take(IpAddr::from([10, 1, (n >> 8) as u8, n as u8]), 50)).collect();
        assert_eq!(many.len(), TOTAL);
        drop(many);
        let large: Vec<_> =
            (0..=u16::MAX).filter_map(|n| shares.take(IpAddr::from([10, 1, (n >> 8) as u8, n as u8]), 4096)).collect();
        assert_eq!(large.len(), BYTES / 4096);
        drop(large);
        assert!(shares.take(one, 50).is_some());
        assert_eq!(shares.total.load(Ordering::Relaxed), 0);
    }
}
