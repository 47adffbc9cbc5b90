//! The `netd-netavark` program: what Podman executes as its netavark, or netavark as its plugin.

use std::process::ExitCode;

use netd::app::plugins::Plugins;
use netd::{config, faces};

fn main() -> ExitCode {
    faces::netavark::main(&config::netavark::invocation(), &Plugins)
}
