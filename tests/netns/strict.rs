//! Strict ports: the host's own rules about packets to itself decide who reaches them; the container sees the client.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::is;

use crate::lab::daemon::CONFIG;
use crate::lab::echo::{answers, expect_no_answer, until_proxied};
use crate::lab::probe::{ECHO, HTTP, Probe, Servers};
use crate::lab::{
    self, HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, ask, run, skippable, space, trial, until,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("strict: the matrix, bridge-nf-call-iptables 0", |lab| matrix(lab, "0")),
        skippable("strict: the matrix, bridge-nf-call-iptables 1", |lab| matrix(lab, "1")),
        trial("strict: the port, its network and the configuration say it, in this order", precedence),
        trial("strict: a configuration that changes takes effect, and flows go on", reconfigured),
        trial("strict: flows go on without the daemon, and new ones come with the next", without_a_daemon),
        trial("strict: no connection waits, and a host address and a range are strict too", at_once),
        trial("strict: a datagram that comes in fragments arrives whole", fragments),
        trial("strict: who may reach published ports at all is unchanged", host_access),
    ]
}

pub(crate) const BOTH: [Proto; 2] = [Proto::Tcp, Proto::Udp];

/// The host lets in what it must, and these ports.
pub(crate) fn host_accepts(ports: &str) {
    let rules = format!(
        "table inet host\ndelete table inet host\ntable inet host {{\n chain input {{\n  \
         type filter hook input priority 0; policy drop;\n  ct state established,related accept\n  iif lo accept\n  \
         meta l4proto {{ icmp, ipv6-icmp }} accept\n  {ports}\n }}\n}}\n"
    );
    load(&rules);
}

fn load(rules: &str) {
    let mut nft = Command::new("ip");
    nft.args(["netns", "exec", "host", "nft", "-f", "-"]).stdin(std::process::Stdio::piped());
    let mut nft = nft.spawn().expect("nft");
    nft.stdin.take().expect("its input").write_all(rules.as_bytes()).expect("it reads");
    assert!(nft.wait().expect("it ends").success(), "{rules}");
}

pub(crate) fn accepts(port: u16) -> String {
    format!("meta l4proto {{ tcp, udp }} th dport {port} accept")
}

/// Both protocols of a port, published in this mode.
fn publish(port: u16, more: &str) -> String {
    let one = |protocol| format!("-p published={port},target=80,protocol={protocol}{more}");
    format!("{} {}", one("tcp"), one("udp"))
}

/// An attempt, and whether it must succeed.
pub(crate) struct Cell {
    pub(crate) ns: &'static str,
    pub(crate) to: SocketAddr,
    pub(crate) proto: Proto,
    pub(crate) reaches: bool,
    /// The client's address as the container must see it, where nothing forces another.
    pub(crate) saw: Option<IpAddr>,
}

fn judge(cell: &Cell) -> Option<String> {
    let Cell { ns, to, proto, reaches, saw } = cell;
    let patience = Duration::from_millis(if *reaches { 4000 } else { 900 });
    let wrong = |what: String| Some(format!("  {ns} -> {to} {proto:?}: {what}"));
    match (lab::ask_from(ns, None, *proto, *to, patience), reaches) {
        (Err(error), true) => wrong(format!("no answer: {error}")),
        (Ok(reply), false) => wrong(format!("reached: {reply:?}")),
        (Ok(reply), true) if reply.who != "web" => wrong(format!("answered by {reply:?}")),
        (Ok(reply), true) if saw.is_some_and(|saw| saw != reply.saw) => wrong(format!("it saw {}", reply.saw)),
        _ => None,
    }
}

#[track_caller]
pub(crate) fn all_hold(cells: &[Cell]) {
    let failures: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = cells.iter().map(|cell| scope.spawn(|| judge(cell))).collect();
        asking.into_iter().filter_map(|thread| thread.join().expect("no cell panics")).collect()
    });
    assert!(failures.is_empty(), "{} of {} cells are wrong:\n{}", failures.len(), cells.len(), failures.join("\n"));
}

