//! What is known about the way from networks to the name service at their gateway, since the firewall changed last.
//!
//! netd's own question decides for a network. Where netd cannot ask itself, containers ask, and each decides for itself
//! only: its own firewall may drop the question, or answer it. At least two that agree, and are more than those that
//! differ, decide for the network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::deadline::Deadline;
use crate::model::ids::ContainerId;
use crate::model::names::NetworkName;

/// How many containers of one network are asked from, at most.
pub(crate) const MOST_VOTES: usize = 8;
/// See the module.
const LEAST_VOTES: usize = 2;

/// The ways of all networks.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    open: BTreeSet<NetworkName>,
    /// Whether the questions of these containers were answered.
    votes: BTreeMap<NetworkName, BTreeMap<ContainerId, bool>>,
    /// The firewall has changed since all networks were asked.
    is_stale: bool,
    /// Networks that are still to be asked.
    left: BTreeSet<NetworkName>,
    /// How long asking has taken since it began.
    took: Duration,
    /// When some of them are asked although commands wait.
    at_the_latest: Option<Deadline>,
    /// When all networks may be asked again.
    rest: Option<Deadline>,
}

/// How many networks are asked at once: commands wait meanwhile, some 4 ms for each.
const AT_ONCE: usize = 8;
/// While commands wait without end, some networks are asked this often.
const BETWEEN: Duration = Duration::from_millis(200);

/// Asking from all networks takes at most one part in this of the time: on some hosts the firewall changes every second.
const SHARE: u32 = 20;

/// What containers decide for their network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Questions are answered.
    Open,
    /// They are not.
    Closed,
    /// Each decides for itself.
    Nothing,
}

impl Ways {
    /// Whether it is known that questions from the network are answered.
    pub(crate) fn is_open(&self, network: &NetworkName) -> bool {
        self.open.contains(network)
    }

    /// Questions from the network are answered.
    pub(crate) fn opened(&mut self, network: &NetworkName) {
        self.open.insert(network.clone());
    }

    /// Whether the container has asked.
    pub(crate) fn has_asked(&self, network: &NetworkName, container: &ContainerId) -> bool {
        self.votes.get(network).is_some_and(|votes| votes.contains_key(container))
    }

    /// Counts what a container found, and returns what is decided for the network by now.
    pub(crate) fn vote(&mut self, network: &NetworkName, container: &ContainerId, answered: bool) -> Verdict {
        let votes = self.votes.entry(network.clone()).or_default();
        votes.insert(container.clone(), answered);
        let answered = votes.values().filter(|answered| **answered).count();
        let silent = votes.len() - answered;
        if votes.len() > 2 * MOST_VOTES {
            votes.pop_first();
        }
        match answered.cmp(&silent) {
            std::cmp::Ordering::Greater if answered >= LEAST_VOTES => Verdict::Open,
            std::cmp::Ordering::Less if silent >= LEAST_VOTES => Verdict::Closed,
            _ => Verdict::Nothing,
        }
    }

    /// Whether more containers were answered than not.
    pub(crate) fn are_most_answered(&self, network: &NetworkName) -> bool {
        let votes = self.votes.get(network).map(BTreeMap::values).into_iter().flatten();
        let (answered, silent): (Vec<bool>, Vec<bool>) = votes.partition(|answered| **answered);
        answered.len() > silent.len()
    }

    /// Forgets what is known about a network.
    pub(crate) fn forget(&mut self, network: &NetworkName) {
        self.open.remove(network);
        self.votes.remove(network);
    }

    /// The firewall has changed: all networks must be asked again.
    pub(crate) fn firewall_changed(&mut self) {
        self.is_stale = true;
    }

    /// Whether to ask from all networks now, because the firewall has changed. If so, forgets what it knew.
    pub(crate) fn begin_to_ask(&mut self) -> bool {
        let begins = self.is_stale && self.rest.is_none_or(|rest| rest.remaining().is_none());
        if begins {
            *self = Self::default();
        }
        begins
    }

    /// These are to be asked.
    pub(crate) fn ask(&mut self, networks: BTreeSet<NetworkName>) {
        self.left = networks;
        self.took = Duration::ZERO;
    }

    /// Whether some are still to be asked.
    pub(crate) fn are_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// The same, and commands have come first for long enough.
    pub(crate) fn are_due(&self) -> bool {
        self.are_left() && self.at_the_latest.is_none_or(|at| at.remaining().is_none())
    }

    /// Takes those that are asked next, at most [`AT_ONCE`].
    pub(crate) fn take_next(&mut self) -> Vec<NetworkName> {
        let count = self.left.len().min(AT_ONCE);
        std::iter::from_fn(|| self.left.pop_first()).take(count).collect()
    }

    /// Some were asked, which took this long.
    pub(crate) fn asked(&mut self, took: Duration) {
        self.took += took;
        self.at_the_latest = Some(Deadline::after(BETWEEN));
        self.rest = Some(Deadline::after(self.took * SHARE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firewall_that_changes_all_the_time_does_not_keep_netd_asking() {
        let mut ways = Ways::default();
        let network: NetworkName = "net1".parse().unwrap();
        assert!(!ways.begin_to_ask(), "nothing has changed");
        ways.firewall_changed();
        assert!(ways.begin_to_ask());
        ways.opened(&network);
        ways.asked(Duration::from_secs(60));
        ways.firewall_changed();
        assert!(!ways.begin_to_ask() && ways.is_open(&network), "it was asked just now");
        ways.ask(BTreeSet::new());
        ways.asked(Duration::ZERO);
        assert!(ways.begin_to_ask() && !ways.is_open(&network));
    }

    #[test]
    fn many_networks_are_asked_some_at_a_time() {
        let mut ways = Ways::default();
        let all: BTreeSet<NetworkName> = (0..20).map(|number| format!("net{number}").parse().unwrap()).collect();
        ways.ask(all.clone());
        let slices: Vec<_> = std::iter::from_fn(|| ways.are_left().then(|| ways.take_next())).collect();
        assert_eq!(slices.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 4]);
        assert_eq!(slices.concat().into_iter().collect::<BTreeSet<_>>(), all);
    }

    #[test]
    fn no_container_decides_for_others() {
        let mut ways = Ways::default();
        let network: NetworkName = "net1".parse().unwrap();
        let mut vote = |id: u8, answered| {
            let container = ContainerId::from_random([id; 32]);
            ways.vote(&network, &container, answered)
        };
        assert_eq!(vote(1, false), Verdict::Nothing);
        assert_eq!(vote(1, false), Verdict::Nothing, "the same one");
        assert_eq!(vote(2, true), Verdict::Nothing, "one says so, one says the opposite");
        assert_eq!(vote(3, false), Verdict::Closed);
        assert_eq!(vote(4, true), Verdict::Nothing);
        assert_eq!(vote(5, true), Verdict::Open);
        assert!(ways.are_most_answered(&network));
        ways.forget(&network);
        assert!(!ways.are_most_answered(&network));
    }
}
