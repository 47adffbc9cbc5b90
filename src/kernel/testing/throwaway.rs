//! A network namespace for one test, owned by a separate thread and removed with it. Programs started there run in it
//! too.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs the test in a fresh network namespace with `lo` up; reports why if there can be none.
pub(in crate::kernel) fn in_netns(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                println!("skipped: no network namespace of its own: {error}");
                return;
            }
            run("ip link set lo up");
            test();
        });
        if let Err(panic) = inside.join() {
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
