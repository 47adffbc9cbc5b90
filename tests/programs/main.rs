//! Ring 2 with foreign programs: the CNI plugin with Debian's IPAM plugins, and the name service with dig, kdig and
//! unbound, and the API with Schemathesis. A test whose program is not installed is ignored, but failed where `CI=true`
//! promises that it runs. Only the one with Schemathesis needs namespaces, and may fetch that from PyPI.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod dig;
mod ipam;
mod schemathesis;
mod unbound;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let trials = [ipam::trials(), dig::trials(), unbound::trials(), schemathesis::trials()];
    let trials: Vec<Trial> = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs an asynchronous test.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test)
}
