//! Several upstreams: which one is asked if one is silent or slow, and whose answer counts.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, RecordType};
use netd_testing::clock::Clock;
use netd_testing::dns::{Lab, Upstream, addresses, query, record};
use netd_testing::wait::{in_time, seen, until_async};
use tokio::net::UdpSocket;

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";

fn fill(reply: &mut Message, last: u8) {
    let name = reply.queries[0].name().clone();
    reply.add_answer(hickory_proto::rr::Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, last))));
}

async fn answering(last: u8) -> Upstream {
    Upstream::saying(move |reply| fill(reply, last)).await
}

async fn denying() -> Upstream {
    Upstream::saying(|reply| reply.metadata.response_code = ResponseCode::NXDomain).await
}

async fn silent() -> Upstream {
    Upstream::start(|_, _, _| None).await
}

/// Waiting for an upstream after the question is answered counts against no client's limit: 20,000 of them took 35 MB.
#[tokio::test(flavor = "multi_thread")]
async fn answered_questions_do_not_keep_waiting_for_a_silent_upstream() {
    const QUESTIONS: usize = 2000;
    const WINDOW: usize = 400;
    let (silent, good) = (silent().await, answering(1).await);
    let lab = Arc::new(Lab::start(vec![silent.address, good.address]).await);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let socket = Arc::new(UdpSocket::bind((WEB, 0)).await.unwrap());
    socket.connect(lab.server).await.unwrap();
    let mut buffer = [0; 512];
    let mut sent = 0;
    for n in 0..QUESTIONS {
        // Not more than the queues accept.
        while sent < QUESTIONS.min(n + WINDOW) {
            socket.send(&query(&format!("x{sent}.example"), RecordType::A).to_vec().unwrap()).await.unwrap();
            sent += 1;
        }
        in_time(&format!("answer {n}"), socket.recv(&mut buffer)).await.unwrap();
    }
    // The tasks of the server's sockets, and a few that still wait.
    let more = tasks().saturating_sub(before);
    assert!(more < 400, "{more} tasks are left");
}

