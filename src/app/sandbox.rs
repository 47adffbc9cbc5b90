//! The adapter between `netd run` and the kernel's sandbox: faces do not use the kernel directly.

use std::ffi::OsString;

use crate::faces::cli::{Running, Sandbox};
use crate::kernel::netns::sandbox;

/// Starts commands in their own namespaces on this host.
#[derive(Debug, Default)]
pub struct Sandboxes;

/// `None` after it was aborted.
struct Process(Option<sandbox::Sandbox>, u32);

impl Sandbox for Sandboxes {
    fn start(&self, command: &[OsString]) -> Result<Box<dyn Running>, String> {
        let sandbox = sandbox::Sandbox::start(command).map_err(|error| error.to_string())?;
        let pid = sandbox.pid();
        Ok(Box::new(Process(Some(sandbox), pid)))
    }
}

impl Process {
    fn alive(&mut self) -> Result<&mut sandbox::Sandbox, String> {
        self.0.as_mut().ok_or_else(|| "the sandbox was aborted".to_owned())
    }
}

impl Running for Process {
    fn pid(&self) -> u32 {
        self.1
    }

    fn go(&mut self, resolv_conf: &str, hosts: &str) -> Result<(), String> {
        self.alive()?.go(resolv_conf, hosts).map_err(|error| error.to_string())
    }

    fn wait(&mut self) -> Result<u8, String> {
        self.alive()?.wait().map_err(|error| error.to_string())
    }

    fn abort(&mut self) {
        if let Some(sandbox) = self.0.take() {
            sandbox.abort();
        }
    }
}
