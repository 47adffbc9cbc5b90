//! Properties of both paths: they give the same reply, no bytes make them panic, no reply is longer than allowed, and
//! no reply reveals a network that the client is not on.

use std::net::SocketAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;

use super::fuzz::{CLIENTS, DOMAINS, allowed, check, fast_path, slow, snapshot};
use crate::faces::dns::answer::fast_path;
use crate::faces::dns::message::wire::Transport;

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

fn client() -> impl Strategy<Value = SocketAddr> {
    prop::sample::select(CLIENTS.map(|ip| SocketAddr::new(ip.parse().unwrap(), 4711)).to_vec())
}

fn transport() -> impl Strategy<Value = Transport> {
    prop::sample::select(vec![Transport::Udp, Transport::Tcp])
}

fn domain() -> impl Strategy<Value = &'static str> {
    prop::sample::select(DOMAINS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_say_the_same(
        question in question(), client in client(), transport in transport(), domain in domain(),
    ) {
        let snapshot = snapshot(domain);
        let bytes = question.to_vec().unwrap();
        let slow = slow(snapshot, &bytes, client, transport);
        if let Some(fast) = fast_path(snapshot, &bytes, client, transport) {
            let slow = slow.expect("the fast path answers what the slow path would forward");
            let (fast, slow) = (Message::from_vec(&fast).unwrap(), Message::from_vec(&slow).unwrap());
            prop_assert_eq!(&fast, &slow);
            let echoed = fast.queries[0].name().iter().eq(question.queries[0].name().iter());
            prop_assert!(echoed, "the question is echoed in its case");
        }
    }

    #[test]
    fn no_reply_is_too_long_or_of_another_network(
        question in question(), client in client(), transport in transport(),
    ) {
        let snapshot = snapshot("internal");
        let bytes = question.to_vec().unwrap();
        for reply in [fast_path(snapshot, &bytes, client, transport), slow(snapshot, &bytes, client, transport)] {
            let Some(reply) = reply else { continue };
            prop_assert!(reply.len() <= allowed(&bytes, transport), "{} bytes", reply.len());
            let reply = Message::from_vec(&reply).unwrap();
            let on_net1 = ["10.0.0.2", "fd00::2", "10.0.0.5"].iter().any(|ip| client.ip().to_string() == *ip);
            for record in &reply.answers {
                let foreign = match &record.data {
                    RData::A(a) => on_net1 && matches!(a.octets(), [10, 1 | 2, ..]),
                    RData::AAAA(aaaa) => on_net1 && matches!(aaaa.segments()[0], 0xfd01 | 0xfd02),
                    RData::PTR(ptr) => on_net1 && ["far", "hid"].iter().any(|name| ptr.to_string().starts_with(name)),
                    _ => false,
                };
                prop_assert!(!foreign, "{record}");
            }
            if client.ip().to_string() == "192.0.2.1" && question.queries[0].query_class() == DNSClass::IN {
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

#[test]
fn a_reply_to_many_questions_is_not_too_long() {
    for (operation, questions) in [(0, 30), (9, 2), (9, 30)] {
        let mut bytes = vec![0x12, 0x34, operation << 3, 0, 0, questions, 0, 0, 0, 0, 0, 0];
        (0..questions).for_each(|_| bytes.extend(b"\x0fa-name-that-is-\x0ethe-same-again\0\0\x01\0\x01"));
        assert!(survived(&bytes, Transport::Udp).is_ok());
    }
}

fn survived(bytes: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    check(bytes, "10.0.0.3:53".parse().unwrap(), transport, snapshot("internal"));
    let mut out = [0; 1232];
    prop_assert!(fast_path::fail(bytes, transport, &mut out) <= allowed(bytes, Transport::Udp));
    Ok(())
}
