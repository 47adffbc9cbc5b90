//! The daemon as a service: log lines for the journal, and missing capabilities.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::contains;

use crate::lab::daemon::netd;
use crate::lab::{Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("service: journal lines have priorities and no timestamp", journal),
        trial("service: without CAP_NET_ADMIN the daemon reports the missing capability", rights),
    ]
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
