//! `netd run`: a command in a fresh namespace on a network.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{is, seen};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::look::{self, links, ruleset};
use crate::lab::{Dig, HOST4, Lab, Proto, addresses, daemon, echo, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("run: exit codes are passed on and nothing remains", exit_codes),
        trial("run: resolv.conf and hosts inside, names resolve", inside),
        trial("run: reachable while the command runs, released afterwards", while_it_runs),
        trial("run: SIGTERM is passed on", sigterm),
        trial("run: the command survives a killed `netd run`, and is released at its end", killed),
        trial("run: a command that cannot start is refused with a clear message", refused),
    ]
}

/// `netd run` in the background.
fn start(words: &[&str]) -> Child {
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", daemon::netd(), "run", "--socket", daemon::SOCKET]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("netd run")
}

/// Its exit code; it must end within ten seconds.
fn end(mut child: Child) -> Option<i32> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait()));
    receiver.recv_timeout(Duration::from_secs(10)).expect("it ends").expect("a status").code()
}

fn exit_codes(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let (rules, before) = (ruleset(), links("host"));
    for code in [0, 1, 7, 125] {
        let line = format!("exit {code}");
        let out = lab.netd_words(&["run", "--name", "x", "--network", "net1", "--", "sh", "-c", &line]);
        assert_eq!(out.code, Some(code), "{out:?}");
    }
    let out = lab.netd_words(&["run", "--network", "net1", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(out.code, Some(128 + 9), "as a shell reports a signal: {out:?}");
    assert_eq!((ruleset(), links("host")), (rules, before));
    assert_eq!(lab.netd("ps --json").ok().json(), serde_json::json!([]));
}

fn inside(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "");
    let address = lab.address("net1", "web")[0].to_string();
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let run = |line: &str| {
        lab.netd_words(&["run", "--name", "x", "--network", "net1", "--ip", "10.77.0.50", "--", "sh", "-c", line]).ok()
    };
    assert!(run("cat /etc/resolv.conf").stdout.contains(&format!("nameserver {gateway}\n")));
    let hosts = run("cat /etc/hosts").stdout;
    assert!(hosts.contains("127.0.0.1") && hosts.contains("10.77.0.50") && hosts.contains('x'), "{hosts}");
    assert!(run("getent ahostsv4 web").stdout.starts_with(&address));
    assert!(run("dig +short web").stdout.starts_with(&address));
    let shown = run("ip -o address show eth0").stdout;
    assert!(shown.contains("10.77.0.50/24"), "{shown}");
    assert!(run("ip -o link show lo").stdout.contains("UP"), "loopback is up");
    assert_eq!(
        fs::read_to_string("/etc/resolv.conf").unwrap(),
        "nameserver 127.0.0.1\n",
        "the host's file is unchanged"
    );
}

fn while_it_runs(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "client", "");
    let server =
        "mkdir -p /run/lab/www && echo hello > /run/lab/www/index.html && exec busybox httpd -f -p 80 -h /run/lab/www";
    let words = ["--name", "x", "--network", "net1", "-p", "4000:80", "--alias", "front", "--", "sh", "-c", server];
    let child = start(&words);
    let url = format!("http://{HOST4}:4000/");
    let fetch = || lab.exec("outside", &format!("curl -sS --max-time 2 {url}"));
    until("the page is served", || seen(fetch(), |page| page.stdout == "hello\n"));
    let address = lab.address("net1", "x")[0].to_string();
    Dig::expect("client", "x", &[&address]);
    Dig::expect("client", "front.net1", &[&address]);
    assert!(lab.netd("ps").ok().stdout.contains("4000"));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    end(child);
    Dig::expect_none("client", "x", "NXDOMAIN");
    echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    assert!(!lab.netd("ps").ok().stdout.contains("4000"));
}

fn sigterm(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let line = "trap 'exit 42' TERM; touch /run/lab/trapped; while :; do sleep 0.1; done";
    let child = start(&["--name", "x", "--network", "net1", "--", "sh", "-c", line]);
    until("the trap is set", || fs::metadata("/run/lab/trapped"));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(end(child), Some(42));
    assert_eq!(lab.netd("ps --json").ok().json(), serde_json::json!([]));
}

fn killed(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let before = links("host");
    let line = ": > /run/lab/begun; until [ -e /run/lab/end ]; do sleep 0.1; done";
    let child = start(&["--name", "x", "--network", "net1", "-p", "4000:80", "--", "sh", "-c", line]);
    // Before that the command ends with `netd run`.
    until("it runs", || fs::metadata("/run/lab/begun"));
    assert!(lab.netd("ps").ok().stdout.contains("4000"));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
    end(child);
    assert!(lab.netd("ps").ok().stdout.contains("4000"), "a running container stays connected");
    fs::write("/run/lab/end", "").unwrap();
    until("its endpoint is released", || is(lab.netd("ps --json").ok().json(), &serde_json::json!([])));
    // The name goes first.
    until("its interface is gone", || is(links("host"), &before));
    lab.connected("net1", "web", "-p 4000:80");
    assert!(!addresses("web", "eth0").is_empty());
}

fn refused(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80");
    let before = lab.everything();
    let line = lab.netd("run --network nonet -- true").refused();
    assert!(line.contains("nonet"), "{line}");
    let line = lab.netd("run --network net1 -p 4000:80 -- true").refused();
    assert!(line.contains("4000") && line.contains("web"), "{line}");
    let line = lab.netd("run --network net1 --name web -- true").refused();
    assert!(line.contains("web"), "{line}");
    let out = lab.netd("run --network net1 -- /no/such/program");
    assert_eq!(out.code, Some(127), "as a shell: {out:?}");
    assert!(out.stderr.starts_with("netd: ") && out.stderr.contains("/no/such/program"), "{out:?}");
    look::same(&look::without_revision(&before), &look::without_revision(&lab.everything()));
}
