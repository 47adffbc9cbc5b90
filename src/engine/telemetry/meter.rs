//! Counters of the name service. A query costs one relaxed increment at a location that the writer already has: no
//! lock, no lookup, no clock.
//!
//! A network's counters start with its first query and are removed with the network. A network that is created again
//! under the same name starts from zero.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Origin;
use crate::model::desired::Desired;
use crate::model::ids::NetworkId;
use crate::model::names::NetworkName;
use crate::model::network::Network;

/// Record types that are counted separately, with their numbers (IANA, "Resource Record (RR) TYPEs"); any other is
/// `other`.
const TYPES: [(&str, u16); 13] = [
    ("A", 1),
    ("AAAA", 28),
    ("PTR", 12),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("MX", 15),
    ("TXT", 16),
    ("SRV", 33),
    ("NAPTR", 35),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("ANY", 255),
];
/// Response codes that are counted separately (IANA, "DNS RCODEs"); any other is `other`.
const CODES: [(&str, u16); 7] =
    [("NOERROR", 0), ("FORMERR", 1), ("SERVFAIL", 2), ("NXDOMAIN", 3), ("NOTIMP", 4), ("REFUSED", 5), ("BADVERS", 16)];
/// The label of everything that is not counted separately.
const OTHER: &str = "other";
const ORIGINS: usize = Origin::WORDS.len();
const CELLS: usize = (TYPES.len() + 1) * (CODES.len() + 1) * ORIGINS;

/// Upper bounds of the duration buckets, in nanoseconds: from the duration of a local answer to more than an upstream
/// may take.
const BUCKETS: [u64; 20] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// All counters.
#[derive(Debug, Default)]
pub struct Meter {
    networks: Mutex<BTreeMap<NetworkId, Arc<NetworkCounts>>>,
    /// Queries at sockets that belong to no network, or not any more.
    pub elsewhere: Arc<NetworkCounts>,
    durations: [Histogram; ORIGINS],
    /// Counters of TCP connections.
    pub tcp: TcpCounts,
}

/// Counters of the queries that came in through one network's name server.
#[derive(Debug)]
pub struct NetworkCounts {
    replies: Box<[AtomicU64]>,
    unanswered: [AtomicU64; Unanswered::WORDS.len()],
    shed: AtomicU64,
}

/// Why there was no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// More questions came than can be answered, and the client had used up its share.
    Flood,
    /// The message was not a question: too short, or itself a reply.
    NoQuestion,
}

impl Unanswered {
    /// The labels in metrics, in the order of the variants.
    pub const WORDS: [&str; 2] = ["flood", "no_question"];
}

/// Counters of connections.
#[derive(Debug, Default)]
pub struct TcpCounts {
    /// Currently open.
    pub open: AtomicU64,
    /// Closed at once, because too many were open.
    pub refused: AtomicU64,
    /// Closed while idle, to free capacity for others.
    pub dismissed: AtomicU64,
}

/// How many durations fell into each bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Default for NetworkCounts {
    fn default() -> Self {
        let replies = (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { replies, unanswered: Default::default(), shed: AtomicU64::new(0) }
    }
}

