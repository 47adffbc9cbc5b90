//! `netd port add` and `netd port rm`: ports of connected containers come and go while others' connections go on.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::lab::look::{default_routes, elements, published};
use crate::lab::probe::{ECHO, HTTP, Probe, Servers};
use crate::lab::steady::Steady;
use crate::lab::{HOST4, HOST6, Lab, Proto, Server, ask, daemon, echo, space, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("port changes: a port answers once it is added, and is free once it is removed", come_and_go),
        trial("port changes: connections of other ports go on", others_go_on),
        trial("port changes: connections of a removed port end", connections_end),
        trial("port changes: with --drain, connections of a removed port stay, and new ones are refused", drained),
        trial("port changes: what is taken, unknown or not published is refused, and nothing changes", refused),
        trial("port changes: a port is removed by as much of it as is unambiguous", meant),
        trial("port changes: over HTTP, with events", over_http),
        trial("port changes: they survive a restart, and end with the container", survive),
        trial("port changes: default route, resolv.conf and ports follow connects and disconnects", follow),
    ]
}

fn come_and_go(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "");
    let _servers = [Server::start("web", "web", 80), Server::start("web", "p81", 81)];
    for (spec, proto, at, port) in [
        ("4000:80", Proto::Tcp, vec![HOST4, HOST6], 4000),
        ("4000:81/udp", Proto::Udp, vec![HOST4, HOST6], 4000),
        ("127.0.0.1:4001:80", Proto::Tcp, vec![], 4001),
        ("5000-5009:75-84", Proto::Tcp, vec![HOST4], 5005),
        ("80-89:80-89/udp", Proto::Udp, vec![HOST6], 80),
    ] {
        let added = lab.netd(&format!("port add web {spec}")).ok().stdout;
        assert!(added.starts_with("web on net1: ") && added.contains("->"), "{added}");
        for address in at {
            ask("outside", proto, (address, port));
        }
        if spec.starts_with("127.0.0.1") {
            assert_eq!(ask("host", proto, ("127.0.0.1", port)).who, "web");
            echo::expect_no_answer("outside", proto, (HOST4, port));
        }
        let error = space::inside("host", || std::net::UdpSocket::bind(("0.0.0.0", port)).map(drop));
        assert_eq!(error.is_err(), proto == Proto::Udp, "{spec}: it is held");
        let removed = lab.netd(&format!("port rm web {spec}")).ok().stdout;
        assert!(removed.starts_with("web no longer publishes "), "{removed}");
        echo::expect_no_answer("outside", proto, (HOST4, port));
        space::inside("host", || std::net::UdpSocket::bind(("0.0.0.0", port)).map(drop)).expect("it is free");
    }
    assert!(!published().contains("4000") && !published().contains("5005"), "{}", published());
    let printed = lab.netd("port add web 80").ok().stdout;
    let port = printed.split("*:").nth(1).and_then(|rest| rest.split("->").next()).and_then(|port| port.parse().ok());
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, port.expect("the chosen port is printed"))).who, "web");
    lab.netd("port rm web 80").ok();
}

fn others_go_on(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", &format!("-p 4000:{HTTP} -p 4007:{ECHO}"));
    lab.connected("net1", "db", "");
    let _servers = (Servers::start("web"), Server::start("web", "web", 53), Server::start("db", "db", 53));
    lab.netd("port add web 4009:53/udp").ok();
    let (requests, stream) = (Probe::http("outside", (HOST4, 4000)), Probe::stream("outside", (HOST6, 4007)));
    let datagrams = Steady::start("outside", 7000, (HOST4, 4009));
    for round in 0..10 {
        datagrams.is_answered_by("web");
        for spec in ["5000:53/udp", "5001:53", "4008:80", "6000-6020:6000-6020/udp"] {
            lab.netd(&format!("port add {} {spec}", if round % 2 == 0 { "web" } else { "db" })).ok();
        }
        for spec in ["5000:53/udp", "5001:53", "4008:80", "6000-6020:6000-6020/udp"] {
            lab.netd(&format!("port rm {} {spec}", if round % 2 == 0 { "web" } else { "db" })).ok();
        }
    }
    datagrams.is_answered_by("web");
    requests.finish("requests");
    stream.finish("a stream");
}

