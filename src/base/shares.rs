//! A budget that several clients share: what one may take depends on what is left, so that there is always room for
//! others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is shared; a client is known by a `K`.
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

/// What a client has taken; given back when this is dropped.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    client: K,
    size: u64,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// A budget of this size, of which nothing is taken. A client may have so many times what is left: with 1, one alone
    /// gets half of all, two get a third each; with 7, one alone gets seven eighths.
    pub fn new(total: u64, alone: u64) -> Arc<Self> {
        Arc::new(Self { total, alone, taken: Mutex::new(Taken { sum: 0, clients: HashMap::new() }) })
    }

    /// A share of this size; `None`: the client has too much, or all have.
    pub fn take(self: &Arc<Self>, client: K, size: u64) -> Option<Share<K>> {
        let mut share = Share { shares: self.clone(), client, size: 0 };
        share.grow(size).then_some(share)
    }

    /// How much is taken.
    pub fn taken(&self) -> u64 {
        self.lock().sum
    }
}

impl<K> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        // What it holds is whole between any two statements that can panic: there are none.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Share<K> {
    /// Takes so much more; false, and nothing is taken, when it is not there for this client.
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
            // What a burst made large does not stay so.
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
