//! What becomes of a test that cannot run here, for every test program: it is ignored with the reason, but it fails
//! where `CI=true` promises that everything runs.
//!
//! libtest-mimic counts a test as ignored while it runs. Rust's built-in harness cannot: it counts such a test as
//! passed, so a line on standard error says that it was ignored.

use std::io::Write as _;

use libtest_mimic::{Completion, Failed, Trial};

/// A test for libtest-mimic that returns the reason as an error if it cannot run. It fails by a panic.
pub fn trial(name: &'static str, test: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, || match test() {
        Ok(()) => Ok(Completion::Completed),
        Err(why) => cannot_run(&why),
    })
}

/// The result of a test for libtest-mimic that cannot run.
pub fn cannot_run(why: &str) -> Result<Completion, Failed> {
    if is_promised(why) { Err(why.into()) } else { Ok(Completion::ignored_with(why)) }
}

/// The prefix of a reason that concerns a version of the kernel or of a program: users have other versions, so such a
/// test fails only where `NETD_CI=1` promises the versions of netd's own continuous integration.
pub const VERSION: &str = "another version: ";

/// Reports that a test of the built-in harness cannot run; the test then returns. Call it on a thread that
/// has the name of the test.
#[track_caller]
pub fn report_not_run(why: &str) {
    assert!(!is_promised(why), "could not run, which CI=true promises: {why}");
    let thread = std::thread::current();
    // The harness hides what a passing test prints with `println!` and `eprintln!`.
    let _ = writeln!(std::io::stderr(), "test {} ... ignored, {why}", thread.name().unwrap_or("unnamed"));
}

/// Whether the environment promises that this machine can run the test.
fn is_promised(why: &str) -> bool {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    if why.starts_with(VERSION) { is("NETD_CI", "1") } else { is("CI", "true") }
}
