//! The `netd-cni` program: the CNI plugin that runtimes execute.

use std::process::ExitCode;

use netd::app::plugins::Plugins;
use netd::{config, faces};

fn main() -> ExitCode {
    faces::cni::main(config::cni::environment(), &Plugins)
}
