//! The health of a name server: its round-trip time, and whether it is asked before or after the others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::monotonic;
use crate::engine::dns::names::UpstreamHealth;

/// How long a silent server is asked last. Doubled each further time, up to the maximum.
const PENALTY: Duration = Duration::from_secs(5);
const PENALTY_MAX: Duration = Duration::from_secs(60);
/// How long the one query that probes a server after that is the only one.
const TRIAL: Duration = Duration::from_secs(2);
/// A server that has not answered within this many of its round trips is late, within these bounds. The lower bound
/// allows for recursion: resolving a name that is not in the server's cache takes longer than one round trip.
const LATE_ROUND_TRIPS: u32 = 3;
const LATE_MIN: Duration = Duration::from_millis(60);
const LATE_MAX: Duration = Duration::from_millis(150);

/// What is known of a server.
#[derive(Debug, Default)]
pub(crate) struct Health {
    counts: [AtomicU64; 4],
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Smoothed as in RFC 6298, 2.
    round_trip: Option<Duration>,
    /// When it last answered.
    heard: Option<Instant>,
    /// Until when it is asked last, and the duration of that penalty.
    out_until: Option<Instant>,
    penalty: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Count {
    Asked,
    Answered,
    Failed,
    Silent,
}

impl Health {
    fn count(&self, count: Count) {
        self.counts[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a question to the server.
    pub(super) fn asked(&self) {
        self.count(Count::Asked);
    }

    /// Records a reply that arrived after `round_trip`. `good`: it is an answer.
    pub(super) fn heard(&self, round_trip: Option<Duration>, good: bool) {
        self.count(if good { Count::Answered } else { Count::Failed });
        let mut state = self.state();
        if let Some(sample) = round_trip {
            state.round_trip = Some(state.round_trip.map_or(sample, |known| (known * 7 + sample) / 8));
        }
        (state.heard, state.out_until, state.penalty) = (Some(monotonic::now()), None, Duration::ZERO);
    }

    /// Records that the server responds, regardless of the result of the question.
    pub(super) fn alive(&self) {
        self.state().heard = Some(monotonic::now());
    }

    /// Records that nothing arrived for a question of `since`. The server is then asked last for some time, unless it
    /// has answered other questions meanwhile. Returns whether it has become silent by this.
    pub(super) fn silent(&self, since: Instant) -> bool {
        self.count(Count::Silent);
        let (mut state, now) = (self.state(), monotonic::now());
        let alive = state.heard.is_some_and(|heard| heard >= since);
        let known = state.out_until.is_some_and(|until| until > now + TRIAL);
        if alive || known {
            return false;
        }
        let new = state.out_until.is_none();
        state.penalty = (state.penalty * 2).clamp(PENALTY, PENALTY_MAX);
        state.out_until = Some(now + state.penalty);
        new
    }

    /// Whether to ask the server at its place in the order. After the penalty one query probes the server; an answer
    /// ends the penalty.
    pub(super) fn has_turn(&self) -> bool {
        let (mut state, now) = (self.state(), monotonic::now());
        match state.out_until {
            Some(until) if until > now => return false,
            Some(_) => state.out_until = Some(now + TRIAL),
            None => {}
        }
        true
    }

    /// Whether the server was silent lately.
    pub(crate) fn is_out(&self) -> bool {
        self.state().out_until.is_some()
    }

    /// After how long the next server is asked as well.
    pub(super) fn late(&self) -> Duration {
        let round_trip = self.state().round_trip;
        round_trip.map_or(LATE_MAX, |known| (known * LATE_ROUND_TRIPS).clamp(LATE_MIN, LATE_MAX))
    }

    /// The health to report under the server's address.
    pub(crate) fn report(&self, server: String) -> UpstreamHealth {
        let count = |count: Count| self.counts[count as usize].load(Ordering::Relaxed);
        let state = *self.state();
        UpstreamHealth {
            server,
            asked: count(Count::Asked),
            answered: count(Count::Answered),
            failed: count(Count::Failed),
            silent: count(Count::Silent),
            rtt: state.round_trip,
            healthy: state.out_until.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[test]
    fn a_silent_server_is_asked_last_until_it_answers() {
        let health = Health::default();
        assert!(health.has_turn() && !health.is_out());
        let before = monotonic::now();
        health.heard(Some(Duration::from_millis(10)), true);
        health.silent(before);
        assert!(health.has_turn(), "one lost question of several says nothing about the server");
        health.silent(monotonic::now());
        assert!(!health.has_turn() && health.is_out());
        health.heard(Some(Duration::from_millis(90)), false);
        assert!(health.has_turn(), "whoever says anything is there");
        let report = health.report("192.0.2.1".into());
        assert_eq!((report.answered, report.failed, report.silent, report.healthy), (1, 1, 2, true));
        assert_eq!(report.rtt, Some(Duration::from_millis(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_query_tries_a_server_whose_time_is_over() {
        const MOMENT: Duration = Duration::from_millis(1);
        let health = Health::default();
        let mut penalty = PENALTY;
        for _ in 0..6 {
            health.silent(monotonic::now());
            advance(penalty - MOMENT).await;
            assert!(!health.has_turn(), "within {penalty:?}");
            advance(MOMENT).await;
            assert!(health.has_turn(), "the trial");
            assert!(!health.has_turn(), "the others wait for its outcome");
            penalty = (penalty * 2).min(PENALTY_MAX);
        }
        advance(TRIAL).await;
        assert!(health.has_turn(), "the outcome of the trial never came: another one");
        health.heard(None, true);
        health.silent(monotonic::now() + MOMENT);
        advance(PENALTY).await;
        assert!(health.has_turn(), "the first penalty again after an answer");
    }

    #[test]
    fn what_is_late_follows_the_round_trip() {
        let health = Health::default();
        assert_eq!(health.late(), LATE_MAX);
        health.heard(Some(Duration::from_millis(1)), true);
        assert_eq!(health.late(), LATE_MIN);
        (0..50).for_each(|_| health.heard(Some(Duration::from_millis(40)), true));
        assert!(health.late() > Duration::from_millis(100), "{:?}", health.late());
    }
}
