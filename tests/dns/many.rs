//! Large answers and EDNS, and many questions at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, RecordType};
use netd_testing::dns::{Lab, Upstream, addresses, query, record};

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_from_many_sockets_is_answered_completely() {
    let lab = Lab::start(vec![]).await;
    let server = lab.server;
    let asked = tokio::task::spawn_blocking(move || {
        let sockets: Vec<_> = (0..100).map(|_| std::net::UdpSocket::bind((WEB, 0)).unwrap()).collect();
        let message = |kind| query("db", kind).to_vec().unwrap();
        let (a, aaaa) = (message(RecordType::A), message(RecordType::AAAA));
        for socket in &sockets {
            // Like getaddrinfo: both from the same socket at once.
            socket.send_to(&a, server).unwrap();
            socket.send_to(&aaaa, server).unwrap();
        }
        let answered = |socket: &std::net::UdpSocket| {
            socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            (0..2).filter(|_| socket.recv(&mut [0; 1232]).is_ok()).count()
        };
        sockets.iter().map(answered).sum::<usize>()
    });
    assert_eq!(asked.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_client_does_not_affect_others() {
    let upstream = Upstream::saying(|reply| {
        reply.answers.push(record("www.example.com", 60, RData::A(A::new(192, 0, 2, 9))));
    })
    .await;
    let lab = Lab::start(vec![upstream.address]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (server, ended) = (lab.server, stop.clone());
    // The most expensive messages: a type that only the slow path answers, for a name that does not exist.
    let flood = std::thread::spawn(move || {
        let socket = std::net::UdpSocket::bind((DB, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let message = query("nosuch", RecordType::NAPTR).to_vec().unwrap();
        let mut codes = BTreeSet::new();
        while !ended.load(Ordering::Relaxed) {
            for _ in 0..50 {
                let _ = socket.send_to(&message, server);
            }
            let mut buffer = [0; 1232];
            while let Ok(length) = socket.recv(&mut buffer) {
                codes.insert(hickory_proto::op::Message::from_vec(&buffer[..length]).unwrap().response_code.low());
            }
        }
        codes
    });
    for _ in 0..100 {
        assert_eq!(addresses(&lab.ask(WEB, "db", RecordType::A).await), [DB]);
        assert_eq!(addresses(&lab.ask(WEB, "www.example.com", RecordType::A).await), ["192.0.2.9"]);
    }
    stop.store(true, Ordering::Relaxed);
    let codes = flood.join().unwrap();
    let allowed = [ResponseCode::NXDomain.low(), ResponseCode::ServFail.low()];
    assert!(codes.iter().all(|code| allowed.contains(code)), "{codes:?}");
}
