//! `dist/netd.service` and `dist/netd.socket`: what systemd says about them, and that the filter of system calls lets the
//! daemon do its work.

use std::collections::BTreeSet;
use std::fs;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{contains, is};

use crate::lab::daemon::{command_behind, netd};
use crate::lab::{Dig, Lab, run, skippable, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("unit: systemd accepts the units, and finds the daemon little exposed", judged),
        skippable("unit: the daemon and its programs make no system call that the unit forbids", calls),
    ]
}

/// In tenths. What systemd calls "OK" ends at 5.0; the daemon changes the host's network and enters the namespaces of all
/// users.
const EXPOSURE_MAX: &str = "44";
const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dist");

fn service() -> String {
    fs::read_to_string(format!("{DIST}/netd.service")).unwrap()
}

/// The completion of a test that lacks one of the programs.
fn lacks(programs: &[&str]) -> Option<Completion> {
    let missing = programs.iter().find(|program| run(&format!("{program} --version")).code != Some(0))?;
    Some(Completion::ignored_with(format!("{missing} is not installed (scripts/test installs what is missing)")))
}

fn judged(_: &Lab) -> Completion {
    if let Some(lacks) = lacks(&["systemd-analyze"]) {
        return lacks;
    }
    fs::create_dir("/run/lab/units").unwrap();
    fs::copy(format!("{DIST}/netd.socket"), "/run/lab/units/netd.socket").unwrap();
    let installed = "/usr/local/bin/netd";
    assert!(service().contains(&format!("ExecStart={installed} ")));
    fs::write("/run/lab/units/netd.service", service().replace(installed, netd())).unwrap();
    let units = "/run/lab/units/netd.service /run/lab/units/netd.socket";
    let out = run(&format!("systemd-analyze verify --man=no {units}")).ok();
    assert_eq!(format!("{}{}", out.stdout, out.stderr), "");
    let exposure = format!("--offline=true --no-pager --threshold={EXPOSURE_MAX} /run/lab/units/netd.service");
    run(&format!("systemd-analyze security {exposure}")).ok();
    Completion::Completed
}

/// The system calls that these words of `SystemCallFilter=` name; one with `@` is a group.
fn named(words: &str) -> BTreeSet<String> {
    let of = |word: &str| match word.strip_prefix('@') {
        None => BTreeSet::from([word.to_owned()]),
        Some(_) => {
            let group = run(&format!("systemd-analyze syscall-filter {word}")).ok().stdout;
            let members =
                group.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            members.flat_map(named).collect()
        }
    };
    words.split_whitespace().flat_map(of).collect()
}

/// Those that the unit allows: the first line begins a list of what is allowed.
fn allowed() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in service().lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match line.strip_prefix('~') {
            Some(forbidden) => {
                let forbidden = named(forbidden);
                allowed.retain(|call| !forbidden.contains(call));
            }
            None => allowed.extend(named(line)),
        }
    }
    allowed
}

/// The name in a line of strace: "PID NAME(…" or "PID <... NAME resumed>…". Of a thread that it begins to follow within a
/// call, it takes the result for the number: an errno, which is negative.
fn call(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let name = rest.strip_prefix("<... ").unwrap_or(rest).split(['(', ' ']).next()?;
    let is_errno = name.starts_with("syscall_0xffffffff");
    (name.starts_with(|first: char| first.is_ascii_lowercase()) && !is_errno).then_some(name)
}

fn calls(lab: &Lab) -> Completion {
    if let Some(lacks) = lacks(&["systemd-analyze", "strace"]) {
        return lacks;
    }
    // A chain that drops: netd runs `nft` for it.
    run("ip netns exec host nft add table inet filter").ok();
    let base = "{ type filter hook forward priority 0 ; policy drop ; }";
    run(&format!("ip netns exec host nft add chain inet filter forward {base}")).ok();
    // With -D the daemon keeps its process id.
    lab.launch(command_behind(&["strace", "-D", "-f", "-qq", "-o", "/run/lab/calls"], netd()));
    lab.netd("status --wait 30").ok();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2 -o dns.listen=container -o relay=mdns").ok();
    lab.connected("net1", "web", "-p 80:80");
    lab.connected("net2", "inside", "");
    Dig::expect("web", "web.internal", &[&lab.address("net1", "web")[0].to_string()]);
    run("ip netns exec host nft flush ruleset").ok();
    until("the table is back", || is(run("ip netns exec host nft list table inet netd").code, &Some(0)));
    lab.netd("disconnect net1 web").ok();
    lab.stop_daemon();
    let text = || fs::read_to_string("/run/lab/calls").unwrap();
    let text = until("all calls are written", || contains(text(), "exit_group(0)"));
    let allowed = allowed();
    let made: BTreeSet<&str> = text.lines().filter_map(call).collect();
    assert!(made.contains("setns") && made.contains("execve") && made.contains("sendmsg"), "{made:?}");
    let forbidden: Vec<&&str> = made.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    Completion::Completed
}
