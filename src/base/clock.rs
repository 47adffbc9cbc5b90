//! The wall clock; no other code reads it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The current time.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The current time in whole seconds since the Unix epoch.
pub fn unix_seconds() -> u64 {
    now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
