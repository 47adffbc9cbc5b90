//! Reservations: addresses, a MAC address and host ports that a container to come is to have, seen by other programs.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::lacks;

use crate::lab::look::links;
use crate::lab::{HOST4, HOST6, Lab, OUTSIDE4, Proto, Server, addresses, ask, echo, ip_json, run, space, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("reservation: nobody else gets it, and the container that comes with it has it", main_job),
        trial("reservation: the ports are held without a gap, when a connect fails and between two connects", no_gap),
        trial("reservation: a UDP client that asked before the container came is answered then", early_client),
        trial("reservation: a restart keeps it, and a reboot ends it", restart),
        trial("reservation: kill -9 right after a reply loses none, and brings none back", right_after_a_reply),
        trial("reservation: a port of a process is refused, and a free one is found", ports_of_processes),
        trial("reservation: a dry run shows what would be reserved and changes nothing", dry_run),
        trial("reservation: a network that is full of reservations is full", full),
    ]
}

/// Another process of the host binds the port.
fn bind(ip: &str, port: u16, proto: Proto) -> Result<(), ErrorKind> {
    let at = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port);
    let bound = space::inside("host", || match proto {
        Proto::Tcp => TcpListener::bind(at).map(drop),
        Proto::Udp => UdpSocket::bind(at).map(drop),
    });
    bound.map_err(|error| error.kind())
}

fn expect_held(port: u16, proto: Proto) {
    for ip in ["0.0.0.0", "127.0.0.1", "::"] {
        assert_eq!(bind(ip, port, proto), Err(ErrorKind::AddrInUse), "{ip} {port} {proto:?}");
    }
}

fn expect_free(port: u16, proto: Proto) {
    assert_eq!(bind("::", port, proto), Ok(()), "{port} {proto:?}");
}

fn ids(lab: &Lab) -> Vec<String> {
    let shown = lab.netd("reservation ls --json").ok().json();
    shown.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn main_job(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 --subnet 10.7.0.0/24 --subnet fd07::/64").ok();
    let message = lab.netd("reservation create net1 r1 -p 4000:80 -p 4001:80/udp").ok().stdout;
    assert_eq!(
        message,
        "r1 reserved on net1: 10.7.0.2/24, fd07::2/64, 02:6e:0a:07:00:02, *:4000->80/tcp, *:4001->80/udp\n"
    );
    expect_held(4000, Proto::Tcp);
    expect_held(4001, Proto::Udp);
    echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    lab.container("other");
    for (asked, words) in [
        ("--ip 10.7.0.2", "IP address 10.7.0.2 on network net1 is taken by reservation r1"),
        ("--ip6 fd07::2", "IP address fd07::2 on network net1 is taken by reservation r1"),
        ("--mac 02:6e:0a:07:00:02", "on network net1 is taken by reservation r1"),
        ("-p 4000:80", "port *:4000->80/tcp is already held by reservation r1"),
        ("--reservation r2", "no reservation \"r2\""),
    ] {
        let line = lab.netd(&format!("connect net1 other {asked}")).refused();
        assert!(line.contains(words), "{line}");
    }
    let line = lab.netd("network rm net1").refused();
    assert!(line.contains("net1 is in use by the reservations r1"), "{line}");
    assert_eq!(lab.netd("network prune").ok().stdout, "");
    assert_eq!(lab.network("net1")["reservations"], serde_json::json!(["r1"]));
    lab.netd("connect net1 other").ok();
    assert_eq!(lab.address("net1", "other")[0].to_string(), "10.7.0.3", "the next one");

    lab.container("web");
    lab.netd("connect net1 web --reservation r1 --alias www").ok();
    let expected: Vec<IpAddr> = vec!["10.7.0.2".parse().unwrap(), "fd07::2".parse().unwrap()];
    assert_eq!(addresses("web", "eth0"), expected);
    assert_eq!(ip_json("web", "link show eth0")[0]["address"], "02:6e:0a:07:00:02");
    let _server = Server::start("web", "web", 80);
    for host in [HOST4, HOST6] {
        assert_eq!(ask("outside", Proto::Tcp, (host, 4000)).who, "web");
        assert_eq!(ask("outside", Proto::Udp, (host, 4001)).who, "web");
    }
    expect_held(4000, Proto::Tcp);
    assert_eq!(ids(lab), Vec::<String>::new(), "the endpoint has taken its place");

    lab.netd("disconnect net1 web").ok();
    expect_free(4000, Proto::Tcp);
    expect_free(4001, Proto::Udp);
    assert_eq!(ids(lab), Vec::<String>::new());
    lab.netd("connect net1 web --ip 10.7.0.2 -p 4000:80").ok();

    lab.netd("reservation create net1 r2 -p 4002:80").ok();
    expect_held(4002, Proto::Tcp);
    lab.netd("reservation rm r2").ok();
    expect_free(4002, Proto::Tcp);
}

fn no_gap(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("reservation create net1 r1 -p 4000:80").ok();
    lab.container("web");
    let (end, bound) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            space::inside("host", || {
                while !end.load(Ordering::Relaxed) {
                    let got = ["0.0.0.0:4000", "[::]:4000"].map(|at| TcpListener::bind(at).is_ok());
                    bound.fetch_or(got.contains(&true), Ordering::Relaxed);
                }
            });
        });
        // The interface has this name already, which only the kernel knows: the steps before are undone.
        let line = lab.netd("connect net1 web --reservation r1 --ifname lo").refused();
        assert!(line.contains("interface lo"), "{line}");
        assert_eq!((ids(lab), links("web")), (vec!["r1".to_owned()], vec!["lo".to_owned()]));
        lab.netd("connect net1 web --reservation r1").ok();
        lab.netd("disconnect net1 web --keep r2").ok();
        assert_eq!((ids(lab), links("web")), (vec!["r2".to_owned()], vec!["lo".to_owned()]));
        echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
        lab.netd("connect net1 web --reservation r2").ok();
        end.store(true, Ordering::Relaxed);
    });
    assert!(!bound.load(Ordering::Relaxed), "another process got the port in between");
    let _server = Server::start("web", "web", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
}

