//! Properties of both ways to a reply: they say the same, no bytes make them panic, no reply is longer than allowed, and
//! nobody is told of a network that he is not on.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;
use serde_json::json;

use super::handler::{Handler, Outcome};
use super::quick::{self, Done, Source};
use super::turns::Turns;
use super::wire::Transport;
use super::{Config, View};
use crate::engine::Snapshot;
use crate::model::desired::Desired;

const TTL: u32 = 5;

/// net1, net2 and Net3.lan; containers web (net1), db (net1, net2), far (net2), a.b (net1) and c0 to c99 (net1) with
/// the alias `pool`.
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
    Snapshot { desired, domain: domain.into(), revision: 7, ..Snapshot::default() }
}

const DOMAINS: [&str; 4] = ["internal", "corp.example.com", "Internal", ""];
static SNAPSHOTS: LazyLock<[Arc<Snapshot>; 4]> = LazyLock::new(|| DOMAINS.map(|domain| Arc::new(build(domain))));

/// That state under one of the domains.
fn snapshot(domain: &str) -> &'static Arc<Snapshot> {
    let index = DOMAINS.iter().position(|known| *known == domain).unwrap();
    &SNAPSHOTS[index]
}

fn handler(snapshot: &Arc<Snapshot>) -> Handler {
    let snapshot = snapshot.clone();
    let view: View = Arc::new(move || snapshot.clone());
    let config = Config { ttl: TTL, resolv_conf: "/dev/null".into(), ..Config::default() };
    Handler::new(&config, view)
}

/// What the quick way replies; `None`: it leaves the message to the slow way.
fn quick(snapshot: &Snapshot, message: &[u8], asker: SocketAddr, transport: Transport) -> Option<Vec<u8>> {
    let mut out = vec![0xee; if transport == Transport::Udp { 1232 } else { 65_535 }];
    let turns = Turns::default();
    match quick::answer(
        Source { snapshot, ttl: TTL, turns: &turns, forwarder: None },
        message,
        asker,
        transport,
        &mut out,
    ) {
        Done::Replied(length, _) => {
            out.truncate(length);
            Some(out)
        }
        Done::Ignored => Some(Vec::new()),
        Done::Left => None,
    }
}

/// What the slow way replies; `None`: it would ask an upstream.
fn slow(snapshot: &Arc<Snapshot>, message: &[u8], asker: SocketAddr, transport: Transport) -> Option<Vec<u8>> {
    match handler(snapshot).decide(message, asker, transport) {
        Outcome::Reply(reply) => Some(reply),
        Outcome::Forward(_) => None,
    }
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "web",
        "WEB",
        "db",
        "far",
        "a",
        "b",
        "pool",
        "www",
        "Store",
        "secret",
        "deep",
        "name",
        "net1",
        "net2",
        "lan",
        "net3",
        "internal",
        "host",
        "docker",
        "localhost",
        "hid",
        "in-addr",
        "ip6",
        "arpa",
        "10",
        "0",
        "1",
        "2",
        "web-01234567",
        "example",
        "com",
        "_tcp",
        "-x",
        "*",
        "a.b",
        "corp",
    ];
    prop_oneof![
        20 => prop::sample::select(known.map(|label| label.as_bytes().to_vec()).to_vec()),
        1 => "[a-zA-Z0-9_-]{1,63}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..10),
    ]
}

fn name() -> impl Strategy<Value = Name> {
    let labels = prop::collection::vec(label(), 0..6);
    let reverse = (0u8..4, 0u8..8).prop_map(|(net, host)| format!("{host}.0.{net}.10.in-addr.arpa."));
    prop_oneof![
        labels.prop_filter_map("too long", |labels| Name::from_labels(labels.iter().map(Vec::as_slice)).ok()),
        reverse.prop_map(|text| Name::from_ascii(text).unwrap()),
        Just(Name::from_ascii(format!("2.{}0.0.d.f.ip6.arpa.", "0.".repeat(27))).unwrap()),
    ]
}

fn question() -> impl Strategy<Value = Message> {
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::PTR, RecordType::A, RecordType::MX, RecordType::HTTPS];
    let edns = prop::option::of((prop_oneof![Just(4096u16), any::<u16>()], any::<bool>(), any::<bool>()));
    let rest = (any::<u16>(), prop::array::uniform4(any::<bool>()), 0u32..40);
    (name(), prop::sample::select(kinds.to_vec()), edns, rest).prop_map(|(name, kind, edns, (id, flags, odd))| {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        let metadata = &mut message.metadata;
        [metadata.recursion_desired, metadata.checking_disabled, metadata.authentic_data, metadata.truncation] = flags;
        let mut query = Query::query(name, kind);
        if odd == 0 {
            query.set_query_class(DNSClass::CH);
        }
        message.add_query(query);
        message.edns = edns.map(|(size, dnssec_ok, option)| {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_dnssec_ok(dnssec_ok).set_version(u8::from(odd == 1));
            if option {
                edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
            }
            edns
        });
        message
    })
}

