//! The matrix: access to published and unpublished ports, over both families and protocols, with bridged packets
//! passing iptables hooks (`net.bridge.bridge-nf-call-iptables`) and without.

use std::thread;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::seen;

use crate::lab::{HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, ask, echo, run, skippable, space, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("matrix: bridge-nf-call-iptables 0", |lab| matrix(lab, Some("0"))),
        skippable("matrix: bridge-nf-call-iptables 1", |lab| matrix(lab, Some("1"))),
        skippable("matrix: bridge-nf-call-iptables as the machine has it", |lab| matrix(lab, None)),
        skippable("matrix: host by [::1] (tcp)", |lab| host_by_v6_loopback(lab, Proto::Tcp)),
        skippable("matrix: host by [::1] (udp)", |lab| host_by_v6_loopback(lab, Proto::Udp)),
        trial("matrix: UDP flows from one socket address reach the new container after a change", udp_moves),
    ]
}

/// A connection attempt, and whether it must succeed.
struct Cell {
    place: &'static str,
    ns: &'static str,
    to: String,
    port: u16,
    proto: Proto,
    reaches: bool,
    /// The client's address as the server must see it, where it is certain.
    saw: Option<&'static str>,
}

fn matrix(lab: &Lab, bridge_nf: Option<&str>) -> Completion {
    if let Err(why) = bridge_nf.map_or(Ok(()), space::bridge_netfilter) {
        return Completion::ignored_with(why);
    }
    set_up(lab);
    let web = lab.address("net1", "web");
    for address in &web {
        // The neighbour adds a route to the containers: unpublished ports stay unreachable.
        let via = if address.is_ipv4() { HOST4 } else { HOST6 };
        run(&format!("ip -n outside route add {address} via {via}")).ok();
    }
    let (v4, v6) = (web[0].to_string(), web[1].to_string());
    let cells = cells(&v4, &v6);
    let _servers = [Server::start("web", "web", 80), Server::start("web", "web", 81)];
    let failures: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = cells.iter().map(|cell| scope.spawn(|| judge(cell))).collect();
        asking.into_iter().filter_map(|thread| thread.join().expect("no cell panics")).collect()
    });
    assert!(failures.is_empty(), "{} of {} cells are wrong:\n{}", failures.len(), cells.len(), failures.join("\n"));
    Completion::Completed
}

fn set_up(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    lab.connected("net1", "same", "");
    lab.connected("net2", "other", "");
}

fn cells(v4: &str, v6: &str) -> Vec<Cell> {
    let mut cells = Vec::new();
    for proto in [Proto::Tcp, Proto::Udp] {
        for (host, outside, container) in [(HOST4, OUTSIDE4, v4), (HOST6, OUTSIDE6, v6)] {
            let mut add = |place, ns, to: &str, port, reaches, saw| {
                cells.push(Cell { place, ns, to: to.to_owned(), port, proto, reaches, saw });
            };
            add("published, from outside", "outside", host, 4000, true, Some(outside));
            add("published, from the host by its address", "host", host, 4000, true, None);
            add("published, from the same network", "same", host, 4000, true, None);
            add("published, from another network", "other", host, 4000, true, None);
            add("published, from itself", "web", host, 4000, true, None);
            for (place, ns) in [
                ("unpublished at the host's address, from outside", "outside"),
                ("unpublished at the host's address, from the host", "host"),
                ("unpublished at the host's address, from the same network", "same"),
                ("unpublished at the host's address, from another network", "other"),
                ("unpublished at the host's address, from itself", "web"),
            ] {
                add(place, ns, host, 81, false, None);
            }
            add("unpublished at its own address, from outside with a route", "outside", container, 81, false, None);
            add("unpublished at its own address, from another network", "other", container, 81, false, None);
            add("unpublished at its own address, from the same network", "same", container, 81, true, None);
            add("unpublished at its own address, from the host", "host", container, 81, true, None);
            add("unpublished at its own address, from itself", "web", container, 81, true, None);
            add("published port at its own address, from the same network", "same", container, 80, true, None);
            add("published port at its own address, from the host", "host", container, 80, true, None);
        }
        let loopback = |place, port, reaches| Cell {
            place,
            ns: "host",
            to: "127.0.0.1".to_owned(),
            port,
            proto,
            reaches,
            saw: None,
        };
        cells.push(loopback("published, from the host by 127.0.0.1", 4000, true));
        cells.push(loopback("unpublished, from the host by 127.0.0.1", 81, false));
    }
    cells
}

fn judge(cell: &Cell) -> Option<String> {
    let Cell { place, ns, to, port, proto, reaches, saw } = cell;
    let patience = std::time::Duration::from_millis(if *reaches { 4000 } else { 900 });
    let address = std::net::SocketAddr::new(to.parse().expect("an address"), *port);
    let reply = crate::lab::ask_from(ns, None, *proto, address, patience);
    let wrong = |what: String| Some(format!("  {place}: {ns} -> {address} {proto:?}: {what}"));
    match (reply, reaches) {
        (Err(error), true) => wrong(format!("no answer: {error}")),
        (Ok(reply), false) => wrong(format!("reached: {reply:?}")),
        (Ok(reply), true) if reply.who != "web" => wrong(format!("answered by {reply:?}")),
        (Ok(reply), true) => match saw {
            Some(saw) if reply.saw.to_string() != *saw => wrong(format!("the server saw {} instead", reply.saw)),
            _ => None,
        },
        (Err(_), false) => None,
    }
}

/// Docker answers here with its userland proxy. The kernel cannot: a packet with source ::1 is not routed off `lo`,
/// and there is no `route_localnet` for IPv6.
fn host_by_v6_loopback(lab: &Lab, proto: Proto) -> Completion {
    set_up(lab);
    let _server = Server::start("web", "web", 80);
    assert_eq!(ask("host", proto, ("127.0.0.1", 4000)).who, "web");
    match echo::answers("host", proto, ("::1", 4000)) {
        None => Completion::ignored_with("[::1]: the kernel cannot DNAT loopback IPv6 off the host; a later issue"),
        Some(reply) => panic!("[::1]:4000 answers now ({reply:?}): move it into the matrix"),
    }
}

/// A client that keeps its source port (a resolver, a game) must reach the new container, not the conntrack entry of
/// the old one.
fn udp_moves(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let from = "192.0.2.2:5555";
    let client = space::inside("outside", || std::net::UdpSocket::bind(from)).unwrap();
    client.connect((HOST4, 4000)).unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        lab.connected("net1", name, "-p 4000:80/udp");
        servers.push(Server::start(name, name, 80));
        crate::lab::until(&format!("{name} answers"), || {
            let mut buffer = [0; 64];
            // Refusals of the moment without a publication may still be queued on the socket.
            let heard = client.send(b"who").and_then(|_| client.recv(&mut buffer));
            let heard = heard.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
            seen(heard.unwrap_or_else(|error| error.to_string()), |who| who.starts_with(name))
        });
        lab.netd(&format!("disconnect net1 {name}")).ok();
        assert!(client.send(b"who").and_then(|_| client.recv(&mut [0; 64])).is_err(), "the port is closed");
    }
}
