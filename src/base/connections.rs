//! Connections by client, and which of them is closed when there are too many.
//!
//! The rule: a new connection replaces the connection of the same client that has been idle for longest, so that a
//! client that leaks connections locks out no client, not even itself. If all clients together have too many, the
//! client with the most loses one. A connection with a request in progress is never closed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The connections of all clients; a client is identified by a `K`.
#[derive(Debug)]
pub struct Connections<K> {
    per_client: usize,
    total: usize,
    open: Mutex<HashMap<K, Vec<Arc<Connection>>>>,
    /// A logical clock: counts events, to determine which is older.
    clock: AtomicU64,
}

/// One connection.
#[derive(Debug, Default)]
struct Connection {
    close: CancellationToken,
    /// Requests without a reply.
    under_way: AtomicUsize,
    /// When it was last used, by the logical clock.
    used: AtomicU64,
}

/// An admitted connection; dropping this removes it.
#[derive(Debug)]
pub struct Admitted<K: Eq + Hash> {
    clients: Arc<Connections<K>>,
    client: K,
    connection: Arc<Connection>,
}

/// A request in progress on a connection; dropping this ends it.
#[derive(Debug)]
pub struct Busy<K> {
    clients: Arc<Connections<K>>,
    connection: Arc<Connection>,
}

impl<K: Eq + Hash + Clone> Connections<K> {
    /// Creates an empty set, with limits per client and for all clients together.
    pub fn new(per_client: usize, total: usize) -> Arc<Self> {
        Arc::new(Self { per_client, total, open: Mutex::default(), clock: AtomicU64::new(0) })
    }

    /// Admits a connection; `None` if too many are open and none of them can be closed.
    pub fn admit(self: &Arc<Self>, client: K) -> Option<Admitted<K>> {
        let mut open = self.lock();
        if open.get(&client).is_some_and(|connections| connections.len() >= self.per_client)
            && !dismiss(&mut open, &client)
        {
            return None;
        }
        if open.values().map(Vec::len).sum::<usize>() >= self.total && !dismiss_any(&mut open) {
            return None;
        }
        let connection = Arc::new(Connection::default());
        connection.used.store(self.tick(), Ordering::Relaxed);
        open.entry(client.clone()).or_default().push(connection.clone());
        drop(open);
        Some(Admitted { clients: self.clone(), client, connection })
    }

    /// Closes an idle connection, because descriptors have run out. Returns whether there was one.
    pub fn make_room(&self) -> bool {
        dismiss_any(&mut self.lock())
    }
}

impl<K> Connections<K> {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Vec<Arc<Connection>>>> {
        // A poisoned lock is safe to use: no statement that holds it can panic halfway through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the client's connection that has been idle for longest.
fn dismiss<K: Eq + Hash>(open: &mut HashMap<K, Vec<Arc<Connection>>>, client: &K) -> bool {
    let Some(connections) = open.get_mut(client) else { return false };
    let idle =
        connections.iter().enumerate().filter(|(_, connection)| connection.under_way.load(Ordering::Relaxed) == 0);
    let Some((index, _)) = idle.min_by_key(|(_, connection)| connection.used.load(Ordering::Relaxed)) else {
        return false;
    };
    connections.swap_remove(index).close.cancel();
    if connections.is_empty() {
        open.remove(client);
    }
    true
}

/// The same for the client with the most connections among those that have an idle one.
fn dismiss_any<K: Eq + Hash + Clone>(open: &mut HashMap<K, Vec<Arc<Connection>>>) -> bool {
    let mut clients: Vec<(usize, K)> =
        open.iter().map(|(client, connections)| (connections.len(), client.clone())).collect();
    clients.sort_unstable_by_key(|(count, _)| std::cmp::Reverse(*count));
    clients.into_iter().any(|(_, client)| dismiss(open, &client))
}

impl<K: Eq + Hash> Admitted<K> {
    /// Marks the start of a request.
    pub fn busy(&self) -> Busy<K> {
        self.connection.under_way.fetch_add(1, Ordering::Relaxed);
        Busy { clients: self.clients.clone(), connection: self.connection.clone() }
    }

    /// Whether a request is in progress.
    pub fn is_busy(&self) -> bool {
        self.connection.under_way.load(Ordering::Relaxed) > 0
    }

    /// Returns when the connection must be closed.
    pub async fn dismissed(&self) {
        self.connection.close.cancelled().await;
    }
}

impl<K: Eq + Hash> Drop for Admitted<K> {
    fn drop(&mut self) {
        let mut open = self.clients.lock();
        if let Some(connections) = open.get_mut(&self.client) {
            connections.retain(|connection| !Arc::ptr_eq(connection, &self.connection));
            if connections.is_empty() {
                open.remove(&self.client);
            }
        }
    }
}

impl<K> Drop for Busy<K> {
    fn drop(&mut self) {
        self.connection.used.store(self.clients.tick(), Ordering::Relaxed);
        self.connection.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const PER_CLIENT: usize = 16;
    const TOTAL: usize = 512;

    fn client(number: usize) -> IpAddr {
        IpAddr::from([10, 0, (number >> 8) as u8, number as u8])
    }

    fn gone(connections: &[Admitted<IpAddr>]) -> Vec<usize> {
        (0..connections.len()).filter(|index| connections[*index].connection.close.is_cancelled()).collect()
    }

    #[test]
    fn the_longest_idle_connection_of_a_client_goes_first() {
        let clients = Connections::new(PER_CLIENT, TOTAL);
        let other = clients.admit(client(2)).unwrap();
        let mut connections: Vec<_> = (0..PER_CLIENT).map(|_| clients.admit(client(1)).unwrap()).collect();
        let busy = connections[0].busy();
        drop(connections[1].busy());
        connections.push(clients.admit(client(1)).unwrap());
        assert_eq!(gone(&connections), [2], "0 is busy, 1 was used since");
        let all: Vec<_> = connections.iter().map(Admitted::busy).collect();
        assert!(clients.admit(client(1)).is_none(), "all are busy");
        assert!(clients.admit(client(2)).is_some(), "another client is not concerned");
        drop((all, busy));
        drop(connections);
        drop(other);
        assert!(clients.lock().is_empty());
    }

    #[test]
    fn with_too_many_in_all_the_greediest_client_loses_one() {
        let clients = Connections::new(PER_CLIENT, TOTAL);
        let one = clients.admit(client(999)).unwrap();
        let greedy: Vec<_> = (0..PER_CLIENT).map(|_| clients.admit(client(0)).unwrap()).collect();
        let rest: Vec<_> =
            (0..TOTAL - PER_CLIENT - 1).map(|number| clients.admit(client(1 + number)).unwrap()).collect();
        let last = clients.admit(client(1000)).unwrap();
        assert_eq!(gone(&greedy), [0]);
        assert!(clients.make_room());
        assert_eq!(gone(&greedy), [0, 1]);
        assert!(gone(&rest).is_empty() && gone(&[one, last]).is_empty());
    }
}
