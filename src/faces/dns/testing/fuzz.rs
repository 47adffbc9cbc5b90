//! The entry to packet processing for attacks: the property tests and the fuzzer (`scripts/bench fuzz`). Both paths
//! process arbitrary bytes from any client against a small state, and the invariants are checked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use serde_json::json;

use crate::engine::Snapshot;
use crate::faces::dns::answer::fast_path;
use crate::faces::dns::answer::fast_path::{Done, Source};
use crate::faces::dns::answer::rotation::Turns;
use crate::faces::dns::answer::slow_path::{Handler, Outcome};
use crate::faces::dns::message::wire::Transport;
use crate::faces::dns::{Config, View};
use crate::model::desired::Desired;

const TTL: u32 = 5;
/// The clients: containers on one network or two, the gateway, and an unknown address.
pub(crate) const CLIENTS: [&str; 8] =
    ["10.0.0.2", "10.0.0.3", "10.1.0.4", "10.0.0.5", "10.2.0.6", "fd00::2", "10.0.0.1", "192.0.2.1"];
/// The clients that are on net1 only.
const ON_NET1: [&str; 3] = ["10.0.0.2", "10.0.0.5", "fd00::2"];

/// net1, net2 and Net3.lan; containers web (net1), db (net1, net2), far (net2), a.b (net1), hid (Net3.lan) and c0 to
/// c99 (net1) with the alias `pool`.
fn build(domain: &str) -> Snapshot {
    let mut desired = Desired::default();
    for (n, name) in ["net1", "net2", "Net3.lan"].into_iter().enumerate() {
        let network = json!({
            "name": name, "id": "0".repeat(64), "internal": n == 2, "mtu": 1500, "labels": {}, "created": 0,
            "driver": {"driver": "bridge", "name": format!("nd{n}"), "icc": true, "masquerade": true},
            "subnets": [{"subnet": format!("10.{n}.0.0/24"), "gateway": format!("10.{n}.0.1")},
                {"subnet": format!("fd0{n}::/64"), "gateway": format!("fd0{n}::1")}],
        });
        desired.insert_network(serde_json::from_value(network).unwrap());
    }
    let mut add = |container: &str, net: usize, host: usize, alias: &str| {
        let endpoint = json!({
            "network": (["net1", "net2", "Net3.lan"][net]), "sequence": desired.counts().2, "ifname": "eth0",
            "host_ifname": "v0", "gateways": [], "mac": "02:00:00:00:00:01", "aliases": [alias], "publications": [],
            "container": {"id": format!("{}-0123456789abcdef", container.replace('.', "-")), "name": container,
                "netns": {"path": "/run/netns/x", "id": {"device": 4, "inode": 1, "cookie": null}}},
            "addresses": [format!("10.{net}.0.{host}/24"), format!("fd0{net}::{host}/64")],
        });
        desired.insert_endpoint(serde_json::from_value(endpoint).unwrap());
    };
    add("web", 0, 2, "www");
    add("db", 0, 3, "store");
    add("db", 1, 3, "store");
    add("far", 1, 4, "secret");
    add("a.b", 0, 5, "Deep.Name");
    add("hid", 2, 6, "lan");
    for n in 0..100 {
        add(&format!("c{n}"), 0, 100 + n, "pool");
    }
    Snapshot { desired, domain: domain.into(), zone_revision: 7, ..Snapshot::default() }
}

/// The domains of the states.
pub(crate) const DOMAINS: [&str; 4] = ["internal", "corp.example.com", "Internal", ""];
static SNAPSHOTS: LazyLock<[Arc<Snapshot>; 4]> = LazyLock::new(|| DOMAINS.map(|domain| Arc::new(build(domain))));

/// The state with one of the domains.
pub(crate) fn snapshot(domain: &str) -> &'static Arc<Snapshot> {
    let index = DOMAINS.iter().position(|known| *known == domain).unwrap();
    &SNAPSHOTS[index]
}

fn handler(snapshot: &Arc<Snapshot>) -> Handler {
    let snapshot = snapshot.clone();
    let view: View = Arc::new(move || snapshot.clone());
    let config = Config { ttl: TTL, resolv_conf: "/dev/null".into(), ..Config::default() };
    Handler::new(config, view)
}

