//! A published port that netd passes on itself is refused while nobody listens in the container, as a connection to the
//! container would be: a client that only tries to connect must not take the application for one that has started.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netd_testing::wait::{lacks, seen};

use crate::lab::manager::Manager;
use crate::lab::space::inside;
use crate::lab::{Lab, Proto, Server, echo, run, trial, until, until_within};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("proxy: a port is refused, and held, whenever nobody listens in the container", refused),
        trial("proxy: whoever would get a connection in the container counts, nobody else", listeners),
        trial("proxy: an application that takes one connection gets that of its client", one),
        trial("proxy: a client that comes first after the application's end is the last that is accepted", last),
        trial("proxy: a restart neither accepts for nobody nor refuses for somebody", restart),
        trial("proxy: a container whose path has gone is passed on to all the same", moved),
    ]
}

const LOOPBACK: &str = "[::1]:4000";

fn set_up(lab: &Lab, ports: &str) {
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", ports);
}

/// Only connects.
fn connect(to: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let stream = inside("host", || TcpStream::connect(to))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn is_refused(to: &str) -> Result<(), String> {
    match connect(to) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn until_refused(to: &str) {
    until(&format!("{to} is refused"), || is_refused(to));
}

/// Waits until the server with that name answers.
fn until_answered(port: u16, who: &str) {
    until(&format!("{who} answers at {port}"), || {
        seen(echo::answers("host", Proto::Tcp, ("::1", port)), |reply| {
            reply.as_ref().is_some_and(|reply| reply.who == who)
        })
    });
}

/// The sockets that listen at the published ports of the host.
fn listening() -> String {
    run("ip netns exec host ss -ltnH sport >= 4000 and sport < 5000").ok().stdout
}

fn refused(lab: &Lab) {
    lab.start_daemon();
    set_up(lab, "-p 4000:80");
    let is_held = || {
        // Rust binds with SO_REUSEADDR.
        for at in ["[::]:4000", LOOPBACK, "[2001:db8::1]:4000", "0.0.0.0:4000"] {
            let error = inside("host", || TcpListener::bind(at)).expect_err("netd holds it");
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{at}");
        }
    };
    for round in 0..3 {
        is_refused(LOOPBACK).unwrap();
        is_refused("[2001:db8::1]:4000").unwrap();
        assert_eq!(listening(), "", "{round}");
        is_held();
        let server = Server::start("web", "web", 80);
        until_answered(4000, "web");
        is_held();
        drop(server);
        until_refused(LOOPBACK);
        is_held();
    }
    lab.netd("port rm web 4000:80").ok();
    inside("host", || TcpListener::bind("[::]:4000")).unwrap();
}

fn listeners(lab: &Lab) {
    lab.start_daemon();
    set_up(lab, "-p 4000:80 -p 4001:81");
    let own = lab.address("net1", "web")[0];
    assert!(own.is_ipv4(), "an IPv4-only container");
    for at in ["[::]:80".to_owned(), "0.0.0.0:80".to_owned(), format!("{own}:80")] {
        let _server = Server::at("web", &at, at.parse().unwrap());
        until_answered(4000, &at);
    }
    until_refused(LOOPBACK);
    // Each look is at both ports, so the other server was seen by one that could have seen these.
    for at in ["127.0.0.1:80", "[::1]:80"] {
        let _nobody = Server::at("web", "nobody", at.parse().unwrap());
        let somebody = Server::start("web", "somebody", 81);
        until_answered(4001, "somebody");
        is_refused(LOOPBACK).unwrap_or_else(|seen| panic!("{at}: {seen}"));
        drop(somebody);
        until_refused("[::1]:4001");
    }
    // Of another container.
    lab.connected("net1", "other", "-p 4002:80");
    let _server = Server::start("other", "other", 80);
    until_answered(4002, "other");
    is_refused(LOOPBACK).unwrap();
}

fn one(lab: &Lab) {
    lab.start_daemon();
    set_up(lab, "-p 4000:80");
    is_refused(LOOPBACK).unwrap();
    for round in ["first", "second"] {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", "web", "busybox", "nc", "-l", "-p", "80"]);
        let program = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        // netd has seen it, and looks again.
        until("the port listens", || seen(listening(), |shown| shown.contains(":4000")));
        let mut client = connect(LOOPBACK).unwrap();
        client.write_all(round.as_bytes()).unwrap();
        drop(client);
        let output = program.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), round);
        until_refused(LOOPBACK);
    }
}

fn last(lab: &Lab) {
    lab.start_daemon();
    set_up(lab, "-p 4000:80");
    for _ in 0..5 {
        let server = Server::start("web", "web", 80);
        until_answered(4000, "web");
        drop(server);
        // A program that another test is just starting has a copy of the listener until it is executed.
        until("nobody listens", || lacks(lab.exec("web", "ss -ltnH").ok().stdout, ":80 "));
        if let Ok(mut client) = connect(LOOPBACK) {
            let error = client.read(&mut [0]).expect_err("it is reset, not ended");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        is_refused(LOOPBACK).unwrap();
    }
}

fn restart(lab: &Lab) {
    let manager = Manager::new();
    manager.start(lab);
    set_up(lab, "-p 4000:80");
    is_refused(LOOPBACK).unwrap();
    for end in [Lab::kill_daemon, Lab::stop_daemon] {
        end(lab);
        is_refused(LOOPBACK).unwrap();
        manager.start(lab);
        is_refused(LOOPBACK).unwrap();
        let server = Server::start("web", "web", 80);
        until_answered(4000, "web");
        end(lab);
        drop(server);
        // It waits for the next daemon, which sees that nobody listens any more.
        let mut waits = connect(LOOPBACK).unwrap();
        manager.start(lab);
        let error = waits.read(&mut [0]).expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        until_refused(LOOPBACK);
    }
    // Without what the service manager keeps, a port begins to listen with the first look.
    let _server = Server::start("web", "web", 80);
    until_answered(4000, "web");
    lab.stop_daemon();
    drop(manager);
    lab.start_daemon();
    let begin = Instant::now();
    until_answered(4000, "web");
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
}

fn moved(lab: &Lab) {
    lab.start_daemon();
    set_up(lab, "-p 4000:80");
    let held = inside("web", || std::fs::File::open("/proc/thread-self/ns/net")).unwrap();
    let mut process = Command::new("sleep").arg("60").stdin(held).spawn().unwrap();
    let server = Server::start("web", "web", 80);
    until_answered(4000, "web");
    run("umount /run/netns/web").ok();
    std::fs::remove_file("/run/netns/web").unwrap();
    // While netd looks for it, and afterwards.
    let asked = || echo::answers("host", Proto::Tcp, ("::1", 4000)).map(|reply| reply.who);
    // netd looks every 10 s.
    until_within(Duration::from_secs(20), "netd finds it elsewhere", || {
        assert_eq!(asked().as_deref(), Some("web"));
        seen(lab.log(), |log| log.contains("is not at /run/netns/web any more"))
    });
    drop(server);
    until_refused(LOOPBACK);
    process.kill().unwrap();
    process.wait().unwrap();
}