/// Its first datagram makes a connection tracking entry that leads to the host.
fn early_client(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("reservation create net1 r1 -p 4001:80/udp").ok();
    let client = space::inside("outside", || UdpSocket::bind((OUTSIDE4, 0))).unwrap();
    client.connect((HOST4, 4001)).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    client.send(b"who").unwrap();
    assert!(client.recv(&mut [0; 64]).is_err(), "nobody is there as yet");
    lab.container("web");
    lab.netd("connect net1 web --reservation r1").ok();
    let _server = Server::start("web", "web", 80);
    let mut reply = [0; 64];
    until("the same client is answered", || client.send(b"who").and_then(|_| client.recv(&mut reply)));
    assert!(reply.starts_with(b"web "), "{reply:?}");
}

fn restart(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.7.0.0/24").ok();
    lab.netd("reservation create net1 r1 -p 4000:80").ok();
    lab.netd("reservation create net1 r2 --ip 10.7.0.9 -p 4001:80").ok();
    let before = lab.netd("reservation ls --json").ok().json();
    lab.kill_daemon();
    expect_free(4000, Proto::Tcp);
    lab.start_daemon();
    assert_eq!(lab.netd("reservation ls --json").ok().json(), before);
    expect_held(4000, Proto::Tcp);
    lab.container("other");
    let line = lab.netd("connect net1 other --ip 10.7.0.2").refused();
    assert!(line.contains("reservation r1"), "{line}");
    lab.connected("net1", "web", "--reservation r1");
    let server = Server::start("web", "web", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(ids(lab), ["r2"]);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");

    // A reboot removes the namespaces, the links and the files under /run.
    lab.kill_daemon();
    drop(server);
    run("ip netns delete web").ok();
    until("the container's interface is gone", || lacks(links("host").join(" "), "ndv-web"));
    run("ip -n host link delete nd-net1").ok();
    std::fs::remove_dir_all("/run/lab/runtime").unwrap();
    lab.start_daemon();
    assert_eq!(ids(lab), Vec::<String>::new());
    expect_free(4001, Proto::Tcp);
    lab.netd("connect net1 other --ip 10.7.0.9").ok();
}

fn right_after_a_reply(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let again = || {
        lab.kill_daemon();
        lab.start_daemon();
    };
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let port = 4000 + u16::try_from(number).unwrap();
        lab.netd(&format!("reservation create net1 {name} -p {port}:80")).ok();
        again();
        assert_eq!(ids(lab), [name]);
        lab.connected("net1", name, &format!("--reservation {name}"));
        again();
        assert_eq!(ids(lab), Vec::<String>::new());
        expect_held(port, Proto::Tcp);
    }
    lab.netd("reservation create net1 d -p 4009:80").ok();
    lab.netd("reservation rm d").ok();
    again();
    assert_eq!(ids(lab), Vec::<String>::new());
    expect_free(4009, Proto::Tcp);
}

