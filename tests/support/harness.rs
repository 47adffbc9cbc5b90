//! What becomes of a test that cannot run here, for every test program: it is ignored with the reason, but it fails
//! where `CI=true` promises that everything runs.
//!
//! libtest-mimic counts a test as ignored while it runs. Rust's built-in harness cannot: it counts such a test as
//! passed, so a line on standard error says that it was ignored.
#![allow(dead_code, reason = "a test program uses the part for its own harness")]

use std::io::Write as _;

use libtest_mimic::{Completion, Failed, Trial};

/// A test for libtest-mimic that returns the reason as an error if it cannot run. It fails by a panic.
pub(crate) fn trial(name: &'static str, test: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, || match test() {
        Ok(()) => Ok(Completion::Completed),
        Err(why) => cannot_run(&why),
    })
}

/// The result of a test for libtest-mimic that cannot run.
pub(crate) fn cannot_run(why: &str) -> Result<Completion, Failed> {
    if is_promised() { Err(why.into()) } else { Ok(Completion::ignored_with(why)) }
}

/// Reports that a test of the built-in harness cannot run; the test then returns. Call it on a thread that
/// has the name of the test.
#[track_caller]
pub(crate) fn report_not_run(why: &str) {
    assert!(!is_promised(), "could not run, which CI=true promises: {why}");
    let thread = std::thread::current();
    // The harness hides what a passing test prints with `println!` and `eprintln!`.
    let _ = writeln!(std::io::stderr(), "test {} ... ignored, {why}", thread.name().unwrap_or("unnamed"));
}

/// Whether whoever started the tests promises that this machine can run all of them.
fn is_promised() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