impl NetworkCounts {
    /// Counts a reply by the queried type and the response code, both as numbers.
    pub fn replied(&self, kind: u16, code: u16, origin: Origin) {
        let cell = (place(&TYPES, kind) * (CODES.len() + 1) + place(&CODES, code)) * ORIGINS + origin.index();
        self.replies[cell].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message without a reply.
    pub fn unanswered(&self, why: Unanswered) {
        self.unanswered[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts questions of flooding clients that the kernel dropped.
    pub fn lost(&self, count: u32) {
        self.unanswered[Unanswered::Flood as usize].fetch_add(count.into(), Ordering::Relaxed);
    }

    /// Counts a question that got SERVFAIL because too many questions of its client waited; it also counts as a reply.
    pub fn shed(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
    }

    /// The replies so far: type, code, origin, count (not 0).
    pub fn replies(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
        let name = |table: &[(&'static str, u16)], at: usize| table.get(at).map_or(OTHER, |(name, _)| name);
        self.replies.iter().enumerate().filter_map(move |(cell, count)| {
            let count = count.load(Ordering::Relaxed);
            let (row, origin) = (cell / ORIGINS, cell % ORIGINS);
            let (kind, code) = (row / (CODES.len() + 1), row % (CODES.len() + 1));
            (count > 0).then(|| (name(&TYPES, kind), name(&CODES, code), Origin::WORDS[origin], count))
        })
    }

    /// Messages without a reply so far, in the order of [`Unanswered::WORDS`].
    pub fn without_reply(&self) -> [u64; Unanswered::WORDS.len()] {
        std::array::from_fn(|why| self.unanswered[why].load(Ordering::Relaxed))
    }

    /// Questions that got SERVFAIL because too many of their client waited, so far.
    pub fn shed_so_far(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }
}

/// The index of a number in a table, or the table's length if it is not there. The tables are short, and the common
/// numbers come first.
fn place(table: &[(&str, u16)], number: u16) -> usize {
    table.iter().position(|(_, known)| *known == number).unwrap_or(table.len())
}

/// The name of a code, as in metrics; a code that is not counted separately gets its number.
pub fn code_name(code: u16) -> String {
    CODES.get(place(&CODES, code)).map_or_else(|| format!("RCODE{code}"), |(name, _)| (*name).to_owned())
}

impl Meter {
    /// The counters of a network, which must be in the state. Removes those of networks that no longer exist.
    pub fn of(&self, desired: &Desired, network: &Network) -> Arc<NetworkCounts> {
        let mut networks = self.lock();
        if let Some(counts) = networks.get(&network.id) {
            return counts.clone();
        }
        networks.retain(|id, _| desired.networks().any(|network| network.id == *id));
        networks.entry(network.id.clone()).or_default().clone()
    }

    /// The counters of the existing networks, by name.
    pub fn networks(&self, desired: &Desired) -> Vec<(NetworkName, Arc<NetworkCounts>)> {
        let counts = self.lock();
        let known = |network: &Arc<Network>| Some((network.name.clone(), counts.get(&network.id)?.clone()));
        desired.networks().filter_map(known).collect()
    }

    /// Records how long a reply took.
    pub fn took(&self, origin: Origin, duration: Duration) {
        self.durations[origin.index()].add(duration, 1);
    }

    /// Records a duration for this many replies of each origin, in the order of [`Origin::WORDS`].
    pub fn took_each(&self, times: [u64; ORIGINS], duration: Duration) {
        let each = self.durations.iter().zip(times).filter(|(_, times)| *times > 0);
        each.for_each(|(histogram, times)| histogram.add(duration, times));
    }

    /// The durations of replies, in the order of [`Origin::WORDS`].
    pub fn durations(&self) -> &[Histogram] {
        &self.durations
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NetworkId, Arc<NetworkCounts>>> {
        // A poisoned lock is safe to use: no statement that holds it can panic halfway through a change.
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Histogram {
    fn add(&self, duration: Duration, times: u64) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|end| *end < nanoseconds);
        self.counts[bucket].fetch_add(times, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds.saturating_mul(times), Ordering::Relaxed);
    }

    /// The buckets in Prometheus form: the upper bound in seconds (`None`: infinity), and how many durations were at
    /// most that long.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let ends = BUCKETS.iter().map(|end| Some(Duration::from_nanos(*end).as_secs_f64())).chain([None]);
        ends.zip(&self.counts).scan(0, |sum, (end, count)| {
            *sum += count.load(Ordering::Relaxed);
            Some((end, *sum))
        })
    }

    /// The sum of all durations, in seconds.
    pub fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;

    fn network(name: &str, id: u8) -> Network {
        let network = samples::network(name, &[&format!("10.{id}.0.0/24")]);
        Network { id: NetworkId::from_random([id; 32]), ..network }
    }

    #[test]
    fn each_reply_is_counted_once_and_where_it_belongs() {
        let counts = NetworkCounts::default();
        let upstream = Origin::Upstream("192.0.2.1:53".parse().unwrap());
        counts.replied(1, 0, Origin::Local);
        counts.replied(1, 0, Origin::Local);
        counts.replied(255, 16, Origin::Nobody);
        counts.replied(65_280, 23, upstream);
        counts.replied(28, 3, Origin::Stale);
        let counted: Vec<_> = counts.replies().collect();
        let expected = [
            ("A", "NOERROR", "local", 2),
            ("AAAA", "NXDOMAIN", "stale", 1),
            ("ANY", "BADVERS", "none", 1),
            ("other", "other", "upstream", 1),
        ];
        assert_eq!(counted, expected);
        counts.unanswered(Unanswered::NoQuestion);
        assert_eq!(counts.without_reply(), [0, 1]);
    }

    #[test]
    fn durations_fall_into_the_bucket_whose_end_they_reach() {
        let meter = Meter::default();
        for (nanoseconds, times) in [(0, 1), (5_000, 2), (5_001, 4), (10_000_000_000, 8), (10_000_000_001, 16)] {
            meter.took_each([0, times, 0, 0, 0], Duration::from_nanos(nanoseconds));
        }
        let histogram = &meter.durations()[Origin::Cache.index()];
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets[..2], [(Some(0.000_005), 3), (Some(0.000_01), 7)]);
        assert_eq!(buckets[19..], [(Some(10.0), 15), (None, 31)]);
        assert!((histogram.seconds() - 240.000_030_03).abs() < 1e-6, "{}", histogram.seconds());
        assert_eq!(meter.durations()[Origin::Local.index()].buckets().last(), Some((None, 0)));
        meter.took(Origin::Local, Duration::from_millis(3));
        assert_eq!(meter.durations()[Origin::Local.index()].buckets().nth(9), Some((Some(0.005), 1)));
    }

    #[test]
    fn counts_go_with_the_network_and_begin_anew_with_the_next_of_its_name() {
        let (meter, mut desired) = (Meter::default(), Desired::default());
        let first = desired.insert_network(network("net1", 1));
        desired.insert_network(network("net2", 2));
        meter.of(&desired, &first).replied(1, 0, Origin::Local);
        let again = meter.of(&desired, &first);
        assert_eq!(again.replies().map(|(.., count)| count).sum::<u64>(), 1, "the same counts");
        let counted = |desired: &Desired| -> Vec<(String, u64)> {
            let all = meter.networks(desired).into_iter();
            all.map(|(name, counts)| (name.to_string(), counts.replies().map(|(.., n)| n).sum())).collect()
        };
        assert_eq!(counted(&desired), [("net1".to_owned(), 1)], "nothing was asked on net2");
        desired.remove_network(&first.name);
        assert!(counted(&desired).is_empty());
        let second = desired.insert_network(network("net1", 3));
        meter.of(&desired, &second);
        assert_eq!(counted(&desired), [("net1".to_owned(), 0)]);
        assert_eq!(meter.lock().len(), 1, "the first is forgotten");
    }
}