/// The fast path's reply. `None` if it leaves the message to the slow path.
pub(crate) fn fast_path(
    snapshot: &Snapshot,
    message: &[u8],
    client: SocketAddr,
    transport: Transport,
) -> Option<Vec<u8>> {
    let mut out = vec![0xee; if transport == Transport::Udp { 1232 } else { 65_535 }];
    let turns = Turns::default();
    let source = Source { snapshot, ttl: TTL, turns: &turns, forwarder: None };
    let done = fast_path::answer(source, message, client, transport, &mut out);
    match done {
        Done::Replied(length, _) | Done::Rotated(length) => {
            if matches!(done, Done::Replied(..)) {
                let mut again = vec![0; out.len()];
                assert_eq!(fast_path::answer(source, message, client, transport, &mut again), done);
                assert_eq!(again[..length], out[..length], "whoever asks again is told the same");
            }
            out.truncate(length);
            Some(out)
        }
        Done::Ignored => Some(Vec::new()),
        Done::Left => None,
    }
}

/// The slow path's reply. `None` if it would ask an upstream.
pub(crate) fn slow(
    snapshot: &Arc<Snapshot>,
    message: &[u8],
    client: SocketAddr,
    transport: Transport,
) -> Option<Vec<u8>> {
    match handler(snapshot).decide(message, client, transport) {
        Outcome::Reply(reply) | Outcome::Shed(reply) => Some(reply),
        Outcome::Forward(_) => None,
    }
}

/// The maximum length of the reply to these bytes. An unreadable message counts as one without EDNS.
pub(crate) fn allowed(message: &[u8], transport: Transport) -> usize {
    let edns = Message::from_vec(message).ok().and_then(|message| message.edns);
    match transport {
        Transport::Tcp => 65_535,
        Transport::Udp => edns.map_or(512, |edns| edns.max_payload().clamp(512, 1232)).into(),
    }
}

/// One run of the fuzzer. The first byte selects client, transport and domain; the rest is the message. Panics if an
/// invariant is violated.
pub fn attack(input: &[u8]) {
    let Some((choice, message)) = input.split_first() else { return };
    let choice = usize::from(*choice);
    let client = SocketAddr::new(CLIENTS[choice % 8].parse().unwrap(), 4711);
    let transport = if choice & 0x08 == 0 { Transport::Udp } else { Transport::Tcp };
    check(message, client, transport, snapshot(DOMAINS[choice / 16 % 4]));
}

/// Checks the invariants for any bytes: no panic; no reply that is longer than allowed, is unreadable, belongs to
/// another question or reveals a network that the client is not on; both paths give the same reply.
pub(crate) fn check(bytes: &[u8], client: SocketAddr, transport: Transport, state: &Arc<Snapshot>) {
    let replies = [fast_path(state, bytes, client, transport), slow(state, bytes, client, transport)];
    let asked = Message::from_vec(bytes).ok();
    for reply in replies.iter().flatten().filter(|reply| !reply.is_empty()) {
        assert!(reply.len() <= allowed(bytes, transport), "{} bytes", reply.len());
        assert_eq!(reply[..2], bytes[..2], "its ID");
        assert!(bytes[2] & 0x80 == 0 && reply[2] & 0x80 != 0, "replies are never replied to");
        let reply = Message::from_vec(reply).expect("a reply that can be read");
        if let Some(asked) = asked.as_ref().filter(|_| !reply.queries.is_empty()) {
            let same = asked.queries.iter().map(|q| q.name().iter()).zip(reply.queries.iter().map(|q| q.name().iter()));
            assert_eq!(asked.queries, reply.queries, "its question");
            assert!(same.into_iter().all(|(asked, echoed)| asked.eq(echoed)), "its question in its case");
        }
        tells_of_nothing_foreign(&reply, client);
    }
    if let Some(fast) = replies[0].as_ref() {
        let slow = replies[1].as_ref().expect("the fast path answers what the slow path would forward");
        assert_eq!(fast.is_empty(), slow.is_empty());
        if !fast.is_empty() {
            assert_eq!(Message::from_vec(fast).unwrap(), Message::from_vec(slow).unwrap());
        }
    }
}

fn tells_of_nothing_foreign(reply: &Message, client: SocketAddr) {
    let client = client.ip().to_string();
    let on_net1 = ON_NET1.contains(&client.as_str());
    for record in reply.answers.iter().chain(&reply.additionals) {
        let foreign = match &record.data {
            RData::A(a) => matches!(a.octets(), [10, 1 | 2, ..]),
            RData::AAAA(aaaa) => matches!(aaaa.segments()[0], 0xfd01 | 0xfd02),
            RData::PTR(ptr) => ["far", "hid"].iter().any(|name| ptr.to_string().starts_with(name)),
            RData::SRV(srv) => ["far", "hid"].iter().any(|name| srv.target.to_string().starts_with(name)),
            _ => false,
        };
        assert!(!(on_net1 && foreign) && client != "192.0.2.1", "{client} is told {record}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn packets_keep_their_promises() {
        netd_testing::inputs::attack("packet", super::attack);
    }
}
