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
use netd::model::endpoint::{Container, Endpoint, Netns};
use netd::model::ids::{NetnsId, NetworkId};
use netd::model::network::{Bridge, Driver, HostAccess, Network, NetworkSubnet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::wait::{in_time, seen, until_async};

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
        Message::from_vec(&self.datagram(from, &message.to_vec().unwrap()).await).unwrap()
    }

    /// Sends any bytes over UDP, and returns the answer.
    pub async fn datagram(&self, from: &str, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind((from, 0)).await.unwrap();
        socket.connect(self.server).await.unwrap();
        socket.send(bytes).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let length = in_time("an answer", socket.recv(&mut buffer)).await.unwrap();
        buffer.truncate(length);
        buffer
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
        read(&mut stream).await.unwrap()
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
        desired.insert_network(network(name, n));
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
    let aliases = vec![alias.parse().unwrap()];
    insert(desired, Endpoint { aliases, ..endpoint(container, network, addresses) });
}

/// Connects a container with all that its endpoint says.
pub fn insert(desired: &mut Desired, endpoint: Endpoint) {
    let sequence = desired.counts().2 as u64;
    desired.insert_endpoint(Endpoint { sequence, ..endpoint });
}

fn network(name: &str, n: u8) -> Network {
    let subnet = |prefix: String, gateway: String| NetworkSubnet {
        subnet: prefix.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        range: None,
    };
    let bridge = format!("nd{n}").parse().unwrap();
    Network {
        name: name.parse().unwrap(),
        id: NetworkId::from_random([n; 32]),
        driver: Driver::Bridge(Bridge {
            name: bridge,
            icc: true,
            masquerade: true,
            isolated: false,
            routed: false,
            unprotected: false,
            source: Vec::new(),
        }),
        subnets: vec![
            subnet(format!("127.{n}.0.0/24"), format!("127.{n}.0.1")),
            subnet(format!("fd0{n}::/64"), format!("fd0{n}::1")),
        ],
        internal: n == 3,
        mtu: 1500,
        labels: Default::default(),
        created: 0,
        dns: Default::default(),
        host_access: HostAccess::All,
        sticky: false,
        trusted: false,
        publish: None,
        engines: Vec::new(),
        on_demand: false,
        relay: None,
        egress: Default::default(),
        dhcp: false,
    }
}

/// A container on a network, with its id made of its name.
pub fn endpoint(container: &str, network: &str, addresses: &[&str]) -> Endpoint {
    let netns = Netns { path: "/run/netns/x".into(), id: NetnsId { device: 4, inode: 1, cookie: None } };
    Endpoint {
        network: network.parse().unwrap(),
        container: Container {
            id: format!("{}-0123456789abcdef", container.to_lowercase()).parse().unwrap(),
            name: container.parse().unwrap(),
            netns,
            scope: None,
            of_engine: false,
        },
        sequence: 0,
        ifname: "eth0".parse().unwrap(),
        host_ifname: "v0".parse().unwrap(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        gateways: Vec::new(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        aliases: Vec::new(),
        publications: Vec::new(),
        skipped: Vec::new(),
        exposed: Vec::new(),
        labels: Default::default(),
        owner: None,
        attached_as: None,
        routes: Vec::new(),
        bandwidth: None,
        learned_mac: None,
        trusted: false,
        upstreams: Vec::new(),
        told_inside: false,
        beside_host: false,
        opened: Vec::new(),
        handover: None,
        egress: Default::default(),
        dhcp: None,
    }
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
                    // A timer ends a moment later even if it has no time to wait, and never while the clock is stopped.
                    if !delay.is_zero() {
                        tokio::time::sleep(delay).await;
                    }
                    udp.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
                });
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let say = over_tcp.clone();
                tokio::spawn(async move {
                    while let Some(query) = next(&mut stream).await {
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

    /// Waits until it has been asked that often.
    pub async fn is_asked(&self, times: usize) {
        until_async(&format!("the upstream is asked {times} times"), async || {
            seen(self.asked().len(), |asked| *asked >= times)
        })
        .await;
    }

    /// The queries so far.
    pub fn asked(&self) -> Vec<Message> {
        self.asked.lock().unwrap().clone()
    }
}

/// The server's sockets on a free port, as the engine opens them at a gateway. Without privileges their queues are
/// shorter.
async fn sockets(address: &str) -> DnsSockets {
    // Another test may have bound the port meanwhile.
    until_async("the server's sockets are open", async || {
        let (udp, tcp) = both(address).await;
        let at = udp.local_addr().unwrap();
        drop((udp, tcp));
        sockets::open_exactly(at.ip(), at.port(), LANES)
    })
    .await
}

/// A UDP socket and a TCP listener on the same free port.
async fn both(address: &str) -> (UdpSocket, TcpListener) {
    until_async("a port is free for UDP and TCP", async || {
        let udp = UdpSocket::bind((address, 0)).await.unwrap();
        TcpListener::bind(udp.local_addr().unwrap()).await.map(|tcp| (udp, tcp))
    })
    .await
}

/// Reads a message that is to come on a TCP stream; `None`: it is closed.
pub async fn read(stream: &mut TcpStream) -> Option<Message> {
    in_time("a message, or the end of the connection", next(stream)).await
}

async fn next(stream: &mut TcpStream) -> Option<Message> {
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
