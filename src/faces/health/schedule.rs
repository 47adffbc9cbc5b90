//! When a member is probed, and what follows from a probe (pure).

use std::time::Duration;
use std::time::Instant;

use super::targets::Times;

/// After the first probe of a starting member that fails.
const FIRST: Duration = Duration::from_millis(200);
/// The interval varies by up to this part, so that members that began together do not stay together.
const JITTER: f64 = 0.1;

/// What is known of a member before a probe: what was found out last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known<'a> {
    /// Nothing: it is starting.
    Nothing,
    Healthy,
    /// With the reason.
    Unhealthy(&'a str),
}

/// The schedule of a member.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    times: Times,
    /// When the next probe is due.
    pub(super) due: Instant,
    pause: Duration,
    /// Failed probes in a row; of a starting member only those with the whole interval before the next.
    failures: u32,
}

impl Schedule {
    /// The first probe is due now.
    pub(super) fn new(times: Times, now: Instant) -> Self {
        Self { times, due: now, pause: Duration::ZERO, failures: 0 }
    }

    /// Nothing was found out.
    pub(super) fn again(&mut self, now: Instant) {
        self.due = now + self.times.interval;
    }

    /// After a probe that began at `began`. Whether the member is healthy, if that or the reason is news. `random`: from 0
    /// to 1.
    pub(super) fn probed(
        &mut self,
        (began, now): (Instant, Instant),
        known: Known<'_>,
        outcome: Result<(), &str>,
        random: f64,
    ) -> Option<bool> {
        let whole = self.times.interval;
        let news = match (outcome, known) {
            (Ok(()), known) => {
                (self.pause, self.failures) = (whole, 0);
                (known != Known::Healthy).then_some(true)
            }
            (Err(why), Known::Unhealthy(known)) => {
                self.pause = whole;
                (known != why).then_some(false)
            }
            (Err(_), Known::Healthy) => {
                self.pause = whole;
                self.failed()
            }
            (Err(_), Known::Nothing) => {
                self.pause = if self.pause.is_zero() { FIRST } else { self.pause * 3 / 2 }.min(whole);
                if self.pause == whole { self.failed() } else { None }
            }
        };
        let jitter = 1.0 - JITTER + 2.0 * JITTER * random;
        self.due = (began + self.pause.mul_f64(jitter)).max(now);
        news
    }

    /// Counts a failure; false if there were enough.
    fn failed(&mut self) -> Option<bool> {
        self.failures = self.failures.saturating_add(1);
        (self.failures >= self.times.retries).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { interval: Duration::from_secs(2), timeout: Duration::from_secs(1), retries: 3 };
    const REFUSED: Result<(), &str> = Err("refused");

    /// A member that is probed whenever it is due.
    struct Member {
        schedule: Schedule,
        begin: Instant,
        known: Option<bool>,
    }

    impl Member {
        fn new() -> Self {
            let begin = crate::base::monotonic::now();
            Self { schedule: Schedule::new(TIMES, begin), begin, known: None }
        }

        /// When it was probed, in milliseconds, and what is news.
        fn probe(&mut self, outcome: Result<(), &str>) -> (u128, Option<bool>) {
            let at = self.schedule.due;
            let known = match self.known {
                None => Known::Nothing,
                Some(true) => Known::Healthy,
                Some(false) => Known::Unhealthy("refused"),
            };
            let news = self.schedule.probed((at, at), known, outcome, 0.5);
            self.known = news.or(self.known);
            ((at - self.begin).as_millis(), news)
        }
    }

    #[test]
    fn a_starting_member_is_probed_soon_again_and_ready_at_the_first_success() {
        let mut member = Member::new();
        let failed: Vec<_> = (0..5).map(|_| member.probe(REFUSED)).collect();
        assert_eq!(failed, [(0, None), (200, None), (500, None), (950, None), (1625, None)]);
        assert_eq!(member.probe(Ok(())), (2637, Some(true)));
        assert_eq!(member.probe(Ok(())), (4637, None), "from now on in the whole interval");
        assert_eq!(member.probe(Ok(())), (6637, None));
    }

    #[test]
    fn one_that_does_not_become_ready_is_unhealthy_in_the_end() {
        let mut member = Member::new();
        let found = (0..20).map(|_| member.probe(REFUSED)).find(|(_, news)| news.is_some());
        assert_eq!(found, Some((8156, Some(false))), "after as many failures as retries, an interval apart");
        assert_eq!(member.probe(REFUSED).1, None, "it is known");
        assert_eq!(member.probe(Err("no answer")).1, Some(false), "another reason is news");
        assert_eq!(member.probe(Ok(())).1, Some(true), "and one success is enough");
    }

    #[test]
    fn a_ready_member_is_unhealthy_after_failures_in_a_row() {
        let mut member = Member::new();
        member.probe(Ok(()));
        for outcome in [REFUSED, REFUSED, Ok(()), REFUSED, REFUSED] {
            assert_eq!(member.probe(outcome).1, None, "two in a row are not enough");
        }
        assert_eq!(member.probe(REFUSED).1, Some(false));
    }

    #[test]
    fn intervals_vary_and_a_late_probe_is_not_made_up_for() {
        let begin = crate::base::monotonic::now();
        let due = |random, took: u64| {
            let mut schedule = Schedule::new(TIMES, begin);
            schedule.probed((begin, begin + Duration::from_millis(took)), Known::Healthy, Ok(()), random);
            (schedule.due - begin).as_millis()
        };
        assert_eq!([due(0.0, 1), due(1.0, 1), due(0.5, 900), due(0.5, 5000)], [1800, 2200, 2000, 5000]);
    }
}
