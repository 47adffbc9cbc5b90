//! The fuzz target `netavark`: any bytes as the input of `netd-netavark`. The first byte selects the command. No daemon
//! listens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::input::Options;
use super::{Host, Invocation, Outcome, request, run};
use crate::model::names::NetworkName;

const COMMANDS: [&[&str]; 3] = [&["setup", "/run/netns/x"], &["teardown", "/run/netns/x"], &["create"]];

/// A host without interfaces.
struct Nothing;

impl Host for Nothing {
    fn interfaces(&self) -> Vec<String> {
        Vec::new()
    }

    fn ignore_interrupts(&self) {}

    fn is_this_program(&self, _: &Path) -> bool {
        false
    }

    fn find(&self, _: &str, _: &OsStr) -> Option<PathBuf> {
        None
    }

    fn become_program(&self, _: &Path, _: &[OsString]) -> io::Error {
        panic!("no other program is started for root")
    }
}

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    if let Ok(options) = Options::read(rest) {
        accepted(&options);
    }
    let command = COMMANDS[usize::from(*choice) % COMMANDS.len()];
    let invocation = Invocation {
        arguments: command.iter().map(OsString::from).collect(),
        environment: vec![("NETD_SOCKET".into(), "/nonexistent/netd.sock".into())],
    };
    let Outcome { stdout, code, .. } = run(&invocation, &Nothing, |_| Ok(rest.to_vec()));
    let told: Option<Value> = (!stdout.is_empty()).then(|| serde_json::from_slice(&stdout).expect("one JSON value"));
    if code != 0 {
        let told = told.expect("a failure is told");
        let told = told.as_object().expect("an object");
        assert_eq!(told.keys().collect::<Vec<_>>(), ["error"]);
        let error = told["error"].as_str().expect("a sentence");
        assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
    }
}

/// What is accepted is a request that names no network which netd cannot have.
fn accepted(options: &Options) {
    let Ok((wanted, _)) = request::attach(options, "/run/netns/x") else { return };
    assert_eq!(wanted.attachments.len(), options.networks.len());
    for one in wanted.attachments.iter().filter(|one| one.network.on_demand) {
        assert!(
            one.network.name.len() <= 63 || one.network.name.parse::<NetworkName>().is_err(),
            "{}",
            one.network.name
        );
    }
    serde_json::to_vec(&wanted).expect("it can be sent");
}

#[cfg(test)]
mod tests {
    #[test]
    fn input_keeps_its_promises() {
        netd_testing::inputs::attack("netavark", super::attack);
    }
}
