//! Long ranges of published ports: they cost next to nothing, and a process of the host that has or takes one of their
//! ports is named.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, lacks};

use crate::lab::{HOST4, HOST6, Lab, Proto, Server, ask, run, space, trial, until_within};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("port ranges: ten thousand ports answer, and cost no descriptors and one element a family", ten_thousand),
        trial("port ranges: up to sixteen ports are held, of longer ranges none is", held),
        trial("port ranges: a port that a process has is refused by its name", taken_before),
        trial("port ranges: a process that takes a port later is told, until it ends", taken_later),
        trial("port ranges: a process that took a port while no daemon ran is told", taken_unseen),
    ]
}

/// A server of the host on a TCP port.
struct HostServer(Child);

impl HostServer {
    fn start(port: u16) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["--net=/run/netns/host", "--", "busybox", "httpd", "-f", "-p", &port.to_string()]);
        Self(command.stdin(Stdio::null()).spawn().expect("a server of the host"))
    }
}

impl Drop for HostServer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Waits until the server listens; a connection would be translated.
fn listens() {
    let listening = || run("ip netns exec host ss -Hltn").ok().stdout;
    until_within(Duration::from_secs(5), "it listens", || contains(listening(), ":20005 "));
}

fn descriptors(lab: &Lab) -> usize {
    fs::read_dir(format!("/proc/{}/fd", lab.daemon_pid())).unwrap().count()
}

fn ten_thousand(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.container("web");
    let before = descriptors(lab);
    lab.netd("connect net1 web -p 20000-29999:20000-29999/udp -p 20000-29999:20000-29999").ok();
    let more = descriptors(lab).saturating_sub(before);
    assert!(more <= 20, "{more} descriptors");
    for port in [20000, 25000, 29999] {
        let _server = Server::start("web", "web", port);
        for (host, proto) in [(HOST4, Proto::Udp), (HOST6, Proto::Udp), (HOST4, Proto::Tcp), (HOST6, Proto::Tcp)] {
            assert_eq!(ask("outside", proto, (host, port)).who, "web");
        }
    }
    let table = run("ip netns exec host nft list table inet netd").ok().stdout;
    assert_eq!(table.matches("20000-29999").count(), 4, "{table}");
    lab.container("db");
    for spec in ["20500:80", "127.0.0.1:29999:80/udp", "15000-20000:15000-20000", "29999-40000:29999-40000/udp"] {
        let line = lab.netd(&format!("connect net1 db -p {spec}")).refused();
        assert!(line.contains("published by container web (*:20000-29999->"), "{spec}: {line}");
    }
    lab.netd("connect net1 db -p 19999:80 -p 30000-39999:30000-39999/udp").ok();
    lab.netd("port rm web 20000-29999:20000-29999/udp").ok();
    lab.netd("port add db 20000-29999:20000-29999/udp").ok();
    let _server = Server::start("db", "db", 20001);
    assert_eq!(ask("outside", Proto::Udp, (HOST4, 20001)).who, "db");
    assert_eq!(lab.diff(), "");
}

fn held(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 5000-5015:5000-5015/udp -p 6000-6016:6000-6016/udp");
    let bind = |port: u16| space::inside("host", || UdpSocket::bind(("0.0.0.0", port)).map(drop));
    assert!(bind(5000).is_err() && bind(5015).is_err());
    bind(6000).expect("it is watched, not held");
    let planned = lab.netd("port add web 7000-7099:7000-7099 --dry-run").ok().stdout;
    assert!(planned.contains("check and watch 0.0.0.0:7000-7099/tcp, [::]:7000-7099/tcp"), "{planned}");
}

fn taken_before(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.container("web");
    let server = HostServer::start(20005);
    listens();
    let before = lab.everything();
    let pid = server.0.id().to_string();
    for line in ["connect net1 web -p 20000-29999:20000-29999", "connect net1 web -p 127.0.0.1:20000-20100:20000-20100"]
    {
        let refused = lab.netd(line).refused();
        assert!(["20005/tcp", "busybox", &pid].iter().all(|part| refused.contains(part)), "{refused}");
    }
    lab.unchanged_since(&before);
    lab.netd("connect net1 web -p 20000-29999:20000-29999/udp -p 192.0.2.1:30000-30100:30000-30100").ok();
    drop(server);
    lab.netd("port add web 20000-29999:20000-29999").ok();
    let refused = lab.netd("port add web 198.51.100.7:30000-30100:30000-30100").refused();
    assert!(refused.contains("198.51.100.7"), "{refused}");
}

/// Waits until it is told, and until it is over once the process has ended.
fn is_told(lab: &Lab, server: HostServer) {
    // Seen with the look every ten seconds.
    let patience = Duration::from_secs(15);
    let problem = "cannot hold the ports of web: port 20005/tcp on 0.0.0.0 is in use by busybox (pid ";
    until_within(patience, "a problem", || contains(lab.netd("status --json").stdout, problem));
    let shown = lab.netd("port web").ok().stdout;
    let (pid, mut lines) = (server.0.id(), shown.lines());
    let line = lines.find(|line| line.contains("20000-29999/tcp")).expect("the range");
    assert!(line.contains(&format!("another process of this host has port 20005: busybox (pid {pid})")), "{shown}");
    let json = lab.netd("port web --json").ok().json();
    let taken: Vec<&serde_json::Value> =
        json.as_array().unwrap().iter().filter(|port| !port["taken_by"].is_null()).collect();
    assert_eq!((taken.len(), &taken[0]["protocol"]), (1, &"tcp".into()), "{json}");
    let _server = Server::start("web", "web", 20006);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 20006)).who, "web", "it stays published");
    drop(server);
    until_within(patience, "it is over", || lacks(lab.netd("status --json").stdout, "cannot hold"));
    assert!(!lab.netd("port web").ok().stdout.contains("busybox"));
}

fn taken_later(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 20000-29999:20000-29999 -p 20000-29999:20000-29999/udp -p 4000:80");
    // A client of the host with such a port is nobody's trouble.
    let client = space::inside("host", || {
        let socket = UdpSocket::bind("192.0.2.1:20007").unwrap();
        socket.connect("192.0.2.2:9").map(|()| socket)
    });
    let listener = space::inside("host", || TcpListener::bind("0.0.0.0:19999")).unwrap();
    is_told(lab, HostServer::start(20005));
    drop((client, listener));
}

fn taken_unseen(lab: &Lab) {
    lab.differs("another process has a port");
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 20000-29999:20000-29999");
    lab.kill_daemon();
    let server = HostServer::start(20005);
    listens();
    lab.start_daemon();
    is_told(lab, server);
}
