//! Counts of the name service. One query costs one relaxed increment at a place that the writer already knows: no lock,
//! no lookup, no clock.
//!
//! A network's counts begin when its first query comes and go with the network; made again under the same name it is
//! another network, and counts from nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Origin;
use crate::model::desired::Desired;
use crate::model::ids::NetworkId;
use crate::model::names::NetworkName;
use crate::model::network::Network;

/// Types that are counted by themselves, with their numbers (IANA, "Resource Record (RR) TYPEs"); any other is `other`.
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
/// Codes that are counted by themselves (IANA, "DNS RCODEs"); any other is `other`.
const CODES: [(&str, u16); 7] =
    [("NOERROR", 0), ("FORMERR", 1), ("SERVFAIL", 2), ("NXDOMAIN", 3), ("NOTIMP", 4), ("REFUSED", 5), ("BADVERS", 16)];
/// What is not counted by itself.
const OTHER: &str = "other";
const ORIGINS: usize = Origin::WORDS.len();
const CELLS: usize = (TYPES.len() + 1) * (CODES.len() + 1) * ORIGINS;

/// Upper ends of the buckets of durations, in nanoseconds: from what an answer of ours takes to beyond what an upstream
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

/// All counts.
#[derive(Debug, Default)]
pub struct Meter {
    networks: Mutex<BTreeMap<NetworkId, Arc<NetworkCounts>>>,
    /// Of queries at sockets that belong to no network (any more).
    pub elsewhere: Arc<NetworkCounts>,
    durations: [Histogram; ORIGINS],
    /// Of TCP connections.
    pub tcp: TcpCounts,
}

/// Counts of the queries that came in through one network's name server.
#[derive(Debug)]
pub struct NetworkCounts {
    replies: Box<[AtomicU64]>,
    unanswered: [AtomicU64; Unanswered::WORDS.len()],
    shed: AtomicU64,
}

/// Why there was no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Questions came faster than they can be answered, and this one's client had had its share.
    Flood,
    /// It was no question: too short, or itself a reply.
    NoQuestion,
}

impl Unanswered {
    /// As in metrics, in the order of the variants.
    pub const WORDS: [&str; 2] = ["flood", "no_question"];
}

/// Connections.
#[derive(Debug, Default)]
pub struct TcpCounts {
    /// Open now.
    pub open: AtomicU64,
    /// Closed at once, because too many were open.
    pub refused: AtomicU64,
    /// Closed while idle, to make room for others.
    pub dismissed: AtomicU64,
}

