//! What arrives at a service's published port and the kernel does not translate (`[::1]`, link-local addresses, the host's
//! IPv6 addresses where the networks have none) is passed on by netd: how that follows the service.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{is, seen};

use crate::lab::manager::Manager;
use crate::lab::space::inside;
use crate::lab::{self, HOST6, Lab, Proto, Server, ask, echo, run, trial, until};
use crate::service_grace::{PORT, are_reset, go_on, serve};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("service proxy: connections go on while no member is ready, and end with their port", ends),
        trial("service proxy: it survives the daemon, and what others do to the tables", survives),
        trial("service proxy: with a service manager, connections wait for the next daemon", kept),
        trial("service proxy: with affinity, each client has a member of its own", affinity),
    ]
}

/// The members of `front` on net1, which has no IPv6, and servers in them.
fn front(lab: &Lab, options: &str) -> [Server; 2] {
    lab.netd("network create net1").ok();
    ["w1", "w2"].iter().for_each(|member| lab.connected("net1", member, ""));
    lab.netd(&format!("service create front --network net1 --member w1 --member w2 {options}")).ok();
    ["w1", "w2"].map(|member| Server::start(member, member, 80))
}

fn connect(port: u16) -> Result<TcpStream, ErrorKind> {
    let to = SocketAddr::new("::1".parse().expect("an address"), port);
    let stream = inside("host", || TcpStream::connect(to)).map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a time limit");
    Ok(stream)
}

fn is_refused(port: u16) {
    let refused = |tried: &Result<TcpStream, ErrorKind>| matches!(tried, Err(ErrorKind::ConnectionRefused));
    until(&format!("port {port} refuses"), || seen(connect(port), refused).map(drop));
}

fn ends(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "w1", "");
    serve("w1", b'1');
    lab.netd(&format!("service create front --network net1 --member w1 -p 4000:{PORT} -p 4001:{PORT} --grace 60")).ok();
    let mut first = [connect(4000).expect("it listens")];
    let mut second = [connect(4001).expect("it listens")];
    let both_go_on = |open: [&mut [TcpStream]; 2]| open.map(|streams| go_on(streams, b'1'));
    both_go_on([&mut first, &mut second]);
    lab.netd("service drain w1").ok();
    is_refused(4000);
    is_refused(4001);
    both_go_on([&mut first, &mut second]);
    lab.netd("service undrain w1").ok();
    go_on(&mut [connect(4000).expect("it listens")], b'1');
    both_go_on([&mut first, &mut second]);
    lab.netd(&format!("service update front --publish-rm 4000:{PORT}")).ok();
    is_refused(4000);
    are_reset(&mut first);
    go_on(&mut second, b'1');
    lab.netd("service rm front").ok();
    is_refused(4001);
    are_reset(&mut second);
    for port in [4000, 4001] {
        inside("host", || TcpListener::bind(("::", port)).map(drop)).expect("the port is free");
    }
    assert_eq!(lab.diff(), "");
}

fn answers() {
    for proto in [Proto::Tcp, Proto::Udp] {
        let answering = || (0..30).filter_map(|_| echo::answers("host", proto, ("::1", 4000))).map(|reply| reply.who);
        until(&format!("both members answer over {proto:?}"), || {
            is(answering().collect::<BTreeSet<_>>(), &BTreeSet::from(["w1".to_owned(), "w2".to_owned()]))
        });
    }
}

fn survives(lab: &Lab) {
    lab.start_daemon();
    let _servers = front(lab, "-p 4000:80 -p 4000:80/udp");
    answers();
    for end in [Lab::kill_daemon, Lab::stop_daemon] {
        end(lab);
        is_refused(4000);
        lab.start_daemon();
        answers();
        assert_eq!(lab.diff(), "");
    }
    run("ip netns exec host nft flush ruleset").ok();
    answers();
    ["w1", "w2"].iter().for_each(|member| drop(lab.netd(&format!("service unready {member}")).ok()));
    lab.kill_daemon();
    lab.start_daemon();
    is_refused(4000);
    inside("host", || UdpSocket::bind("[::]:4000")).expect_err("netd holds it");
    lab.netd("service ready w1").ok();
    assert_eq!(ask("host", Proto::Tcp, ("::1", 4000)).who, "w1");
}

fn kept(lab: &Lab) {
    let manager = Manager::new();
    manager.start(lab);
    let _servers = front(lab, "-p 4000:80");
    answers_over_tcp();
    lab.kill_daemon();
    let mut waiting = connect(4000).expect("the service manager keeps the socket");
    // Asked before it is accepted: a member's server serves one client at a time and ends one that is silent for long.
    std::io::Write::write_all(&mut waiting, b"who").expect("the kernel takes it");
    manager.start(lab);
    answers_over_tcp();
    let answer = std::io::read_to_string(&mut waiting);
    assert!(answer.as_ref().is_ok_and(|answer| answer.starts_with('w')), "{answer:?}");
}

fn answers_over_tcp() {
    until("a member answers", || echo::answers("host", Proto::Tcp, ("::1", 4000)));
}

fn affinity(lab: &Lab) {
    lab.start_daemon();
    let _servers = front(lab, "-p 4000:80/udp --affinity client");
    let clients: Vec<IpAddr> = (1..=16).map(|n| format!("2001:db8::77:{n}").parse().expect("an address")).collect();
    for client in &clients {
        run(&format!("ip -n outside address add {client}/128 dev uplink nodad")).ok();
    }
    let to = SocketAddr::new(HOST6.parse().expect("an address"), 4000);
    let mut members: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    for client in clients.iter().cycle().take(5 * clients.len()) {
        let reply = lab::ask_from("outside", Some(*client), Proto::Udp, to, Duration::from_secs(3));
        members.entry(*client).or_default().insert(reply.expect("an answer").who);
    }
    assert!(members.values().all(|who| who.len() == 1), "{members:?}");
    let all: BTreeSet<&String> = members.values().flatten().collect();
    assert_eq!(all.len(), 2, "each member has some clients: {members:?}");
}
