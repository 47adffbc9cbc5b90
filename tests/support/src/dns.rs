//! A server, its state, clients, and upstreams with configurable answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use netd::engine::Snapshot;
use netd::engine::dns::names::{Asked, Names};
use netd::engine::listener::{DnsSockets, Listening, ListeningSender};
use netd::engine::telemetry::Telemetry;
use netd::faces::dns::{Config, Server};
use netd::kernel::dns::sockets;
use netd::model::desired::Desired;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The time limit of an answer: above the limit of all upstreams together.
const PATIENCE: Duration = Duration::from_secs(8);
/// The number of shards of a gateway.
const LANES: usize = 16;

/// The server under test.
pub struct Lab {
    /// What it answers from; a test may replace it.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where it listens, over UDP and TCP.
    pub server: SocketAddr,
    /// What other faces ask it.
    pub names: Arc<dyn Names>,
    /// What the engine tells it.
    pub listening: ListeningSender,
    /// What it has counted and logged.
    pub seen: Arc<Telemetry>,
    _stop: tokio_util::sync::DropGuard,
}

impl Lab {
    /// Serves the state of `state` on IPv4, forwarding to `upstreams`.
    pub async fn start(upstreams: Vec<SocketAddr>) -> Self {
        Self::at("127.0.0.1", upstreams).await
    }

    /// The same at another address.
    pub async fn at(address: &str, upstreams: Vec<SocketAddr>) -> Self {
        Self::serve(address, plain(&upstreams), state()).await
    }

    /// Serves that state on IPv4.
    pub async fn with(config: Config, desired: Desired) -> Self {
        Self::serve("127.0.0.1", config, desired).await
    }

    async fn serve(address: &str, config: Config, desired: Desired) -> Self {
        let snapshot = Snapshot { desired, domain: "internal".into(), zone_revision: 7, ..Snapshot::default() };
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let (listening, receiver) = tokio::sync::mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let sockets = sockets(address).await;
        let server = SocketAddr::new(sockets.address, sockets.port);
        listening.send(Listening::Serve(sockets)).unwrap();
        let state = snapshot.clone();
        let view = Arc::new(move || state.load_full());
        let seen = Arc::new(Telemetry::default());
        let serving = Server::new(config, view, receiver, seen.clone());
        let names = serving.names();
        tokio::spawn(serving.run(stop.clone()));
        Self { snapshot, server, names, listening, seen, _stop: stop.drop_guard() }
    }

    /// The answer of the forwarder to other faces, for addresses of a name.
    pub async fn lookup(&self, client: &str, name: &str) -> Asked {
        self.names.ask(Some(client.parse().unwrap()), name, "A").await
    }

    /// Asks over UDP with EDNS.
    pub async fn ask(&self, from: &str, name: &str, kind: RecordType) -> Message {
        self.udp(from, &query(name, kind)).await
    }

    /// Sends a message over UDP, and returns the answer.
    pub async fn udp(&self, from: &str, message: &Message) -> Message {
        Message::from_vec(&self.datagram(from, &message.to_vec().unwrap()).await.expect("no answer")).unwrap()
    }

    /// Sends any bytes over UDP; `None`: no answer.
    pub async fn datagram(&self, from: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((from, 0)).await.unwrap();
        socket.connect(self.server).await.unwrap();
        socket.send(bytes).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.ok()?.unwrap();
        buffer.truncate(length);
        Some(buffer)
    }

    /// A TCP connection from that address.
    pub async fn connect(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        socket.connect(self.server).await.unwrap()
    }

    /// Sends a message over a TCP connection of its own, and returns the answer.
    pub async fn tcp(&self, from: &str, message: &Message) -> Message {
        let mut stream = self.connect(from).await;
        write(&mut stream, message).await;
        timeout(PATIENCE, read(&mut stream)).await.unwrap().unwrap()
    }
}

/// A configuration that forwards to these upstreams only.
pub fn plain(upstreams: &[SocketAddr]) -> Config {
    // "/dev/null" is a resolv.conf without name servers.
    Config { upstreams: to(upstreams), resolv_conf: "/dev/null".into(), ..Config::default() }
}

/// The upstreams as in a configuration.
pub fn to(upstreams: &[SocketAddr]) -> Vec<netd::model::upstream::Upstream> {
    upstreams.iter().copied().map(netd::model::upstream::Upstream::plain).collect()
}

