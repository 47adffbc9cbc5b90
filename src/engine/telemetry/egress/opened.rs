//! What is open for containers, and until when: bounded for each address of a container; the destinations that were answered
//! longest ago give way.
//!
//! Only the engine changes what is open. The name service asks whether an answer is, and thereby keeps it from giving way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Settings;
use crate::model::egress::Opening;
use crate::model::publication::Protocol;

/// By how much a timeout is longer than it must be, so that not each answer makes the kernel change something.
const SLACK: Duration = Duration::from_secs(15);

type Port = Option<(Protocol, u16)>;

/// What is open.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) settings: Settings,
    by: BTreeMap<IpAddr, BTreeMap<IpAddr, Destination>>,
    /// Counts the answers.
    turn: u64,
}

#[derive(Debug, Default)]
struct Destination {
    until: BTreeMap<Port, Instant>,
    /// The turn of the last answer with it.
    turn: u64,
}

/// What the kernel is to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) close: Vec<Opening>,
    pub(crate) open: Vec<(Opening, Duration)>,
}

impl Opened {
    /// Whether nothing is known to be open.
    pub(crate) fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    fn until(&self, one: &Opening) -> Option<Instant> {
        self.by.get(&one.from)?.get(&one.to)?.until.get(&one.port).copied()
    }

    /// Whether all of these are open for their time and the grace. They are the last to give way from now on.
    pub(crate) fn has(&mut self, wanted: &BTreeMap<Opening, Duration>, now: Instant) -> bool {
        let grace = self.settings.grace;
        let is_open =
            |(one, left): (&Opening, &Duration)| self.until(one).is_some_and(|until| until >= now + *left + grace);
        let all = wanted.iter().all(is_open);
        if all {
            self.touch(wanted.keys());
        }
        all
    }

