//! The environment of the CNI plugin: its parameters, and the environment that the IPAM plugin inherits.

use std::ffi::OsString;

/// Every variable, in no particular order.
pub fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}
