//! Several upstreams: which one is asked if one is silent or slow, and whose answer counts.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, RecordType};
use netd_testing::dns::{Lab, Upstream, addresses, query, record};
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
    let (silent, good) = (silent().await, answering(1).await);
    let lab = Arc::new(Lab::start(vec![silent.address, good.address]).await);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let socket = Arc::new(UdpSocket::bind((WEB, 0)).await.unwrap());
    socket.connect(lab.server).await.unwrap();
    let asking = socket.clone();
    tokio::spawn(async move {
        for n in 0..QUESTIONS {
            asking.send(&query(&format!("x{n}.example"), RecordType::A).to_vec().unwrap()).await.unwrap();
            // As fast as the queues accept them.
            if n % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut buffer = [0; 512];
    for n in 0..QUESTIONS {
        let answer = tokio::time::timeout(Duration::from_secs(8), socket.recv(&mut buffer)).await;
        answer.unwrap_or_else(|_| panic!("{n} answers")).unwrap();
    }
    // The tasks of the server's sockets, and a few that still wait.
    let more = tasks().saturating_sub(before);
    assert!(more < 400, "{more} tasks are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_do_not_wait_for_a_silent_first_upstream() {
    let (silent, good) = (silent().await, answering(1).await);
    let lab = Arc::new(Lab::start(vec![silent.address, good.address]).await);
    let first = tokio::time::timeout(Duration::from_secs(2), async {
        let ask = |n| {
            let lab = lab.clone();
            async move { lab.ask(WEB, &format!("x{n}.example"), RecordType::A).await }
        };
        futures_util::future::join_all((0..50).map(ask)).await
    });
    // Far above the expected time, but below the time limit of the first upstream.
    for response in first.await.expect("the second upstream is asked long before the first times out") {
        assert_eq!(addresses(&response), ["192.0.2.1"]);
    }
    // Once netd knows that it is silent, it asks it only occasionally.
    // It may know before all of the fifty have asked it, where the machine is busy.
    let silent_one = silent.address.to_string();
    let known = || lab.names.upstreams().iter().any(|server| !server.healthy && server.server == silent_one);
    let found_out = tokio::time::timeout(Duration::from_secs(30), async {
        while !known() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found_out.await.expect("netd knows that it is silent");
    let before = silent.asked().len();
    for n in 0..50 {
        assert_eq!(addresses(&lab.ask(WEB, &format!("y{n}.example"), RecordType::A).await), ["192.0.2.1"]);
    }
    assert!(silent.asked().len() <= before + 3, "{before} and then {}", silent.asked().len());
    let health = lab.names.upstreams();
    let good = health.iter().find(|server| server.server == good.address.to_string()).unwrap();
    assert!(good.healthy && good.answered >= 100 && good.rtt.is_some(), "{good:?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn nxdomain_of_a_later_upstream_does_not_override_the_first() {
    let slow = Upstream::late(Duration::from_millis(220), |_, _, mut reply| {
        fill(&mut reply, 1);
        Some(reply)
    })
    .await;
    let second = denying().await;
    let lab = Lab::start(vec![slow.address, second.address]).await;
    let response = lab.ask(WEB, "www.corp.example", RecordType::A).await;
    assert_eq!((response.response_code, addresses(&response)), (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]));
    assert_eq!(second.asked().len(), 1, "netd asked it meanwhile");
    let lab = Lab::start(vec![silent().await.address, second.address]).await;
    let response = lab.ask(WEB, "www.corp.example", RecordType::A).await;
    assert_eq!(response.response_code, ResponseCode::NXDomain, "the first had time to answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_datagram_is_sent_again() {
    let seen = Arc::new(Mutex::new(0));
    let lossy = Upstream::start(move |_, _, mut reply| {
        let mut seen = seen.lock().unwrap();
        *seen += 1;
        fill(&mut reply, 1);
        (*seen > 1).then_some(reply)
    })
    .await;
    let lab = Lab::start(vec![lossy.address]).await;
    assert_eq!(addresses(&lab.ask(WEB, "www.example", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(lossy.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_questions_to_a_dead_upstream_do_not_affect_others() {
    const QUESTIONS: u64 = 20_000;
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let lab = Lab::start(vec![dead.local_addr().unwrap()]).await;
    let seen: Arc<Mutex<(BTreeSet<u16>, HashSet<u16>)>> = Arc::default();
    let log = seen.clone();
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
    let (mut sent, started) = (0, Instant::now());
    while asked() < QUESTIONS {
        assert!(started.elapsed() < Duration::from_secs(60), "{} of {sent} reached the upstream", asked());
        while sent < QUESTIONS && sent < asked() + 200 {
            flood.send(&query(&format!("x{sent}.black.hole"), RecordType::A).to_vec().unwrap()).await.unwrap();
            sent += 1;
            if sent % 1000 == 0 {
                assert_eq!(addresses(&lab.ask(DB, "web", RecordType::A).await), [WEB], "local names of others");
                assert_eq!(
                    addresses(&lab.ask(WEB, "db", RecordType::A).await),
                    [DB],
                    "local names of the flooding client"
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seen = seen.lock().unwrap();
    assert!(seen.0.len() < 100, "{} sockets", seen.0.len());
    assert!(seen.1.len() > 5_000, "{} IDs", seen.1.len());
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

#[tokio::test(flavor = "multi_thread")]
async fn dead_upstreams_give_servfail_before_the_client_times_out() {
    let dead: Vec<SocketAddr> = vec![silent().await.address, silent().await.address, silent().await.address];
    let lab = Lab::start(dead).await;
    let started = Instant::now();
    assert_eq!(lab.ask(WEB, "www.example", RecordType::A).await.response_code, ResponseCode::ServFail);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}: clients ask again after 5 s", started.elapsed());
}