/// How often a duration fell in each bucket.
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
    /// Counts a reply: the type that was asked for and the code of the reply, as numbers.
    pub fn replied(&self, kind: u16, code: u16, origin: Origin) {
        let cell = (place(&TYPES, kind) * (CODES.len() + 1) + place(&CODES, code)) * ORIGINS + origin.index();
        self.replies[cell].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message without reply.
    pub fn unanswered(&self, why: Unanswered) {
        self.unanswered[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts questions of clients that flood, which the kernel dropped.
    pub fn lost(&self, count: u32) {
        self.unanswered[Unanswered::Flood as usize].fetch_add(count.into(), Ordering::Relaxed);
    }

    /// Counts a question that got SERVFAIL because too many of its client waited; it counts as a reply besides.
    pub fn shed(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
    }

    /// What was replied so far: type, code, origin, how often (not 0).
    pub fn replies(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
        let name = |table: &[(&'static str, u16)], at: usize| table.get(at).map_or(OTHER, |(name, _)| name);
        self.replies.iter().enumerate().filter_map(move |(cell, count)| {
            let count = count.load(Ordering::Relaxed);
            let (row, origin) = (cell / ORIGINS, cell % ORIGINS);
            let (kind, code) = (row / (CODES.len() + 1), row % (CODES.len() + 1));
            (count > 0).then(|| (name(&TYPES, kind), name(&CODES, code), Origin::WORDS[origin], count))
        })
    }

    /// Messages without reply so far, in the order of [`Unanswered::WORDS`].
    pub fn without_reply(&self) -> [u64; Unanswered::WORDS.len()] {
        std::array::from_fn(|why| self.unanswered[why].load(Ordering::Relaxed))
    }

    /// Questions that were shed so far.
    pub fn shed_so_far(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }
}

/// Where a number stands in a table; behind its end where it does not. The tables are short, and what is common stands
/// in front.
fn place(table: &[(&str, u16)], number: u16) -> usize {
    table.iter().position(|(_, known)| *known == number).unwrap_or(table.len())
}

/// The name of a code, as in metrics; its number where it is not counted by itself.
pub fn code_name(code: u16) -> String {
    CODES.get(place(&CODES, code)).map_or_else(|| format!("RCODE{code}"), |(name, _)| (*name).to_owned())
}

impl Meter {
    /// The counts of a network, which is in the state. Those of networks that are not there any more are forgotten.
    pub fn of(&self, desired: &Desired, network: &Network) -> Arc<NetworkCounts> {
        let mut networks = self.lock();
        if let Some(counts) = networks.get(&network.id) {
            return counts.clone();
        }
        networks.retain(|id, _| desired.networks().any(|network| network.id == *id));
        networks.entry(network.id.clone()).or_default().clone()
    }

    /// The counts of the networks that are there, by name.
    pub fn networks(&self, desired: &Desired) -> Vec<(NetworkName, Arc<NetworkCounts>)> {
        let counts = self.lock();
        let known = |network: &Arc<Network>| Some((network.name.clone(), counts.get(&network.id)?.clone()));
        desired.networks().filter_map(known).collect()
    }

    /// Notes how long a reply took.
    pub fn took(&self, origin: Origin, duration: Duration) {
        self.durations[origin.index()].add(duration, 1);
    }

    /// Notes how long so many replies of each origin (in the order of [`Origin::WORDS`]) took each.
    pub fn took_each(&self, times: [u64; ORIGINS], duration: Duration) {
        let each = self.durations.iter().zip(times).filter(|(_, times)| *times > 0);
        each.for_each(|(histogram, times)| histogram.add(duration, times));
    }

    /// How long replies took, in the order of [`Origin::WORDS`].
    pub fn durations(&self) -> &[Histogram] {
        &self.durations
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NetworkId, Arc<NetworkCounts>>> {
        // The map is whole between any two statements that can panic: there are none.
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

    /// The buckets as Prometheus has them: the upper end in seconds (`None`: infinity), and how many were at most as
    /// long.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let ends = BUCKETS.iter().map(|end| Some(Duration::from_nanos(*end).as_secs_f64())).chain([None]);
        ends.zip(&self.counts).scan(0, |sum, (end, count)| {
            *sum += count.load(Ordering::Relaxed);
            Some((end, *sum))
        })
    }

    /// All durations together, in seconds.
    pub fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn network(name: &str, id: u8) -> Network {
        let network = json!({"name": name, "id": format!("{id:064}"), "internal": false, "mtu": 1500, "labels": {},
            "created": 0, "driver": {"driver": "bridge", "name": "nd", "icc": true, "masquerade": true},
            "subnets": [{"subnet": format!("10.{id}.0.0/24"), "gateway": format!("10.{id}.0.1")}]});
        serde_json::from_value(network).unwrap()
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
        let said: Vec<_> = counts.replies().collect();
        let expected = [
            ("A", "NOERROR", "local", 2),
            ("AAAA", "NXDOMAIN", "stale", 1),
            ("ANY", "BADVERS", "none", 1),
            ("other", "other", "upstream", 1),
        ];
        assert_eq!(said, expected);
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
        let said = |desired: &Desired| -> Vec<(String, u64)> {
            let all = meter.networks(desired).into_iter();
            all.map(|(name, counts)| (name.to_string(), counts.replies().map(|(.., n)| n).sum())).collect()
        };
        assert_eq!(said(&desired), [("net1".to_owned(), 1)], "nothing was asked on net2");
        desired.remove_network(&first.name);
        assert!(said(&desired).is_empty());
        let second = desired.insert_network(network("net1", 3));
        meter.of(&desired, &second);
        assert_eq!(said(&desired), [("net1".to_owned(), 0)]);
        assert_eq!(meter.lock().len(), 1, "the first is forgotten");
    }
}
