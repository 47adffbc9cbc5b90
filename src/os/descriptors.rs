//! The limit of open files (`RLIMIT_NOFILE`): raised to the hard limit for the daemon, restored for its children; and room
//! for descriptors in the process's table.

use std::io;
use std::process::Command;
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use nix::unistd::close;

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

/// Makes room for [`ENOUGH`] descriptors, or as many as the limit allows: 64 KiB. Otherwise the kernel doubles the table
/// whenever it is full, and in a process with threads waits some milliseconds each time, until no processor uses the old
/// one (`expand_fdtable`, fs/file.c of the kernel). Call it before there are threads.
pub fn reserve(limit: u64) -> io::Result<()> {
    let last = i32::try_from(ENOUGH.min(limit)).unwrap_or(i32::MAX).saturating_sub(1);
    let (any, _) = io::pipe()?;
    // The table does not shrink again.
    Ok(close(fcntl(any, FcntlArg::F_DUPFD_CLOEXEC(last))?)?)
}

/// Starts a program with the limit that this process was started with: a program that uses select(2) fails with
/// descriptors above 1023.
pub fn give_back(command: &mut Command) {
    if let Some(soft) = INHERITED.get() {
        sys::limit_descriptors(command, *soft);
    }
}
