//! What containers with a stance about egress have asked and been denied: a line for each name and type, and for each
//! destination that was denied. Bounded; what was seen longest ago gives way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::base::clock;
use crate::model::desired::Desired;
use crate::model::ids::ContainerId;

/// Most lines of a container, and most names of addresses.
const LINES: usize = 500;
const NAMES: usize = 2048;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The container asked for a name.
    Asked {
        /// In lower case, without the final dot.
        name: String,
        /// `A`, `AAAA`, …
        kind: String,
        /// What became of it.
        verdict: Verdict,
    },
    /// It sent packets that were denied.
    Sent {
        /// Where to.
        to: IpAddr,
        /// `443/tcp`, `icmp`.
        service: String,
        /// The name for which the address was last answered to the container.
        name: Option<String>,
    },
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The name is allowed: what was answered was opened.
    Allowed,
    /// Nothing is denied to the container.
    Open,
    /// The name is not allowed: it was not forwarded.
    Refused,
    /// What was answered could not be opened.
    Failed,
}

impl Verdict {
    /// The name of the value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// How often something happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What.
    pub what: What,
    /// How many questions or packets.
    pub count: u64,
    /// When it was seen first.
    pub first: SystemTime,
    /// When it was seen last.
    pub last: SystemTime,
}

#[derive(Debug)]
struct Seen {
    count: u64,
    first: SystemTime,
    last: SystemTime,
    turn: u64,
}

#[derive(Debug, Default)]
struct Log {
    lines: BTreeMap<What, Seen>,
    names: BTreeMap<IpAddr, String>,
    turn: u64,
}

/// The logs by container.
#[derive(Debug, Default)]
pub(crate) struct Logs(BTreeMap<ContainerId, Log>);

impl Logs {
    /// A container has asked.
    pub(crate) fn asked(&mut self, container: &ContainerId, name: &str, kind: String, verdict: Verdict) {
        let log = self.0.entry(container.clone()).or_default();
        log.add(What::Asked { name: name.to_owned(), kind, verdict }, 1);
    }

    /// These addresses were answered to a container for the name.
    pub(crate) fn named<'a>(&mut self, container: &ContainerId, name: &str, to: impl Iterator<Item = &'a IpAddr>) {
        let log = self.0.entry(container.clone()).or_default();
        for to in to {
            if log.names.len() >= NAMES && !log.names.contains_key(to) {
                log.names.pop_first();
            }
            log.names.insert(*to, name.to_owned());
        }
    }

    /// Packets of a container have been denied.
    pub(crate) fn denied(&mut self, container: &ContainerId, to: IpAddr, service: String, packets: u64) {
        let log = self.0.entry(container.clone()).or_default();
        let name = log.names.get(&to).cloned();
        log.add(What::Sent { to, service, name }, packets);
    }

    /// The lines of a container, the most recent last.
    pub(crate) fn of(&self, container: &ContainerId) -> Vec<Line> {
        let Some(log) = self.0.get(container) else { return Vec::new() };
        let mut lines: Vec<_> = log.lines.iter().collect();
        lines.sort_by_key(|(_, seen)| seen.turn);
        let line = |(what, seen): (&What, &Seen)| {
            let Seen { count, first, last, .. } = *seen;
            Line { what: what.clone(), count, first, last }
        };
        lines.into_iter().map(line).collect()
    }

    /// Removes the logs of containers that no longer exist.
    pub(crate) fn keep(&mut self, desired: &Desired) {
        self.0.retain(|id, _| desired.container(id).is_some());
    }
}

impl Log {
    fn add(&mut self, what: What, count: u64) {
        let now = clock::now();
        self.turn += 1;
        let turn = self.turn;
        if self.lines.len() >= LINES && !self.lines.contains_key(&what) {
            let oldest = self.lines.iter().min_by_key(|(_, seen)| seen.turn).map(|(what, _)| what.clone());
            oldest.iter().for_each(|oldest| _ = self.lines.remove(oldest));
        }
        let seen = self.lines.entry(what).or_insert(Seen { count: 0, first: now, last: now, turn });
        (seen.count, seen.last, seen.turn) = (seen.count.saturating_add(count), now, turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_counts_what_happens_again() {
        let (id, mut logs): (ContainerId, _) = ("web-0123456789".parse().unwrap(), Logs::default());
        for n in 0..LINES + 10 {
            logs.asked(&id, &format!("n{n}.test"), "A".into(), Verdict::Refused);
            logs.asked(&id, "n0.test", "A".into(), Verdict::Refused);
        }
        let lines = logs.of(&id);
        assert_eq!(lines.len(), LINES);
        let last = lines.last().unwrap();
        assert_eq!(last.count, LINES as u64 + 11);
        assert!(matches!(&last.what, What::Asked { name, .. } if name == "n0.test"));
        logs.named(&id, "cdn.test", ["192.0.2.7".parse().unwrap()].iter());
        logs.denied(&id, "192.0.2.7".parse().unwrap(), "80/tcp".into(), 3);
        let lines = logs.of(&id);
        let What::Sent { name, .. } = &lines.last().unwrap().what else { panic!() };
        assert_eq!(name.as_deref(), Some("cdn.test"));
        logs.keep(&Desired::default());
        assert_eq!(logs.of(&id), []);
    }
}