fn matrix(lab: &Lab, bridge_nf: &str) -> Completion {
    if let Err(why) = space::bridge_netfilter(bridge_nf) {
        return Completion::ignored_with(why);
    }
    host_accepts(&accepts(4001));
    lab.start_daemon();
    for network in ["net1", "net2"] {
        lab.netd(&format!("network create {network} --ipv6")).ok();
    }
    let ports = [publish(4000, ""), publish(4001, ",publish=strict"), publish(4002, ",publish=strict")].join(" ");
    lab.connected("net1", "web", &ports);
    lab.connected("net1", "same", "");
    lab.connected("net2", "other", "");
    let _server = Server::start("web", "web", 80);
    [4000, 4001, 4002].into_iter().for_each(until_proxied);
    let other = lab.address("net2", "other");
    let mut cells = Vec::new();
    for proto in BOTH {
        for (family, (host, outside)) in [(HOST4, OUTSIDE4), (HOST6, OUTSIDE6)].into_iter().enumerate() {
            for (port, open) in [(4000, true), (4001, true), (4002, false)] {
                let to = SocketAddr::new(host.parse().unwrap(), port);
                let mut add = |ns, reaches, saw| cells.push(Cell { ns, to, proto, reaches, saw });
                add("outside", open, outside.parse().ok());
                add("other", open, Some(other[family]));
                add("same", open, None);
                add("web", open, None);
                add("host", true, None);
            }
        }
        for loopback in ["127.0.0.1", "::1"] {
            for port in [4000, 4001, 4002] {
                let to = SocketAddr::new(loopback.parse().unwrap(), port);
                cells.push(Cell { ns: "host", to, proto, reaches: true, saw: None });
            }
        }
    }
    all_hold(&cells);
    // Without any rules of the host, it lets everything in.
    run("ip netns exec host nft delete table inet host").ok();
    cells.iter_mut().for_each(|cell| cell.reaches = true);
    all_hold(&cells);
    assert_eq!(lab.diff(), "");
    Completion::Completed
}

/// Asserts which of these ports answer others.
#[track_caller]
fn answering(ports: &[(u16, bool)]) {
    for (port, open) in ports {
        let (open, to) = (*open, (HOST4, *port));
        until(&format!("port {port} is {}", if open { "open" } else { "closed" }), || {
            is(answers("outside", Proto::Tcp, to).is_some(), &open)
        });
    }
}

fn precedence(lab: &Lab) {
    host_accepts("");
    lab.start_daemon();
    lab.netd("network create net1 -o publish=strict").ok();
    lab.netd("network create net2").ok();
    lab.connected("net1", "web", &["-p 4000:80", "-p published=4001,target=80,publish=open"].join(" "));
    lab.connected("net2", "two", &["-p 5000:80", "-p published=5001,target=80,publish=strict"].join(" "));
    let _servers = [Server::start("web", "web", 80), Server::start("two", "two", 80)];
    answering(&[(4000, false), (4001, true), (5000, true), (5001, false)]);
    assert_eq!(lab.network("net1")["publish"], "strict");
    lab.netd("port add web published=4002,target=80,publish=strict").ok();
    answering(&[(4002, false)]);
    host_accepts(&accepts(4002));
    answering(&[(4000, false), (4001, true), (4002, true)]);
    lab.netd("port rm web 4002:80").ok();
    answering(&[(4002, false)]);
    let wrong = lab.netd("network create net3 -o publish=shut");
    assert!(wrong.code == Some(2) && wrong.stderr.contains("use open or strict"), "{wrong:?}");
    lab.kill_daemon();
    fs::write(CONFIG, "[firewall]\npublish = \"strict\"\n").unwrap();
    lab.start_daemon();
    answering(&[(4000, false), (4001, true), (5000, false), (5001, false)]);
}

fn reconfigured(lab: &Lab) {
    host_accepts("");
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4007:7");
    let _servers = Servers::start("web");
    let flow = Probe::stream("outside", (HOST4, 4007));
    Probe::http("outside", (HOST4, 4000)).finish("open");
    for (mode, open) in [("strict", false), ("open", true), ("strict", false)] {
        lab.stop_daemon();
        fs::write(CONFIG, format!("[firewall]\npublish = \"{mode}\"\n")).unwrap();
        lab.start_daemon();
        for host in [HOST4, HOST6] {
            let reached = || space::inside("outside", || connects(SocketAddr::new(host.parse().unwrap(), 4000)));
            until(&format!("{mode} at {host}"), || is(reached(), &open));
        }
        assert_eq!(lab.diff(), "");
    }
    host_accepts(&accepts(4000));
    Probe::http("outside", (HOST4, 4000)).finish("allowed");
    flow.finish("a flow that was there before");
}

fn connects(to: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&to, Duration::from_millis(700)).is_ok()
}