fn asker() -> impl Strategy<Value = SocketAddr> {
    let known = ["10.0.0.2", "10.0.0.3", "10.1.0.4", "10.0.0.5", "10.2.0.6", "fd00::2", "10.0.0.1", "192.0.2.1"];
    let known = known.map(|ip| SocketAddr::new(ip.parse().unwrap(), 4711));
    prop::sample::select(known.to_vec())
}

fn transport() -> impl Strategy<Value = Transport> {
    prop::sample::select(vec![Transport::Udp, Transport::Tcp])
}

fn domain() -> impl Strategy<Value = &'static str> {
    prop::sample::select(DOMAINS.to_vec())
}

/// What a reply to these bytes may have at most; what cannot be read is an asker without EDNS.
fn allowed(message: &[u8], transport: Transport) -> usize {
    let edns = Message::from_vec(message).ok().and_then(|message| message.edns);
    match transport {
        Transport::Tcp => 65_535,
        Transport::Udp => edns.map_or(512, |edns| edns.max_payload().clamp(512, 1232)).into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_say_the_same(
        question in question(), asker in asker(), transport in transport(), domain in domain(),
    ) {
        let snapshot = snapshot(domain);
        let bytes = question.to_vec().unwrap();
        let slow = slow(snapshot, &bytes, asker, transport);
        if let Some(quick) = quick(snapshot, &bytes, asker, transport) {
            let slow = slow.expect("the quick way answers what the slow way would forward");
            let (quick, slow) = (Message::from_vec(&quick).unwrap(), Message::from_vec(&slow).unwrap());
            prop_assert_eq!(&quick, &slow);
            let echoed = quick.queries[0].name().iter().eq(question.queries[0].name().iter());
            prop_assert!(echoed, "the question is echoed in its case");
        }
    }

    #[test]
    fn no_reply_is_too_long_or_of_another_network(
        question in question(), asker in asker(), transport in transport(),
    ) {
        let snapshot = snapshot("internal");
        let bytes = question.to_vec().unwrap();
        for reply in [quick(snapshot, &bytes, asker, transport), slow(snapshot, &bytes, asker, transport)] {
            let Some(reply) = reply else { continue };
            prop_assert!(reply.len() <= allowed(&bytes, transport), "{} bytes", reply.len());
            let reply = Message::from_vec(&reply).unwrap();
            let on_net1 = ["10.0.0.2", "fd00::2", "10.0.0.5"].iter().any(|ip| asker.ip().to_string() == *ip);
            for record in &reply.answers {
                let foreign = match &record.data {
                    RData::A(a) => on_net1 && matches!(a.octets(), [10, 1 | 2, ..]),
                    RData::AAAA(aaaa) => on_net1 && matches!(aaaa.segments()[0], 0xfd01 | 0xfd02),
                    RData::PTR(ptr) => on_net1 && ["far", "hid"].iter().any(|name| ptr.to_string().starts_with(name)),
                    _ => false,
                };
                prop_assert!(!foreign, "{record}");
            }
            if asker.ip().to_string() == "192.0.2.1" && question.queries[0].query_class() == DNSClass::IN {
                prop_assert!(reply.answers.is_empty() && reply.metadata.response_code != ResponseCode::NoError);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), transport in transport()) {
        survived(&bytes, transport)?;
    }

    #[test]
    fn a_question_with_any_change_is_survived(
        question in question(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        transport in transport(),
    ) {
        let mut bytes = question.to_vec().unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        survived(&bytes, transport)?;
    }
}

fn survived(bytes: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    let snapshot = snapshot("internal");
    let asker = "10.0.0.3:53".parse().unwrap();
    let replies = [quick(snapshot, bytes, asker, transport), slow(snapshot, bytes, asker, transport)];
    for reply in replies.iter().flatten().filter(|reply| !reply.is_empty()) {
        prop_assert!(reply.len() <= allowed(bytes, transport), "{} bytes", reply.len());
        prop_assert_eq!(&reply[..2], &bytes[..2], "its ID");
        prop_assert!(bytes[2] & 0x80 == 0 && reply[2] & 0x80 != 0, "replies are never replied to");
        prop_assert!(Message::from_vec(reply).is_ok());
    }
    let mut out = [0; 1232];
    prop_assert!(quick::fail(bytes, transport, &mut out) <= allowed(bytes, Transport::Udp));
    if let [Some(quick), Some(slow)] = &replies
        && !quick.is_empty()
    {
        prop_assert_eq!(Message::from_vec(quick).unwrap(), Message::from_vec(slow).unwrap());
    }
    Ok(())
}
