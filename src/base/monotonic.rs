//! The monotonic clock, for spans of time.

use std::time::Instant;

/// Now.
pub fn now() -> Instant {
    Instant::now()
}
