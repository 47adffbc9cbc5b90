//! Upstreams that forward to netd.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use netd::faces::dns::Config;
use netd_testing::dns::{Lab, Upstream, addresses, plain, state};
use tokio::net::UdpSocket;

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";

/// A forwarder that forwards every question to netd, from this address; with the name unchanged or in lower case.
async fn forwarder(from: &'static str, lower: bool, server: Arc<OnceLock<SocketAddr>>) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let (mut message, server, socket) = (buffer[..length].to_vec(), server.clone(), socket.clone());
            if lower {
                message[12..].make_ascii_lowercase();
            }
            tokio::spawn(async move {
                let back = UdpSocket::bind((from, 0)).await.unwrap();
                back.send_to(&message, server.get().unwrap()).await.unwrap();
                let mut buffer = vec![0; 4096];
                let length = back.recv(&mut buffer).await.unwrap();
                socket.send_to(&buffer[..length], client).await.unwrap();
            });
        }
    });
    address
}

async fn ends(from: &'static str, lower: bool) -> Duration {
    let server: Arc<OnceLock<SocketAddr>> = Arc::default();
    let lab = Lab::start(vec![forwarder(from, lower, server.clone()).await]).await;
    server.set(lab.server).unwrap();
    let started = Instant::now();
    assert_eq!(lab.ask(WEB, "www.looping.example", RecordType::A).await.response_code, ResponseCode::ServFail);
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_through_the_hosts_resolver_ends() {
    // A process of the host asks from the gateway's address.
    for lower in [false, true] {
        let took = ends("127.1.0.1", lower).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_through_two_hops_ends_within_two_seconds() {
    // The upstream forwards to another container, which forwards to netd.
    for lower in [false, true] {
        let took = ends(DB, lower).await;
        assert!(took < Duration::from_secs(2), "{took:?}, lower case: {lower}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_with_the_same_question_are_no_loop() {
    let slow = Upstream::late(Duration::from_millis(300), |_, _, mut reply| {
        let name = reply.queries[0].name().clone();
        let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A::new(192, 0, 2, 1));
        reply.add_answer(hickory_proto::rr::Record::from_rdata(name, 60, data));
        Some(reply)
    })
    .await;
    let lab = Lab::start(vec![slow.address]).await;
    let (one, other) = tokio::join!(
        lab.ask(WEB, "www.coalesced.example", RecordType::A),
        lab.ask(DB, "WWW.coalesced.example", RecordType::A)
    );
    assert_eq!((addresses(&one), addresses(&other)), (vec!["192.0.2.1".to_owned()], vec!["192.0.2.1".to_owned()]));
    assert_eq!(slow.asked().len(), 1, "both wait for the same answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_in_resolv_conf_is_refused_and_the_hosts_file_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.1.0.1\nnameserver 127.2.0.1\n").unwrap();
    let lab = Lab::with(Config { resolv_conf, ..plain(&[]) }, state()).await;
    let response = lab.ask(WEB, "www.example", RecordType::A).await;
    assert_eq!(response.response_code, ResponseCode::ServFail);
    let notes = lab.lookup(WEB, "www.example").await.notes.join("\n");
    assert!(notes.contains("skipped because they forward to netd: 127.1.0.1, 127.2.0.1"), "{notes}");
    // Every host has its own name in /etc/hosts, most at a loopback address.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let response = lab.ask(WEB, name.trim(), RecordType::A).await;
    assert!(addresses(&response).is_empty(), "{response}");
}
