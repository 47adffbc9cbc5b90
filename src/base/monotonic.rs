//! The monotonic clock, for spans of time.
//!
//! It is the clock of tokio's timers, so that a test that stops and moves the clock of its runtime moves both. Only
//! tests have that: without tokio's feature `test-util`, this is the clock of the system.

use std::time::Instant;

/// The current instant of the runtime that the thread is in, or of the system.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
