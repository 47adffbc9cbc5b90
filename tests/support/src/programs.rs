//! The programs under test. Cargo tells their paths only to the tests and benchmarks of netd, when it compiles them, and
//! not to this crate.

use std::sync::OnceLock;

/// The paths of the programs.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// The daemon and command line.
    pub netd: &'static str,
    /// The CNI plugin.
    pub plugin: &'static str,
}

/// The [`Programs`] that Cargo built with the test or benchmark that contains this call.
#[macro_export]
macro_rules! programs {
    () => {
        $crate::programs::Programs { netd: env!("CARGO_BIN_EXE_netd"), plugin: env!("CARGO_BIN_EXE_netd-cni") }
    };
}

static CURRENT: OnceLock<Programs> = OnceLock::new();

/// Sets the programs that the laboratories of this process run.
pub(crate) fn set(programs: Programs) {
    // A second call has the same paths: one process is one test program.
    let _ = CURRENT.set(programs);
}

/// The programs that the laboratories run.
pub(crate) fn current() -> Programs {
    *CURRENT.get().expect("a process with laboratories begins with leave_the_machine")
}
