//! The wall clock, and the time since the boot; no other code reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// The current time.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The current time in whole seconds since the Unix epoch.
pub fn unix_seconds() -> u64 {
    now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// The whole seconds since the boot, those of sleep included. Nobody sets this clock, and it outlives the daemon.
pub fn boot_seconds() -> u64 {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).ok().and_then(|since| u64::try_from(since.tv_sec()).ok());
    since.unwrap_or_default()
}
