//! Queries on their way to an upstream: how many there may be, and the one that has come back to us.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_proto::op::Query;

/// Forwarded queries one asker may have under way. An asker that looks up names as fast as it can has as many as its
/// upstream is slow; a browser or a package manager stays below fifty. Each holds up to four sockets (retransmissions).
pub(super) const PER_ASKER: usize = 128;
/// Forwarded queries all askers together may have under way, so that they do not take every file descriptor.
pub(super) const TOTAL: usize = 1024;

/// The queries under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    askers: HashMap<IpAddr, usize>,
    questions: HashMap<Query, usize>,
}

/// Why a query does not take off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grounded {
    /// The asker, or everybody together, has too many under way.
    Full,
    /// The host asks what we are asking ourselves: its resolver leads back to us.
    Loop,
}

impl std::fmt::Display for Grounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "too many forwarded questions are under way",
            Self::Loop => "the host's resolver leads back here",
        })
    }
}

/// One query under way; it has landed when this is dropped.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<Flights>,
    asker: IpAddr,
    question: Query,
}

impl Flights {
    /// Counts a query in. `from_host`: the asker is the host itself, through which our own queries can come back.
    pub(super) fn take_off(
        self: &Arc<Self>,
        asker: IpAddr,
        from_host: bool,
        question: &Query,
    ) -> Result<Flight, Grounded> {
        let mut counts = self.lock();
        if from_host && counts.questions.contains_key(question) {
            return Err(Grounded::Loop);
        }
        if counts.total >= TOTAL || counts.askers.get(&asker).is_some_and(|count| *count >= PER_ASKER) {
            return Err(Grounded::Full);
        }
        counts.total += 1;
        *counts.askers.entry(asker).or_default() += 1;
        *counts.questions.entry(question.clone()).or_default() += 1;
        Ok(Flight { flights: self.clone(), asker, question: question.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // The counts are whole between any two statements that can panic: there are none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut counts = self.flights.lock();
        counts.total -= 1;
        release(&mut counts.askers, &self.asker);
        release(&mut counts.questions, &self.question);
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    fn question(name: &str) -> Query {
        Query::query(Name::from_ascii(name).unwrap(), RecordType::A)
    }

    #[test]
    fn a_flood_of_one_asker_leaves_room_for_others() {
        let flights = Arc::new(Flights::default());
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let under_way: Vec<_> = (0..PER_ASKER)
            .map(|i| flights.take_off(one, false, &question(&format!("{i}.example."))).unwrap())
            .collect();
        assert_eq!(flights.take_off(one, false, &question("x.example.")).unwrap_err(), Grounded::Full);
        assert!(flights.take_off(two, false, &question("x.example.")).is_ok());
        drop(under_way);
        assert!(flights.take_off(one, false, &question("x.example.")).is_ok());
        let counts = flights.lock();
        assert_eq!((counts.total, counts.askers.len(), counts.questions.len()), (0, 0, 0));
    }

    #[test]
    fn a_question_that_comes_back_through_the_host_is_a_loop() {
        let flights = Arc::new(Flights::default());
        let (container, gateway) = ("10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let flight = flights.take_off(container, false, &question("Example.com.")).unwrap();
        assert_eq!(flights.take_off(gateway, true, &question("example.COM.")).unwrap_err(), Grounded::Loop);
        assert!(flights.take_off(gateway, true, &question("example.org.")).is_ok());
        drop(flight);
        assert!(flights.take_off(gateway, true, &question("example.com.")).is_ok());
    }
}
