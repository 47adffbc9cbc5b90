//! The clocks: the only place that reads them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, to measure from.
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Now.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Now, in whole seconds since the Unix epoch.
pub fn unix_seconds() -> u64 {
    now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
