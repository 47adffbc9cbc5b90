//! Cached answers of upstreams: how long, for which clients, and the replies while no upstream answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use netd::engine::telemetry::Origin;
use netd::faces::dns::Config;
use netd_testing::clock::Clock;
use netd_testing::dns::{Lab, Upstream, addresses, plain, query, record, state};

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";
const FAR: &str = "127.2.0.4";

fn soa(ttl: u32, minimum: u32) -> Record {
    let name = |text: &str| Name::from_ascii(text).unwrap();
    record("example", ttl, RData::SOA(SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, minimum)))
}

async fn answering(ttl: u32) -> Upstream {
    Upstream::saying(move |reply| {
        let alias = CNAME(Name::from_ascii("edge.example.").unwrap());
        reply.add_answer(record("www.example", 300, RData::CNAME(alias)));
        reply.add_answer(record("edge.example", ttl, RData::A(A::new(192, 0, 2, 1))));
    })
    .await
}

fn ttls(message: &Message) -> Vec<u32> {
    message.answers.iter().map(|record| record.ttl).collect()
}

#[tokio::test]
async fn an_answer_is_cached_and_its_ttl_counts_down() {
    let clock = Clock::stop();
    let upstream = answering(60).await;
    let lab = Lab::start(vec![upstream.address]).await;
    let first = lab.ask(WEB, "www.example", RecordType::A).await;
    assert_eq!(ttls(&first), [300, 60]);
    clock.jump(Duration::from_secs(7)).await;
    let response = lab.ask(WEB, "WWW.Example", RecordType::A).await;
    assert_eq!(ttls(&response), [293, 53]);
    assert_eq!(response.answers[0].name.to_string(), "WWW.Example.", "the client's case");
    assert!(response.edns.is_some() && response.metadata.recursion_available && !response.metadata.authoritative);
    // The slow path (TCP takes the fast one too; two namespaces of names do not) replies like the fast path.
    let tcp = lab.tcp(WEB, &query("www.example", RecordType::A)).await;
    assert_eq!((tcp.answers.len(), addresses(&tcp)), (2, addresses(&first)));
    let mut plain = query("www.example", RecordType::A);
    plain.edns = None;
    let response = lab.udp(WEB, &plain).await;
    assert!(response.edns.is_none() && addresses(&response) == ["192.0.2.1"]);
    assert_eq!(
        addresses(&lab.ask(DB, "www.example", RecordType::A).await),
        ["192.0.2.1"],
        "another client with the same question"
    );
    assert_eq!(upstream.asked().len(), 1);
    clock.jump(Duration::from_millis(52_999)).await;
    assert_eq!(ttls(&lab.ask(WEB, "www.example", RecordType::A).await), [241, 1], "in its last second");
    clock.jump(Duration::from_millis(1)).await;
    assert_eq!(ttls(&lab.ask(WEB, "www.example", RecordType::A).await), [300, 60], "asked for again");
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_types_and_flags_are_other_questions() {
    let upstream = answering(60).await;
    let lab = Lab::start(vec![upstream.address]).await;
    lab.ask(WEB, "www.example", RecordType::A).await;
    lab.ask(WEB, "www.example", RecordType::AAAA).await;
    let mut signed = query("www.example", RecordType::A);
    signed.edns.as_mut().unwrap().set_dnssec_ok(true);
    lab.udp(WEB, &signed).await;
    signed.metadata.checking_disabled = true;
    lab.udp(WEB, &signed).await;
    assert_eq!(upstream.asked().len(), 4);
    assert!(lab.udp(WEB, &signed).await.edns.unwrap().flags().dnssec_ok);
    assert_eq!(upstream.asked().len(), 4, "each is cached");
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_is_cached_for_the_ttl_of_the_zone() {
    for (code, soas, kept) in [
        (ResponseCode::NXDomain, Some(soa(60, 60)), true),
        (ResponseCode::NoError, Some(soa(60, 60)), true),
        (ResponseCode::NXDomain, None, false),
        (ResponseCode::NXDomain, Some(soa(60, 0)), false),
    ] {
        let authority = soas.clone();
        let upstream = Upstream::saying(move |reply| {
            reply.metadata.response_code = code;
            authority.clone().into_iter().for_each(|soa| _ = reply.add_authority(soa));
        })
        .await;
        let lab = Lab::start(vec![upstream.address]).await;
        for _ in 0..2 {
            let response = lab.ask(WEB, "none.example", RecordType::A).await;
            assert_eq!((response.response_code, response.authorities.len()), (code, usize::from(soas.is_some())));
        }
        assert_eq!(upstream.asked().len(), if kept { 1 } else { 2 }, "{code} {soas:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cached_without_a_ttl_or_without_a_cache() {
    let upstream = answering(0).await;
    let lab = Lab::start(vec![upstream.address]).await;
    for _ in 0..2 {
        lab.ask(WEB, "www.example", RecordType::A).await;
    }
    assert_eq!(upstream.asked().len(), 2);
    let upstream = answering(60).await;
    let lab = Lab::with(Config { cache_bytes: 0, ..plain(&[upstream.address]) }, state()).await;
    for _ in 0..2 {
        lab.ask(WEB, "www.example", RecordType::A).await;
    }
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_too_long_for_udp_are_cached_whole() {
    let upstream = Upstream::start(|_, tcp, mut reply| {
        reply.metadata.truncation = !tcp;
        if tcp {
            reply.add_answers((0..200).map(|last| record("www.example", 60, RData::A(A::new(192, 0, 2, last)))));
        }
        Some(reply)
    })
    .await;
    let lab = Lab::start(vec![upstream.address]).await;
    for _ in 0..2 {
        let response = lab.ask(WEB, "www.example", RecordType::A).await;
        assert!(response.metadata.truncation && response.answers.len() > 50, "{}", response.answers.len());
        assert_eq!(lab.tcp(WEB, &query("www.example", RecordType::A)).await.answers.len(), 200);
    }
    assert_eq!(upstream.asked().len(), 2, "once over UDP, once over TCP");
}

/// How long a stale answer may be renewed before it is served, how long all upstreams have, and how long no renewal is
/// attempted after they gave none.
const RENEWED_WITHIN: Duration = Duration::from_millis(1800);
const UPSTREAMS: Duration = Duration::from_millis(4400);
const RENEW_AFTER: Duration = Duration::from_secs(5);
/// More than the inaccuracy of timers.
const MOMENT: Duration = Duration::from_millis(50);

/// Asks for the name, and moves the clock by that time when the upstream has been asked.
async fn ask_for(lab: &Lab, upstream: &Upstream, name: &str, clock: &Clock, wait: Duration) -> Message {
    let times = upstream.asked().len() + 1;
    let move_clock = async {
        upstream.is_asked(times).await;
        clock.advance(wait).await;
    };
    tokio::join!(lab.ask(WEB, name, RecordType::A), move_clock).0
}

#[tokio::test]
async fn an_expired_answer_is_served_while_no_upstream_answers() {
    let clock = Clock::stop();
    for silent in [false, true] {
        let down = Arc::new(AtomicBool::new(false));
        let is_down = down.clone();
        let upstream = Upstream::start(move |query, _, mut reply| {
            let name = query.queries[0].name().to_lowercase();
            let alias = CNAME(Name::from_ascii("e.example.").unwrap());
            reply.add_answer(Record::from_rdata(name, 1, RData::CNAME(alias)));
            reply.add_answer(record("e.example", 1, RData::A(A::new(192, 0, 2, 1))));
            match (is_down.load(Ordering::Relaxed), silent) {
                (false, _) => Some(reply),
                (true, true) => None,
                (true, false) => {
                    reply.answers.clear();
                    reply.metadata.response_code = ResponseCode::ServFail;
                    Some(reply)
                }
            }
        })
        .await;
        let lab = Lab::start(vec![upstream.address]).await;
        lab.ask(WEB, "www.example", RecordType::A).await;
        down.store(true, Ordering::Relaxed);
        clock.jump(Duration::from_secs(1)).await;
        let of_silent = |time: Duration| if silent { time } else { Duration::ZERO };
        for _ in 0..2 {
            let response = ask_for(&lab, &upstream, "www.example", &clock, of_silent(RENEWED_WITHIN + MOMENT)).await;
            assert_eq!((ttls(&response), addresses(&response)), (vec![30, 30], vec!["192.0.2.1".to_owned()]));
            clock.advance(of_silent(UPSTREAMS - RENEWED_WITHIN)).await;
            let asked = upstream.asked().len();
            clock.jump(RENEW_AFTER - 2 * MOMENT).await;
            let response = lab.lookup(WEB, "www.example").await;
            assert_eq!((response.origin, response.answers.len()), (Origin::Stale, 2));
            assert_eq!(upstream.asked().len(), asked, "not asked again so soon");
            clock.jump(2 * MOMENT).await;
        }
        let patience = of_silent(UPSTREAMS + MOMENT);
        let other = ask_for(&lab, &upstream, "new.example", &clock, patience).await;
        assert_eq!(other.response_code, ResponseCode::ServFail, "nothing is cached for other names");
        clock.jump(Duration::from_secs(86_400)).await;
        let late = ask_for(&lab, &upstream, "www.example", &clock, patience).await;
        assert_eq!(late.response_code, ResponseCode::ServFail, "a day later it is too old");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_other_upstreams_do_not_share_cached_answers() {
    let (of_net1, of_net2) = (
        answering(60).await,
        Upstream::saying(|reply| {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.add_authority(soa(60, 60));
        })
        .await,
    );
    let mut desired = state();
    for (name, upstream) in [("net1", &of_net1), ("net2", &of_net2)] {
        let mut network = (**desired.network(&name.parse().unwrap()).unwrap()).clone();
        network.dns.upstreams = netd_testing::dns::to(&[upstream.address]);
        desired.insert_network(network);
    }
    let lab = Lab::with(plain(&[]), desired).await;
    for _ in 0..2 {
        assert_eq!(addresses(&lab.ask(WEB, "www.example", RecordType::A).await), ["192.0.2.1"]);
        assert_eq!(lab.ask(FAR, "www.example", RecordType::A).await.response_code, ResponseCode::NXDomain);
    }
    assert_eq!((of_net1.asked().len(), of_net2.asked().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_shows_what_is_cached() {
    let upstream = answering(60).await;
    let lab = Lab::start(vec![upstream.address]).await;
    let response = lab.lookup(WEB, "www.example").await;
    assert_eq!((response.code.as_str(), response.origin), ("NOERROR", Origin::Upstream(upstream.address)));
    assert!(response.answers.iter().any(|data| data.contains("192.0.2.1")), "{response:?}");
    let response = lab.lookup(WEB, "www.example").await;
    assert_eq!(response.origin, Origin::Cache);
    assert!(response.ttl.is_some_and(|ttl| (50..=60).contains(&ttl)), "{response:?}");
    assert_eq!(addresses(&lab.ask(WEB, "www.example", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(upstream.asked().len(), 1, "the answer for the explanation is cached as well");
}
