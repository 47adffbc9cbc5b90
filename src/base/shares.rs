//! A budget that clients share: what one client may take depends on what is left, so that some is always left for
//! others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The shared budget; a client is identified by a `K`.
#[derive(Debug)]
pub struct Shares<K> {
    total: u64,
    alone: u64,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    sum: u64,
    clients: HashMap<K, u64>,
}

/// What a client has taken; dropping this returns it.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    client: K,
    size: u64,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// Creates an unused budget of `total`. A client may hold up to `alone` times what is left: with 1, a single client
    /// gets half of the total, two get a third each; with 7, a single client gets seven eighths.
    pub fn new(total: u64, alone: u64) -> Arc<Self> {
        Arc::new(Self { total, alone, taken: Mutex::new(Taken { sum: 0, clients: HashMap::new() }) })
    }

    /// Takes a share of this size; `None` if the client has too much, or the budget is used up.
    pub fn take(self: &Arc<Self>, client: K, size: u64) -> Option<Share<K>> {
        let mut share = Share { shares: self.clone(), client, size: 0 };
        share.grow(size).then_some(share)
    }

    /// The total taken.
    pub fn taken(&self) -> u64 {
        self.lock().sum
    }
}

impl<K> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        // A poisoned lock is safe to use: no statement that holds it can panic halfway through a change.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Share<K> {
    /// Takes this much more. Returns false, and takes nothing, if it is not available to this client.
    pub fn grow(&mut self, size: u64) -> bool {
        let mut taken = self.shares.lock();
        let left = self.shares.total - taken.sum;
        let own = taken.clients.get(&self.client).copied().unwrap_or_default();
        let after = left.saturating_sub(size).saturating_mul(self.shares.alone);
        if size > left || own.saturating_add(size) > after {
            return false;
        }
        taken.sum += size;
        *taken.clients.entry(self.client.clone()).or_default() += size;
        drop(taken);
        self.size += size;
        true
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        taken.sum -= self.size;
        if let Some(own) = taken.clients.get_mut(&self.client) {
            *own -= self.size;
            if *own == 0 {
                taken.clients.remove(&self.client);
            }
        }
        if taken.clients.is_empty() {
            // Releases the memory of a map that grew in a burst.
            taken.clients.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_room_for_others() {
        let shares = Shares::new(90, 1);
        let one: Vec<_> = std::iter::from_fn(|| shares.take("one", 1)).collect();
        assert_eq!(one.len(), 45);
        let mut two = shares.take("two", 20).unwrap();
        assert!(!two.grow(13) && two.grow(2));
        assert_eq!(shares.taken(), 67);
        assert!(shares.take("three", 12).is_none());
        drop((one, two));
        assert_eq!((shares.taken(), shares.lock().clients.len()), (0, 0));
        assert!(shares.take("three", 46).is_none() && shares.take("three", u64::MAX).is_none());
        let greedy = Shares::new(80, 7);
        assert_eq!(std::iter::from_fn(|| greedy.take("one", 1).map(std::mem::forget)).count(), 70);
        assert!(greedy.take("two", 8).is_some(), "others get seven eighths of what is left");
    }
}
