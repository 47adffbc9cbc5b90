//! The adapters between the small programs and the kernel: faces do not run programs themselves.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::faces::cni::{Programs, Ran};
use crate::faces::netavark::Host;
use crate::os::{hand_over, own_netns, program};

/// Plugins as programs of this host.
#[derive(Debug, Default)]
pub struct Plugins;

impl Programs for Plugins {
    fn find(&self, name: &str, path: &OsStr) -> Option<PathBuf> {
        program::find(name, path)
    }

    fn run(&self, program: &Path, environment: &[(OsString, OsString)], stdin: &[u8]) -> io::Result<Ran> {
        let program::Output { code, stdout, stderr } = program::run(program, environment, stdin)?;
        Ok(Ran { code, stdout, stderr })
    }

    fn is_own_netns(&self, path: &Path) -> io::Result<bool> {
        own_netns::is_own(path)
    }
}

impl Host for Plugins {
    fn interfaces(&self) -> Vec<String> {
        hand_over::interfaces().unwrap_or_default()
    }

    fn ignore_interrupts(&self) {
        hand_over::ignore_interrupts();
    }

    fn is_this_program(&self, file: &Path) -> bool {
        let own = std::env::current_exe().and_then(std::fs::canonicalize).ok();
        own.is_some() && std::fs::canonicalize(file).ok() == own
    }

    fn find(&self, name: &str, path: &OsStr) -> Option<PathBuf> {
        program::find(name, path)
    }

    fn become_program(&self, program: &Path, arguments: &[OsString]) -> io::Error {
        hand_over::become_program(program, arguments)
    }
}
