//! External names: which upstream is asked, what the client gets, and what happens without an upstream.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, CNAME, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use netd_testing::clock::Clock;
use netd_testing::dns::{Lab, Upstream, addresses, query, read, record, write};
use tokio::net::UdpSocket;

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";
const ALONE: &str = "127.3.0.2";
/// More than all upstreams together have, and less than the 5 s after which clients ask again.
const UPSTREAMS: Duration = Duration::from_millis(4500);

fn a(name: &str, last: u8) -> Record {
    record(name, 60, RData::A(A::new(192, 0, 2, last)))
}

fn soa() -> Record {
    let name = |text: &str| Name::from_ascii(text).unwrap();
    record("example", 60, RData::SOA(SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, 5)))
}

async fn answering(last: u8) -> Upstream {
    Upstream::saying(move |reply| _ = reply.add_answer(a("www.example", last))).await
}

async fn failing(code: ResponseCode) -> Upstream {
    Upstream::saying(move |reply| reply.metadata.response_code = code).await
}

async fn silent() -> Upstream {
    Upstream::start(|_, _, _| None).await
}

/// A closed port of the loopback interface.
async fn closed() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_upstream_is_asked_after_a_failure() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let (first, second) = (failing(code).await, answering(1).await);
        let lab = Lab::start(vec![first.address, closed().await, second.address]).await;
        let response = lab.ask(WEB, "www.example", RecordType::A).await;
        assert_eq!(
            (response.response_code, addresses(&response)),
            (ResponseCode::NoError, vec!["192.0.2.1".to_owned()])
        );
        assert!(response.metadata.recursion_available && !response.metadata.authoritative);
        assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_upstream_decides() {
    let first = Upstream::saying(|reply| {
        reply.metadata.response_code = ResponseCode::NXDomain;
        reply.add_authority(soa());
    })
    .await;
    let second = answering(1).await;
    let lab = Lab::start(vec![first.address, second.address]).await;
    let response = lab.ask(WEB, "www.example", RecordType::A).await;
    assert_eq!((response.response_code, response.authorities), (ResponseCode::NXDomain, vec![soa()]));
    assert!(second.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_data_and_other_codes_pass() {
    let empty = Upstream::saying(|reply| _ = reply.add_authority(soa())).await;
    let response = Lab::start(vec![empty.address]).await.ask(WEB, "www.example", RecordType::MX).await;
    assert_eq!((response.response_code, response.authorities), (ResponseCode::NoError, vec![soa()]));
    let odd = failing(ResponseCode::NotImp).await;
    let response = Lab::start(vec![odd.address]).await.ask(WEB, "www.example", RecordType::MX).await;
    assert_eq!(response.response_code, ResponseCode::NotImp);
}

#[tokio::test]
async fn without_an_answer_the_code_is_servfail_never_nxdomain() {
    let clock = Clock::stop();
    let (failing, silent) = (failing(ResponseCode::ServFail).await, silent().await);
    for upstreams in [vec![], vec![closed().await], vec![failing.address]] {
        let lab = Lab::start(upstreams.clone()).await;
        let response = lab.ask(WEB, "www.example", RecordType::A).await;
        assert_eq!(response.response_code, ResponseCode::ServFail, "{upstreams:?}: at once");
    }
    let lab = Lab::start(vec![silent.address, failing.address]).await;
    let wait = async {
        silent.is_asked(1).await;
        clock.advance(UPSTREAMS).await;
    };
    let response = tokio::join!(lab.ask(WEB, "www.example", RecordType::A), wait).0;
    assert_eq!(response.response_code, ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_a_chain_arrives() {
    let alias =
        |from: &str, to: &str| record(from, 60, RData::CNAME(CNAME(Name::from_ascii(format!("{to}.")).unwrap())));
    let chain = vec![alias("www.example", "cdn.example"), alias("cdn.example", "edge.example"), a("edge.example", 9)];
    let said_upstream = chain.clone();
    let whole = Upstream::saying(move |reply| _ = reply.add_answers(said_upstream.clone())).await;
    let lab = Lab::start(vec![whole.address]).await;
    assert_eq!(lab.ask(WEB, "www.example", RecordType::A).await.answers, chain);
    assert_eq!(lab.tcp(WEB, &query("www.example", RecordType::A)).await.answers, chain);
    assert_eq!(whole.asked().len(), 1, "the chain is not followed a second time");

    let dangling = chain[..2].to_vec();
    let said_upstream = dangling.clone();
    let without_end = Upstream::saying(move |reply| {
        reply.add_answers(said_upstream.clone());
        reply.add_authority(soa());
    })
    .await;
    let response = Lab::start(vec![without_end.address]).await.ask(WEB, "www.example", RecordType::AAAA).await;
    assert_eq!((response.answers, response.authorities), (dangling, vec![soa()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_answer_is_fetched_over_tcp() {
    let upstream = Upstream::start(|_, tcp, mut reply| {
        reply.metadata.truncation = !tcp;
        if tcp {
            reply.add_answers((0..200).map(|last| a("www.example", last)));
        }
        Some(reply)
    })
    .await;
    let lab = Lab::start(vec![upstream.address]).await;
    let response = lab.tcp(WEB, &query("www.example", RecordType::A)).await;
    assert_eq!((response.metadata.truncation, response.answers.len()), (false, 200));
    let response = lab.ask(WEB, "www.example", RecordType::A).await;
    assert!(response.metadata.truncation && response.answers.len() > 50, "{}", response.answers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn any_type_and_every_flag_is_forwarded_and_returned() {
    let text = record("www.example", 60, RData::TXT(TXT::new(vec!["hello".into()])));
    let answer = text.clone();
    let upstream = Upstream::saying(move |reply| {
        reply.metadata.authentic_data = true;
        reply.add_answer(answer.clone());
    })
    .await;
    let lab = Lab::start(vec![upstream.address]).await;
    for kind in [RecordType::TXT, RecordType::HTTPS, RecordType::SRV, RecordType::ANY, RecordType::from(65_280)] {
        let mut message = query("WWW.example", kind);
        message.metadata.checking_disabled = true;
        message.edns.as_mut().unwrap().set_dnssec_ok(true);
        let response = lab.udp(WEB, &message).await;
        assert_eq!(
            (response.answers.as_slice(), response.metadata.authentic_data),
            (&[text.clone()][..], true),
            "{kind}"
        );
        let asked = upstream.asked().pop().unwrap();
        assert_eq!(asked.queries[0].query_type(), kind);
        assert!(asked.metadata.checking_disabled && asked.edns.unwrap().flags().dnssec_ok, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_internal_networks_are_not_forwarded() {
    let upstream = answering(1).await;
    let lab = Lab::start(vec![upstream.address]).await;
    assert_eq!(lab.ask(ALONE, "www.example", RecordType::A).await.response_code, ResponseCode::ServFail);
    assert_eq!(lab.ask("127.1.0.77", "www.example", RecordType::A).await.response_code, ResponseCode::Refused);
    assert_eq!(addresses(&lab.ask(ALONE, "single", RecordType::A).await), [ALONE]);
    assert!(upstream.asked().is_empty());
}

#[tokio::test]
async fn an_upstream_that_is_netd_itself_is_skipped() {
    // No time passes.
    let _clock = Clock::stop();
    let gateway = "127.1.0.1:53".parse().unwrap();
    let itself = SocketAddr::new(WEB.parse().unwrap(), 53);
    let lab = Lab::start(vec![gateway, itself]).await;
    assert_eq!(lab.ask(WEB, "www.example", RecordType::A).await.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_slow_upstream_does_not_delay_other_replies_on_a_tcp_connection() {
    let clock = Clock::stop();
    let silent = silent().await;
    let lab = Lab::start(vec![silent.address]).await;
    let mut stream = lab.connect(WEB).await;
    write(&mut stream, &query("www.example", RecordType::A)).await;
    write(&mut stream, &query("db", RecordType::A)).await;
    assert_eq!(addresses(&read(&mut stream).await.unwrap()), [DB]);
    silent.is_asked(1).await;
    clock.advance(UPSTREAMS).await;
    assert_eq!(read(&mut stream).await.unwrap().response_code, ResponseCode::ServFail);
}
