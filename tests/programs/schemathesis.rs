//! The API against its own description: scripts/schemathesis.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Completion, Failed, Trial};

use netd_testing::harness::cannot_run;

/// Its end status if Schemathesis cannot be installed.
const NOT_INSTALLED: i32 = 3;

pub(crate) fn trials() -> Vec<Trial> {
    let name = "schemathesis: the daemon answers as the description of its API says";
    vec![Trial::ignorable_test(name, the_daemon_answers_as_described)]
}

fn the_daemon_answers_as_described() -> Result<Completion, Failed> {
    let namespaces = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "--net", "true"]).output();
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root && !namespaces.is_ok_and(|output| output.status.success()) {
        return cannot_run("no namespaces of its own");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/schemathesis");
    let mut command = Command::new(script);
    command.arg("--no-color").env("NETD_PROGRAM", env!("CARGO_BIN_EXE_netd"));
    let output = command.output().unwrap();
    let [said, complaints] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    if output.status.code() == Some(NOT_INSTALLED) {
        // Another machine's registry decides whether it can be installed: nobody can promise that.
        return Ok(Completion::ignored_with(complaints.trim()));
    }
    assert!(output.status.success(), "{}\n{said}\n{complaints}", output.status);
    assert_eq!(said.matches("No issues found").count(), 2, "both parts ran: {said}");
    Ok(Completion::Completed)
}
