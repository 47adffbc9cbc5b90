//! Which upstreams are asked for an external name: the container's own servers, its networks', those of the name's
//! domain, the daemon's, the host's.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use netd::faces::dns::Config;
use netd::model::desired::Desired;
use netd_testing::dns::{Lab, Upstream, addresses, plain, state, to};
use tokio::net::UdpSocket;

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";
const FAR: &str = "127.2.0.4";
const ALONE: &str = "127.3.0.2";

/// Answers every name with 192.0.2.`last`.
async fn answering(last: u8) -> Upstream {
    Upstream::saying(move |reply| {
        let name = reply.queries[0].name().clone();
        reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, last))));
    })
    .await
}

async fn failing(code: ResponseCode) -> Upstream {
    Upstream::saying(move |reply| reply.metadata.response_code = code).await
}

fn give_network(desired: &mut Desired, name: &str, upstreams: &[SocketAddr]) {
    let mut network = (**desired.network(&name.parse().unwrap()).unwrap()).clone();
    network.dns.upstreams = to(upstreams);
    desired.insert_network(network);
}

fn give_endpoint(desired: &mut Desired, address: &str, upstreams: &[SocketAddr]) {
    let mut endpoint = (**desired.at_address(address.parse().unwrap()).unwrap()).clone();
    endpoint.upstreams = to(upstreams);
    desired.insert_endpoint(endpoint);
}

async fn answer_of(lab: &Lab, from: &str, name: &str) -> String {
    let response = lab.ask(from, name, RecordType::A).await;
    addresses(&response).pop().unwrap_or_else(|| format!("{:?}", response.response_code))
}

