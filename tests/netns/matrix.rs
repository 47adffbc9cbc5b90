//! The matrix: access to published and unpublished ports, over both families and protocols, with bridged packets
//! passing iptables hooks (`net.bridge.bridge-nf-call-iptables`) and without.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::thread;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::seen;

use crate::lab::echo::until_proxied;
use crate::lab::{self, HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, run, skippable, space, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("matrix: bridge-nf-call-iptables 0", |lab| matrix(lab, Some("0"), DUAL)),
        skippable("matrix: bridge-nf-call-iptables 1", |lab| matrix(lab, Some("1"), DUAL)),
        skippable("matrix: bridge-nf-call-iptables as the machine has it", |lab| matrix(lab, None, DUAL)),
        skippable("matrix: networks without IPv6, bridge-nf-call-iptables 0", |lab| matrix(lab, Some("0"), V4)),
        skippable("matrix: networks without IPv6, bridge-nf-call-iptables 1", |lab| matrix(lab, Some("1"), V4)),
        trial("matrix: UDP flows from one socket address reach the new container after a change", udp_moves),
    ]
}

/// Further arguments of `netd network create`.
const DUAL: &str = "--ipv6";
const V4: &str = "";

/// A connection attempt, and whether it must succeed.
struct Cell {
    place: &'static str,
    ns: &'static str,
    to: SocketAddr,
    proto: Proto,
    reaches: bool,
    /// The client's address as the server must see it, where it is certain.
    saw: Option<&'static str>,
}

fn matrix(lab: &Lab, bridge_nf: Option<&str>, families: &str) -> Completion {
    if let Err(why) = bridge_nf.map_or(Ok(()), space::bridge_netfilter) {
        return Completion::ignored_with(why);
    }
    set_up(lab, families);
    let web = lab.address("net1", "web");
    for address in &web {
        // The neighbour adds a route to the containers: unpublished ports stay unreachable.
        let via = if address.is_ipv4() { HOST4 } else { HOST6 };
        run(&format!("ip -n outside route add {address} via {via}")).ok();
    }
    let _servers = [Server::start("web", "web", 80), Server::start("web", "web", 81)];
    until_proxied(4000);
    let cells = cells(&web);
    let failures: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = cells.iter().map(|cell| scope.spawn(|| judge(cell))).collect();
        asking.into_iter().filter_map(|thread| thread.join().expect("no cell panics")).collect()
    });
    assert!(failures.is_empty(), "{} of {} cells are wrong:\n{}", failures.len(), cells.len(), failures.join("\n"));
    Completion::Completed
}

fn set_up(lab: &Lab, families: &str) {
    lab.start_daemon();
    lab.netd(&format!("network create net1 {families}")).ok();
    lab.netd(&format!("network create net2 {families}")).ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    lab.connected("net1", "same", "");
    lab.connected("net2", "other", "");
}

/// What each place must reach. Published and unpublished ports are asked for at each address of the host.
fn cells(web: &[IpAddr]) -> Vec<Cell> {
    let mut cells = Vec::new();
    let dual = web.len() > 1;
    for proto in [Proto::Tcp, Proto::Udp] {
        let mut add = |place, ns, to: SocketAddr, reaches, saw| cells.push(Cell { place, ns, to, proto, reaches, saw });
        for (host, outside) in [(HOST4, OUTSIDE4), (HOST6, OUTSIDE6)] {
            let at = |port| SocketAddr::new(host.parse().expect("an address"), port);
            // Where the containers have no IPv6, netd passes on what others send to the host's IPv6 addresses.
            let translated = dual || at(0).is_ipv4();
            add("published, from outside", "outside", at(4000), true, translated.then_some(outside));
            add("published, from the host by its address", "host", at(4000), true, None);
            add("unpublished at the host's address, from outside", "outside", at(81), false, None);
            add("unpublished at the host's address, from the host", "host", at(81), false, None);
            if translated {
                for (place, ns) in [("same network", "same"), ("another network", "other"), ("itself", "web")] {
                    add(place, ns, at(4000), true, None);
                    add(place, ns, at(81), false, None);
                }
            }
        }
        for address in web {
            let at = |port| SocketAddr::new(*address, port);
            add("unpublished at its own address, from outside with a route", "outside", at(81), false, None);
            add("unpublished at its own address, from another network", "other", at(81), false, None);
            for (place, ns) in [("the same network", "same"), ("the host", "host"), ("itself", "web")] {
                add(place, ns, at(80), true, None);
                add(place, ns, at(81), true, None);
            }
        }
        // By the loopback, and by link-local addresses, whose scope is the asker's interface.
        let (host, outside) = (link_local("host"), index("outside"));
        let from_outside = |port| SocketAddrV6::new(*host.ip(), port, 0, outside).into();
        let by_itself = |port| SocketAddrV6::new(*host.ip(), port, 0, host.scope_id()).into();
        let loopback = |of: &str, port| SocketAddr::new(of.parse().expect("an address"), port);
        for (port, reaches) in [(4000, true), (81, false)] {
            add("the host by 127.0.0.1", "host", loopback("127.0.0.1", port), reaches, None);
            add("the host by ::1", "host", loopback("::1", port), reaches, None);
            add("the host by its link-local address", "host", by_itself(port), reaches, None);
            add("outside by the host's link-local address", "outside", from_outside(port), reaches, None);
        }
    }
    cells
}

/// The link-local address of the uplink, with its index there as the scope, once no other machine can have it.
pub(crate) fn link_local(ns: &str) -> SocketAddrV6 {
    let found = || {
        let shown = lab::ip_json(ns, "address show dev uplink");
        let all = shown[0]["addr_info"].as_array().expect("addresses").clone();
        let mut all = all.into_iter().filter(|one| one["scope"] == "link" && one["tentative"] != true);
        all.next().and_then(|one| one["local"].as_str()?.parse().ok())
    };
    lab::until("the link-local address is usable", || seen(found(), Option::is_some));
    SocketAddrV6::new(found().expect("an address"), 0, 0, index(ns))
}

pub(crate) fn index(ns: &str) -> u32 {
    let shown = lab::ip_json(ns, "link show dev uplink");
    shown[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok()).expect("an index")
}

fn judge(cell: &Cell) -> Option<String> {
    let Cell { place, ns, to, proto, reaches, saw } = cell;
    let patience = std::time::Duration::from_millis(if *reaches { 4000 } else { 900 });
    let reply = crate::lab::ask_from(ns, None, *proto, *to, patience);
    let wrong = |what: String| Some(format!("  {place}: {ns} -> {to} {proto:?}: {what}"));
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
