//! The monotonic clock, for spans of time.

use std::time::Instant;

/// The current instant.
pub fn now() -> Instant {
    Instant::now()
}
