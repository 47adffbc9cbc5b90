//! Servers that reply with their name and the client's address, and their clients; real sockets inside the namespaces.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::space::inside;
use crate::wait::{slowness, until, within};

/// The time limit of an expected answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The time after which a client assumes that no answer comes.
const SILENCE: Duration = Duration::from_millis(900);
/// The interval at which a server checks whether it should end.
const TICK: Duration = Duration::from_millis(50);

/// For how long a port may stay in use after its server has ended.
const FREED: Duration = Duration::from_secs(2);

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The name of the server.
    pub who: String,
    /// The client's address as the server saw it.
    pub saw: IpAddr,
}

/// A server on one port, TCP and UDP, IPv4 and IPv6; it ends when dropped.
pub struct Server {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts it in a namespace; it answers when this returns.
    pub fn start(ns: &str, who: &str, port: u16) -> Self {
        Self::at(ns, who, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
    }

    /// Starts it at one address.
    pub fn at(ns: &str, who: &str, at: SocketAddr) -> Self {
        // A child that another test is just starting may have a copy of the socket of a server that has ended.
        let (tcp, udp) = inside(ns, || (patient(|| TcpListener::bind(at)), patient(|| UdpSocket::bind(at))));
        let tcp = tcp.unwrap_or_else(|error| panic!("listen on {at} in {ns}: {error}"));
        let udp = udp.unwrap_or_else(|error| panic!("bind {at} in {ns}: {error}"));
        setsockopt(&tcp, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000)).expect("a time limit for accept");
        udp.set_read_timeout(Some(TICK)).expect("a time limit");
        let end = Arc::new(AtomicBool::new(false));
        let (ends, name) = (Arc::clone(&end), who.to_owned());
        let serve_tcp = move || while_not(&ends, || serve_stream(&tcp, &name));
        let (ends, name) = (Arc::clone(&end), who.to_owned());
        let serve_udp = move || while_not(&ends, || serve_datagram(&udp, &name));
        Self { end, threads: vec![thread::spawn(serve_tcp), thread::spawn(serve_udp)] }
    }
}

/// Binds, and tries again for a moment while the port is in use.
fn patient<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let bound = || match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error.to_string()),
        bound => Ok(bound),
    };
    within(FREED, bound).unwrap_or_else(|why| Err(io::Error::other(why)))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that failed has failed its clients already.
            let _ = thread.join();
        }
    }
}

fn while_not(end: &AtomicBool, mut work: impl FnMut() -> io::Result<()>) {
    while !end.load(Ordering::Relaxed) {
        // Time limits, and clients that disconnected.
        let _ = work();
    }
}

fn serve_stream(listener: &TcpListener, who: &str) -> io::Result<()> {
    let (mut stream, peer) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let _ = stream.read(&mut [0; 64])?;
    stream.write_all(answer(who, peer).as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

fn serve_datagram(socket: &UdpSocket, who: &str) -> io::Result<()> {
    let (_, peer) = socket.recv_from(&mut [0; 64])?;
    socket.send_to(answer(who, peer).as_bytes(), peer).map(drop)
}

fn answer(who: &str, peer: SocketAddr) -> String {
    format!("{who} {}", peer.ip().to_canonical())
}

/// Asks the server at an address from inside a namespace; an answer must come within three seconds.
#[track_caller]
pub fn ask(ns: &str, proto: Proto, to: (impl ToString, u16)) -> Reply {
    let to = socket_address(to);
    ask_from(ns, None, proto, to, PATIENCE * slowness())
        .unwrap_or_else(|error| panic!("{ns} does not reach {to} over {proto:?}: {error}"))
}

/// The answer, if one comes in time.
pub fn answers(ns: &str, proto: Proto, to: (impl ToString, u16)) -> Option<Reply> {
    ask_from(ns, None, proto, socket_address(to), SILENCE).ok()
}

/// Waits until netd's proxy, which passes on what the kernel does not translate, has seen that a container listens behind
/// this published port: 0.25 s at most; until then it refuses. One look is for all ports of the container.
#[track_caller]
pub fn until_proxied(port: u16) {
    until("netd's proxy has seen that the container listens", || answers("host", Proto::Tcp, ("::1", port)));
}

/// Fails if the server answers.
#[track_caller]
pub fn expect_no_answer(ns: &str, proto: Proto, to: (impl ToString, u16)) {
    let to = socket_address(to);
    let reply = ask_from(ns, None, proto, to, SILENCE);
    assert!(reply.is_err(), "{ns} must not reach {to} over {proto:?}: {reply:?}");
}

/// Asks from a given source address.
pub fn ask_from(ns: &str, from: Option<IpAddr>, proto: Proto, to: SocketAddr, patience: Duration) -> io::Result<Reply> {
    let text = inside(ns, || match proto {
        Proto::Tcp => ask_stream(to, patience),
        Proto::Udp => ask_datagram(from, to, patience),
    })?;
    let (who, saw) = text.split_once(' ').ok_or_else(|| io::Error::other(format!("a strange answer: {text:?}")))?;
    Ok(Reply { who: who.to_owned(), saw: saw.parse().map_err(io::Error::other)? })
}

fn ask_stream(to: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"who")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ask_datagram(from: Option<IpAddr>, to: SocketAddr, patience: Duration) -> io::Result<String> {
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((from.unwrap_or(any), 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(b"who")?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[track_caller]
fn socket_address((ip, port): (impl ToString, u16)) -> SocketAddr {
    let ip = ip.to_string();
    SocketAddr::new(ip.parse().unwrap_or_else(|_| panic!("{ip} is no IP address")), port)
}
