//! The daemon's files: permissions, malicious links, and several daemons with the same files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command};

use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::lab::daemon::{SOCKET, netd};
use crate::lab::{Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("files: only root reads the daemon's state, every user the namespaces' resolv.conf", modes),
        trial("files: malicious links below /etc/netns cause no overwrite", links),
        trial("files: a daemon that fails to start removes its socket", refused),
        trial("files: two daemons serve one namespace, and each changes only its own resolv.conf", two_daemons),
    ]
}

fn mode(path: &str) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path}: {error}")).mode() & 0o7777
}

fn modes(lab: &Lab) {
    lab.start_daemon();
    lab.connected_to_new("net1", "web");
    for (path, expected) in [
        ("/run/lab/state", 0o700),
        ("/run/lab/state/netd.redb", 0o600),
        ("/run/lab/runtime", 0o700),
        ("/run/lab/runtime/endpoints.redb", 0o600),
        (SOCKET, 0o660),
        ("/etc/netns/web", 0o755),
        ("/etc/netns/web/resolv.conf", 0o644),
    ] {
        assert_eq!(mode(path), expected, "{path} has mode {:o}", mode(path));
    }
    lab.stop_daemon();
    run("chmod 755 /run/lab/state").ok();
    run("chmod 644 /run/lab/state/netd.redb").ok();
    lab.start_daemon();
    assert_eq!((mode("/run/lab/state"), mode("/run/lab/state/netd.redb")), (0o700, 0o600), "of an earlier release");
}

fn links(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    fs::write("/etc/victim", "theirs").unwrap();
    for (name, kind) in [("web", "hard"), ("db", "symbolic")] {
        fs::create_dir_all(format!("/etc/netns/{name}")).unwrap();
        let draft = format!("/etc/netns/{name}/.resolv.conf.netd");
        if kind == "hard" { fs::hard_link("/etc/victim", draft) } else { symlink("/etc/victim", draft) }.unwrap();
        lab.connected("net1", name, "");
        assert_eq!(fs::read_to_string("/etc/victim").unwrap(), "theirs", "a {kind} link");
        let shown = lab.exec(name, "cat /etc/resolv.conf").ok().stdout;
        assert!(shown.contains("nameserver 10.77.0.1"), "{shown}");
    }
    fs::create_dir("/etc/elsewhere").unwrap();
    symlink("/etc/elsewhere", "/etc/netns/api").unwrap();
    lab.connected("net1", "api", "");
    assert_eq!(fs::read_dir("/etc/elsewhere").unwrap().count(), 0);
    assert!(lab.log().contains("/etc/netns/api is a link"), "{}", lab.log());
    lab.netd("disconnect net1 api").ok();
}

/// A second daemon, or another process; it ends when dropped.
pub(crate) struct Second(pub(crate) Child);

impl Second {
    fn start(host: &str, socket: &str, state: &str) -> Self {
        let mut command = Command::new("nsenter");
        command.args([&format!("--net=/run/netns/{host}"), "--", netd(), "daemon", "--socket", socket]);
        command.args(["--state-dir", state, "--runtime-dir", &format!("{state}/run")]);
        Self(command.stderr(fs::File::create("/run/lab/second.log").unwrap()).spawn().expect("a second daemon"))
    }

    /// Waits until it ends by itself; whether it ended well.
    #[track_caller]
    fn ends_well(&mut self) -> bool {
        until("it ends", || self.0.try_wait().expect("a child")).success()
    }

    fn netd(words: &str) {
        let line = format!("nsenter --net=/run/netns/host2 -- {} --socket /run/lab/2.sock {words}", netd());
        run(&line).ok();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn refused(lab: &Lab) {
    // It has its socket before it opens its files.
    fs::create_dir_all("/run/lab/state").unwrap();
    run("mount -t tmpfs -o ro none /run/lab/state").ok();
    let mut failed = Second::start("host", "/run/lab/other/netd.sock", "/run/lab/state");
    assert!(!failed.ends_well(), "a file that cannot be made");
    let log = fs::read_to_string("/run/lab/second.log").unwrap();
    assert!(log.contains("/run/lab/state: Read-only"), "{log}");
    assert!(!Path::new("/run/lab/other/netd.sock").exists(), "its socket still exists");
    run("umount /run/lab/state").ok();
    lab.start_daemon();
}

fn two_daemons(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "");
    run("ip netns add host2").ok();
    let _second = Second::start("host2", "/run/lab/2.sock", "/run/lab/state2");
    Second::netd("status --wait 10");
    Second::netd("network create net2 --subnet 10.99.0.0/24");
    Second::netd("connect net2 web");
    let shown = || fs::read_to_string("/etc/netns/web/resolv.conf").unwrap_or_default();
    assert!(shown().contains("nameserver 10.77.0.1"), "the first daemon's file is unchanged: {}", shown());
    let log = fs::read_to_string("/run/lab/second.log").unwrap();
    assert!(log.contains("another netd") && log.contains("/etc/netns/web/resolv.conf"), "{log}");
    Second::netd("disconnect net2 web");
    assert!(shown().contains("nameserver 10.77.0.1"), "the second daemon removed the file of the first");
    lab.kill_daemon();
    lab.start_daemon();
    lab.netd("disconnect net1 web").ok();
    until("the first removes its own, also after a crash", || is(fs::exists("/etc/netns/web").unwrap(), &false));
    Second::netd("connect net2 web");
    assert!(shown().contains("nameserver 10.99.0.1"), "{}", shown());
}
