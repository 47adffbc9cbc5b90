//! The fuzz target `cni`: any bytes on standard input of the plugin. An input is one byte that selects the command,
//! standard input, and, each after a NUL, the result of an IPAM plugin and `CNI_ARGS`. No daemon listens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::input::fields::is_same_key;
use super::input::{configuration, request};
use super::ipam::Ipam;
use super::{Configuration, Environment, Invocation, Programs, Ran, Version, run};
use crate::api::v1::Attach;

const COMMANDS: [&str; 8] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "ADD", "ADD"];
const SOCKET: &str = "/nonexistent/netd.sock";

/// An IPAM plugin that always has the same result.
struct Fixed<'a>(&'a [u8]);

impl Programs for Fixed<'_> {
    fn find(&self, name: &str, _: &OsStr) -> Option<PathBuf> {
        Some(Path::new("/opt/cni/bin").join(name))
    }

    fn run(&self, program: &Path, _: &[(OsString, OsString)], _: &[u8]) -> io::Result<Ran> {
        assert_eq!(program.parent(), Some(Path::new("/opt/cni/bin")), "a program of CNI_PATH, and no other");
        Ok(Ran { code: Some(0), stdout: self.0.to_vec(), stderr: Vec::new() })
    }

    fn is_own_netns(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let mut parts = rest.split(|byte| *byte == 0);
    let [stdin, result, arguments] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let command = COMMANDS[usize::from(*choice) % COMMANDS.len()];
    let environment = environment(command, &String::from_utf8_lossy(arguments));
    let programs = Fixed(result);
    let document = configuration::document(stdin);
    if let Ok(document) = &document {
        accepted(document, &environment, &programs);
    }
    // The daemon of this machine is not asked.
    let stdin = document.map_or(stdin.to_vec(), elsewhere);
    let bound = 8 * (input.len() + 1024);
    ended(command, &run(&Invocation { environment, stdin }, &programs), bound);
}

fn environment(command: &str, arguments: &str) -> Vec<(OsString, OsString)> {
    let variables = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "4f5e"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
        ("CNI_ARGS", arguments),
    ];
    variables.map(|(name, value)| (name.into(), value.into())).into()
}

fn elsewhere(mut document: Map<String, Value>) -> Vec<u8> {
    document.retain(|key, _| !is_same_key(key, "socket"));
    document.insert("socket".into(), SOCKET.into());
    serde_json::to_vec(&document).unwrap()
}

/// What the plugin writes is a result or an error as the specification demands, of bounded size.
fn ended(command: &str, outcome: &super::Outcome, bound: usize) {
    let stderr = String::from_utf8(outcome.stderr.clone()).expect("text");
    assert!(stderr.lines().all(|line| line.starts_with("netd-cni: ")), "{stderr}");
    assert!(outcome.stdout.len() + stderr.len() <= bound, "{} bytes", outcome.stdout.len());
    let text = std::str::from_utf8(&outcome.stdout).expect("text");
    assert_eq!(text.matches('\n').count(), 1, "one line: {text:?}");
    let json: Value = serde_json::from_str(text).expect("JSON");
    if command == "VERSION" {
        assert_eq!((outcome.code, &json["supportedVersions"]), (0, &Version::supported().into_iter().collect()));
        return;
    }
    assert_eq!(outcome.code, 1, "no daemon listens");
    let version = json["cniVersion"].as_str().expect("the version");
    assert!(Version::parse(version).is_some(), "{version}");
    assert!(json["code"].as_u64().is_some_and(|code| (1..=999).contains(&code)), "{json}");
    for key in ["msg", "details"] {
        let text = json.get(key).map_or("none", |text| text.as_str().expect("text"));
        assert!(!text.is_empty() && !text.contains(['\n', '\r']), "{json}");
    }
}

/// The request to the daemon is one that the API can read, and so is the one that a result of an IPAM plugin makes
/// of it.
fn accepted(document: &Map<String, Value>, environment: &[(OsString, OsString)], programs: &Fixed<'_>) {
    let Ok(conf) = Configuration::read(document) else { return };
    let Ok(arguments) = Environment(environment).arguments() else { return };
    let Ok(mut attach) = request::attach(&conf, "/run/netns/x".into(), &arguments) else { return };
    sent(&attach);
    let _ = request::ignored(&conf);
    let invocation = Invocation { environment: environment.to_vec(), stdin: Vec::new() };
    let ipam = Ipam { kind: "host-local", invocation: &invocation, programs };
    if let Ok(lease) = ipam.add(&mut Vec::new()) {
        assert!(!lease.addresses.is_empty(), "a lease has an address");
        lease.fill(&mut attach);
        sent(&attach);
    }
}

fn sent(attach: &Attach) {
    let body = serde_json::to_vec(attach).unwrap();
    assert_eq!(&serde_json::from_slice::<Attach>(&body).expect("the API can read it"), attach);
}

#[cfg(test)]
mod tests {
    #[test]
    fn standard_input_keeps_its_promises() {
        netd_testing::inputs::attack("cni", super::attack);
    }

    #[test]
    fn standard_input_that_does_not_end_is_refused() {
        let error = crate::faces::cni::whole(std::io::repeat(b' ')).unwrap_err().to_string();
        assert_eq!(error, "it has more than 8 MiB");
    }

    /// Comparing each alias with all others took minutes.
    #[test]
    fn a_long_list_is_read_in_time() {
        let aliases: Vec<String> = (0..100_000).map(|number| format!("a{number}")).collect();
        let conf = serde_json::json!({"cniVersion": "1.0.0", "name": "n", "runtimeConfig": {"aliases": aliases}});
        let began = std::time::Instant::now();
        super::attack(format!("0{conf}").as_bytes());
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
