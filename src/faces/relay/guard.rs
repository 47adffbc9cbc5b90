//! What keeps the relay from loops and floods: messages that were seen a moment ago, and how much each sender and each
//! interface may send.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::link::SEARCH_PORTS;
use crate::model::names::IfName;

/// How long a message is remembered. What goes in circles between relays comes back sooner; whoever repeats a question or
/// an announcement on purpose waits longer (250 ms between probes: RFC 6762, 8.1).
const MOMENT: Duration = Duration::from_millis(200);
/// Messages that are remembered. While there are as many, nothing is relayed.
const REMEMBERED_MOST: usize = 4096;
/// Searches of different senders that may be equal within a moment.
const EQUAL_SEARCHES: usize = 4;
/// Senders whose rate is known. While there are as many that sent a moment ago, others are not relayed.
const SENDERS_MOST: usize = 1024;

/// How many searches that are equal to one from this port may be sent on within a moment: each has its own answers. One
/// from a relay's port is perhaps what this relay itself, or its neighbours, sent on: each relay has another port, and two
/// of them that hear each other on both sides would send it to and fro.
pub(super) fn equal_searches(from_port: u16) -> usize {
    if SEARCH_PORTS.contains(&from_port) { 1 } else { EQUAL_SEARCHES }
}

/// The messages of the last moment.
#[derive(Debug, Default)]
pub(super) struct Recent {
    hash: RandomState,
    seen: HashMap<Key, Seen>,
    order: VecDeque<(Instant, Key)>,
}

/// The hash of a message, and the interface where it was seen.
type Key = (u64, IfName);

#[derive(Debug, Default)]
struct Seen {
    from: Vec<SocketAddr>,
    /// The relay itself has sent it there.
    is_sent: bool,
}

impl Recent {
    /// Whether a message that arrived is none that was seen there a moment ago: not from this sender, from fewer than `most`
    /// senders, and not sent by the relay itself.
    pub(super) fn is_new(
        &mut self,
        now: Instant,
        (at, from): (&IfName, SocketAddr),
        message: &[u8],
        most: usize,
    ) -> bool {
        let Some(seen) = self.at(now, at, message) else { return false };
        let is_new = !seen.is_sent && seen.from.len() < most && !seen.from.contains(&from);
        if is_new {
            seen.from.push(from);
        }
        is_new
    }

    /// Remembers that the relay has sent a message to an interface.
    pub(super) fn sent(&mut self, now: Instant, at: &IfName, message: &[u8]) {
        if let Some(seen) = self.at(now, at, message) {
            seen.is_sent = true;
        }
    }

    fn at(&mut self, now: Instant, at: &IfName, message: &[u8]) -> Option<&mut Seen> {
        let is_over = |since: &Instant| now.duration_since(*since) >= MOMENT;
        while self.order.front().is_some_and(|(since, _)| is_over(since)) {
            if let Some((_, key)) = self.order.pop_front() {
                self.seen.remove(&key);
            }
        }
        let key = (self.hash.hash_one(message), at.clone());
        if !self.seen.contains_key(&key) {
            if self.seen.len() >= REMEMBERED_MOST {
                return None;
            }
            self.order.push_back((now, key.clone()));
        }
        Some(self.seen.entry(key).or_default())
    }
}

/// How much may be sent.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// Messages and bytes a second.
    rate: [f64; 2],
    /// Messages and bytes at once.
    burst: [f64; 2],
}

/// A responder with fifty services announces them in a few messages; a busy network with a hundred devices has some ten
/// messages a second.
const OF_SENDER: Limit = Limit { rate: [50.0, 65_536.0], burst: [100.0, 131_072.0] };
const OF_INTERFACE: Limit = Limit { rate: [250.0, 327_680.0], burst: [500.0, 655_360.0] };

#[derive(Debug)]
struct Bucket {
    left: [f64; 2],
    since: Instant,
}

impl Bucket {
    fn new(now: Instant, limit: Limit) -> Self {
        Self { left: limit.burst, since: now }
    }

    fn fill(&mut self, now: Instant, limit: Limit) {
        let passed = now.duration_since(self.since).as_secs_f64();
        self.since = now;
        for ((left, rate), burst) in self.left.iter_mut().zip(limit.rate).zip(limit.burst) {
            *left = (*left + passed * rate).min(burst);
        }
    }

    fn has(&self, bytes: f64) -> bool {
        self.left[0] >= 1.0 && self.left[1] >= bytes
    }

    fn take(&mut self, bytes: f64) {
        self.left[0] -= 1.0;
        self.left[1] -= bytes;
    }

    fn is_full(&self, limit: Limit) -> bool {
        self.left == limit.burst
    }
}

/// The rates of all senders and interfaces.
#[derive(Debug, Default)]
pub(super) struct Rates {
    senders: HashMap<(IfName, IpAddr), Bucket>,
    interfaces: HashMap<IfName, Bucket>,
}

