//! UDP clients that keep their source port and send all the time reach a published port whatever happens to its
//! container: exactly the connection tracking entries of the publication are deleted.

use std::collections::BTreeMap;

use libtest_mimic::Trial;

use crate::lab::steady::Steady;
use crate::lab::{HOST4, HOST6, Lab, Server, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("steady clients: answered before, during and after a restart of the container", restarts),
        trial("steady clients: answered after a container that died while no daemon ran", died_unseen),
        trial("steady clients: answered after the table was gone for a while", table_gone),
        trial("steady clients: those of other ports and addresses keep their entries", others),
    ]
}

/// What the container publishes: single ports and ranges, with the same and with other numbers.
const PORTS: &str = "-p 5000:53/udp -p 6000-6010:6000-6010/udp -p 7000-7002:8000-8002/udp -p 192.0.2.9:5001:53/udp";

/// Clients of all of them, outside and on the host, over IPv4 and IPv6.
fn clients() -> Vec<Steady> {
    let ports = [(HOST4, 5000), (HOST6, 5000), (HOST4, 6005), (HOST6, 6005), (HOST4, 7001), (HOST6, 7001)];
    let outside = ports.into_iter().chain([("192.0.2.9", 5001)]).zip(9000..);
    let mut clients: Vec<Steady> = outside.map(|(to, from)| Steady::start("outside", from, to)).collect();
    let host = [("127.0.0.1", 5000), (HOST4, 6005), (HOST6, 7001)].into_iter().zip(9100..);
    clients.extend(host.map(|(to, from)| Steady::start("host", from, to)));
    clients
}

fn servers(ns: &str, who: &str) -> Vec<Server> {
    [53, 6005, 8001].into_iter().map(|port| Server::start(ns, who, port)).collect()
}

fn set_up(lab: &Lab) -> Vec<Steady> {
    run("ip -n host address add 192.0.2.9/24 dev uplink").ok();
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    clients()
}

fn restarts(lab: &Lab) {
    let clients = set_up(lab);
    for (round, end) in ["disconnect", "delete", "disconnect", "delete"].into_iter().enumerate() {
        let who = format!("web{round}");
        lab.container("web");
        let servers = servers("web", &who);
        // Another address each time.
        lab.netd(&format!("connect net1 web {PORTS}")).ok();
        clients.iter().for_each(|client| client.is_answered_by(&who));
        match end {
            "disconnect" => drop(lab.netd("disconnect net1 web").ok()),
            _ => drop(servers),
        }
        run("ip netns delete web").ok();
        clients.iter().for_each(Steady::is_not_answered);
    }
}

fn died_unseen(lab: &Lab) {
    let clients = set_up(lab);
    lab.connected("net1", "web", PORTS);
    let first = servers("web", "first");
    clients.iter().for_each(|client| client.is_answered_by("first"));
    lab.kill_daemon();
    drop(first);
    run("ip netns delete web").ok();
    lab.container("other");
    let _servers = servers("other", "other");
    lab.start_daemon();
    clients.iter().for_each(Steady::is_not_answered);
    lab.netd(&format!("connect net1 other {PORTS}")).ok();
    clients.iter().for_each(|client| client.is_answered_by("other"));
}

fn table_gone(lab: &Lab) {
    run("ip -n host address add 192.0.2.9/24 dev uplink").ok();
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", PORTS);
    let _servers = servers("web", "web");
    lab.kill_daemon();
    run("ip netns exec host nft flush ruleset").ok();
    // Something else keeps connection tracking alive.
    run("ip netns exec host nft add table inet other").ok();
    run("ip netns exec host nft add chain inet other in { type filter hook prerouting priority 0; }").ok();
    run("ip netns exec host nft add rule inet other in ct state new counter").ok();
    let clients = clients();
    clients.iter().for_each(Steady::is_not_answered);
    lab.start_daemon();
    clients.iter().for_each(|client| client.is_answered_by("web"));
}

/// The entries to these ports, by number: a new entry has another one.
fn entries(ports: &[u16]) -> BTreeMap<u16, Vec<String>> {
    let listing =
        ["ipv4", "ipv6"].map(|family| run(&format!("ip netns exec host conntrack -L -o id -f {family}")).stdout);
    let entry = |port: u16| {
        let to = format!(" dport={port} ");
        let of_port = listing.iter().flat_map(|text| text.lines()).filter(|line| line.contains(&to));
        let mut ids: Vec<String> = of_port.filter_map(|line| line.rsplit("id=").next().map(str::to_owned)).collect();
        ids.sort();
        (port, ids)
    };
    ports.iter().copied().map(entry).collect()
}

fn others(lab: &Lab) {
    run("ip -n host address add 192.0.2.9/24 dev uplink").ok();
    run("ip -n host address add 192.0.2.10/24 dev uplink").ok();
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 192.0.2.9:5000:53/udp -p 5001:53/udp");
    lab.connected("net1", "db", "-p 192.0.2.10:5000:53/udp -p 5003:53/udp");
    let _servers = [Server::start("web", "web", 53), Server::start("db", "db", 53)];
    let stay = [(HOST4, 5003), (HOST6, 5003)].into_iter().zip(9000..);
    let stay: Vec<Steady> = stay.map(|(to, from)| Steady::start("outside", from, to)).collect();
    let (own, foreign) =
        (Steady::start("outside", 9010, ("192.0.2.9", 5000)), Steady::start("outside", 9011, ("192.0.2.10", 5000)));
    stay.iter().for_each(|client| client.is_answered_by("db"));
    own.is_answered_by("web");
    foreign.is_answered_by("db");
    let at_other_address = || {
        let listing = run("ip netns exec host conntrack -L -o id -f ipv4 -p udp --orig-dst 192.0.2.10").stdout;
        listing.lines().filter_map(|line| line.rsplit("id=").next().map(str::to_owned)).collect::<Vec<_>>()
    };
    let before = (entries(&[5003]), at_other_address());
    assert_eq!((before.0[&5003].len(), before.1.len()), (2, 1), "{before:?}");
    for line in [
        "port rm web 192.0.2.9:5000:53/udp",
        "port add web 192.0.2.9:5000:53/udp",
        "port add web 6000-6100:6000-6100/udp",
        "port rm web 6000-6100:6000-6100/udp",
        "disconnect net1 web",
        "connect net1 web -p 192.0.2.9:5000:53/udp -p 5001:53/udp -p 5002:53/udp",
    ] {
        lab.netd(line).ok();
        assert_eq!((entries(&[5003]), at_other_address()), before, "{line}");
    }
    own.is_answered_by("web");
    stay.iter().for_each(|client| client.is_answered_by("db"));
    foreign.is_answered_by("db");
}