/// After how long an upstream that has never answered is late, and counts as silent, having been asked three times; for
/// how long it then comes last.
const LATE: Duration = Duration::from_millis(150);
const SILENCE: Duration = Duration::from_millis(450 + 1000 + 2000);
const PENALTY: Duration = Duration::from_secs(5);
/// How long all upstreams together have.
const UPSTREAMS: Duration = Duration::from_millis(4400);
/// More than the inaccuracy of timers.
const MOMENT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn clients_do_not_wait_for_a_silent_first_upstream() {
    let clock = Clock::stop();
    let (silent, good) = (silent().await, answering(1).await);
    let lab = Lab::start(vec![silent.address, good.address]).await;
    let names = |first: char| (0..50).map(move |n| format!("{first}{n}.example"));
    let late = async {
        silent.is_asked(50).await;
        clock.advance(LATE - MOMENT).await;
        assert_eq!(good.asked().len(), 0, "the first has its time");
        clock.advance(2 * MOMENT).await;
    };
    let asked: Vec<String> = names('x').collect();
    let all = futures_util::future::join_all(asked.iter().map(|name| lab.ask(WEB, name, RecordType::A)));
    for response in tokio::join!(all, late).0 {
        assert_eq!(addresses(&response), ["192.0.2.1"]);
    }
    let is_known = || lab.names.upstreams().iter().any(|s| !s.healthy && s.server == silent.address.to_string());
    clock.advance(SILENCE - LATE - 2 * MOMENT).await;
    assert!(!is_known());
    clock.advance(2 * MOMENT).await;
    assert!(is_known());
    let before = silent.asked().len();
    for name in names('y') {
        assert_eq!(addresses(&lab.ask(WEB, &name, RecordType::A).await), ["192.0.2.1"]);
    }
    assert_eq!(silent.asked().len(), before, "the good one comes first");
    let health = lab.names.upstreams();
    let good_one = health.iter().find(|server| server.server == good.address.to_string()).unwrap();
    assert!(good_one.healthy && good_one.answered >= 100 && good_one.rtt.is_some(), "{good_one:?}");
    // One question finds out whether it is back.
    clock.advance(PENALTY).await;
    let late = async {
        silent.is_asked(before + 1).await;
        clock.advance(LATE + MOMENT).await;
    };
    let trial = tokio::join!(lab.ask(WEB, "trial.example", RecordType::A), late).0;
    assert_eq!(addresses(&trial), ["192.0.2.1"]);
    for name in names('z') {
        assert_eq!(addresses(&lab.ask(WEB, &name, RecordType::A).await), ["192.0.2.1"]);
    }
    assert_eq!(silent.asked().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_is_kept_while_the_first_answers() {
    let (first, second) = (answering(1).await, answering(2).await);
    let lab = Lab::start(vec![first.address, second.address]).await;
    for n in 0..30 {
        assert_eq!(addresses(&lab.ask(WEB, &format!("x{n}.example"), RecordType::A).await), ["192.0.2.1"]);
    }
    assert_eq!(first.asked().len(), 30);
}

#[tokio::test]
async fn nxdomain_of_a_later_upstream_does_not_override_the_first() {
    let clock = Clock::stop();
    let slow = Upstream::late(LATE + 2 * MOMENT, |_, _, mut reply| {
        fill(&mut reply, 1);
        Some(reply)
    })
    .await;
    let second = denying().await;
    let lab = Lab::start(vec![slow.address, second.address]).await;
    let both = async |first: &Upstream, times| {
        first.is_asked(1).await;
        clock.advance(LATE + MOMENT).await;
        second.is_asked(times).await;
        clock.advance(2 * MOMENT).await;
    };
    let response = tokio::join!(lab.ask(WEB, "www.corp.example", RecordType::A), both(&slow, 1)).0;
    assert_eq!((response.response_code, addresses(&response)), (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]));
    let silent = silent().await;
    let lab = Lab::start(vec![silent.address, second.address]).await;
    let precedence = async {
        both(&silent, 2).await;
        clock.advance(Duration::from_millis(200)).await;
    };
    let response = tokio::join!(lab.ask(WEB, "www.corp.example", RecordType::A), precedence).0;
    assert_eq!(response.response_code, ResponseCode::NXDomain, "the first had time to answer");
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let clock = Clock::stop();
    let seen = Arc::new(Mutex::new(0));
    let lossy = Upstream::start(move |_, _, mut reply| {
        let mut seen = seen.lock().unwrap();
        *seen += 1;
        fill(&mut reply, 1);
        (*seen > 1).then_some(reply)
    })
    .await;
    let lab = Lab::start(vec![lossy.address]).await;
    let wait = async {
        lossy.is_asked(1).await;
        clock.advance(3 * LATE - MOMENT).await;
        assert_eq!(lossy.asked().len(), 1);
        clock.advance(2 * MOMENT).await;
    };
    let response = tokio::join!(lab.ask(WEB, "www.example", RecordType::A), wait).0;
    assert_eq!(addresses(&response), ["192.0.2.1"]);
    assert_eq!(lossy.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_questions_to_a_dead_upstream_do_not_affect_others() {
    const QUESTIONS: u64 = 20_000;
    const WINDOW: u64 = 200;
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let lab = Lab::start(vec![dead.local_addr().unwrap()]).await;
    let ports_and_ids: Arc<Mutex<(BTreeSet<u16>, HashSet<u16>)>> = Arc::default();
    let log = ports_and_ids.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 1500];
        while let Ok((_, from)) = dead.recv_from(&mut buffer).await {
            let mut log = log.lock().unwrap();
            log.0.insert(from.port());
            log.1.insert(u16::from_be_bytes([buffer[0], buffer[1]]));
        }
    });
    let flood = UdpSocket::bind((WEB, 0)).await.unwrap();
    flood.connect(lab.server).await.unwrap();
    let asked = || lab.names.upstreams().first().map_or(0, |server| server.asked);
    for sent in 0..QUESTIONS {
        // Not more than the queues accept.
        until_async("the upstream is asked", async || seen(asked(), |asked| sent < asked + WINDOW)).await;
        flood.send(&query(&format!("x{sent}.black.hole"), RecordType::A).to_vec().unwrap()).await.unwrap();
        if sent % 1000 == 0 {
            assert_eq!(addresses(&lab.ask(DB, "web", RecordType::A).await), [WEB], "local names of others");
            let own = lab.ask(WEB, "db", RecordType::A).await;
            assert_eq!(addresses(&own), [DB], "local names of the flooding client");
        }
    }
    until_async("all questions reach the upstream", async || seen(asked(), |asked| *asked == QUESTIONS)).await;
    let (ports, ids) = &*ports_and_ids.lock().unwrap();
    assert!(ports.len() < 100, "{} sockets", ports.len());
    assert!(ids.len() > 5_000, "{} IDs", ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_to_a_dead_name_leaves_other_names_alone() {
    let upstream = Upstream::start(|query, _, mut reply| {
        let alive = query.queries[0].name().to_ascii().eq_ignore_ascii_case("www.example.");
        alive.then(|| {
            reply.add_answer(record("www.example", 60, RData::A(A::new(192, 0, 2, 1))));
            reply
        })
    })
    .await;
    let lab = Lab::start(vec![upstream.address]).await;
    let flood = UdpSocket::bind((WEB, 0)).await.unwrap();
    flood.connect(lab.server).await.unwrap();
    for n in 0..300 {
        flood.send(&query(&format!("x{n}.black.hole"), RecordType::A).to_vec().unwrap()).await.unwrap();
    }
    assert_eq!(addresses(&lab.ask(DB, "www.example", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(addresses(&lab.ask(WEB, "db", RecordType::A).await), [DB]);
}

#[tokio::test]
async fn dead_upstreams_give_servfail_before_the_client_times_out() {
    let clock = Clock::stop();
    let dead = [silent().await, silent().await, silent().await];
    let lab = Lab::start(dead.iter().map(|upstream| upstream.address).collect()).await;
    let wait = async {
        dead[0].is_asked(1).await;
        // Clients ask again after 5 s.
        clock.advance(UPSTREAMS + MOMENT).await;
    };
    let response = tokio::join!(lab.ask(WEB, "www.example", RecordType::A), wait).0;
    assert_eq!(response.response_code, ResponseCode::ServFail);
    assert!(dead.iter().all(|upstream| !upstream.asked().is_empty()));
}
