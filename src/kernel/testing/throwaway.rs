//! A network namespace for one test, owned by a separate thread and removed with it. Programs started there run in it
//! too.

use std::process::Command;

use netd_testing::harness::report_not_run;
use nix::sched::{CloneFlags, unshare};

/// Runs the test in a fresh network namespace with `lo` up; without one, the test is not run.
pub(in crate::kernel) fn in_netns(test: impl FnOnce() + Send) {
    // The thread has the name of the test, too.
    let name = std::thread::current().name().unwrap_or("unnamed").to_owned();
    std::thread::scope(|scope| {
        let inside = std::thread::Builder::new().name(name).spawn_scoped(scope, || {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                return report_not_run(&format!("no network namespace of its own: {error}"));
            }
            run("ip link set lo up");
            test();
        });
        if let Err(panic) = inside.unwrap().join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The output of a program that must succeed. Words are separated by spaces.
pub(in crate::kernel) fn run(command: &str) -> String {
    let (output, success) = attempt(command);
    assert!(success, "{command}: {output}");
    output
}

/// The output of a program, and whether it succeeded.
pub(in crate::kernel) fn attempt(command: &str) -> (String, bool) {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.success())
}
