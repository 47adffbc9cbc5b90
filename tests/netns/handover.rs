//! The service manager keeps sockets for the next daemon: no question and no request is lost during a restart.

use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{is, seen};

use crate::lab::daemon::SOCKET;
use crate::lab::load::{Load, Pace, Question};
use crate::lab::manager::Manager;
use crate::lab::space::inside;
use crate::lab::{Dig, Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("handover: the name service's sockets are kept, and a restart loses no question", questions),
        trial("handover: sockets of removed networks are not kept, and their port is free", removed),
        trial("handover: what the service manager gives and no network needs is closed", strangers),
        trial("handover: requests to a socket of the service manager wait for the next daemon", requests),
    ]
}

/// Questions in a second.
const RATE: u32 = 500;

/// The sockets on the name service's port, with their inode numbers.
fn sockets() -> String {
    let out = run("ip netns exec host ss -lnuteH sport = 61053").ok().stdout;
    let inode = |line: &str| line.split_whitespace().find(|word| word.starts_with("ino:")).map(str::to_owned);
    let mut all: Vec<String> = out.lines().filter_map(inode).collect();
    all.sort();
    all.join(" ")
}

fn questions(lab: &Lab) {
    let manager = Manager::new();
    manager.start(lab);
    lab.netd("network create net1 --ipv6 --subnet 10.9.0.0/24").ok();
    lab.connected("net1", "web", "");
    lab.connected("net1", "client", "");
    let web = lab.address("net1", "web")[0].to_string().parse().ok();
    let before = sockets();
    assert!(before.split(' ').count() > 2, "{before}");
    let pace = Pace { rate: RATE, window: 20 * RATE as usize };
    let gateway = "10.9.0.1".parse().unwrap();
    // A daemon that is killed takes with it the question that it was just answering; one that is stopped answers it.
    for (end, may_be_lost) in [(Lab::kill_daemon as fn(&Lab), 1), (Lab::stop_daemon, 0), (Lab::kill_daemon, 1)] {
        let question = move |_| Question { name: "web.internal".to_owned(), expected: web };
        let load = Load::start("client", gateway, pace, question);
        let goes_on = || {
            let enough = load.answered() + u64::from(RATE) / 5;
            until("questions are answered", || seen(load.answered(), |answered| *answered >= enough));
        };
        goes_on();
        end(lab);
        let waiting = load.waiting() + u64::from(RATE) / 10;
        until("questions wait", || seen(load.waiting(), |now| *now > waiting));
        manager.start(lab);
        goes_on();
        assert_eq!(sockets(), before);
        let tally = load.finish();
        assert!(tally.lost.len() <= may_be_lost, "lost: {:?}", tally.lost);
        assert_eq!(tally.wrong.len(), 0, "{:?}", tally.wrong.first());
    }
    // Over TCP, and at the other gateway.
    run("ip netns exec client dig +tcp +short web.internal @10.9.0.1").ok();
    let inet6 = lab.address("net1", "web").iter().find(|address| address.is_ipv6()).unwrap().to_string();
    Dig::expect("client", "web.internal AAAA", &[&inet6]);
}

fn removed(lab: &Lab) {
    let manager = Manager::new();
    manager.start(lab);
    for _ in 0..3 {
        lab.netd("network create net1 --subnet 10.9.0.0/24").ok();
        assert!(manager.names().iter().any(|name| name == "dns-10.9.0.1-udp0"), "{:?}", manager.names());
        assert_ne!(sockets(), "", "not at the port that is configured");
        lab.netd("network rm net1").ok();
        assert_eq!((manager.names(), sockets()), (Vec::new(), String::new()));
    }
}

fn strangers(lab: &Lab) {
    let manager = Manager::new();
    manager.start(lab);
    lab.netd("network create net1 --subnet 10.9.0.0/24").ok();
    let names = manager.names();
    lab.stop_daemon();
    let bound = || inside("host", || UdpSocket::bind("127.0.0.1:0")).unwrap();
    manager.keep("dns-10.8.0.1-udp0", bound());
    // Not that of the gateway in its name: neither it nor its group is of use.
    manager.keep("dns-10.9.0.1-udp99", bound());
    manager.start(lab);
    assert_eq!(manager.names(), names);
    let held = || run("ip netns exec host ss -lnuH src 127.0.0.1").ok().stdout;
    until("they are closed", || is(held(), ""));
    lab.connected("net1", "web", "");
    Dig::expect("web", "web.internal", &[&lab.address("net1", "web")[0].to_string()]);
}

fn requests(lab: &Lab) {
    let manager = Manager::new();
    manager.keep("api", UnixListener::bind(SOCKET).unwrap());
    let status = || {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "10", "--unix-socket", SOCKET, "http://netd/v1/networks"]);
        curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let waiting = || {
        let queued = run(&format!("ss -lxH src unix:{SOCKET}")).ok().stdout;
        seen(queued, |queued| queued.split_whitespace().nth(2).is_some_and(|count| count != "0"))
    };
    for end in [Lab::stop_daemon, Lab::kill_daemon, Lab::stop_daemon] {
        let asked = status();
        until("the request waits", waiting);
        manager.start(lab);
        let answer = asked.wait_with_output().unwrap();
        assert!(answer.status.success() && answer.stdout.starts_with(b"["), "{answer:?}");
        lab.netd("status").ok();
        end(lab);
        assert!(std::fs::exists(SOCKET).unwrap());
    }
    // Longer than a daemon may take to end.
    manager.told("STOPPING=1", Duration::from_secs(1)).expect("it has said that it stops");
}
