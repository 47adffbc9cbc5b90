//! Publishing: every form of `-p`, free ports, and ports in use.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::lab::look::published;
use crate::lab::{HOST4, HOST6, Lab, Proto, Server, ask, echo, run, space, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("publishing: every form of a port specification", forms),
        trial("publishing: a range keeps its order, with the same and with other numbers", ranges),
        trial("publishing: a host address binds that address only", host_address),
        trial("publishing: free ports are printed and not from ip_local_reserved_ports", free_ports),
        trial("publishing: one of a range of host ports for one container port", one_of_a_range),
        trial(
            "publishing: a port of a host process is refused, naming the process, and nothing changes",
            taken_by_process,
        ),
        trial(
            "publishing: a port of another container is refused, naming the container, and nothing changes",
            taken_by_container,
        ),
        trial("publishing: a host process cannot take a published port", held),
        trial("publishing: an address the host does not have is refused", no_such_address),
        trial("publishing: a port is reachable at a host address that is added later", later_address),
        trial("publishing: the same container port several times, and tcp beside udp", several),
        trial("publishing: a port is free again after disconnect", free_again),
    ]
}

/// The published host ports of a container on net1.
fn host_ports(lab: &Lab, container: &str) -> Vec<u16> {
    let ports = lab.endpoint("net1", container)["ports"].as_array().unwrap().clone();
    ports.iter().map(|port| u16::try_from(port["host_port"].as_u64().unwrap()).unwrap()).collect()
}

fn forms(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    let udp = Proto::Udp;
    for (spec, proto, answering, silent) in [
        ("4000:80", Proto::Tcp, vec![HOST4, HOST6, "127.0.0.1"], vec![]),
        ("4000:80/tcp", Proto::Tcp, vec![HOST4, HOST6, "127.0.0.1"], vec![]),
        ("4000:80/udp", udp, vec![HOST4, HOST6, "127.0.0.1"], vec![]),
        ("4000:80/UDP", udp, vec![HOST4], vec![]),
        ("0.0.0.0:4000:80", Proto::Tcp, vec![HOST4, "127.0.0.1"], vec![HOST6]),
        ("[::]:4000:80", Proto::Tcp, vec![HOST6], vec![HOST4, "127.0.0.1"]),
        ("192.0.2.1:4000:80", Proto::Tcp, vec![HOST4], vec![HOST6, "127.0.0.1"]),
        ("[2001:db8::1]:4000:80/udp", udp, vec![HOST6], vec![HOST4]),
        ("127.0.0.1:4000:80", Proto::Tcp, vec!["127.0.0.1"], vec![HOST4, HOST6]),
        (":4000:80", Proto::Tcp, vec![HOST4], vec![]),
    ] {
        lab.container("web");
        let server = Server::start("web", "web", 80);
        lab.netd(&format!("connect net1 web -p {spec}")).ok();
        for address in answering {
            assert_eq!(ask("host", proto, (address, 4000)).who, "web", "{spec}");
        }
        for address in silent {
            echo::expect_no_answer("host", proto, (address, 4000));
        }
        lab.netd("disconnect net1 web").ok();
        drop(server);
        run("ip netns delete web").ok();
    }
}

fn ranges(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000-4009:4000-4009 -p 5000-5004:80-84 -p 6000-6002:6000-6002/udp");
    let _servers: Vec<Server> =
        [4000, 4005, 4009, 80, 84, 6001].map(|port| Server::start("web", &format!("p{port}"), port)).into();
    for host in [HOST4, HOST6] {
        for (port, who) in [(4000, "p4000"), (4005, "p4005"), (4009, "p4009"), (5000, "p80"), (5004, "p84")] {
            assert_eq!(ask("outside", Proto::Tcp, (host, port)).who, who);
        }
        assert_eq!(ask("outside", Proto::Udp, (host, 6001)).who, "p6001");
        echo::expect_no_answer("outside", Proto::Tcp, (host, 6001));
        echo::expect_no_answer("outside", Proto::Tcp, (host, 4010));
    }
    lab.container("other");
    let line = lab.netd("connect net1 other -p 3999-4000:80-81").refused();
    assert!(line.contains("4000") && line.contains("web"), "{line}");
    lab.netd("disconnect net1 web").ok();
    assert!(!published().contains("4005") && !published().contains("4009"), "{}", published());
}

fn host_address(lab: &Lab) {
    run("ip -n host address add 192.0.2.10/24 dev uplink").ok();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "one", "-p 192.0.2.1:4000:80");
    lab.connected("net1", "two", "-p 192.0.2.10:4000:80");
    let _servers = [Server::start("one", "one", 80), Server::start("two", "two", 80)];
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "one");
    assert_eq!(ask("outside", Proto::Tcp, ("192.0.2.10", 4000)).who, "two");
    echo::expect_no_answer("host", Proto::Tcp, ("127.0.0.1", 4000));
    lab.container("three");
    let line = lab.netd("connect net1 three -p 4000:80").refused();
    assert!(line.contains("4000") && (line.contains("one") || line.contains("two")), "{line}");
}

