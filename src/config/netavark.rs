//! How `netd-netavark` was called.

use crate::faces::netavark::Invocation;

/// The arguments and the environment of this process.
pub fn invocation() -> Invocation {
    Invocation { arguments: std::env::args_os().skip(1).collect(), environment: std::env::vars_os().collect() }
}
