//! Ports of runtimes' containers where the kernel does not translate: netd passes on, unless somebody else has the port.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::lab::cni::{Call, call};
use crate::lab::echo::Reply;
use crate::lab::space::inside;
use crate::lab::{HOST4, HOST6, Lab, Proto, Server, ask, echo, run, trial, until};
use crate::matrix::link_local;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cni: a port answers at every address of the host, also after a restart of the daemon", every_address),
        trial("cni: a port that another process has over IPv6 is published without it", taken),
        trial("cni: ports that the runtime has bound before it calls the plugin", bound_before),
    ]
}

fn web(command: &'static str) -> Call {
    call(command, "web").conf(|conf| conf.port(4000, 80).udp_port(5000, 80))
}

fn ready(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.container("web");
}

fn answer(ns: &str, protocol: Proto, to: (&str, u16)) -> Reply {
    until(&format!("{to:?} answers"), || echo::answers(ns, protocol, to))
}

/// `addresses by whom` of each port of the container.
fn ways(lab: &Lab) -> Vec<String> {
    let ports = lab.netd("port web --json").ok().json();
    let way = |way: &serde_json::Value| {
        format!("{} {}", way["addresses"].as_str().unwrap(), way["by"].as_str().unwrap_or("nobody"))
    };
    let ways = |port: &serde_json::Value| port["ways"].as_array().unwrap().iter().map(way).collect::<Vec<_>>();
    ports.as_array().unwrap().iter().map(|port| ways(port).join(", ")).collect()
}

fn every_address(lab: &Lab) {
    ready(lab);
    let added = web("ADD").run().ok();
    let _server = Server::start("web", "web", 80);
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let local = SocketAddr::V6(link_local("host"));
    for round in ["first", "after a restart"] {
        for (ns, at) in [("host", "127.0.0.1"), ("host", "::1"), ("outside", HOST6)] {
            for (protocol, port) in [(Proto::Tcp, 4000), (Proto::Udp, 5000)] {
                let reply = answer(ns, protocol, (at, port));
                assert_eq!(reply.who, "web", "{round}: {at}");
                assert!(at == "127.0.0.1" || reply.saw.to_string() == gateway, "{round}: {at}: {reply:?}");
            }
        }
        for (protocol, port) in [(Proto::Tcp, 4000), (Proto::Udp, 5000)] {
            let mut local = local;
            local.set_port(port);
            let asked = || echo::ask_from("host", None, protocol, local, Duration::from_secs(1));
            assert_eq!(until(&format!("{local} answers"), asked).who, "web", "{round}");
        }
        assert_eq!(ways(lab), ["IPv4 kernel, IPv6 netd"; 2], "{round}");
        // The runtime may bind them over IPv4 when the plugin has returned, as Podman 4 does.
        drop(inside("host", || TcpListener::bind("0.0.0.0:4000")).unwrap());
        drop(inside("host", || UdpSocket::bind("0.0.0.0:5000")).unwrap());
        lab.stop_daemon();
        lab.start_daemon();
    }
    web("CHECK").conf(|conf| conf.key("prevResult", added)).run().ok();
    assert_eq!(lab.netd("diff --json").ok().json(), json!([]));
    web("DEL").run().ok();
    echo::expect_no_answer("host", Proto::Tcp, ("::1", 4000));
    drop(inside("host", || TcpListener::bind("[::]:4000")).expect("DEL releases it"));
    drop(inside("host", || UdpSocket::bind("[::]:5000")).expect("DEL releases it"));
}

/// Another process that has a socket; it ends when dropped.
struct Process(Child);

impl Process {
    fn with(listener: TcpListener) -> Self {
        let stdin = Stdio::from(std::os::fd::OwnedFd::from(listener));
        Self(Command::new("sleep").arg("100").stdin(stdin).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn taken(lab: &Lab) {
    ready(lab);
    let other = Process::with(inside("host", || TcpListener::bind("[2001:db8::1]:4000")).unwrap());
    web("ADD").run().ok();
    let _server = Server::start("web", "web", 80);
    assert_eq!(ask("host", Proto::Tcp, ("127.0.0.1", 4000)).who, "web");
    assert_eq!(answer("host", Proto::Udp, ("::1", 5000)).who, "web");
    echo::expect_no_answer("host", Proto::Tcp, ("::1", 4000));
    assert_eq!(ways(lab), ["IPv4 kernel, IPv6 nobody", "IPv4 kernel, IPv6 netd"]);
    let shown = lab.netd("port web").ok().stdout;
    assert!(shown.contains("Another process of this host has ports at IPv6"), "{shown}");
    let problems = lab.netd("status --json").ok().json()["problems"].clone();
    assert_eq!(problems, json!([]), "it is no problem");
    // It is free later: netd does not take it then, because a runtime may be about to bind it again.
    drop(other);
    run("ip netns exec host nft delete table inet netd").ok();
    until("the table is restored", || echo::answers("host", Proto::Tcp, ("127.0.0.1", 4000)));
    drop(inside("host", || TcpListener::bind("[::]:4000")).expect("nobody has it"));
    web("DEL").run().ok();
    web("ADD").run().ok();
    assert_eq!(answer("host", Proto::Tcp, ("::1", 4000)).who, "web");
    assert_eq!(ways(lab), ["IPv4 kernel, IPv6 netd"; 2]);
}

/// As Podman 6 does, which is the plugin's parent, and as nerdctl does with a process of its own. Here the test is the
/// plugin's parent.
fn bound_before(lab: &Lab) {
    ready(lab);
    let _server = Server::start("web", "web", 80);
    let dual = inside("host", || TcpListener::bind("[::]:4000")).unwrap();
    let child = Process::with(inside("host", || TcpListener::bind("0.0.0.0:4001")).unwrap());
    let add = web("ADD").conf(|conf| conf.port(4001, 80));
    add.run().ok();
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4001)).who, "web");
    assert_eq!(answer("host", Proto::Tcp, ("::1", 4001)).who, "web");
    assert_eq!(ways(lab), ["IPv4 kernel, IPv6 nobody", "IPv4 kernel, IPv6 netd", "IPv4 kernel, IPv6 netd"]);
    web("DEL").run().ok();
    drop((dual, child));
}
