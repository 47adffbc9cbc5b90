//! Waiting for a condition with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How long something that happens by itself may take before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(5);
/// The polling interval.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Returns when the condition holds; fails, naming it, when it does not within five seconds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_some(what, || holds().then_some(()));
}

/// The same for what takes longer by design.
#[track_caller]
pub fn until_within(seconds: u64, what: &str, mut holds: impl FnMut() -> bool) {
    some_within(Duration::from_secs(seconds), what, || holds().then_some(()));
}

/// The first `Some` within five seconds; fails, naming what was waited for.
#[track_caller]
pub fn until_some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    some_within(PATIENCE, what, look)
}

/// Whether the condition holds within that time.
pub fn holds_within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::park_timeout(LOOK_AGAIN);
    }
}

#[track_caller]
fn some_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} without success until {what}");
        thread::park_timeout(LOOK_AGAIN);
    }
}
