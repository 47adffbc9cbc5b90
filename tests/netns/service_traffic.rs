//! Services under traffic: members that are drained or die, services without ready members, repair, restarts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::look::Dig;
use crate::lab::steady::Steady;
use crate::lab::{self, HOST4, Lab, Proto, Server, ask, run, space, trial, until};
use crate::service_matrix::virtual_addresses;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("service: names, virtual address and port follow the members", follow),
        trial("service: nothing new reaches a drained member, and what is open goes on", drained),
        trial(
            "service: datagrams of one client move at once when a member dies, and are refused when none is left",
            dies,
        ),
        trial("service: without ready members connections are refused at once", refused),
        trial("service: who was refused while no member was ready is answered again, from the same port", again),
        trial("service: one client stays with one member if it has affinity", affinity),
        trial("service: what others remove comes back, and a killed daemon forgets nothing", repaired),
    ]
}

/// The members of `front` on net1, and servers in them; `asker` is on the same network.
fn front(lab: &Lab, members: &[&'static str], options: &str) -> Vec<Server> {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    members.iter().for_each(|name| lab.connected("net1", name, ""));
    lab.connected("net1", "asker", "");
    let listed: Vec<String> = members.iter().map(|name| format!("--member {name}")).collect();
    lab.netd(&format!("service create front --network net1 {} {options}", listed.join(" "))).ok();
    members.iter().map(|name| Server::start(name, name, 80)).collect()
}

/// The kernel tracks what the host itself sends before it is refused.
fn again(lab: &Lab) {
    let _servers = front(lab, &["w1"], "--mode vip -p 4000:80/udp");
    let vip = virtual_addresses(lab, "front")[0].to_string();
    let at = [("outside", HOST4, 4000), ("host", HOST4, 4000), ("asker", vip.as_str(), 80), ("host", vip.as_str(), 80)];
    let through: Vec<Steady> =
        at.iter().zip(5550..).map(|((ns, ip, port), from)| Steady::start(ns, from, (ip, *port))).collect();
    through.iter().for_each(|client| client.is_answered_by("w1"));
    lab.netd("service unready w1").ok();
    through.iter().for_each(Steady::is_not_answered);
    lab.netd("service ready w1").ok();
    through.iter().for_each(|client| client.is_answered_by("w1"));
}

/// Who answers at an address, asked often.
#[expect(clippy::needless_pass_by_value, reason = "the tests write it in place")]
fn answering(ns: &str, to: (impl ToString + Clone, u16)) -> Vec<String> {
    let mut who: Vec<String> = (0..40).map(|_| ask(ns, Proto::Tcp, to.clone()).who).collect();
    who.sort();
    who.dedup();
    who
}

fn address(lab: &Lab, container: &str) -> String {
    lab.address("net1", container)[0].to_string()
}

fn follow(lab: &Lab) {
    let _servers = front(lab, &["w1", "w2"], "-p 4000:80");
    let (one, two) = (address(lab, "w1"), address(lab, "w2"));
    Dig::expect("asker", "front", &[&one, &two]);
    assert_eq!(answering("outside", (HOST4, 4000)), ["w1", "w2"]);
    lab.netd("service drain w1").ok();
    Dig::expect("asker", "front", &[&two]);
    Dig::expect("asker", "tasks.front", &[&one, &two]);
    assert_eq!(answering("outside", (HOST4, 4000)), ["w2"]);
    lab.netd("service undrain w1").ok();
    assert_eq!(answering("outside", (HOST4, 4000)), ["w1", "w2"]);
    lab.netd("disconnect net1 w2").ok();
    Dig::expect("asker", "front", &[&one]);
    assert_eq!(answering("outside", (HOST4, 4000)), ["w1"]);
    lab.netd("service update front --mode vip").ok();
    let vip = virtual_addresses(lab, "front")[0].to_string();
    Dig::expect("asker", "front", &[&vip]);
    Dig::expect("asker", &format!("-x {vip}"), &["front.", "front.net1.internal."]);
    assert_eq!(answering("asker", (vip.clone(), 80)), ["w1"]);
    let pinged = lab.exec("asker", &format!("busybox ping -c 1 -W 2 {vip}"));
    assert_eq!(pinged.code, Some(0), "the host answers for it: {}", pinged.stdout);
    lab.netd("service rm front").ok();
    Dig::expect_none("asker", "front", "NXDOMAIN");
    lab::echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    lab::echo::expect_no_answer("asker", Proto::Tcp, (vip, 80));
    space::inside("host", || UdpSocket::bind(("0.0.0.0", 4000)).map(drop)).expect("the port is free");
    assert_eq!(lab.diff(), "");
}

/// A member that answers with its name, and then echoes, for as long as the client likes.
fn talker(ns: &'static str) -> TcpListener {
    let listener = space::inside(ns, || TcpListener::bind(("0.0.0.0", 90)).expect("a port"));
    let accepting = listener.try_clone().expect("a descriptor");
    thread::spawn(move || {
        for stream in accepting.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&[ns.as_bytes(), b" ", &buffer[..length]].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    listener
}

fn says(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"x")?;
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).split(' ').next().unwrap_or_default().to_owned())
}