    fn touch<'a>(&mut self, all: impl Iterator<Item = &'a Opening>) {
        self.turn += 1;
        for one in all {
            if let Some(found) = self.by.get_mut(&one.from).and_then(|to| to.get_mut(&one.to)) {
                found.turn = self.turn;
            }
        }
    }

    /// The changes that open these, and close what gives way. Of more destinations than may be open the first count.
    pub(crate) fn changes(&mut self, wanted: &BTreeMap<Opening, Duration>, now: Instant) -> Changes {
        self.forget_expired(now);
        self.touch(wanted.keys());
        let (mut changes, most) = (Changes::default(), self.settings.addresses.max(1));
        let mut by: BTreeMap<IpAddr, BTreeMap<IpAddr, Vec<(Opening, Duration)>>> = BTreeMap::new();
        for (one, left) in wanted {
            by.entry(one.from).or_default().entry(one.to).or_default().push((*one, *left));
        }
        let (no_destination, grace) = (BTreeMap::new(), self.settings.grace);
        for (from, wanted) in by {
            let there = self.by.get(&from).unwrap_or(&no_destination);
            let new = wanted.keys().filter(|to| !there.contains_key(to)).count().min(most);
            let mut idle: Vec<_> = there.iter().filter(|(to, _)| !wanted.contains_key(to)).collect();
            idle.sort_by_key(|(_, destination)| destination.turn);
            let excess = (there.len() + new).saturating_sub(most);
            let gone = idle.into_iter().take(excess);
            let all = |(to, destination): (&IpAddr, &Destination)| -> Vec<Opening> {
                destination.until.keys().map(|port| Opening { from, to: *to, port: *port }).collect()
            };
            changes.close.extend(gone.flat_map(all));
            for (one, left) in wanted.into_values().take(most).flatten() {
                let is_open = self.until(&one).is_some_and(|until| until >= now + left + grace);
                if !is_open {
                    changes.open.push((one, left + grace + SLACK));
                }
            }
        }
        changes
    }

    /// The kernel has changed this.
    pub(crate) fn note(&mut self, changes: &Changes, now: Instant) {
        changes.close.iter().for_each(|one| self.forget(one));
        for (one, left) in &changes.open {
            let turn = self.turn;
            let destination = self.by.entry(one.from).or_default().entry(one.to).or_default();
            destination.turn = turn;
            destination.until.insert(one.port, now + *left);
        }
    }

    fn forget(&mut self, one: &Opening) {
        let Some(all) = self.by.get_mut(&one.from) else { return };
        if let Some(destination) = all.get_mut(&one.to) {
            destination.until.remove(&one.port);
            if destination.until.is_empty() {
                all.remove(&one.to);
            }
        }
        if all.is_empty() {
            self.by.remove(&one.from);
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        for destinations in self.by.values_mut() {
            destinations.retain(|_, destination| {
                destination.until.retain(|_, until| *until > now);
                !destination.until.is_empty()
            });
        }
        self.by.retain(|_, destinations| !destinations.is_empty());
    }

    /// Everything that is open, with the time that is left.
    pub(crate) fn all(&mut self, now: Instant) -> BTreeMap<Opening, Duration> {
        self.forget_expired(now);
        let mut all = BTreeMap::new();
        for (from, destinations) in &self.by {
            for (to, destination) in destinations {
                for (port, until) in &destination.until {
                    all.insert(Opening { from: *from, to: *to, port: *port }, *until - now);
                }
            }
        }
        all
    }

    /// What is open for the address.
    pub(crate) fn of(&self, from: IpAddr) -> Vec<Opening> {
        let destinations = self.by.get(&from).into_iter().flatten();
        let of = |(to, destination): (&IpAddr, &Destination)| -> Vec<Opening> {
            destination.until.keys().map(|port| Opening { from, to: *to, port: *port }).collect()
        };
        destinations.flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(to: &[&str], seconds: u64) -> BTreeMap<Opening, Duration> {
        let from = "10.0.0.2".parse().unwrap();
        let one = |to: &&str| Opening { from, to: to.parse().unwrap(), port: Some((Protocol::Tcp, 443)) };
        to.iter().map(|to| (one(to), Duration::from_secs(seconds))).collect()
    }

    fn shown(changes: &Changes) -> (Vec<String>, Vec<String>) {
        let open = changes.open.iter().map(|(one, left)| format!("{} {}", one.to, left.as_secs()));
        (changes.close.iter().map(|one| one.to.to_string()).collect(), open.collect())
    }

    #[test]
    fn what_was_answered_longest_ago_gives_way() {
        let mut opened = Opened { settings: Settings { addresses: 2, ..Settings::default() }, ..Opened::default() };
        let now = Instant::now();
        let mut open = |to: &[&str]| {
            let changes = opened.changes(&wanted(to, 5), now);
            opened.note(&changes, now);
            shown(&changes)
        };
        let none = Vec::<String>::new();
        assert_eq!(open(&["192.0.2.1"]), (none.clone(), vec!["192.0.2.1 80".into()]));
        assert_eq!(open(&["192.0.2.2"]), (none.clone(), vec!["192.0.2.2 80".into()]));
        assert_eq!(open(&["192.0.2.1"]), (none.clone(), none.clone()), "it is open");
        assert_eq!(open(&["192.0.2.3"]), (vec!["192.0.2.2".into()], vec!["192.0.2.3 80".into()]));
        let three = open(&["192.0.2.7", "192.0.2.8", "192.0.2.9"]);
        assert_eq!(three.1, ["192.0.2.7 80", "192.0.2.8 80"], "no more than two");
        assert_eq!(three.0, ["192.0.2.1", "192.0.2.3"]);
        assert_eq!(opened.all(now).len(), 2);
    }

    #[test]
    fn an_answer_makes_the_kernel_change_something_only_if_the_time_is_too_short() {
        let mut opened = Opened::default();
        let (now, one) = (Instant::now(), wanted(&["192.0.2.1"], 5));
        assert!(!opened.has(&one, now));
        let changes = opened.changes(&one, now);
        opened.note(&changes, now);
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(opened.has(&one, later(15)) && !opened.has(&one, later(16)));
        assert!(opened.has(&wanted(&["192.0.2.1"], 0), later(20)), "with the time counted down");
        assert_eq!(shown(&opened.changes(&one, later(16))).1, ["192.0.2.1 80"]);
        assert!(opened.changes(&one, later(81)).close.is_empty(), "it has expired");
        assert!(opened.is_empty());
    }
}
