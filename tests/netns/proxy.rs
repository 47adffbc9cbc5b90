//! What arrives at a published port and the kernel does not translate (`[::1]`, link-local addresses, the host's IPv6
//! addresses where the container has none) is passed on by netd.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{is, seen};

use crate::lab::echo::Reply;
use crate::lab::manager::Manager;
use crate::lab::space::inside;
use crate::lab::{HOST6, Lab, Proto, Server, ask, echo, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("proxy: what is not published any more is refused", nobody),
        trial("proxy: much data in both directions, each of which ends by itself", much),
        trial("proxy: UDP clients of several addresses of the host have flows of their own", flows),
        trial("proxy: a port that another program takes on IPv6 is refused, and free again at once", taken),
        trial("proxy: ports follow the container's networks", follows),
        trial("proxy: without a service manager, a restart refuses for a moment", restarts),
        trial("proxy: with a service manager, connections and datagrams wait for the next daemon", kept),
    ]
}

const LOOPBACK: &str = "[::1]:4000";

fn set_up(lab: &Lab, ports: &str) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", ports);
}

/// The answer of a TCP server to which netd passes on; it may not have seen the server yet.
fn answer(ns: &str, to: (&str, u16)) -> Reply {
    until(&format!("{to:?} answers"), || echo::answers(ns, Proto::Tcp, to))
}

/// The error of a connection to a port.
fn error(to: &str) -> ErrorKind {
    let to: SocketAddr = to.parse().unwrap();
    inside("host", || TcpStream::connect(to)).expect_err("nobody listens").kind()
}

fn nobody(lab: &Lab) {
    set_up(lab, "-p 4000:80");
    assert_eq!(error(LOOPBACK), ErrorKind::ConnectionRefused);
    let _server = Server::start("web", "web", 80);
    for _ in 0..3 {
        assert_eq!(answer("host", ("::1", 4000)).who, "web");
        lab.netd("disconnect net1 web").ok();
        assert_eq!(error(LOOPBACK), ErrorKind::ConnectionRefused);
        lab.connected("net1", "web", "-p 4000:80");
    }
    // The reservation keeps the port, and nobody serves it.
    lab.netd("disconnect net1 web --keep later").ok();
    assert_eq!(error(LOOPBACK), ErrorKind::ConnectionRefused);
    lab.netd("connect net1 web --reservation later").ok();
    assert_eq!(answer("host", ("::1", 4000)).who, "web");
}

fn much(lab: &Lab) {
    set_up(lab, "-p 4000:80");
    let listener = inside("web", || TcpListener::bind("0.0.0.0:80")).unwrap();
    // It answers when the request has ended: with every byte of it twice.
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        client.read_to_end(&mut request).unwrap();
        let answer: Vec<u8> = request.iter().flat_map(|byte| [*byte, *byte]).collect();
        client.write_all(&answer).unwrap();
    });
    let mut client = until("a connection", || inside("host", || TcpStream::connect(LOOPBACK)));
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request: Vec<u8> = (0..4_000_000u32).map(|number| (number % 251) as u8).collect();
    client.write_all(&request).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    let expected: Vec<u8> = request.iter().flat_map(|byte| [*byte, *byte]).collect();
    assert!(answer == expected, "{} bytes of {}", answer.len(), expected.len());
    server.join().unwrap();
}

/// A connected socket, which receives only from the address to which it sends.
fn client(from: &str, to: &str) -> UdpSocket {
    let socket = inside("host", || UdpSocket::bind(from)).unwrap();
    socket.connect(to.parse::<SocketAddr>().unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn flows(lab: &Lab) {
    set_up(lab, "-p 4000:80/udp");
    let server = inside("web", || UdpSocket::bind("0.0.0.0:80")).unwrap();
    // It answers with what it received and from where.
    let echo = thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        loop {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            if length == 0 {
                return;
            }
            let answer = [&buffer[..length], format!(" {from}").as_bytes()].concat();
            server.send_to(&answer, from).unwrap();
        }
    });
    let at_host = format!("[{HOST6}]:4000");
    let clients: Vec<UdpSocket> =
        [LOOPBACK, LOOPBACK, at_host.as_str(), at_host.as_str()].iter().map(|to| client("[::]:0", to)).collect();
    let mut seen_by_server = Vec::new();
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            let question = format!("{round}-{number}");
            client.send(question.as_bytes()).unwrap();
            let mut buffer = [0; 128];
            let length = client.recv(&mut buffer).unwrap();
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let (text, from) = answer.split_once(' ').unwrap();
            assert_eq!(text, question);
            seen_by_server.push((number, from.to_owned()));
        }
    }
    seen_by_server.sort();
    seen_by_server.dedup();
    assert_eq!(seen_by_server.len(), clients.len(), "a flow each, for as long as it is used: {seen_by_server:?}");
    let large = vec![b'x'; 40_000];
    clients[0].send(&large).unwrap();
    let mut buffer = vec![0; 65536];
    assert!(clients[0].recv(&mut buffer).unwrap() > large.len());
    clients[0].send(b"").unwrap();
    echo.join().unwrap();
}