/// A server in a container that sends back what it gets, however long nothing comes. It ends with the process.
fn send_back(ns: &str, port: u16) {
    let listener = space::inside(ns, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))).expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
}

/// A connection to such a server.
struct Stream(TcpStream);

impl Stream {
    fn open(to: (&str, u16)) -> Self {
        let to = SocketAddr::new(to.0.parse().unwrap(), to.1);
        let stream = space::inside("outside", || TcpStream::connect_timeout(&to, Duration::from_secs(3))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        Self(stream)
    }

    fn exchange(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8];
        self.0.write_all(b"12345678")?;
        self.0.read_exact(&mut buffer)
    }
}

fn connections_end(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", &format!("-p 4007:{ECHO} -p 4008:{ECHO} -p 4009:53/udp -p 4010:53/udp"));
    send_back("web", ECHO);
    let _server = Server::start("web", "web", 53);
    let mut ended = [Stream::open((HOST4, 4007)), Stream::open((HOST6, 4007))];
    let mut stays = [Stream::open((HOST4, 4008)), Stream::open((HOST6, 4008))];
    let datagrams = [4009, 4010].map(|port| Steady::start("outside", 7000 + port, (HOST4, port)));
    datagrams.iter().for_each(|client| client.is_answered_by("web"));
    for stream in ended.iter_mut().chain(&mut stays) {
        stream.exchange().expect("it is connected");
    }
    lab.netd("port rm web 4007:7").ok();
    lab.netd("port rm web 4009:53/udp").ok();
    for stream in &mut ended {
        let error = stream.exchange().expect_err("it has ended");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "at once: {error}");
    }
    datagrams[0].is_not_answered();
    for stream in &mut stays {
        stream.exchange().expect("another port");
    }
    datagrams[1].is_answered_by("web");
    lab.netd("port add web 4009:53/udp").ok();
    datagrams[0].is_answered_by("web");
}

fn drained(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", &format!("-p 4007:{ECHO} -p 4009:53/udp"));
    send_back("web", ECHO);
    let _server = Server::start("web", "web", 53);
    let mut streams = [Stream::open((HOST4, 4007)), Stream::open((HOST6, 4007))];
    let datagrams = Steady::start("outside", 7000, (HOST6, 4009));
    datagrams.is_answered_by("web");
    lab.netd("port rm web 4007:7 --drain").ok();
    lab.netd("port rm web 4009:53/udp --drain").ok();
    for stream in &mut streams {
        stream.exchange().expect("it stays");
    }
    datagrams.is_answered_by("web");
    echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4007));
    echo::expect_no_answer("outside", Proto::Udp, (HOST6, 4009));
    streams.iter_mut().for_each(|stream| stream.exchange().expect("it stays"));
}