/// Networks net1 (127.1.0.0/24, fd01::/64), net2 (127.2.0.0/24) and the internal inner (127.3.0.0/24). Containers web
/// (net1), db (net1, net2), far (net2), loop (net2, at ::1), alone (inner), and p0 to p99 on net1 with the alias `pool`.
pub fn state() -> Desired {
    let mut desired = Desired::default();
    for (name, n) in [("net1", 1), ("net2", 2), ("inner", 3)] {
        let network = json!({
            "name": name, "id": format!("{n:064}"), "internal": n == 3, "mtu": 1500, "labels": {}, "created": 0,
            "driver": {"driver": "bridge", "name": format!("nd{n}"), "icc": true, "masquerade": true},
            "subnets": [{"subnet": format!("127.{n}.0.0/24"), "gateway": format!("127.{n}.0.1")},
                {"subnet": format!("fd0{n}::/64"), "gateway": format!("fd0{n}::1")}],
        });
        desired.insert_network(serde_json::from_value(network).unwrap());
    }
    add(&mut desired, "web", "net1", &["127.1.0.2/24", "fd01::2/64"], "www");
    add(&mut desired, "db", "net1", &["127.1.0.3/24"], "store");
    add(&mut desired, "db", "net2", &["127.2.0.3/24"], "store");
    add(&mut desired, "far", "net2", &["127.2.0.4/24"], "store");
    add(&mut desired, "alone", "inner", &["127.3.0.2/24"], "single");
    add(&mut desired, "loop", "net2", &["::1/128"], "self");
    for n in 0..100 {
        add(&mut desired, &format!("p{n}"), "net1", &[&format!("127.1.0.{}/24", 100 + n)], "pool");
    }
    desired
}

/// Connects a container.
pub fn add(desired: &mut Desired, container: &str, network: &str, addresses: &[&str], alias: &str) {
    let endpoint = json!({
        "network": network, "sequence": desired.counts().2, "ifname": "eth0", "host_ifname": "v0",
        "container": {"id": format!("{container}-0123456789abcdef"), "name": container, "netns": {
            "path": "/run/netns/x", "id": {"device": 4, "inode": 1, "cookie": null}}},
        "addresses": addresses, "gateways": [], "mac": "02:00:00:00:00:01", "aliases": [alias], "publications": [],
    });
    desired.insert_endpoint(serde_json::from_value(endpoint).unwrap());
}

/// A question with RD and EDNS.
pub fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message
}

/// The addresses in an answer, in their order.
pub fn addresses(message: &Message) -> Vec<String> {
    let ip = |record: &Record| match &record.data {
        RData::A(a) => Some(IpAddr::from(a.0).to_string()),
        RData::AAAA(aaaa) => Some(IpAddr::from(aaaa.0).to_string()),
        _ => None,
    };
    message.answers.iter().filter_map(ip).collect()
}

/// A record of that name, which has no final dot here.
pub fn record(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(format!("{name}.")).unwrap(), ttl, data)
}

/// An upstream with answers of the test; it records its queries.
pub struct Upstream {
    /// Where it listens, over UDP and TCP.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Message>>>,
}

impl Upstream {
    /// `say` gets the query, whether it came over TCP, and an empty reply to fill in; `None`: no reply.
    pub async fn start(say: impl Fn(&Message, bool, Message) -> Option<Message> + Send + Sync + 'static) -> Self {
        Self::late(Duration::ZERO, say).await
    }

    /// The same, but its datagrams leave only after `delay`.
    pub async fn late(
        delay: Duration,
        say: impl Fn(&Message, bool, Message) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = both("127.0.0.1").await;
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let say = Arc::new(move |bytes: &[u8], tcp: bool| {
            let query = Message::from_vec(bytes).unwrap();
            let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
            reply.metadata.recursion_available = true;
            reply.queries.clone_from(&query.queries);
            let response = say(&query, tcp, reply);
            log.lock().unwrap().push(query);
            response
        });
        let over_tcp = say.clone();
        tokio::spawn(async move {
            let (mut buffer, udp) = (vec![0; 65_535], Arc::new(udp));
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                let Some(reply) = say(&buffer[..length], false) else { continue };
                let udp = udp.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    udp.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
                });
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let say = over_tcp.clone();
                tokio::spawn(async move {
                    while let Some(query) = read(&mut stream).await {
                        if let Some(reply) = say(&query.to_vec().unwrap(), true) {
                            write(&mut stream, &reply).await;
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// Gives every query the same answer.
    pub async fn saying(fill: impl Fn(&mut Message) + Send + Sync + 'static) -> Self {
        Self::start(move |_, _, mut reply| {
            fill(&mut reply);
            Some(reply)
        })
        .await
    }

    /// The queries so far.
    pub fn asked(&self) -> Vec<Message> {
        self.asked.lock().unwrap().clone()
    }
}

/// The server's sockets on a free port, as the engine opens them at a gateway. Without privileges their queues are
/// shorter.
async fn sockets(address: &str) -> DnsSockets {
    loop {
        let (udp, tcp) = both(address).await;
        let at = udp.local_addr().unwrap();
        drop((udp, tcp));
        // Another test may have bound it meanwhile.
        if let Ok(sockets) = sockets::open_exactly(at.ip(), at.port(), LANES) {
            return sockets;
        }
    }
}

/// A UDP socket and a TCP listener on the same free port.
async fn both(address: &str) -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((address, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

/// Reads a message from a TCP stream; `None`: it is closed.
pub async fn read(stream: &mut TcpStream) -> Option<Message> {
    let length = stream.read_u16().await.ok()?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await.ok()?;
    Some(Message::from_vec(&buffer).unwrap())
}

/// Writes a message to a TCP stream.
pub async fn write(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
}
