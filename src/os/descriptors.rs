//! The limit of open files (`RLIMIT_NOFILE`): raised to the hard one for the daemon, given back to its children.

use std::io;
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::sys;

/// As many as a host with some thousand published ports needs, and full tables of connections.
pub const ENOUGH: u64 = 8192;

/// The soft limit that this process was started with.
static INHERITED: OnceLock<rlim_t> = OnceLock::new();

/// Raises the soft limit to the hard one; the limit as it is from then on. To be called before there are children.
pub fn raise() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        let _ = INHERITED.set(soft);
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Has a program start with the limit that this process was started with: one that uses select(2) breaks on descriptors
/// above 1023, and relies on not getting them.
pub fn give_back(command: &mut Command) {
    if let Some(soft) = INHERITED.get() {
        sys::limit_descriptors(command, *soft);
    }
}
