//! The adapter between the CNI plugin and the kernel: faces do not run programs themselves.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::faces::cni::{Programs, Ran};
use crate::os::{own_netns, program};

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
