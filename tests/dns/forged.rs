//! Protection against forged answers (RFC 5452), seen from the upstream.

use std::collections::BTreeSet;

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use netd_testing::dns::{Lab, Upstream, addresses};
use tokio::net::UdpSocket;

const WEB: &str = "127.1.0.2";

fn answer(query: &Message, last: u8) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.queries.clone_from(&query.queries);
    let name = query.queries[0].name().clone();
    // Compressed: it points to the question.
    let soa = SOA::new(name.base_name(), Name::root(), 1, 2, 3, 4, 60);
    reply.add_authority(Record::from_rdata(name.base_name(), 60, RData::SOA(soa)));
    reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, last))));
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_ids_and_case_are_hard_to_guess() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let lab = Lab::start(vec![server.local_addr().unwrap()]).await;
    let seen = tokio::spawn(async move {
        let (mut ports, mut ids, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut buffer = vec![0; 1500];
        while names.len() < 60 {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            ports.insert(from.port());
            ids.insert(query.metadata.id);
            names.insert(query.queries[0].name().to_string());
            server.send_to(&answer(&query, 1).to_vec().unwrap(), from).await.unwrap();
        }
        (ports, ids, names)
    });
    for n in 0..60 {
        let name = format!("a-long-name-{n}.example");
        let response = lab.ask(WEB, &name, RecordType::A).await;
        assert_eq!(addresses(&response), ["192.0.2.1"]);
        assert_eq!(response.answers[0].name.to_string(), format!("{name}."), "the client never sees the random case");
        assert_eq!(response.authorities[0].name.to_string(), "example.", "nor in names that point to the question");
    }
    let (ports, ids, names) = seen.await.unwrap();
    assert!(ports.len() >= 4, "{ports:?}");
    assert!(ids.len() >= 58, "{} ids", ids.len());
    let mixed = |name: &&String| name.chars().any(char::is_uppercase) && name.chars().any(char::is_lowercase);
    assert!(names.iter().filter(mixed).count() >= 58, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_with_a_wrong_id_question_or_source_are_ignored() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let lab = Lab::start(vec![server.local_addr().unwrap()]).await;
    tokio::spawn(async move {
        let mut buffer = vec![0; 1500];
        let (length, from) = server.recv_from(&mut buffer).await.unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let right = answer(&query, 1).to_vec().unwrap();
        let forged = answer(&query, 66);
        forger.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
        let mut wrong = forged.clone();
        wrong.metadata.id ^= 1;
        server.send_to(&wrong.to_vec().unwrap(), from).await.unwrap();
        let mut wrong = forged.clone();
        wrong.queries[0].set_query_type(RecordType::AAAA);
        server.send_to(&wrong.to_vec().unwrap(), from).await.unwrap();
        let mut wrong = forged.clone();
        wrong.queries.clear();
        server.send_to(&wrong.to_vec().unwrap(), from).await.unwrap();
        server.send_to(&right, from).await.unwrap();
    });
    assert_eq!(addresses(&lab.ask(WEB, "www.example", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_preserve_case_works() {
    let lowering = Upstream::start(|_, _, mut reply| {
        let name = reply.queries[0].name().to_lowercase();
        reply.queries[0].set_name(name.clone());
        reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        Some(reply)
    })
    .await;
    let lab = Lab::start(vec![lowering.address]).await;
    for n in 0..5 {
        let response = lab.ask(WEB, &format!("a-long-name-{n}.example"), RecordType::A).await;
        assert_eq!(addresses(&response), ["192.0.2.1"]);
    }
    let asked = lowering.asked();
    let last = asked.last().unwrap().queries[0].name().to_string();
    assert_eq!(last, last.to_lowercase(), "netd remembers it");
    assert_eq!(asked.len(), 6, "only the first was asked twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_edns_works() {
    let old = Upstream::start(|query, _, mut reply| {
        if query.edns.is_some() {
            reply.metadata.response_code = hickory_proto::op::ResponseCode::FormErr;
        } else {
            let name = reply.queries[0].name().clone();
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        }
        Some(reply)
    })
    .await;
    let lab = Lab::start(vec![old.address]).await;
    for n in 0..3 {
        assert_eq!(addresses(&lab.ask(WEB, &format!("x{n}.example"), RecordType::A).await), ["192.0.2.1"]);
    }
    assert_eq!(old.asked().len(), 4);
}
