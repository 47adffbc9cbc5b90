//! Where the name service listens: with other servers on port 53, and with a firewall on the host.

use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::lab::{Dig, HOST4, Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("listening: another server has port 53", taken_before),
        trial("listening: another server binds port 53 later", taken_later),
        trial("listening: a published server on port 53", published),
        trial("listening: the host queries a gateway, and port 53 can be configured", from_the_host),
    ]
}

/// A foreign name server on port 53 of every address, which knows one name; it ends when dropped.
struct Dnsmasq(Child);

/// What it answers for `taken.example`.
const TAKEN: &str = "203.0.113.9";

impl Dnsmasq {
    fn start(ns: &str) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", ns, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"]);
        command.args(["--no-hosts", "--user=root", "--pid-file=", &format!("--address=/taken.example/{TAKEN}")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dnsmasq");
        let started = Self(child);
        until("dnsmasq answers", || {
            let ask = |how| Dig::ask(ns, &format!("{how} @127.0.0.1 taken.example")).answers;
            is(["+notcp", "+tcp"].map(ask), &[[TAKEN]; 2])
        });
        started
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // It may have ended by itself, which its clients notice.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// net1 with `web` and `client`; the address of `web`.
fn set_up(lab: &Lab) -> String {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "");
    lab.connected("net1", "client", "");
    lab.address("net1", "web")[0].to_string()
}

/// Names resolve in `client`, at each of its gateways, over UDP and TCP.
fn resolves(lab: &Lab, web: &str) {
    let network = lab.network("net1");
    for how in ["+notcp", "+tcp"] {
        until("names resolve", || is(Dig::ask("client", &format!("{how} web")).answers, &[web]));
        for subnet in network["subnets"].as_array().unwrap() {
            Dig::expect("client", &format!("{how} @{} web", subnet["gateway"].as_str().unwrap()), &[web]);
        }
    }
}

/// The foreign server answers on the host's other addresses.
fn other_answers(at: &str) {
    for how in ["+notcp", "+tcp"] {
        Dig::expect("outside", &format!("{how} @{at} taken.example"), &[TAKEN]);
        Dig::expect("client", &format!("{how} @{at} taken.example"), &[TAKEN]);
    }
}

/// Asserts the condition again after a crash with a restart, and after a flush of the firewall.
fn survives(lab: &Lab, holds: impl Fn()) {
    lab.kill_daemon();
    lab.start_daemon();
    holds();
    run("ip netns exec host nft flush ruleset").ok();
    holds();
}

fn taken_before(lab: &Lab) {
    let _other = Dnsmasq::start("host");
    let web = set_up(lab);
    let holds = || {
        resolves(lab, &web);
        other_answers(HOST4);
    };
    holds();
    survives(lab, holds);
    assert!(lab.netd("status --json").ok().json()["problems"].as_array().unwrap().is_empty());
}

fn taken_later(lab: &Lab) {
    let web = set_up(lab);
    resolves(lab, &web);
    let _other = Dnsmasq::start("host");
    let holds = || {
        resolves(lab, &web);
        other_answers(HOST4);
    };
    holds();
    lab.netd("network create net2").ok();
    lab.connected("net2", "client", "");
    Dig::expect("client", "web", &[&web]);
    survives(lab, holds);
}

fn published(lab: &Lab) {
    let web = set_up(lab);
    lab.connected("net1", "pihole", "-p 53:53/udp -p 53:53/tcp");
    let _other = Dnsmasq::start("pihole");
    let holds = || {
        resolves(lab, &web);
        until("the published server answers", || {
            is(Dig::ask("outside", &format!("@{HOST4} taken.example")).answers, &[TAKEN])
        });
        other_answers(HOST4);
    };
    holds();
    survives(lab, holds);
    lab.netd("disconnect net1 pihole").ok();
    resolves(lab, &web);
}

fn from_the_host(lab: &Lab) {
    std::fs::write(crate::lab::daemon::CONFIG, "[dns]\nport = 53\n").expect("a configuration");
    let web = set_up(lab);
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let listens = |port: u16| run(&format!("ip netns exec host ss -Hlnu src {gateway}:{port}")).ok().stdout;
    assert!(!listens(53).is_empty(), "it is on port 53 where the configuration says so");
    let asks = || {
        for how in ["+notcp", "+tcp"] {
            Dig::expect("host", &format!("{how} @{gateway} web"), &[&web]);
        }
    };
    asks();
    lab.stop_daemon();
    std::fs::remove_file(crate::lab::daemon::CONFIG).expect("a configuration");
    lab.start_daemon();
    assert!(listens(53).is_empty(), "by default it does not use port 53");
    resolves(lab, &web);
    asks();
    let tracked = run("ip netns exec host conntrack -L -p udp --dport 53").stdout;
    assert!(!tracked.contains(&gateway), "questions are not tracked: {tracked}");
}