fn ports_of_processes(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", "busybox", "httpd", "-f", "-p", "4000"]).stdin(Stdio::null());
    let mut process = command.spawn().expect("a server of the host");
    until("it listens", || space::inside("host", || TcpStream::connect("127.0.0.1:4000")));
    let before = lab.everything();
    let line = lab.netd("reservation create net1 r1 -p 5000:80 -p 4000:80").refused();
    assert!(line.contains("port 4000/tcp") && line.contains("busybox"), "{line}");
    lab.unchanged_since(&before);
    expect_free(5000, Proto::Tcp);
    lab.netd("reservation create net1 r1 -p 4000-4001:80").ok();
    expect_held(4001, Proto::Tcp);
    space::sysctl("host", "net/ipv4/ip_local_port_range", "40000 40001");
    for id in ["r2", "r3"] {
        lab.netd(&format!("reservation create net1 {id} -p 80")).ok();
    }
    expect_held(40000, Proto::Tcp);
    expect_held(40001, Proto::Tcp);
    let line = lab.netd("reservation create net1 r4 -p 80").refused();
    assert!(line.contains("no free host port"), "{line}");
    process.kill().unwrap();
    process.wait().unwrap();
}

fn dry_run(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.7.0.0/24").ok();
    let plan = |line: &str, parts: &[&str]| {
        let before = lab.everything();
        let shown = lab.netd(&format!("{line} --dry-run")).ok().stdout;
        assert!(parts.iter().all(|part| shown.contains(part)), "`{line} --dry-run` does not show {parts:?}:\n{shown}");
        lab.unchanged_since(&before);
    };
    plan("reservation create net1 r1 -p 4000:80", &["reserve 10.7.0.2/24", "as r1", "bind 0.0.0.0:4000/tcp"]);
    lab.netd("reservation create net1 r1 -p 4000:80").ok();
    plan("reservation rm r1", &["release 10.7.0.2/24", "release 0.0.0.0:4000/tcp"]);
    lab.container("web");
    let steps = lab.netd("connect net1 web --reservation r1 --dry-run").ok().stdout;
    assert!(steps.contains("publish { 4000/tcp : 10.7.0.2:80 }") && !steps.contains("bind"), "it is bound: {steps}");
    for line in ["reservation create net1 r1", "reservation rm r2", "connect net1 web --reservation r2"] {
        let planned = lab.netd(&format!("{line} --dry-run")).refused();
        assert_eq!(planned, lab.netd(line).refused(), "{line}");
    }
}

fn full(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.7.0.0/30").ok();
    lab.netd("reservation create net1 r1").ok();
    lab.container("web");
    for line in ["connect net1 web", "reservation create net1 r2"] {
        let message = lab.netd(line).refused();
        assert!(message.contains("no free IP address is left on network net1"), "{message}");
    }
    assert_eq!(lab.http("GET", "/v1/networks/net1/room", "").0, 409);
    lab.netd("connect net1 web --reservation r1").ok();
    assert_eq!(lab.address("net1", "web")[0].to_string(), "10.7.0.2");
}
