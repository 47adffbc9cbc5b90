//! The name service as containers use it: after kills and restarts, on several networks, at once after a connect.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use libtest_mimic::Trial;

use crate::lab::daemon::CONFIG;
use crate::lab::space::inside;
use crate::lab::{Dig, Lab, trial};

/// Connects and disconnects of a container, each with lookups as the next instruction.
const LOOPS: usize = 200;
/// Restarts after which a container must see the same names in the same order.
const RESTARTS: usize = 8;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("names: a killed name service answers immediately after its restart, as a system service", killed),
        trial("names: five networks, one name server, the client's order, the same after every restart", five_networks),
        trial("names: a name resolves when connect returns, and does not when disconnect returns", at_once),
        trial("names: the TTL is small by default, and configurable", time_to_live),
    ]
}

/// A socket in a container, through which its name server is asked without starting a program.
struct Stub(UdpSocket);

impl Stub {
    fn new(container: &str, server: IpAddr) -> Self {
        let socket = inside(container, || UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
        inside(container, || socket.connect((server, 53))).expect("a route");
        Self(socket)
    }

    /// The code and the addresses of the answer.
    #[track_caller]
    fn ask(&self, id: u16, name: &str) -> (ResponseCode, Vec<IpAddr>) {
        let mut query = Message::new(id, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), RecordType::A));
        self.0.send(&query.to_vec().expect("a message")).expect("sent");
        let mut reply = [0; 512];
        let length = self.0.recv(&mut reply).unwrap_or_else(|error| panic!("{name}: no answer: {error}"));
        let reply = Message::from_vec(&reply[..length]).expect("a message");
        assert_eq!(reply.metadata.id, id, "an answer that came too late");
        let address = |data: &RData| if let RData::A(a) = data { Some(IpAddr::from(a.0)) } else { None };
        (reply.metadata.response_code, reply.answers.iter().filter_map(|record| address(&record.data)).collect())
    }
}

fn gateway(lab: &Lab, network: &str) -> IpAddr {
    lab.network(network)["subnets"][0]["gateway"].as_str().expect("text").parse().expect("an address")
}

fn killed(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    for name in ["web", "client"] {
        lab.connected("net1", name, "");
    }
    let stub = Stub::new("client", gateway(lab, "net1"));
    let answer = (ResponseCode::NoError, lab.address("net1", "web"));
    for id in 0..3 {
        assert_eq!(stub.ask(id, "web"), answer);
        lab.kill_daemon();
        lab.start_daemon();
    }
    assert_eq!(stub.ask(9, "web"), answer);
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dist/netd.service")).expect("the unit");
    assert!(unit.contains("WantedBy=multi-user.target") && unit.contains("Restart=always"), "a system service: {unit}");
}

fn five_networks(lab: &Lab) {
    lab.start_daemon();
    let order = ["n3", "n1", "n5", "n2", "n4"];
    for network in order {
        lab.netd(&format!("network create {network}")).ok();
        lab.connected(network, "web", &format!("--alias on-{network}"));
    }
    lab.netd("network create elsewhere").ok();
    lab.connected("elsewhere", "hidden", "");
    for network in order {
        lab.connected(network, "client", "");
    }
    let servers = |text: &str| text.lines().filter(|line| line.starts_with("nameserver")).map(str::to_owned).collect();
    let first: String = gateway(lab, "n3").to_string();
    let expected: Vec<String> = order.iter().map(|network| lab.address(network, "web")[0].to_string()).collect();
    for _ in 0..RESTARTS {
        let resolv_conf = fs::read_to_string("/etc/netns/client/resolv.conf").expect("its resolv.conf");
        let servers: Vec<String> = servers(&resolv_conf);
        assert_eq!(servers, [format!("nameserver {first}")], "exactly one: the first network's");
        assert_eq!(Dig::ask("client", "web").answers, expected, "the order of the client's networks");
        for (network, address) in order.iter().zip(&expected) {
            Dig::expect("client", &format!("web.{network}"), &[address]);
            Dig::expect("client", &format!("on-{network}"), &[address]);
        }
        for name in ["hidden", "hidden.elsewhere", "hidden.elsewhere.internal", "web.elsewhere"] {
            Dig::expect_none("client", name, "NXDOMAIN");
        }
        lab.kill_daemon();
        lab.start_daemon();
    }
}

fn at_once(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2").ok();
    lab.connected("net1", "peer", "");
    lab.connected("net2", "stranger", "");
    lab.container("web");
    let (peer, stranger) = (Stub::new("peer", gateway(lab, "net1")), Stub::new("stranger", gateway(lab, "net2")));
    let gone = (ResponseCode::NXDomain, Vec::new());
    for turn in 0..LOOPS {
        let id = u16::try_from(turn).expect("few");
        let (status, body) = lab.http("POST", "/v1/networks/net1/endpoints", r#"{"container":"web"}"#);
        let own = Stub::new("web", gateway(lab, "net1"));
        let found = (peer.ask(id, "web"), own.ask(id, "web.net1"), stranger.ask(id, "web"));
        assert_eq!(status, 201, "{body}");
        let shown: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let address = shown["addresses"][0].as_str().and_then(|text| text.split('/').next()).expect("an address");
        let there = (ResponseCode::NoError, vec![address.parse().expect("an address")]);
        assert_eq!(found, (there.clone(), there, gone.clone()), "turn {turn}");
        let (status, body) = lab.http("DELETE", "/v1/networks/net1/endpoints/web", "");
        assert_eq!((peer.ask(id, "web"), peer.ask(id, "web.net1.internal")), (gone.clone(), gone.clone()), "{turn}");
        assert!(status < 300, "{body}");
    }
}

fn time_to_live(lab: &Lab) {
    let ttl = |name: &str| {
        let text = Dig::ask("web", name).text;
        let line = text.lines().find(|line| line.starts_with(&format!("{name}.")));
        line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned)
    };
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "");
    assert_eq!(ttl("web").as_deref(), Some("5"));
    lab.stop_daemon();
    fs::write(CONFIG, "[dns]\nttl = 1\n").expect("a configuration");
    lab.start_daemon();
    assert_eq!(ttl("web").as_deref(), Some("1"));
}
