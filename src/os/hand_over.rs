//! What a small program that stands in the place of another needs of Linux: the interfaces' names, to ignore signals, and
//! to become the other program.
#![allow(unsafe_code, reason = "nix declares signal(2) unsafe")]

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::net::if_::if_nameindex;
use nix::sys::signal::{SigHandler, Signal, signal};

/// The names of all interfaces in this network namespace.
pub fn interfaces() -> io::Result<Vec<String>> {
    let all = if_nameindex()?;
    Ok(all.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect())
}

/// From now on this process ignores SIGTERM and SIGINT.
pub fn ignore_interrupts() {
    for interrupt in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: no handler is installed, so none can run at a wrong time. Both signals exist.
        let _ = unsafe { signal(interrupt, SigHandler::SigIgn) };
    }
}

/// Becomes the program, with these arguments, this environment and the same input and outputs. Returns only if that fails.
pub fn become_program(program: &Path, arguments: &[OsString]) -> io::Error {
    Command::new(program).args(arguments).exec()
}