fn without_a_daemon(lab: &Lab) {
    host_accepts(&[accepts(4000), accepts(4007)].join("\n  "));
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o publish=strict").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4007:7 -p 4000:81/udp");
    let _servers = (Servers::start("web"), Server::start("web", "web", 81));
    let flows = [HOST4, HOST6].map(|host| Probe::stream("outside", (host, 4007)));
    let datagrams = space::inside("outside", || UdpSocket::bind("0.0.0.0:0")).unwrap();
    datagrams.connect((HOST4, 4000)).unwrap();
    datagrams.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let exchange = || datagrams.send(b"who").and_then(|_| datagrams.recv(&mut [0; 64]));
    exchange().expect("a first datagram");
    lab.kill_daemon();
    expect_no_answer("outside", Proto::Udp, (HOST4, 4000));
    assert!(
        !space::inside("outside", || connects(SocketAddr::new(HOST6.parse().unwrap(), 4000))),
        "nobody sends it again"
    );
    exchange().expect("a flow goes on");
    // A client that tries again reaches the port once there is a daemon.
    let waiting = thread::spawn(|| {
        space::inside("outside", || {
            std::net::TcpStream::connect_timeout(
                &SocketAddr::new(HOST4.parse().unwrap(), 4000),
                Duration::from_secs(20),
            )
        })
    });
    lab.start_daemon();
    waiting.join().unwrap().expect("the client's next attempt");
    exchange().expect("a flow goes on");
    assert_eq!(ask("outside", Proto::Udp, (HOST4, 4000)).saw.to_string(), OUTSIDE4);
    flows.into_iter().for_each(|flow| flow.finish("a flow during the absence of the daemon"));
    assert_eq!(ECHO, 7);
}

/// A lost first packet would cost a second, which the probe counts as a failure.
fn at_once(lab: &Lab) {
    host_accepts("tcp dport 4000-4100 accept");
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o publish=strict").ok();
    lab.connected("net1", "web", &format!("-p 4000:80 -p {HOST4}:4001:80 -p [{HOST6}]:4002:80 -p 4010-4050:80-120"));
    let _servers = Servers::start("web");
    assert_eq!(HTTP, 80);
    let all = [(HOST4, 4000), (HOST6, 4000), (HOST4, 4001), (HOST6, 4002), (HOST4, 4010)];
    let probes = all.map(|to| Probe::http("outside", to));
    until("there were many", || netd_testing::wait::seen(probes[0].done(), |done| *done > 100));
    probes.into_iter().for_each(|probe| probe.finish("a connection"));
    lab.netd("port add web 4003:81/udp").ok();
    host_accepts("udp dport 4003 accept");
    for (host, any) in [(HOST4, "0.0.0.0:0"), (HOST6, "[::]:0")] {
        let client = space::inside("outside", || UdpSocket::bind(any)).unwrap();
        client.connect((host, 4003)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        client.send(b"who").unwrap();
        let told = client.recv(&mut [0; 8]).expect_err("nobody listens there");
        assert_eq!(told.kind(), std::io::ErrorKind::ConnectionRefused, "the container's own refusal, at {host}");
    }
    host_accepts("");
    for (host, port) in all {
        expect_no_answer("outside", Proto::Tcp, (host, port));
    }
}

fn fragments(lab: &Lab) {
    host_accepts("meta l4proto udp th dport 4000 accept");
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o publish=strict").ok();
    lab.connected("net1", "web", "-p 4000:80/udp");
    let web = space::inside("web", || UdpSocket::bind("[::]:80")).unwrap();
    web.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    for (host, any) in [(HOST4, "0.0.0.0:0"), (HOST6, "[::]:0")] {
        for length in [0, 1, 1400, 9001, 60_000] {
            let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let client = space::inside("outside", || UdpSocket::bind(any)).unwrap();
            client.send_to(&sent, (host, 4000)).unwrap();
            let mut got = vec![0; 65_536];
            let (received, from) = web.recv_from(&mut got).unwrap_or_else(|e| panic!("{length} bytes to {host}: {e}"));
            assert_eq!(got[..received], sent, "{length} bytes to {host}");
            // Later ones of the flow are the kernel's.
            web.send_to(b"back", from).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            assert_eq!(client.recv(&mut got).unwrap(), 4, "the answer");
        }
    }
}

fn host_access(lab: &Lab) {
    host_accepts(&accepts(4000));
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", &publish(4000, ",publish=strict"));
    let _server = Server::start("web", "web", 80);
    let mut cells = Vec::new();
    for (network, flags, reaches) in [
        ("ports", "--host-access ports", true),
        ("none", "--host-access none", false),
        ("hidden", "--internal", false),
        ("shown", "--internal --host-access all", false),
    ] {
        lab.netd(&format!("network create {network} --ipv6 {flags}")).ok();
        lab.connected(network, network, "");
        let shown = lab.network(network);
        for subnet in shown["subnets"].as_array().unwrap() {
            let gateway: IpAddr = subnet["gateway"].as_str().unwrap().parse().unwrap();
            // A container of an internal network may give itself a route.
            let route = format!("ip -n {network} route add default via {gateway}");
            let _ = run(&route);
            let uplink: IpAddr = if gateway.is_ipv4() { HOST4 } else { HOST6 }.parse().unwrap();
            for (to, proto) in [gateway, uplink].into_iter().flat_map(|to| BOTH.map(|proto| (to, proto))) {
                let to = SocketAddr::new(to, 4000);
                cells.push(Cell { ns: network, to, proto, reaches, saw: None });
            }
        }
    }
    all_hold(&cells);
}