fn refused(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create inner --internal").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp -p 127.0.0.1:4005:80");
    lab.connected("net1", "db", "");
    lab.connected("inner", "quiet", "");
    let _process = space::inside("host", || std::net::TcpListener::bind("0.0.0.0:4022")).unwrap();
    let before = lab.everything();
    for (line, words) in [
        ("port add nobody 4001:80", vec!["no container \"nobody\""]),
        ("port add web 4001:80 --network nowhere", vec!["no network \"nowhere\""]),
        ("port add web 4001:80 --network inner", vec!["web", "not connected to network inner"]),
        ("port add db 4000:80", vec!["published by container web", "netd port web"]),
        ("port add web 4000:80", vec!["published by container web"]),
        ("port add db 3990-4010:3990-4010/udp", vec!["published by container web"]),
        ("port add db 4022:80", vec!["4022/tcp", "in use by", "pid"]),
        ("port add quiet 4001:80", vec!["inner", "internal"]),
        ("port add db 198.51.100.1:4001:80", vec!["198.51.100.1"]),
        ("port rm nobody 4000:80", vec!["no container \"nobody\""]),
        ("port rm web 4001:80", vec!["web does not publish 4001:80/tcp", "*:4000->80/tcp"]),
        ("port rm db 4000:80", vec!["db does not publish 4000:80/tcp", "nothing"]),
        ("port rm web 80", vec!["*:4000->80/tcp or 127.0.0.1:4005->80/tcp"]),
        ("port rm web 4000:80 --network nowhere", vec!["no network \"nowhere\""]),
    ] {
        let refused = lab.netd(line).refused();
        assert!(words.iter().all(|word| refused.contains(word)), "{line}: {refused}");
        let planned = lab.netd(&format!("{line} --dry-run"));
        if !line.contains("4022") && !line.contains("198.51") {
            assert_eq!(planned.refused(), refused, "{line}");
        }
    }
    lab.unchanged_since(&before);
    let planned = lab.netd("port add db 4001:80 --dry-run").ok().stdout;
    assert!(planned.contains("bind 0.0.0.0:4001/tcp") && planned.contains("publish { 4001/tcp"), "{planned}");
    let planned = lab.netd("port rm web 4000:80 --dry-run").ok().stdout;
    assert!(planned.contains("release 0.0.0.0:4000/tcp") && planned.contains("conntrack entries"), "{planned}");
    lab.unchanged_since(&before);
}

fn meant(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 127.0.0.1:4005:80 -p 53/udp -p 90-91");
    lab.netd("connect net2 web -p 6000:80").ok();
    let left = || -> Vec<u64> {
        let shown = lab.netd("port web --json").ok().json();
        let mut ports: Vec<u64> =
            shown.as_array().unwrap().iter().map(|p| p["container_port"].as_u64().unwrap()).collect();
        ports.sort_unstable();
        ports
    };
    assert_eq!(left(), [53, 80, 80, 80, 90, 91]);
    lab.netd("port rm web 53/udp").ok();
    lab.netd("port rm web 90-91").ok();
    assert_eq!(left(), [80, 80, 80]);
    lab.netd("port rm web 80 --network net2").ok();
    assert_eq!(left(), [80, 80]);
    lab.netd("port rm web 127.0.0.1::80").ok();
    lab.netd("port rm web 80").ok();
    assert_eq!(left(), [0u64; 0]);
}

/// The events about ports from now on.
fn events(lab: &Lab) -> Receiver<serde_json::Value> {
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", daemon::netd(), "events", "--json", "--socket", daemon::SOCKET]);
    // It ends with the daemon.
    let mut child = command.stdout(Stdio::piped()).spawn().expect("netd events");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = channel();
    let (begun, begins) = channel();
    std::thread::spawn(move || {
        let events = lines.map_while(Result::ok).map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
        for event in events {
            let is_about_ports = event["type"].as_str().is_some_and(|kind| kind.starts_with("port."));
            let told = if is_about_ports { sender.send(event).is_ok() } else { begun.send(()).is_ok() };
            if !told {
                break;
            }
        }
        drop(child.wait());
    });
    // The first one comes when the command is subscribed; until then changes would be missed.
    let mut made = 0;
    until("an event arrives", || {
        made += 1;
        lab.netd(&format!("network create n{made}")).ok();
        begins.recv_timeout(Duration::from_millis(200))
    });
    // The thread goes on.
    std::mem::forget(begins);
    receiver
}