fn drained(lab: &Lab) {
    let _servers = front(lab, &["w1", "w2", "w3"], "--mode vip -p 4000:90 --grace 60");
    let _talkers = ["w1", "w2", "w3"].map(talker);
    let to = SocketAddr::new(HOST4.parse().unwrap(), 4000);
    let connect = || {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        std::io::Result::Ok(stream)
    };
    let mut open: Vec<TcpStream> =
        space::inside("outside", || (0..30).map(|_| connect().expect("it is taken")).collect());
    let (ended, after, wrong) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let drained = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                space::inside("outside", || {
                    while !ended.load(Ordering::Relaxed) {
                        let late = drained.load(Ordering::SeqCst);
                        let who = connect().and_then(|mut stream| says(&mut stream));
                        let is_wrong = match &who {
                            Ok(who) => late && who == "w2",
                            Err(_) => true,
                        };
                        after.fetch_add(u64::from(late), Ordering::Relaxed);
                        wrong.fetch_add(u64::from(is_wrong), Ordering::Relaxed);
                    }
                });
            });
        }
        lab.netd("service drain w2").ok();
        drained.store(true, Ordering::SeqCst);
        until("connections are made after the reply", || seen(after.load(Ordering::Relaxed), |made| *made >= 400));
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0, "to the drained member, or failed");
    let members: Vec<String> = open.iter_mut().map(|stream| says(stream).expect("it goes on")).collect();
    assert!(members.iter().any(|who| who == "w2"), "connections of the drained member go on: {members:?}");
}

fn dies(lab: &Lab) {
    let _servers = front(lab, &["w1", "w2"], "--mode vip -p 4000:80/udp");
    let vip = virtual_addresses(lab, "front")[0].to_string();
    let through = [Steady::start("outside", 5555, (HOST4, 4000)), Steady::start("asker", 5556, (vip.as_str(), 80))];
    let who = ["w1", "w2"];
    let current = |client: usize| {
        // Which member has the client is the kernel's choice.
        let port = if client == 0 { "dport=4000" } else { "dport=80" };
        let entries = run("ip netns exec host conntrack -L -p udp").stdout;
        let line = entries.lines().find(|line| line.contains(port)).map(str::to_owned);
        line.and_then(|line| who.into_iter().find(|name| line.contains(&format!("src={} ", address(lab, name)))))
    };
    let mut first = None;
    until("a member has the client", || {
        first = current(0);
        seen(first, Option::is_some)
    });
    let (gone, left) = if first == Some("w1") { ("w1", "w2") } else { ("w2", "w1") };
    lab.netd(&format!("disconnect net1 {gone}")).ok();
    through.iter().for_each(|client| client.is_answered_by(left));
    lab.netd(&format!("service unready {left}")).ok();
    through.iter().for_each(Steady::is_not_answered);
    // The kernel sends one client few of these errors in a second.
    drop(through);
    for (ns, to) in [("outside", (HOST4.to_owned(), 4000)), ("asker", (vip.clone(), 80))] {
        let refused = || {
            space::inside(ns, || {
                let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
                socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time limit");
                socket.connect((to.0.as_str(), to.1)).and_then(|()| socket.send(b"x")).expect("it is sent");
                socket.recv(&mut [0; 8]).expect_err("nobody is there").kind()
            })
        };
        until(&format!("{ns} is told"), || seen(refused(), |kind| *kind == ErrorKind::ConnectionRefused));
    }
    let through = [Steady::start("outside", 5555, (HOST4, 4000)), Steady::start("asker", 5556, (vip.as_str(), 80))];
    lab.netd(&format!("service ready {left}")).ok();
    through.iter().for_each(|client| client.is_answered_by(left));
    lab.netd("service rm front").ok();
    through.iter().for_each(Steady::is_not_answered);
}

