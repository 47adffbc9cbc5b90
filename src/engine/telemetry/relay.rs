//! How many messages of discovery were relayed or dropped, by network, protocol, direction and result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::names::NetworkName;
use crate::model::relay::Protocol;

/// Seen from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards its containers.
    In,
    /// From its containers.
    Out,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent on.
    Relayed,
    /// The same was relayed a moment ago.
    Duplicate,
    /// The sender or the interface has sent too much, or too many searches are open.
    Limited,
    /// Its sender is not on the link, or claims an address of the host.
    OffLink,
    /// It is no message of the protocol.
    Malformed,
    /// It could not be sent.
    Failed,
}

const DIRECTIONS: [Direction; 2] = [Direction::In, Direction::Out];
const OUTCOMES: [(Outcome, &str); 6] = [
    (Outcome::Relayed, "relayed"),
    (Outcome::Duplicate, "duplicate"),
    (Outcome::Limited, "limited"),
    (Outcome::OffLink, "off_link"),
    (Outcome::Malformed, "malformed"),
    (Outcome::Failed, "failed"),
];

impl Direction {
    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The counters of one network.
#[derive(Debug, Default)]
pub struct RelayCounts([[[AtomicU64; OUTCOMES.len()]; DIRECTIONS.len()]; Protocol::ALL.len()]);

impl RelayCounts {
    /// Counts one message.
    pub fn count(&self, protocol: Protocol, direction: Direction, outcome: Outcome) {
        self.0[protocol as usize][direction as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Each protocol, direction and result with its count, zero included.
    pub fn all(&self) -> impl Iterator<Item = ([&'static str; 3], u64)> {
        Protocol::ALL.into_iter().flat_map(move |protocol| {
            DIRECTIONS.into_iter().flat_map(move |direction| {
                OUTCOMES.into_iter().map(move |(outcome, word)| {
                    let count = &self.0[protocol as usize][direction as usize][outcome as usize];
                    ([protocol.as_str(), direction.as_str(), word], count.load(Ordering::Relaxed))
                })
            })
        })
    }
}

/// The counters of all networks that relay.
#[derive(Debug, Default)]
pub struct Relays(Mutex<BTreeMap<NetworkName, Arc<RelayCounts>>>);

impl Relays {
    /// Those of these networks, begun where there are none; those of others are forgotten.
    pub fn of(&self, networks: &BTreeSet<NetworkName>) -> BTreeMap<NetworkName, Arc<RelayCounts>> {
        // A poisoned lock is safe to use: the map is valid after every statement.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|network, _| networks.contains(network));
        networks.iter().for_each(|network| _ = all.entry(network.clone()).or_default());
        all.clone()
    }

    /// All.
    pub fn all(&self) -> BTreeMap<NetworkName, Arc<RelayCounts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
