//! Questions that no upstream could answer a moment ago: they are not asked again at once (RFC 9520). They are stored
//! separately from answers, because a flood produces many of them, and only briefly. So their memory is returned and
//! does not fragment that of other questions.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::monotonic;

/// A failure is remembered for between this time and twice this time (RFC 9520, 3.2: at least a second).
const LIFE: Duration = Duration::from_secs(1);
/// Failures that are remembered per [`LIFE`]. Questions of further failures are asked again.
const MOST: usize = 32_768;

/// The keys of the failed questions.
#[derive(Debug)]
pub(crate) struct Failures(Option<Mutex<Two>>);

/// The failures of the current period and of the one before.
#[derive(Debug)]
struct Two {
    lately: HashSet<Arc<[u8]>>,
    before: HashSet<Arc<[u8]>>,
    since: Instant,
}

impl Failures {
    /// Without failures yet. If not `kept`, failures are never remembered.
    pub(crate) fn new(kept: bool) -> Self {
        let (lately, before) = (HashSet::new(), HashSet::new());
        Self(kept.then(|| Mutex::new(Two { lately, before, since: monotonic::now() })))
    }

    /// Adds a question that has just failed.
    pub(crate) fn add(&self, key: &Arc<[u8]>) {
        if let Some(mut two) = self.now().filter(|two| two.lately.len() < MOST) {
            two.lately.insert(key.clone());
        }
    }

    /// Whether the question failed a moment ago.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.now().is_some_and(|two| two.lately.contains(key) || two.before.contains(key))
    }

    /// Removes expired failures.
    pub(crate) fn forget(&self) {
        drop(self.now());
    }

    fn now(&self) -> Option<MutexGuard<'_, Two>> {
        let mut two = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        two.turn(monotonic::now());
        Some(two)
    }
}

impl Two {
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age >= LIFE {
            let lately = std::mem::take(&mut self.lately);
            self.before = if age < 2 * LIFE { lately } else { HashSet::new() };
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_for_a_moment() {
        let (failures, key): (_, Arc<[u8]>) = (Failures::new(true), (*b"www.example").into());
        assert!(!failures.has(&key));
        failures.add(&key);
        assert!(failures.has(&key));
        advance(LIFE).await;
        assert!(failures.has(&key));
        advance(LIFE).await;
        assert!(!failures.has(&key));
        failures.add(&key);
        advance(2 * LIFE).await;
        failures.forget();
        let two = failures.now().unwrap();
        assert_eq!(two.lately.len() + two.before.len(), 0, "nobody looked for long");
        drop(two);
        let never = Failures::new(false);
        never.add(&key);
        assert!(!never.has(&key));
    }
}
