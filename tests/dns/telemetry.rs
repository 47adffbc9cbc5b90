//! Telemetry: counts of replies, their durations, and the query logs of containers.

use std::sync::mpsc::RecvTimeoutError;
use std::time::SystemTime;

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, RecordType};
use netd::engine::listener::Listening;
use netd::engine::telemetry::{Entry, Origin};
use netd::model::desired::Lookup;
use netd::model::endpoint::Container;
use netd_testing::dns::{Lab, Upstream, query, record};
use netd_testing::wait::{PATIENCE, in_time};
use tokio::sync::broadcast::Receiver;

/// The gateway of net1, which is the network that queries there are counted for.
const GATEWAY: &str = "127.1.0.1";
const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";

async fn lab() -> (Lab, Upstream) {
    let upstream = Upstream::saying(|reply| {
        reply.add_answer(record("www.example", 60, RData::A(A::new(192, 0, 2, 1))));
    })
    .await;
    (Lab::at(GATEWAY, vec![upstream.address]).await, upstream)
}

/// "NETWORK TYPE CODE SOURCE COUNT" of each, sorted.
fn counted(lab: &Lab) -> Vec<String> {
    let networks = lab.seen.meter.networks(&lab.snapshot.load().desired);
    let lines = networks.iter().flat_map(|(network, counts)| {
        counts.replies().map(move |(kind, code, source, n)| format!("{network} {kind} {code} {source} {n}"))
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

fn container(lab: &Lab, name: &str) -> Container {
    let Lookup::One(attached) = lab.snapshot.load().desired.find_container(name) else { panic!("no {name}") };
    attached.container.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_counted_by_network_type_code_and_source() {
    let (lab, _upstream) = lab().await;
    for (name, kind) in [
        ("web", RecordType::A),
        ("web", RecordType::A),
        ("web", RecordType::MX),
        ("nobody", RecordType::AAAA),
        ("web", RecordType::Unknown(65_280)),
        ("www.example", RecordType::A),
        ("www.example", RecordType::A),
    ] {
        lab.ask(DB, name, kind).await;
    }
    lab.tcp(DB, &query("web", RecordType::A)).await;
    lab.tcp(DB, &query("www.example", RecordType::A)).await;
    let mut odd = query("web", RecordType::A);
    odd.edns.as_mut().unwrap().set_version(1);
    lab.udp(DB, &odd).await;
    lab.ask("127.9.9.9", "web", RecordType::A).await;
    let expected = [
        "net1 A BADVERS local 1",
        "net1 A NOERROR cache 2",
        "net1 A NOERROR local 3",
        "net1 A NOERROR upstream 1",
        "net1 A REFUSED local 1",
        "net1 AAAA NXDOMAIN local 1",
        "net1 MX NOERROR local 1",
        "net1 other NOERROR local 1",
    ];
    assert_eq!(counted(&lab), expected);
    let durations: Vec<u64> =
        lab.seen.meter.durations().iter().map(|histogram| histogram.buckets().last().unwrap().1).collect();
    assert_eq!(durations, [8, 2, 0, 1, 0], "one duration for each reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_questions_count_as_servfail() {
    let lab = Lab::at(GATEWAY, vec![]).await;
    lab.ask(WEB, "www.example", RecordType::A).await;
    assert_eq!(counted(&lab), ["net1 A SERVFAIL none 1"]);
    let inner = Lab::at("127.3.0.1", vec![]).await;
    inner.ask("127.3.0.2", "www.example", RecordType::A).await;
    assert_eq!(counted(&inner), ["inner A SERVFAIL none 1"], "internal: not forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_without_reply_are_counted() {
    let lab = Lab::at(GATEWAY, vec![]).await;
    let reply = Message::new(1, MessageType::Response, OpCode::Query).to_vec().unwrap();
    let socket = tokio::net::UdpSocket::bind((WEB, 0)).await.unwrap();
    socket.connect(lab.server).await.unwrap();
    for message in [&reply[..], b"short"] {
        socket.send(message).await.unwrap();
    }
    // Answered after them: the socket keeps the order.
    lab.ask(WEB, "web", RecordType::A).await;
    let networks = lab.seen.meter.networks(&lab.snapshot.load().desired);
    assert_eq!(networks[0].1.without_reply(), [0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_survive_reopened_sockets() {
    let (lab, _upstream) = lab().await;
    lab.ask(DB, "web", RecordType::A).await;
    let (closed, done) = std::sync::mpsc::channel();
    lab.listening.send(Listening::Stop { address: lab.server.ip(), closed }).unwrap();
    let ended = tokio::task::spawn_blocking(move || done.recv_timeout(PATIENCE)).await.unwrap();
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    assert_eq!(counted(&lab), ["net1 A NOERROR local 1"]);
}

async fn next(live: &mut Receiver<std::sync::Arc<Entry>>) -> std::sync::Arc<Entry> {
    in_time("an entry of the log", live.recv()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_a_container_are_logged_while_its_log_is_on() {
    let (lab, upstream) = lab().await;
    lab.ask(WEB, "before", RecordType::A).await;
    let log = &lab.seen.log;
    let web = log.switch_on(&container(&lab, "web"), SystemTime::now());
    let (entries, mut live) = web.follow();
    assert!(entries.is_empty(), "earlier queries are not logged");
    lab.ask(DB, "db", RecordType::A).await;
    lab.ask(WEB, "Pool.net1", RecordType::A).await;
    let entry = next(&mut live).await;
    assert_eq!((entry.name.as_str(), entry.kind.as_str(), entry.code.as_str()), ("Pool.net1", "A", "NOERROR"));
    assert_eq!((entry.transport, entry.origin), ("udp", Origin::Local));
    // As many answers as fit into a datagram of 1232 bytes, like the reply.
    assert!(entry.answers.len() == 8 && entry.answer_count > 60, "{entry:?}");
    assert!(entry.answers.iter().all(|answer| answer.starts_with("127.1.0.")), "{entry:?}");
    lab.tcp(WEB, &query("www.example", RecordType::A)).await;
    let entry = next(&mut live).await;
    assert_eq!((entry.transport, entry.origin), ("tcp", Origin::Upstream(upstream.address)));
    assert_eq!(entry.answers, ["192.0.2.1"]);
    lab.ask(WEB, "www.example", RecordType::A).await;
    assert_eq!(next(&mut live).await.origin, Origin::Cache);
    let broken = [&[0, 1, 1, 0, 0, 9][..], &[0; 6]].concat();
    lab.datagram(WEB, &broken).await;
    let entry = next(&mut live).await;
    assert_eq!((entry.name.as_str(), entry.kind.as_str(), entry.code.as_str()), ("", "", "FORMERR"));
    log.switch_off(&web.container.id);
    lab.ask(WEB, "after", RecordType::A).await;
    drop(web);
    assert!(in_time("the end of the log", live.recv()).await.is_err());
    let names: Vec<String> =
        log.switch_on(&container(&lab, "web"), SystemTime::now()).recent().iter().map(|e| e.name.clone()).collect();
    assert!(names.is_empty(), "a log switched on again is empty: {names:?}");
}