#[tokio::test(flavor = "multi_thread")]
async fn explicit_servers_always_win() {
    let (daemon, network, own, split) =
        (answering(1).await, answering(2).await, answering(3).await, answering(4).await);
    let mut desired = state();
    give_network(&mut desired, "net1", &[network.address]);
    // db is on net1 and net2; the upstream of its second endpoint applies as well.
    give_endpoint(&mut desired, "127.2.0.3", &[own.address]);
    let config =
        Config { split: [("corp.example".parse().unwrap(), to(&[split.address]))].into(), ..plain(&[daemon.address]) };
    let lab = Lab::with(config, desired).await;
    for name in ["www.example", "www.corp.example"] {
        assert_eq!(answer_of(&lab, WEB, name).await, "192.0.2.2", "{name}: the network's");
        assert_eq!(answer_of(&lab, DB, name).await, "192.0.2.3", "{name}: the container's own");
    }
    assert_eq!(answer_of(&lab, FAR, "www.example").await, "192.0.2.1", "the daemon's");
    assert_eq!(answer_of(&lab, FAR, "www.corp.example").await, "192.0.2.4", "the domain's");
    assert_eq!(answer_of(&lab, "127.1.0.1", "www.example").await, "192.0.2.2", "the host through net1's gateway");
    for (from, name, because) in [
        (WEB, "www.corp.example", "of the network"),
        (DB, "www.corp.example", "of the container"),
        (FAR, "www.corp.example", "configured for this domain"),
        (FAR, "www.example", "of the configuration"),
    ] {
        let notes = lab.lookup(from, name).await.notes.join("\n");
        assert!(notes.contains(because), "{from} {name}: {notes}");
    }
    assert!(lab.names.ask(None, "www.example", "A").await.notes.join("\n").contains("of the configuration"));
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_of_both_networks_are_used() {
    let second = answering(2).await;
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let (first, daemon) = (failing(code).await, answering(1).await);
        let mut desired = state();
        give_network(&mut desired, "net1", &[first.address]);
        give_network(&mut desired, "net2", &[second.address]);
        let lab = Lab::with(plain(&[daemon.address]), desired).await;
        assert_eq!(answer_of(&lab, DB, "www.example").await, "192.0.2.2", "{code}: the second network's");
        assert_eq!(first.asked().len(), 1, "the first network's was asked first");
        assert_eq!(answer_of(&lab, WEB, "www.example").await, "ServFail", "a client on the first network only");
        assert!(daemon.asked().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_domain_wins_and_matches_whole_labels() {
    let (daemon, outer, inner, dead) =
        (answering(1).await, answering(2).await, answering(3).await, failing(ResponseCode::Refused).await);
    let split = [("corp.example", &outer), ("Lab.corp.example", &inner), ("gone.example", &dead)];
    let split = split.map(|(domain, upstream)| (domain.parse().unwrap(), to(&[upstream.address])));
    let lab = Lab::with(Config { split: split.into(), ..plain(&[daemon.address]) }, state()).await;
    for (name, answer) in [
        ("www.example", "192.0.2.1"),
        ("corp.example", "192.0.2.2"),
        ("WWW.Corp.Example", "192.0.2.2"),
        ("notcorp.example", "192.0.2.1"),
        ("x.lab.corp.example", "192.0.2.3"),
        ("xlab.corp.example", "192.0.2.2"),
        ("corp.example.org", "192.0.2.1"),
        ("www.gone.example", "ServFail"),
    ] {
        assert_eq!(answer_of(&lab, WEB, name).await, answer, "{name}");
    }
    let leaked = |upstream: &Upstream| {
        upstream.asked().iter().any(|m| m.queries[0].name().to_lowercase().to_string().ends_with("gone.example."))
    };
    assert!(!leaked(&daemon), "names of the domain are sent to its upstream only");
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_networks_neither_forward_nor_contribute_upstreams() {
    let given = answering(1).await;
    let mut desired = state();
    give_network(&mut desired, "inner", &[given.address]);
    give_endpoint(&mut desired, ALONE, &[given.address]);
    let lab = Lab::with(plain(&[given.address]), desired).await;
    assert_eq!(answer_of(&lab, ALONE, "www.example").await, "ServFail");
    assert!(given.asked().is_empty());
}

/// An upstream at port 53 of this address, where resolv.conf can lead; `None`: this is not permitted here.
async fn at_port_53(address: &str, last: u8) -> Option<()> {
    let socket = UdpSocket::bind((address, 53)).await.ok()?;
    tokio::spawn(async move {
        let mut buffer = vec![0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let mut reply = hickory_proto::op::Message::from_vec(&buffer[..length]).unwrap();
            reply.metadata.message_type = hickory_proto::op::MessageType::Response;
            let name = reply.queries[0].name().clone();
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, last))));
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_question_uses_the_changed_resolv_conf() {
    let (one, two, three) =
        (at_port_53("127.53.0.1", 1).await, at_port_53("127.53.0.2", 2).await, at_port_53("127.0.53.53", 3).await);
    if one.and(two).and(three).is_none() {
        return netd_testing::harness::report_not_run("port 53 of the loopback cannot be bound");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    write("resolv.conf", "nameserver 127.53.0.1\n");
    let lab = Lab::with(Config { resolv_conf: path("resolv.conf"), ..plain(&[]) }, state()).await;
    assert_eq!(answer_of(&lab, WEB, "www.example").await, "192.0.2.1");
    write("resolv.conf", "nameserver 127.53.0.2\n");
    assert_eq!(answer_of(&lab, WEB, "www.example").await, "192.0.2.2", "rewritten, same length");
    write("stub.conf", "nameserver 127.0.53.53\n");
    symlink(path("stub.conf"), path("new")).unwrap();
    std::fs::rename(path("new"), path("resolv.conf")).unwrap();
    assert_eq!(answer_of(&lab, WEB, "www.example").await, "192.0.2.3", "now a symbolic link");
    write("stub.conf", "nameserver 127.53.0.1\nsearch lan\n");
    assert_eq!(answer_of(&lab, WEB, "www.example").await, "192.0.2.1", "its target was rewritten");
    std::fs::remove_file(path("stub.conf")).unwrap();
    assert_eq!(answer_of(&lab, WEB, "www.example").await, "ServFail", "and removed");
    write("stub.conf", "nameserver 127.53.0.2\n");
    assert_eq!(answer_of(&lab, WEB, "www.example").await, "192.0.2.2", "and is there again");
}
