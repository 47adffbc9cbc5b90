//! The limit of open files (`RLIMIT_NOFILE`): raised to the hard limit for the daemon, restored for its children.

use std::io;
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::sys;

/// Enough for a host with some thousand published ports and full connection tables.
pub const ENOUGH: u64 = 8192;

/// The soft limit that this process was started with.
static INHERITED: OnceLock<rlim_t> = OnceLock::new();

/// Raises the soft limit to the hard one, and returns the new limit. Call it before there are children.
pub fn raise() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        let _ = INHERITED.set(soft);
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Starts a program with the limit that this process was started with: a program that uses select(2) fails with
/// descriptors above 1023.
pub fn give_back(command: &mut Command) {
    if let Some(soft) = INHERITED.get() {
        sys::limit_descriptors(command, *soft);
    }
}