impl Rates {
    /// Whether a message of so many bytes may be relayed. One that may not does not count.
    pub(super) fn allow(&mut self, now: Instant, at: &IfName, from: IpAddr, bytes: usize) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a datagram has at most 65,535 bytes")]
        let bytes = bytes as f64;
        if self.senders.len() >= SENDERS_MOST && !self.senders.contains_key(&(at.clone(), from)) {
            self.senders.retain(|_, bucket| {
                bucket.fill(now, OF_SENDER);
                !bucket.is_full(OF_SENDER)
            });
            if self.senders.len() >= SENDERS_MOST {
                return false;
            }
        }
        let interface = bucket(&mut self.interfaces, at.clone(), now, OF_INTERFACE);
        let sender = bucket(&mut self.senders, (at.clone(), from), now, OF_SENDER);
        let allowed = interface.has(bytes) && sender.has(bytes);
        if allowed {
            interface.take(bytes);
            sender.take(bytes);
        }
        allowed
    }

    /// Forgets interfaces for which this returns false, and their senders.
    pub(super) fn retain(&mut self, stays: impl Fn(&IfName) -> bool) {
        self.interfaces.retain(|at, _| stays(at));
        self.senders.retain(|(at, _), _| stays(at));
    }
}

fn bucket<K: Eq + Hash>(buckets: &mut HashMap<K, Bucket>, key: K, now: Instant, limit: Limit) -> &mut Bucket {
    let bucket = buckets.entry(key).or_insert_with(|| Bucket::new(now, limit));
    bucket.fill(now, limit);
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::monotonic;

    fn eth0() -> IfName {
        "eth0".parse().unwrap()
    }

    fn sender(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 5353))
    }

    #[test]
    fn a_message_comes_back_in_vain_but_may_be_repeated_later() {
        let (mut recent, now) = (Recent::default(), monotonic::now());
        let mut arrives = |after, number, most| {
            recent.is_new(now + Duration::from_millis(after), (&eth0(), sender(number)), b"who?", most)
        };
        assert!(arrives(0, 1, 1));
        assert!(!arrives(1, 1, 1) && !arrives(199, 2, 1));
        assert!(arrives(250, 1, 1));
        // Searches of several senders may be equal; that of one sender is not asked twice.
        assert!(arrives(1000, 1, 2) && arrives(1000, 2, 2));
        assert!(!arrives(1000, 1, 2) && !arrives(1000, 3, 2));
    }

    #[test]
    fn what_the_relay_sent_is_not_taken_from_anybody() {
        let (mut recent, now) = (Recent::default(), monotonic::now());
        recent.sent(now, &eth0(), b"who?");
        assert!(!recent.is_new(now, (&eth0(), sender(1)), b"who?", EQUAL_SEARCHES));
        assert!(recent.is_new(now, (&"eth1".parse().unwrap(), sender(1)), b"who?", EQUAL_SEARCHES), "elsewhere it is");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut recent, now) = (Recent::default(), monotonic::now());
        let mut arrives = |number: usize| recent.is_new(now, (&eth0(), sender(1)), &number.to_be_bytes(), 1);
        assert!((0..REMEMBERED_MOST).all(&mut arrives));
        assert!(!arrives(REMEMBERED_MOST));
        assert!(recent.is_new(now + MOMENT, (&eth0(), sender(1)), b"later", 1));
        assert_eq!((recent.seen.len(), recent.order.len()), (1, 1));
    }

    #[test]
    fn one_sender_cannot_take_all() {
        let (mut rates, now) = (Rates::default(), monotonic::now());
        let mut allowed = |number: u8, bytes| {
            (0..1000).filter(|_| rates.allow(now, &eth0(), [10, 0, 0, number].into(), bytes)).count()
        };
        assert_eq!(allowed(1, 100), 100);
        assert_eq!(allowed(2, 9000), 14, "131,072 bytes");
        assert_eq!((3..20).map(|number| allowed(number, 100)).sum::<usize>(), 500 - 114);
        let later = now + Duration::from_secs(1);
        let again = (0..1000).filter(|_| rates.allow(later, &eth0(), [10, 0, 0, 1].into(), 100)).count();
        assert_eq!(again, 50);
    }

    #[test]
    fn senders_are_bounded_and_those_that_were_silent_make_room() {
        let (mut rates, now) = (Rates::default(), monotonic::now());
        for number in 0..u32::try_from(SENDERS_MOST).unwrap() {
            let at = format!("eth{}", number / 400).parse().unwrap();
            assert!(rates.allow(now, &at, std::net::Ipv4Addr::from(number).into(), 1));
        }
        assert!(!rates.allow(now, &"eth9".parse().unwrap(), [10, 0, 0, 1].into(), 1));
        assert!(rates.allow(now + MOMENT, &"eth9".parse().unwrap(), [10, 0, 0, 1].into(), 1));
        assert_eq!(rates.senders.len(), 1);
    }
}
