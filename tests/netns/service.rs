//! The daemon as a service: log lines for the journal, missing capabilities and those that it gives up.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is};

use crate::lab::daemon::netd;
use crate::lab::{Dig, HOST4, Lab, Proto, Server, ask, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("service: journal lines have priorities and no timestamp", journal),
        trial("service: without CAP_NET_ADMIN the daemon reports the missing capability", rights),
        trial("service: the daemon gives up the capabilities that it does not need, and does its work", given_up),
    ]
}

/// The value of a line in each of the status files of a process's threads; they must agree.
#[track_caller]
fn of_all_threads(process: impl std::fmt::Display, line: &str) -> String {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // One that has just ended has no status.
    let read = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    let of = |status: String| status.lines().find_map(|text| Some(text.strip_prefix(line)?.trim().to_owned()));
    let mut values: Vec<String> = read.map(|status| of(status).unwrap()).collect();
    values.dedup();
    assert_eq!(values.len(), 1, "{line} {values:?}");
    values.remove(0)
}

/// Those of `dist/netd.service`, as /proc shows them.
const NEEDED: &str = "0000000000a83c03";

fn given_up(lab: &Lab) {
    lab.start_daemon();
    let daemon = lab.daemon_pid();
    for line in ["CapBnd:", "CapPrm:", "CapEff:"] {
        assert_eq!(of_all_threads(daemon, line), NEEDED, "{line}");
    }
    assert_eq!(of_all_threads(daemon, "NoNewPrivs:"), "1");
    // A published port that only root may have, and the namespace of a process of another user.
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 80:80");
    let _server = Server::start("web", "web", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 80)).who, "web");
    lab.container("foreign");
    let mut other = Command::new("ip");
    other.args(
        "netns exec foreign setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all sleep 60".split(' '),
    );
    let mut other = other.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let user = || fs::metadata(format!("/proc/{}", other.id())).unwrap().uid();
    until("it belongs to another user", || is(user(), &1000));
    lab.netd(&format!("connect net1 other --pid {}", other.id())).ok();
    Dig::expect("web", "other.internal", &[&lab.address("net1", "other")[0].to_string()]);
    other.kill().unwrap();
    other.wait().unwrap();
}

const PLACES: [&str; 6] =
    ["--socket", "/run/lab/j.sock", "--state-dir", "/run/lab/j-state", "--runtime-dir", "/run/lab/j-run"];

fn journal(_: &Lab) {
    let path = "/run/lab/journal";
    let file = File::create(path).unwrap();
    let log = || {
        let mut text = String::new();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let stream = file.metadata().map(|file| format!("{}:{}", file.dev(), file.ino())).unwrap();
    let mut daemon = Command::new("nsenter");
    daemon.args(["--net=/run/netns/host", "--", netd(), "daemon"]).args(PLACES).stdin(Stdio::null());
    daemon.stdout(Stdio::null()).stderr(file.try_clone().unwrap()).env("JOURNAL_STREAM", &stream);
    let mut daemon = daemon.spawn().unwrap();
    until("it is ready", || contains(log(), "ready"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let text = log();
    assert!(text.lines().any(|line| line.starts_with("<6>ready")), "{text}");
    assert!(text.lines().all(|line| line.starts_with('<')), "a priority in front of each line:\n{text}");

    // An error at the start has a priority as well.
    let mut failed = Command::new(netd());
    failed.args(["daemon", "--config", "/nonexistent"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut failed = failed.stderr(file).env("JOURNAL_STREAM", &stream).spawn().unwrap();
    assert!(!failed.wait().unwrap().success());
    let text = log();
    assert!(text.lines().last().unwrap().starts_with("<3>netd: "), "{text}");
}

fn rights(_: &Lab) {
    for drop in ["--bounding-set=-net_admin --inh-caps=-net_admin", "--reuid=65534 --clear-groups"] {
        let line = format!("nsenter --net=/run/netns/host -- setpriv {drop} {} daemon {}", netd(), PLACES.join(" "));
        let out = run(&line).refused();
        assert!(out.contains("CAP_NET_ADMIN is missing") && out.contains("run netd as root"), "{out}");
    }
    assert!(!std::fs::exists("/run/lab/j.sock").unwrap(), "the socket was created");
}