fn taken(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.container("web");
    let _server = Server::start("web", "web", 80);
    let other = inside("host", || TcpListener::bind("[2001:db8::1]:4000")).unwrap();
    let refused = lab.netd("connect net1 web -p 4000:80").refused();
    assert!(refused.contains("4000"), "{refused}");
    drop(other);
    lab.netd("connect net1 web -p 4000:80").ok();
    assert_eq!(answer("host", (HOST6, 4000)).who, "web");
    let own = inside("host", || TcpListener::bind("[::]:4000")).expect_err("netd holds it");
    assert_eq!(own.kind(), ErrorKind::AddrInUse);
    lab.netd("disconnect net1 web").ok();
    inside("host", || TcpListener::bind("[::]:4000")).unwrap();
}

fn follows(lab: &Lab) {
    set_up(lab, "-p 4000:80");
    let _server = Server::start("web", "web", 80);
    let gateway = |network: &str, family: usize| {
        lab.network(network)["subnets"][family]["gateway"].as_str().unwrap().parse::<std::net::IpAddr>().unwrap()
    };
    assert_eq!(answer("host", ("::1", 4000)).saw, gateway("net1", 0));
    // With an IPv6 address, the container is asked over IPv6.
    lab.netd("network create net6 --ipv6").ok();
    lab.netd("connect net6 web").ok();
    assert_eq!(answer("host", ("::1", 4000)).saw, gateway("net6", 1));
    lab.netd("disconnect net6 web").ok();
    assert_eq!(answer("host", ("::1", 4000)).saw, gateway("net1", 0));
    // At one address of the host, also of the family that the container does not have.
    lab.connected("net1", "other", &format!("-p [{HOST6}]:5000:80 -p [::1]:5001:80"));
    let _other = Server::start("other", "other", 80);
    assert_eq!(answer("outside", (HOST6, 5000)).who, "other");
    assert_eq!(answer("host", ("::1", 5001)).who, "other");
    echo::expect_no_answer("host", Proto::Tcp, ("::1", 5000));
    // What is neither translated nor proxied is refused.
    lab.container("third");
    for port in [format!("[{HOST6}]:7000-7016:80-96"), format!("[{HOST6}]:7000:80/sctp")] {
        let refused = lab.netd(&format!("connect net1 third -p {port}")).refused();
        assert!(refused.contains("no IPv6 address"), "{refused}");
    }
    // A port that is published later, and no more.
    lab.netd("port add web 6000:80").ok();
    assert_eq!(answer("host", ("::1", 6000)).who, "web");
    lab.netd("port rm web 6000:80").ok();
    assert_eq!(error("[::1]:6000"), ErrorKind::ConnectionRefused);
}

/// Opens a connection after the other, and counts those that were refused.
struct Probe {
    refused: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Probe {
    fn start() -> Self {
        let probe = Self { refused: Arc::default(), answered: Arc::default(), stop: Arc::default() };
        let (refused, answered, stop) = (probe.refused.clone(), probe.answered.clone(), probe.stop.clone());
        thread::spawn(move || {
            inside("host", || {
                while !stop.load(Ordering::Relaxed) {
                    match echo::answers("host", Proto::Tcp, ("::1", 4000)) {
                        Some(_) => answered.fetch_add(1, Ordering::Relaxed),
                        None => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        });
        probe
    }

    fn goes_on(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + 20;
        until("connections are answered", || seen(self.answered.load(Ordering::Relaxed), |now| *now >= enough));
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn restarts(lab: &Lab) {
    set_up(lab, "-p 4000:80 -p 4000:80/udp");
    let _server = Server::start("web", "web", 80);
    for end in [Lab::kill_daemon, Lab::stop_daemon] {
        end(lab);
        assert_eq!(error(LOOPBACK), ErrorKind::ConnectionRefused);
        lab.start_daemon();
        assert_eq!(answer("host", ("::1", 4000)).who, "web");
        assert_eq!(ask("host", Proto::Udp, ("::1", 4000)).who, "web");
    }
}

fn kept(lab: &Lab) {
    let manager = Manager::new();
    manager.start(lab);
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    let _server = Server::start("web", "web", 80);
    let names = || manager.names().into_iter().filter(|name| name.starts_with("port-")).collect::<Vec<_>>();
    assert_eq!(names(), ["port-__-4000-tcp", "port-__-4000-udp"]);
    answer("host", ("::1", 4000));
    let probe = Probe::start();
    probe.goes_on();
    for end in [Lab::kill_daemon, Lab::stop_daemon, Lab::kill_daemon] {
        end(lab);
        let datagram = client("[::]:0", LOOPBACK);
        datagram.send(b"who").unwrap();
        let waiting = || run("ip netns exec host ss -ltnH sport = 4000").ok().stdout;
        until("a connection waits", || {
            seen(waiting(), |shown| shown.split_whitespace().nth(1).is_some_and(|count| count != "0"))
        });
        manager.start(lab);
        assert!(datagram.recv(&mut [0; 64]).unwrap() > 0);
        probe.goes_on();
    }
    // What was open when the daemon ended may be reset; nothing is refused.
    assert!(probe.refused.load(Ordering::Relaxed) <= 3, "{:?} refused", probe.refused);
    drop(probe);
    lab.netd("disconnect net1 web").ok();
    until("nothing is kept", || is(names().len(), &0));
    inside("host", || TcpListener::bind("[::]:4000")).unwrap();
}