fn refused(lab: &Lab) {
    let _servers = front(lab, &["w1"], "--mode vip -p 4000:80");
    // Published by a container: it must not answer at a virtual address.
    lab.connected("net1", "other", "-p 8080:80");
    let _other = Server::start("other", "other", 80);
    let vip = virtual_addresses(lab, "front")[0];
    lab.netd("service unready w1").ok();
    for (ns, to) in [
        ("asker", SocketAddr::new(vip, 80)),
        ("asker", SocketAddr::new(vip, 8080)),
        ("host", SocketAddr::new(vip, 80)),
        ("outside", SocketAddr::new(HOST4.parse().unwrap(), 4000)),
        ("host", SocketAddr::new([127, 0, 0, 1].into(), 4000)),
    ] {
        let refused = space::inside(ns, || TcpStream::connect_timeout(&to, Duration::from_secs(3)));
        assert_eq!(refused.expect_err("nobody is there").kind(), ErrorKind::ConnectionRefused, "{ns} to {to}");
    }
    Dig::expect("asker", "front", &[&vip.to_string()]);
    lab.netd("service update front --mode dns").ok();
    Dig::expect_none("asker", "front", "NOERROR");
    lab.netd("service update front --when-none-ready all").ok();
    Dig::expect("asker", "front", &[&address(lab, "w1")]);
    assert_eq!(answering("outside", (HOST4, 4000)), ["w1"]);
}

fn affinity(lab: &Lab) {
    let _servers = front(lab, &["w1", "w2", "w3", "w4"], "--mode vip -p 4000:80 --affinity client");
    let vip = virtual_addresses(lab, "front")[0];
    for (ns, to) in [("asker", (vip.to_string(), 80)), ("outside", (HOST4.to_owned(), 4000))] {
        assert_eq!(answering(ns, to).len(), 1, "{ns}");
    }
    lab.netd("service update front --affinity none").ok();
    assert_eq!(answering("asker", (vip.to_string(), 80)), ["w1", "w2", "w3", "w4"]);
}

fn repaired(lab: &Lab) {
    let _servers = front(lab, &["w1", "w2"], "--mode vip -p 4000:80");
    let vip: IpAddr = virtual_addresses(lab, "front")[0];
    lab.netd("service drain w1").ok();
    let whole = || {
        assert_eq!(
            (answering("asker", (vip, 80)), answering("outside", (HOST4, 4000))),
            (vec!["w2".to_owned()], vec!["w2".to_owned()])
        );
    };
    whole();
    let bridge = lab.network("net1")["bridge"].as_str().unwrap().to_owned();
    for (damage, sign) in [
        ("nft flush ruleset".to_owned(), "table inet netd_services"),
        ("nft delete table inet netd_services".to_owned(), "table inet netd_services"),
        (format!("ip address delete {vip}/32 dev {bridge}"), ""),
        (format!("ip link delete {bridge}"), ""),
    ] {
        run(&format!("ip netns exec host {damage}")).ok();
        until(&format!("it is repaired after {damage}"), || {
            seen(lab.diff() + &run("ip netns exec host nft list ruleset").stdout, |now| {
                now.contains(sign) && now.contains("table inet netd") && lab.diff().is_empty()
            })
        });
        whole();
    }
    lab.kill_daemon();
    whole();
    lab.start_daemon();
    whole();
    let shown = lab.netd("service ps front").ok().stdout;
    assert!(shown.contains("draining") && shown.contains("ready"), "{shown}");
    lab.netd("service undrain w1").ok();
    assert_eq!(answering("asker", (vip, 80)), ["w1", "w2"]);
}
