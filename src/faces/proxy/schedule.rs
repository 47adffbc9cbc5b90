//! When to look whether somebody listens in containers (pure). Times count from when the proxy began.

use std::time::Duration;

/// Between two looks at a container, at least.
pub(super) const SHORTEST: Duration = Duration::from_millis(5);
/// While nobody listens, each pause is longer by this part: a client waits a twentieth of the time that the application
/// has taken to start, at most.
const GROWTH: u32 = 20;
/// Between two looks at a container in which nobody listens, at most, unless [`Pace`] takes longer.
const LONGEST_SILENT: Duration = Duration::from_millis(250);
/// Between two looks at a container in which somebody listens, unless [`Pace`] takes longer.
pub(super) const LONGEST: Duration = Duration::from_secs(1);
/// Between two rounds of looks, at least: containers that are due soon share a thread.
const ROUND: Duration = Duration::from_millis(5);
/// For each port that was looked at, until the next round: 1,000 ports a second.
const PORT: Duration = Duration::from_millis(1);
/// Ports of a round: a container that is due at once waits no longer than this takes.
pub(super) const PORTS_MOST: usize = 50;

/// When a container is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    /// The last look.
    last: Option<Duration>,
    pause: Duration,
    due: Duration,
}

impl Schedule {
    /// The first look is due now.
    pub(super) fn new(now: Duration) -> Self {
        Self { last: None, pause: SHORTEST, due: now }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Whether there was no look yet.
    pub(super) fn is_first(&self) -> bool {
        self.last.is_none()
    }

    /// After a look. `all`: somebody listens at every port. `fewer`: at a port where somebody listened before, nobody
    /// does.
    pub(super) fn looked(&mut self, now: Duration, all: bool, fewer: bool) {
        self.pause = match self.last {
            _ if all => LONGEST,
            None => SHORTEST,
            // It probably starts again soon.
            Some(_) if fewer => SHORTEST,
            Some(_) => (self.pause + self.pause / GROWTH).min(LONGEST_SILENT),
        };
        self.last = Some(now);
        self.due = now + self.pause;
    }

    /// The container has refused a connection, so nobody listens at one of its ports.
    pub(super) fn refused(&mut self, now: Duration) {
        let soonest = self.last.map_or(now, |last| now.max(last + SHORTEST));
        (self.pause, self.due) = (SHORTEST, self.due.min(soonest));
    }
}

/// Bounds the looks of all containers together, except the first of each: those are as many as the ports that are
/// published.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the next round may begin.
    pub(super) free: Duration,
}

impl Pace {
    /// After the beginning of a round that looks at so many ports.
    pub(super) fn began(&mut self, now: Duration, ports: usize) {
        let rest = PORT.saturating_mul(u32::try_from(ports).unwrap_or(u32::MAX));
        self.free = now + rest.max(ROUND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    /// The times of the first looks after `START`, in milliseconds, if nobody listens.
    fn silent(schedule: &mut Schedule, looks: usize) -> Vec<u128> {
        let look = |_| {
            let at = schedule.due();
            schedule.looked(at, false, false);
            (at - START).as_millis()
        };
        (0..looks).map(look).collect()
    }

    #[test]
    fn while_nobody_listens_looks_become_rarer() {
        let mut schedule = Schedule::new(START);
        assert!(schedule.is_first());
        assert_eq!(silent(&mut schedule, 6), [0, 5, 10, 15, 21, 27]);
        assert!(!schedule.is_first());
        let times = silent(&mut schedule, 120);
        assert!(times.windows(2).all(|two| two[1] - two[0] <= 250), "{times:?}");
        assert_eq!(times[119] - times[118], 250);
    }

    #[test]
    fn while_somebody_listens_a_look_a_second_and_afterwards_soon_again() {
        let mut schedule = Schedule::new(START);
        for second in 0..3 {
            assert_eq!(schedule.due(), START + Duration::from_secs(second));
            schedule.looked(schedule.due(), true, false);
        }
        let ended = schedule.due();
        schedule.looked(ended, false, true);
        assert_eq!(schedule.due(), ended + SHORTEST);
    }

    #[test]
    fn a_refusal_is_followed_by_a_look_at_once_but_not_by_many() {
        let mut schedule = Schedule::new(START);
        schedule.looked(START, true, false);
        let refused = START + Duration::from_millis(300);
        schedule.refused(refused);
        assert_eq!(schedule.due(), refused);
        // Somebody listens all the same, and the next connection is refused too.
        schedule.looked(refused, true, false);
        schedule.refused(refused + Duration::from_millis(1));
        assert_eq!(schedule.due(), refused + SHORTEST);
        // One that is due already does not wait longer.
        schedule.refused(refused + LONGEST);
        assert_eq!(schedule.due(), refused + SHORTEST);
        let mut new = Schedule::new(START);
        new.refused(START + LONGEST);
        assert_eq!(new.due(), START);
    }

    #[test]
    fn a_thousand_ports_a_second() {
        let mut pace = Pace::default();
        pace.began(START, 1);
        assert_eq!(pace.free, START + ROUND);
        pace.began(START, PORTS_MOST);
        assert_eq!(pace.free, START + Duration::from_millis(50));
        pace.began(START, 60_000);
        assert_eq!(pace.free, START + Duration::from_secs(60));
    }
}
