//! When to repair: soon after a notification, again after a repair that failed, and from time to time what no
//! notification reports. Repairs take at most a fifth of the engine's time, and what another program changes again and
//! again is left alone for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::base::deadline::Deadline;
use crate::base::monotonic;
use crate::engine::state::graces::Graces;
use crate::engine::state::problems::Subject;
use crate::model::names::IfName;

/// Repairs in a row may take this long altogether; after that, each waits until they take one part in [`SHARE`] of the
/// time.
const BURST: Duration = Duration::from_millis(500);
/// See [`BURST`].
const SHARE: u32 = 5;
/// The pause before a failed repair is tried again, and the longest one; each is twice as long as the one before.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often something is repaired within [`SPAN`]; after that it is left alone until the span is over.
const REPAIRS: u32 = 20;
/// See [`REPAIRS`].
const SPAN: Duration = Duration::from_secs(10);
/// How many subjects are counted; those whose span is over are dropped first.
const COUNTED: usize = 4096;

/// What must be looked at, and when.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// Something that netd made on the host may have changed.
    host: bool,
    /// Host ends of containers in which something may have changed.
    containers: BTreeSet<IfName>,
    /// What repairs took lately, less one part in [`SHARE`] of the time since then.
    taken: Duration,
    /// When that was counted.
    counted: Option<Instant>,
    /// When the failed repair is tried again, and the pause before that.
    retry: Option<(Deadline, Duration)>,
    /// How often each subject was repaired in its span.
    repairs: BTreeMap<Subject, (u32, Deadline)>,
    /// Until when the connections of drained members stay.
    pub(crate) graces: Graces,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Everything that netd made.
    Everything,
    /// The containers with these host ends.
    Containers(BTreeSet<IfName>),
}

impl Agenda {
    /// Looks at everything soon.
    pub(crate) fn look_at_host(&mut self) {
        self.host = true;
    }

    /// Looks into containers soon.
    pub(crate) fn look_into(&mut self, ends: BTreeSet<IfName>) {
        self.containers.extend(ends);
    }

    /// When something is due; `None`: nothing is.
    pub(crate) fn next(&self) -> Option<Deadline> {
        let both = self.next_repair().into_iter().chain(self.graces.next());
        both.min_by_key(|due| due.remaining().unwrap_or_default())
    }

    fn next_repair(&self) -> Option<Deadline> {
        if self.host || !self.containers.is_empty() {
            return Some(Deadline::after(self.rest()));
        }
        let (at, _) = self.retry?;
        Some(if at.remaining().is_some() { at } else { Deadline::after(self.rest()) })
    }

    /// Takes what is due now.
    pub(crate) fn take_due(&mut self) -> Option<Due> {
        if !self.rest().is_zero() {
            return None;
        }
        let retry = self.retry.is_some_and(|(at, _)| at.remaining().is_none());
        if std::mem::take(&mut self.host) || retry {
            return Some(Due::Everything);
        }
        let containers = std::mem::take(&mut self.containers);
        (!containers.is_empty()).then_some(Due::Containers(containers))
    }

    /// A repair that began at `start` has ended.
    pub(crate) fn took(&mut self, start: Instant) {
        let now = monotonic::now();
        self.taken = self.owing(now) + now.duration_since(start);
        self.counted = Some(now);
    }

    fn owing(&self, now: Instant) -> Duration {
        let since = self.counted.map_or(Duration::MAX, |then| now.duration_since(then));
        self.taken.saturating_sub(since / SHARE)
    }

    /// How long no repair may begin.
    fn rest(&self) -> Duration {
        self.owing(monotonic::now()).saturating_sub(BURST) * SHARE
    }

    /// After a repair of everything, and after each command: whether something could not be repaired. `tried`: a repair
    /// was tried just now.
    pub(crate) fn retry_if(&mut self, failed: bool, tried: bool) {
        self.retry = match self.retry {
            _ if !failed => None,
            None => Some((Deadline::after(RETRY), RETRY)),
            Some((_, pause)) if tried => {
                let pause = (pause * 2).min(RETRY_MAX);
                Some((Deadline::after(pause), pause))
            }
            waiting => waiting,
        };
    }

    /// Counts a repair; returns false, and counts nothing, if the subject was repaired too often.
    pub(crate) fn may_repair(&mut self, subject: &Subject) -> bool {
        let is_over = |until: &Deadline| until.remaining().is_none();
        if self.repairs.len() >= COUNTED {
            self.repairs.retain(|_, (_, until)| !is_over(until));
            if self.repairs.len() >= COUNTED {
                return true;
            }
        }
        let (count, until) = self.repairs.entry(subject.clone()).or_insert_with(|| (0, Deadline::after(SPAN)));
        if is_over(until) {
            (*count, *until) = (0, Deadline::after(SPAN));
        }
        let may = *count < REPAIRS;
        *count += u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_reported_is_due_at_once_and_after_long_repairs_with_a_rest() {
        let mut agenda = Agenda::default();
        assert!(agenda.next().is_none() && agenda.take_due().is_none());
        agenda.look_into(["nd1".parse().unwrap()].into());
        agenda.look_at_host();
        assert_eq!(agenda.next().unwrap().remaining(), None);
        assert_eq!(agenda.take_due(), Some(Due::Everything));
        assert_eq!(agenda.take_due(), Some(Due::Containers(["nd1".parse().unwrap()].into())));
        agenda.took(monotonic::now());
        agenda.look_at_host();
        assert_eq!(agenda.take_due(), Some(Due::Everything), "a short one needs no rest");
        let start = monotonic::now();
        advance(Duration::from_secs(2)).await;
        agenda.took(start);
        agenda.look_at_host();
        assert_eq!(agenda.take_due(), None);
        let rest = Duration::from_millis(7500);
        assert_eq!(agenda.next().unwrap().remaining(), Some(rest), "a fifth of the time beyond half a second");
        advance(rest).await;
        assert_eq!(agenda.take_due(), Some(Due::Everything));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_repair_is_tried_again_after_longer_and_longer_pauses() {
        let mut agenda = Agenda::default();
        for pause in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            agenda.retry_if(true, true);
            agenda.retry_if(true, false);
            assert_eq!((agenda.next().unwrap().remaining(), agenda.take_due()), (Some(pause), None));
            advance(pause).await;
            assert_eq!(agenda.take_due(), Some(Due::Everything));
        }
        agenda.retry_if(false, true);
        assert!(agenda.next().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn another_program_that_fights_back_wins_for_a_while() {
        let mut agenda = Agenda::default();
        let (one, other) = (Subject::Elements, Subject::Forwarding);
        assert!((0..REPAIRS).all(|_| agenda.may_repair(&one)));
        assert!(!agenda.may_repair(&one));
        assert!(agenda.may_repair(&other), "each on its own");
        advance(SPAN - Duration::from_millis(1)).await;
        assert!(!agenda.may_repair(&one));
        advance(Duration::from_millis(1)).await;
        assert!(agenda.may_repair(&one), "the span is over");
    }
}
