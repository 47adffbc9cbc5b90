//! Tests: what is cached, for how long, and that both paths give the same answer.

use std::net::Ipv4Addr;

use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::{A, CNAME, MX, SOA};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::*;
use crate::faces::dns::forward::cache_key::{Flags, Question};
use crate::faces::dns::message::wire;
use crate::faces::dns::message::wire::Incoming;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("example."), ttl, RData::SOA(data))
}

fn asked(text: &str) -> Asked {
    Asked::query(name(text), RecordType::A)
}

fn record() -> impl Strategy<Value = Record> {
    let owner = prop::sample::select(vec!["www.example.", "example.", "a.b.example.org.", "."]);
    let data = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| RData::A(A(Ipv4Addr::from(octets)))),
        Just(RData::CNAME(CNAME(name("cdn.Example.")))),
        Just(RData::MX(MX::new(10, name("mail.www.example.")))),
    ];
    (owner, 1u32..100_000, data).prop_map(|(owner, ttl, data)| Record::from_rdata(name(owner), ttl, data))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_tell_the_same(
        answers in prop::collection::vec(record(), 0..40),
        additionals in prop::collection::vec(record(), 0..3),
        edns in prop::option::of((any::<u16>(), any::<bool>())),
        flags in any::<[bool; 4]>(),
        tcp in any::<bool>(),
    ) {
        let mut request = Message::new(7, MessageType::Query, OpCode::Query);
        let metadata = &mut request.metadata;
        [metadata.recursion_desired, metadata.authentic_data, metadata.checking_disabled, _] = flags;
        request.add_query(asked("wWw.eXample."));
        request.edns = edns.map(|(size, dnssec_ok)| {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
            edns
        });
        let reply = Reply {
            authentic: flags[3],
            answers,
            authorities: vec![soa(60, 60)],
            additionals,
            ..Reply::error(ResponseCode::NoError)
        };
        let cached = Cached::of(&request.queries[0], &reply, true).unwrap();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let bytes = request.to_vec().unwrap();
        let Incoming::Query(query) = wire::read(&bytes) else { panic!() };
        let mut out = vec![0xee; 65_535];
        if let Some(length) = cached.write(&query, transport, &mut out) {
            prop_assert!(length <= query.limit(transport));
            let fast = Message::from_vec(&out[..length]).unwrap();
            let slow = crate::faces::dns::message::reply::forwarded(&request, cached.reply().unwrap(), transport).unwrap();
            prop_assert_eq!(&fast, &Message::from_vec(&slow).unwrap());
            for message in [&fast, &Message::from_vec(&slow).unwrap()] {
                let names = message.answers.iter().map(|record| &record.name).chain([message.queries[0].name()]);
                let mut own = names.filter(|owner| **owner == name("www.example."));
                prop_assert!(own.all(|owner| owner.eq_case(&name("wWw.eXample."))), "the client's case");
            }
        }
    }
}

#[test]
fn how_long_a_reply_is_kept() {
    let answer = |ttl| Record::from_rdata(name("www.example."), ttl, RData::A(A::new(192, 0, 2, 1)));
    let reply = |code, answers: &[Record], authorities: &[Record]| Reply {
        answers: answers.to_vec(),
        authorities: authorities.to_vec(),
        ..Reply::error(code)
    };
    use ResponseCode::{NXDomain, NoError, Refused, ServFail};
    for (reply, cached) in [
        (reply(NoError, &[answer(60), answer(30)], &[]), Some(30)),
        (reply(NoError, &[answer(600_000)], &[]), Some(LIFE_MAX)),
        (reply(NoError, &[answer(0)], &[]), None),
        (reply(NoError, &[answer(60)], &[soa(20, 50)]), Some(20)),
        (reply(NoError, &[], &[soa(60, 50)]), Some(50)),
        (reply(NoError, &[], &[]), None),
        (reply(NXDomain, &[], &[soa(40, 50)]), Some(40)),
        (reply(NXDomain, &[], &[soa(90_000, 90_000)]), Some(NEGATIVE_MAX)),
        (reply(NXDomain, &[], &[]), None),
        (reply(ServFail, &[], &[]), Some(FAILURE)),
        (reply(Refused, &[], &[]), None),
    ] {
        assert_eq!(life(&reply), cached, "{reply:?}");
    }
}

#[test]
fn a_failure_makes_an_answer_last_longer() {
    let cache = Cache::new(1 << 20);
    let question = Question { query: asked("www.example."), flags: Flags::default() };
    let key = question.key().of_set(1);
    assert!(!cache.renew_later(key.as_bytes()));
    let answer = Record::from_rdata(name("www.example."), 60, RData::A(A::new(192, 0, 2, 1)));
    let reply = Reply { answers: vec![answer], ..Reply::error(ResponseCode::NoError) };
    // An answer of the host's own resolver, which is a fallback only.
    cache.keep(key.as_bytes(), &question.query, &reply, false);
    assert_eq!(cache.get(key.as_bytes()).unwrap().age(), Age::Stale);
    assert!(cache.renew_later(key.as_bytes()));
    let cached = cache.get(key.as_bytes()).unwrap();
    assert_eq!((cached.code, cached.age(), cached.origin()), (ResponseCode::NoError, Age::Failed, Origin::Stale));
    assert_eq!(cached.reply().unwrap().answers[0].ttl, STALE_TTL);
    assert!(cache.get(question.key().of_set(2).as_bytes()).is_none(), "of other servers nothing is kept");
}

#[test]
fn memory_is_bounded() {
    let cache = Cache::new(64 << 10);
    for n in 0..2000 {
        let question = Question { query: asked(&format!("x{n}.example.")), flags: Flags::default() };
        let reply = Reply { authorities: vec![soa(60, 60)], ..Reply::error(ResponseCode::NXDomain) };
        cache.keep(question.key().as_bytes(), &question.query, &reply, true);
    }
    let inner = cache.0.unwrap();
    inner.run_pending_tasks();
    assert!(inner.weighted_size() <= 64 << 10 && inner.entry_count() > 50, "{} bytes", inner.weighted_size());
}
