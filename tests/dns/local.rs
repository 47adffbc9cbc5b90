//! Local names: answers, their form, and questions that are never forwarded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use netd::engine::Snapshot;
use netd::engine::listener::Listening;
use netd::model::names::NetworkName;
use netd_testing::dns::{Lab, Upstream, add, addresses, query, read, record, write};
use netd_testing::wait::PATIENCE;

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";
const FAR: &str = "127.2.0.4";

#[tokio::test(flavor = "multi_thread")]
async fn a_known_name_has_no_other_type_and_is_not_asked_for_upstream() {
    let upstream = Upstream::saying(|reply| reply.metadata.response_code = ResponseCode::NXDomain).await;
    let lab = Lab::start(vec![upstream.address]).await;
    let types =
        [RecordType::AAAA, RecordType::MX, RecordType::TXT, RecordType::SRV, RecordType::HTTPS, RecordType::SVCB];
    for kind in types.into_iter().chain([
        RecordType::CAA,
        RecordType::NS,
        RecordType::SOA,
        RecordType::CNAME,
        RecordType::from(65_280),
    ]) {
        for name in ["db", "db.net1", "db.net1.internal"] {
            let response = lab.ask(WEB, name, kind).await;
            assert_eq!(response.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
            assert!(response.answers.is_empty() && response.metadata.authoritative, "{name} {kind}");
            assert!(response.authorities.iter().any(|record| record.record_type() == RecordType::SOA), "{name} {kind}");
        }
        for name in ["nosuch", "far", "nosuch.net1", "far.net2", "far.net2.internal", "nosuch.internal"] {
            let response = lab.ask(WEB, name, kind).await;
            assert_eq!(response.metadata.response_code, ResponseCode::NXDomain, "{name} {kind}");
            assert!(response.authorities.iter().any(|record| record.record_type() == RecordType::SOA), "{name} {kind}");
        }
    }
    assert_eq!(lab.ask(WEB, "99.0.1.127.in-addr.arpa", RecordType::PTR).await.response_code, ResponseCode::NXDomain);
    assert!(upstream.asked().is_empty(), "{:?}", upstream.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn any_is_answered_with_one_record_of_rfc_8482() {
    let upstream = Upstream::saying(|_| {}).await;
    let lab = Lab::start(vec![upstream.address]).await;
    for name in ["db", "DB.net1.internal", "internal", "pool", "host.internal"] {
        let response = lab.ask(WEB, name, RecordType::ANY).await;
        assert_eq!(
            (response.metadata.response_code, response.answers.len()),
            (ResponseCode::NoError, 1),
            "{name}: {response}"
        );
        assert_eq!(response.answers[0].data, RData::HINFO(HINFO::new("RFC8482".into(), String::new())), "{name}");
    }
    assert_eq!(lab.ask(WEB, "nosuch", RecordType::ANY).await.response_code, ResponseCode::NXDomain);
    assert!(upstream.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_has_a_name() {
    let lab = Lab::start(vec![]).await;
    for name in ["host.internal", "host.docker.internal", "host.containers.internal", "host.netd.internal"] {
        assert_eq!(addresses(&lab.ask(WEB, name, RecordType::A).await), ["127.1.0.1"], "{name}");
        let empty = lab.ask(WEB, name, RecordType::MX).await;
        assert_eq!((empty.response_code, empty.answers.len()), (ResponseCode::NoError, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_a_search_domain_are_not_forwarded() {
    let upstream = Upstream::saying(|reply| _ = reply.add_answer(wildcard())).await;
    let lab = Lab::start(vec![upstream.address]).await;
    let mut snapshot = Snapshot::clone(&lab.snapshot.load());
    snapshot.search = vec!["example.com".into()];
    lab.snapshot.store(Arc::new(snapshot));
    for name in ["web.example.com", "web.net1.example.com", "web", "WEB.Example.com"] {
        assert_eq!(addresses(&lab.ask(DB, name, RecordType::A).await), [WEB], "{name}");
        assert_eq!(lab.ask(DB, name, RecordType::HTTPS).await.response_code, ResponseCode::NoError, "{name}");
    }
    assert_eq!(lab.ask(DB, "nosuch", RecordType::A).await.response_code, ResponseCode::NXDomain);
    assert!(upstream.asked().is_empty(), "{:?}", upstream.asked());
    assert_eq!(addresses(&lab.ask(DB, "other.example.com", RecordType::A).await), ["192.0.2.9"]);
}

fn wildcard() -> hickory_proto::rr::Record {
    record("other.example.com", 60, RData::A(hickory_proto::rr::rdata::A::new(192, 0, 2, 9)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sees_its_networks_in_its_order() {
    let lab = Lab::start(vec![]).await;
    for _ in 0..10 {
        assert_eq!(addresses(&lab.ask(WEB, "store", RecordType::A).await), ["127.1.0.3"]);
        let all = addresses(&lab.ask(DB, "store", RecordType::A).await);
        assert_eq!(all[0], "127.1.0.3", "the client's first network comes first, whatever is rotated");
        assert_eq!(all.iter().map(String::as_str).collect::<BTreeSet<_>>(), ["127.1.0.3", "127.2.0.3", FAR].into());
    }
    assert_eq!(addresses(&lab.ask(FAR, "db.net2", RecordType::A).await), ["127.2.0.3"]);
    assert_eq!(lab.ask(FAR, "web", RecordType::A).await.response_code, ResponseCode::NXDomain);
    let stranger = lab.ask("127.1.0.77", "web", RecordType::A).await;
    assert_eq!((stranger.response_code, stranger.answers.len()), (ResponseCode::Refused, 0));
    assert_eq!(addresses(&lab.ask(FAR, "host.docker.internal", RecordType::A).await), ["127.2.0.1"]);
    assert_eq!(addresses(&lab.ask("127.1.0.1", "far", RecordType::A).await), [FAR], "the host sees every network");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_share_a_name_take_turns() {
    let lab = Lab::start(vec![]).await;
    let mut first = BTreeSet::new();
    for _ in 0..100 {
        let mut plain = query("pool", RecordType::A);
        plain.edns = None;
        first.insert(addresses(&lab.udp(WEB, &plain).await)[0].clone());
    }
    assert_eq!(first.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_by_the_next_query() {
    let lab = Lab::start(vec![]).await;
    assert_eq!(lab.ask(WEB, "new", RecordType::A).await.response_code, ResponseCode::NXDomain);
    let mut desired = lab.snapshot.load().desired.clone();
    add(&mut desired, "new", "net1", &["127.1.0.50/24"], "fresh");
    lab.snapshot.store(Arc::new(Snapshot { desired, domain: "internal".into(), ..Snapshot::default() }));
    assert_eq!(addresses(&lab.ask(WEB, "fresh", RecordType::A).await), ["127.1.0.50"]);
    assert_eq!(addresses(&lab.ask("127.1.0.50", "new", RecordType::A).await), ["127.1.0.50"], "itself");
    let mut desired = lab.snapshot.load().desired.clone();
    let key = desired.named(&"net1".parse::<NetworkName>().unwrap(), "new")[0].key();
    desired.remove_endpoint(&key);
    lab.snapshot.store(Arc::new(Snapshot { desired, domain: "internal".into(), ..Snapshot::default() }));
    assert_eq!(lab.ask(WEB, "fresh", RecordType::A).await.response_code, ResponseCode::NXDomain);
    assert_eq!(lab.ask("127.1.0.50", "web", RecordType::A).await.response_code, ResponseCode::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_too_large_for_udp_is_truncated_and_complete_over_tcp() {
    let lab = Lab::start(vec![]).await;
    let mut plain = query("pool", RecordType::A);
    plain.edns = None;
    for (edns, limit, at_least) in [(None, 512, 28), (Some(600), 600, 30), (Some(4096), 1232, 70), (Some(100), 512, 27)]
    {
        let mut message = plain.clone();
        message.edns = edns.map(|size| {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            edns
        });
        let bytes = lab.datagram(WEB, &message.to_vec().unwrap()).await;
        let response = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= limit, "{} bytes for {edns:?}", bytes.len());
        assert!(
            response.metadata.truncation && response.answers.len() >= at_least,
            "{edns:?}: {}",
            response.answers.len()
        );
        assert_eq!(response.edns.is_some(), edns.is_some());
    }
    let response = lab.tcp(WEB, &plain).await;
    assert!(!response.metadata.truncation);
    assert_eq!(addresses(&response).into_iter().collect::<BTreeSet<_>>().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_queries_go_over_one_tcp_connection() {
    let lab = Lab::start(vec![]).await;
    let mut stream = lab.connect(WEB).await;
    for id in 0..50 {
        let mut message = query("db", RecordType::A);
        message.metadata.id = id;
        write(&mut stream, &message).await;
    }
    for id in 0..50 {
        assert_eq!(read(&mut stream).await.unwrap().metadata.id, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_query_gets_an_error_code() {
    let lab = Lab::start(vec![]).await;
    let code = |change: fn(&mut Message)| {
        let mut message = query("web", RecordType::A);
        change(&mut message);
        let lab = &lab;
        async move { lab.udp(WEB, &message).await.metadata.response_code }
    };
    assert_eq!(code(|m| m.metadata.op_code = OpCode::Notify).await, ResponseCode::NotImp);
    assert_eq!(code(|m| m.metadata.op_code = OpCode::Update).await, ResponseCode::NotImp);
    assert_eq!(code(|m| m.queries.clear()).await, ResponseCode::FormErr);
    assert_eq!(code(|m| m.queries.push(m.queries[0].clone())).await, ResponseCode::FormErr);
    assert_eq!(code(|m| _ = m.queries[0].set_query_class(DNSClass::CH)).await, ResponseCode::Refused);
    assert_eq!(code(|m| _ = m.queries[0].set_query_type(RecordType::AXFR)).await, ResponseCode::Refused);
    let mut message = query("web", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    let response = lab.udp(WEB, &message).await;
    assert_eq!((u16::from(response.metadata.response_code), response.version()), (16, 0), "BADVERS (RFC 6891, 9)");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_does_not_stop_the_service() {
    let lab = Lab::start(vec![]).await;
    let socket = tokio::net::UdpSocket::bind((WEB, 0)).await.unwrap();
    let good = query("web", RecordType::A).to_vec().unwrap();
    let mut answer = good.clone();
    answer[2] |= 0x80;
    socket.send_to(&answer, lab.server).await.unwrap();
    for length in 0..good.len() {
        socket.send_to(&good[..length], lab.server).await.unwrap();
        let mut broken = good.clone();
        broken[length] = !broken[length];
        socket.send_to(&broken, lab.server).await.unwrap();
    }
    socket.send_to(&[0xff; 4096], lab.server).await.unwrap();
    let mut stream = lab.connect(WEB).await;
    write(&mut stream, &Message::new(1, MessageType::Response, OpCode::Query)).await;
    write(&mut stream, &query("db", RecordType::A)).await;
    assert_eq!(addresses(&read(&mut stream).await.unwrap()), [DB]);
    assert_eq!(addresses(&lab.ask(DB, "web", RecordType::A).await), [WEB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apex_has_soa_and_ns() {
    let lab = Lab::start(vec![]).await;
    let response = lab.ask(WEB, "internal", RecordType::SOA).await;
    assert!(matches!(&response.answers[0].data, RData::SOA(soa) if soa.serial == 7), "{response}");
    let response = lab.ask(WEB, "internal", RecordType::NS).await;
    assert_eq!(response.answers[0].data.to_string(), "host.internal.");
    assert_eq!(lab.ask(WEB, "internal", RecordType::A).await.response_code, ResponseCode::NoError);
    let mut odd = query("x", RecordType::A);
    odd.queries = vec![Query::query(Name::from_labels([&b"web.net1"[..]]).unwrap(), RecordType::A)];
    assert!(lab.udp(WEB, &odd).await.answers.is_empty(), "a dot within a label does not separate labels");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_closes_the_sockets() {
    let lab = Lab::start(vec![]).await;
    let mut idle = lab.connect(WEB).await;
    write(&mut idle, &query("db", RecordType::A)).await;
    assert!(read(&mut idle).await.is_some());
    for address in ["127.9.9.9".parse().unwrap(), lab.server.ip()] {
        let (closed, wait) = std::sync::mpsc::channel();
        lab.listening.send(Listening::Stop { address, closed }).unwrap();
        let ended = tokio::task::spawn_blocking(move || wait.recv_timeout(PATIENCE)).await.unwrap();
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "the dropped channel reports the end of the sockets");
    }
    assert!(read(&mut idle).await.is_none(), "open connections are closed");
    tokio::net::UdpSocket::bind(lab.server).await.expect("the UDP port is free");
    tokio::net::TcpListener::bind(lab.server).await.expect("the TCP port is free");
}