fn over_http(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "");
    let _server = Server::start("web", "web", 80);
    let events = events(lab);
    let ports = "/v1/networks/net1/endpoints/web/ports";
    let (status, body) = lab.http("POST", ports, r#"{"port": "4000:80"}"#);
    assert_eq!(status, 201, "{body}");
    let added: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&added["network"], &added["ports"][0]["host_port"]), (&"net1".into(), &4000.into()));
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    let (status, body) =
        lab.http("POST", "/v1/containers/web/ports", r#"{"port": {"host_port": 4001, "container_port": 80}}"#);
    assert_eq!(status, 201, "{body}");
    assert_eq!(lab.http("POST", ports, r#"{"port": "4000:80"}"#).0, 409);
    assert_eq!(lab.http("POST", ports, r#"{"ports": "4000:80"}"#).0, 400);
    assert_eq!(lab.http("DELETE", &format!("{ports}?port=4000:80%2Ftcp"), "").0, 204);
    assert_eq!(lab.http("DELETE", &format!("{ports}?port=4000:80%2Ftcp"), "").0, 404);
    assert_eq!(lab.http("DELETE", "/v1/containers/web/ports?port=4001:80&drain=true", "").0, 204);
    echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    for (kind, message) in [
        ("port.add", "web on net1 published *:4000->80/tcp"),
        ("port.add", "web on net1 published *:4001->80/tcp"),
        ("port.rm", "web on net1 no longer publishes *:4000->80/tcp"),
        ("port.rm", "web on net1 no longer publishes *:4001->80/tcp"),
    ] {
        let event = events.recv_timeout(Duration::from_secs(3)).expect("an event");
        assert_eq!((&event["type"], &event["message"]), (&kind.into(), &message.into()), "{event}");
        assert_eq!(event["endpoint"]["container"]["name"], "web");
    }
}

fn survive(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80");
    let server = Server::start("web", "web", 80);
    lab.netd("port add web 4001:80").ok();
    lab.netd("port rm web 4000:80").ok();
    for _ in 0..2 {
        assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4001)).who, "web");
        echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
        lab.kill_daemon();
        lab.start_daemon();
    }
    drop(server);
    lab.netd("disconnect net1 web").ok();
    assert!(!published().contains("4001"), "{}", published());
}

fn follow(lab: &Lab) {
    lab.start_daemon();
    for network in
        ["inner --internal", "net1 --subnet 10.91.0.0/24", "net2 --subnet 10.92.0.0/24 --ipv6 --subnet fd92::/64"]
    {
        lab.netd(&format!("network create {network}")).ok();
    }
    lab.connected("inner", "web", "");
    let _server = Server::start("web", "web", 80);
    let shows = |gateway: Option<&str>, six: Option<&str>, target: Option<&str>| {
        for (family, gateway) in [(4, gateway), (6, six)] {
            let routes: Vec<String> = default_routes("web", family).into_iter().map(|(via, _)| via).collect();
            assert_eq!(routes, gateway.into_iter().collect::<Vec<_>>(), "IPv{family}");
        }
        let leads = elements();
        assert_eq!(target.is_some(), leads.contains("4009"), "{leads}");
        if let Some(target) = target {
            assert!(leads.contains(target), "{target} in {leads}");
        }
        let file = std::fs::read_to_string("/etc/netns/web/resolv.conf").unwrap();
        file.lines().filter(|line| line.starts_with("nameserver")).map(str::to_owned).collect::<Vec<_>>()
    };
    let inner = shows(None, None, None);
    lab.netd("connect net1 web").ok();
    lab.netd("port add web 4009:80/udp").ok();
    let one = shows(Some("10.91.0.1"), None, Some("10.91.0.2"));
    let client = Steady::start("outside", 7000, (HOST4, 4009));
    client.is_answered_by("web");
    lab.netd("connect net2 web").ok();
    let both = shows(Some("10.91.0.1"), Some("fd92::1"), Some("10.91.0.2"));
    let six = Steady::start("outside", 7001, (HOST6, 4009));
    six.is_answered_by("web");
    client.is_answered_by("web");
    lab.netd("port add web 4010:80/udp --network net2").ok();
    lab.netd("disconnect net1 web").ok();
    // 4009 was published with net1 and has ended with it; 4010 leads on.
    let two = shows(Some("10.92.0.1"), Some("fd92::1"), None);
    assert!(published().contains("4010") && published().contains("10.92.0.2"), "{}", published());
    client.is_not_answered();
    lab.netd("port add web 4009:80/udp").ok();
    client.is_answered_by("web");
    six.is_answered_by("web");
    lab.netd("disconnect net2 web").ok();
    assert_eq!(shows(None, None, None), inner);
    client.is_not_answered();
    for (file, name) in [(inner, "inner"), (one, "net1"), (both, "both"), (two, "net2")] {
        assert_eq!(file.len(), 1, "{name}: {file:?}");
    }
}
