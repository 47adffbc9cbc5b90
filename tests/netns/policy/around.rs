//! Ways around policies that containers may try.

use netd_testing::wait::is;

use super::flow::{Server, TCP, UDP, begins};
use crate::lab::look::default_routes;
use crate::lab::{self, Lab, run, space, until};

pub(super) fn strangers(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    for name in ["web", "db"] {
        lab.connected("net1", name, "");
    }
    let _servers = [Server::start("db", 80), Server::start("web", 80)];
    let of = |name: &str| {
        let shown = lab::ip_json(name, "address show dev eth0");
        let all = shown[0]["addr_info"].as_array().cloned().unwrap_or_default();
        let mut all = all.into_iter().filter(|one| one["scope"] == "link");
        all.next().map(|one| one["local"].as_str().unwrap_or_default().to_owned()).expect("a link-local address")
    };
    let within = format!("{}%eth0", of("db"));
    until("its link-local address answers", || is(begins("web", UDP, &within, 80), &true));
    lab.netd("policy deny web db").ok();
    let db = lab.address("net1", "db");
    assert!(!begins("web", TCP, &within, 80) && !begins("web", UDP, &within, 80));
    for address in &db {
        assert!(!begins("web", UDP, &address.to_string(), 80));
        // Its answers pass all the same.
        let own = lab.address("net1", "web").into_iter().find(|own| own.is_ipv4() == address.is_ipv4()).expect("one");
        assert!(begins("db", TCP, &own.to_string(), 80) && begins("db", UDP, &own.to_string(), 80));
    }
    // A datagram from the port of the answers is no answer to somebody who did not ask.
    let server = Server::start("db", 81);
    space::inside("web", || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:53").expect("a socket");
        socket.send_to(b"?", (db[0], 81)).expect("it is sent");
        socket.send_to(&[b'?'; 4000], (db[0], 81)).expect("in fragments");
    });
    lab.netd("policy rm 1").ok();
    assert!(begins("web", UDP, &db[0].to_string(), 81), "a datagram that passes follows");
    assert_eq!(server.heard(), 1, "and is the only one");
}

/// What a container may not send to its neighbour directly does not get there by way of the gateway.
pub(super) fn gateway(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    ["web", "db"].iter().for_each(|name| lab.connected("net1", name, ""));
    let _server = Server::start("db", 80);
    let db = lab.address("net1", "db");
    let passes = || {
        ["0", "1"].map(|frames_pass_the_hosts_rules| {
            let _ = space::bridge_netfilter(frames_pass_the_hosts_rules);
            let each = db.iter().flat_map(|to| [TCP, UDP].map(|proto| begins("web", proto, &to.to_string(), 80)));
            each.collect::<Vec<bool>>()
        })
    };
    let routed = |by_gateway: bool| {
        for to in &db {
            let family = if to.is_ipv4() { 4 } else { 6 };
            let (gateway, _) = default_routes("web", family).remove(0);
            let words = if by_gateway { format!("replace {to} via {gateway}") } else { format!("del {to}") };
            run(&format!("ip -n web route {words}")).ok();
        }
    };
    for (policy, expected) in [
        ("deny web db", false),
        ("rm 1", true),
        ("default-deny net1", false),
        ("allow web db:80", false),
        ("allow web db:80/udp", true),
    ] {
        lab.netd(&format!("policy {policy}")).ok();
        let directly = passes();
        assert_eq!(directly.iter().flatten().all(|passes| *passes), expected, "{policy}: {directly:?}");
        routed(true);
        // Less may pass: where the host does not track the answers that go directly, it ends a TCP connection.
        let pairs = passes().into_iter().flatten().zip(directly.into_iter().flatten());
        let ways: Vec<(bool, bool)> = pairs.collect();
        assert!(ways.iter().all(|(routed, directly)| *directly || !routed), "{policy}: {ways:?}");
        routed(false);
    }
}