fn free_ports(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    space::sysctl("host", "net/ipv4/ip_local_port_range", "40000 40009");
    space::sysctl("host", "net/ipv4/ip_local_reserved_ports", "40000-40003,40005,40007-40009");
    lab.container("web");
    let output = lab.netd("connect net1 web -p 80 -p 127.0.0.1::81").ok().stdout;
    let ports: BTreeSet<u16> = host_ports(lab, "web").into_iter().collect();
    assert_eq!(ports, BTreeSet::from([40004, 40006]));
    assert!(output.contains("40004") && output.contains("40006"), "the chosen ports are printed: {output:?}");
    lab.container("other");
    let line = lab.netd("connect net1 other -p 80").refused();
    assert!(line.contains("port"), "{line}");
    lab.netd("disconnect net1 web").ok();
    let _holder = space::inside("host", || TcpListener::bind("127.0.0.1:40004")).unwrap();
    lab.netd("connect net1 other -p 80").ok();
    assert_eq!(host_ports(lab, "other"), [40006], "a port in use by a process is not chosen");
}

fn one_of_a_range(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    for (name, port) in [("a", 7000), ("b", 7001), ("c", 7002)] {
        lab.connected("net1", name, "-p 7000-7002:80");
        assert_eq!(host_ports(lab, name), [port]);
    }
    lab.container("d");
    lab.netd("connect net1 d -p 7000-7002:80").refused();
}

fn taken_by_process(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.container("web");
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", "busybox", "httpd", "-f", "-p", "4000"]).stdin(Stdio::null());
    let mut process = command.spawn().expect("a server of the host");
    until("it listens", || space::inside("host", || TcpStream::connect("127.0.0.1:4000")));
    let before = lab.everything();
    for spec in ["4000:80", "127.0.0.1:4000:80", "192.0.2.1:4000:80", "3999-4001:80-82"] {
        let line = lab.netd(&format!("connect net1 web -p {spec}")).refused();
        let pid = process.id().to_string();
        assert!(["4000", "busybox", &pid].iter().all(|part| line.contains(part)), "{spec}: {line}");
    }
    lab.unchanged_since(&before);
    lab.netd("connect net1 web -p 4000:80/udp").ok();
    process.kill().unwrap();
    process.wait().unwrap();
    lab.container("other");
    lab.netd("connect net1 other -p 4000:80").ok();
}

fn taken_by_container(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80");
    lab.container("other");
    let before = lab.everything();
    for spec in ["4000:81", "127.0.0.1:4000:80", "[::]:4000:80", "3998-4002:1-5"] {
        let line = lab.netd(&format!("connect net2 other -p {spec}")).refused();
        assert!(line.contains("4000") && line.contains("web"), "{spec}: {line}");
    }
    let line = lab.netd("connect net2 other -p 5000:80 -p 5000:81").refused();
    assert!(line.contains("5000"), "a duplicate within one command: {line}");
    lab.unchanged_since(&before);
    lab.netd("connect net2 other -p 4000:80/udp -p 4001:80").ok();
}

fn held(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp -p 127.0.0.1:4001:80 -p 5000-5002:5000-5002");
    let bind = |ip: &str, port: u16, proto: Proto| {
        let at = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port);
        space::inside("host", || match proto {
            Proto::Tcp => TcpListener::bind(at).map(drop),
            Proto::Udp => UdpSocket::bind(at).map(drop),
        })
    };
    for ip in ["0.0.0.0", "127.0.0.1", HOST4, "::", "::1", HOST6] {
        for (port, proto) in [(4000, Proto::Tcp), (4000, Proto::Udp), (5001, Proto::Tcp)] {
            let error = bind(ip, port, proto).expect_err("the port is held");
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{ip} {port} {proto:?}");
        }
    }
    assert!(bind("127.0.0.1", 4001, Proto::Tcp).is_err());
    bind(HOST4, 4001, Proto::Tcp).unwrap();
    lab.netd("disconnect net1 web").ok();
    for (port, proto) in [(4000, Proto::Tcp), (4000, Proto::Udp), (4001, Proto::Tcp), (5001, Proto::Tcp)] {
        bind("::", port, proto).unwrap();
    }
}

fn no_such_address(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.container("web");
    let before = lab.everything();
    for spec in ["198.51.100.1:4000:80", "[2001:db8:9::1]:4000:80"] {
        let line = lab.netd(&format!("connect net1 web -p {spec}")).refused();
        assert!(line.contains(spec.split(":4000").next().unwrap().trim_matches(['[', ']'])), "{line}");
    }
    lab.unchanged_since(&before);
}

fn later_address(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80");
    let _server = Server::start("web", "web", 80);
    run("ip -n host address add 192.0.2.20/24 dev uplink").ok();
    assert_eq!(ask("outside", Proto::Tcp, ("192.0.2.20", 4000)).who, "web");
}

fn several(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4001:80 -p 4000:81/udp");
    let _servers = [Server::start("web", "p80", 80), Server::start("web", "p81", 81)];
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "p80");
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4001)).who, "p80");
    assert_eq!(ask("outside", Proto::Udp, (HOST4, 4000)).who, "p81");
    let shown = lab.netd("port web").ok().stdout;
    for part in ["4000", "4001", "80/tcp", "81/udp"] {
        assert!(shown.contains(part), "{part} in: {shown}");
    }
}

fn free_again(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    for name in ["one", "two", "three"] {
        lab.connected("net1", name, "-p 4000:80");
        let _server = Server::start(name, name, 80);
        assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, name);
        lab.netd(&format!("disconnect net1 {name}")).ok();
    }
}
