//! The adapter between `netd hook` and the containers of OCI runtimes: faces do not use the kernel directly.

use std::path::Path;

use crate::faces::cli::{Containers, Prepared};
use crate::kernel::netns::oci::Process;

/// The containers of this host.
#[derive(Debug, Default)]
pub struct HostContainers;

impl Containers for HostContainers {
    fn prepared(&self, pid: u32) -> Result<Box<dyn Prepared>, String> {
        let process = Process::new(pid).map_err(|error| error.to_string())?;
        Ok(Box::new(process))
    }
}

impl Prepared for Process {
    fn netns(&self) -> &Path {
        Process::netns(self)
    }

    fn is_there(&self) -> bool {
        Process::is_there(self)
    }

    fn interfaces(&self) -> Result<Vec<String>, String> {
        Process::interfaces(self).map_err(|error| error.to_string())
    }

    fn cover(&self, root: &Path, files: Vec<(&'static str, String)>) -> Result<(), String> {
        Process::cover(self, root, files).map_err(|error| error.to_string())
    }
}
