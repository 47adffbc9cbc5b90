//! UDP: a socket towards the container for each flow, which is a client's socket and the address of this host to which it
//! sends.
//!
//! A port that drains gives each flow a second socket, which is bound to the port too, but receives from that client
//! only. As long as such a flow lasts, nobody else can bind the port at that address of the host, except netd and programs
//! with `SO_REUSEADDR`: the kernel knows no other way for two sockets to send from one port.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::ReuseAddr;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, send, setsockopt, socket};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::gate::Gate;
use super::target::{Ends, Target};
use super::{Place, Tasks};
use crate::base::monotonic;
use crate::base::shares::Shares;
use crate::engine::Arrival;
use crate::engine::proxy::addressed::{self, Local};

/// A flow without datagrams ends after so long, as in the kernel's connection tracking
/// (`nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);
/// Bytes of the largest datagram.
const DATAGRAM: usize = 64 << 10;
/// A queue that is full is no reason to wait.
const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

thread_local! {
    /// Nothing is awaited while it is in use.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM]);
}

/// The source, and the address of this host.
type Key = (SocketAddr, Option<Local>);

/// A client's flow.
#[derive(Debug)]
struct Flow {
    towards_container: UdpSocket,
    /// When a datagram was last seen, in either direction: milliseconds since `start`.
    used: AtomicU64,
    start: Instant,
    /// The policies about it.
    gate: Gate,
    arrival: Arrival,
    _place: Place,
}

/// A port and its flows.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    flows: Mutex<HashMap<Key, Arc<Flow>>>,
}

impl Port {
    /// `socket`: bound to the port.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::from_std(socket)?, flows: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flow>>> {
        // No statement that holds the lock can panic halfway through a change.
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flows go on in these tasks without the port's socket, which nothing else uses any more.
    pub(super) fn part(&self, tasks: &Tasks) {
        let flows = std::mem::take(&mut *self.lock());
        let reusable = |reusable: bool| setsockopt(&self.socket, ReuseAddr, &reusable);
        if flows.is_empty() || reusable(true).is_err() {
            return;
        }
        let mut parted = HashMap::new();
        for (key, flow) in flows {
            match own_socket(&self.socket, key) {
                Ok(socket) => _ = parted.insert(key, (socket, flow)),
                Err(error) => {
                    tracing::info!(%error, client = %key.0, "a flow to a published port ends before its time");
                }
            }
        }
        // What has arrived before.
        while let Ok(Some(())) = receive_now(&self.socket, |key, datagram| {
            // One that cannot be passed on is lost.
            let _ = parted.get(&key).map(|(_, flow)| flow.send(datagram));
            Ok(Some(()))
        }) {}
        if let Err(error) = reusable(false) {
            tracing::debug!(%error, "cannot hold a published port as before");
        }
        for (key, (socket, flow)) in parted {
            tasks.spawn(go_on(socket, key.0, flow));
        }
    }
}

/// A socket at the port of that one and at the address of the flow, which is connected to the flow's client.
fn own_socket(port: &UdpSocket, (client, at): Key) -> io::Result<UdpSocket> {
    let at = at.ok_or(io::ErrorKind::AddrNotAvailable)?.with_port(port.local_addr()?.port());
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let own = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&own, ReuseAddr, &true)?;
    bind(own.as_raw_fd(), &SockaddrStorage::from(at))?;
    let own = std::net::UdpSocket::from(own);
    own.connect(client)?;
    UdpSocket::from_std(own)
}

impl Flow {
    /// A socket that is connected to the container: only the container's datagrams are received, and its refusals are
    /// errors.
    fn new(Ends { from, to }: Ends, (gate, arrival): (Gate, Arrival), place: Place) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(from)?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        let towards_container = UdpSocket::from_std(socket)?;
        let (used, start) = (AtomicU64::new(0), monotonic::now());
        Ok(Self { towards_container, used, start, gate, arrival, _place: place })
    }

    /// Sends without tokio's readiness, which a new socket does not have yet.
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        send(self.towards_container.as_raw_fd(), datagram, SEND)?;
        Ok(())
    }

    fn touch(&self) {
        let now = u64::try_from((monotonic::now() - self.start).as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    fn ends(&self) -> Instant {
        self.start + Duration::from_millis(self.used.load(Ordering::Relaxed)) + IDLE
    }
}

/// Receives datagrams and passes them on, as long as the task runs. A datagram that cannot be passed on is lost.
pub(super) async fn serve(port: Arc<Port>, target: Target, places: Arc<Shares<IpAddr>>, tasks: Tasks) {
    loop {
        if let Err(error) = port.socket.readable().await {
            tracing::error!(%error, "cannot wait for datagrams to a published port");
            return;
        }
        let passed = receive(&port.socket, |key: Key, datagram| {
            let arrival = Arrival { client: key.0.ip(), at: key.1.map(|at| at.address) };
            let known = port.lock().get(&key).cloned();
            let flow = match known {
                Some(flow) if target.gate.admits(arrival) => flow,
                Some(_) => return Ok(None),
                None => {
                    let Some(ends) = target.ends(arrival) else { return Ok(None) };
                    let Some(place) = places.take(key.0.ip(), 1) else { return Ok(None) };
                    let flow = Arc::new(Flow::new(ends, (target.gate.clone(), arrival), place)?);
                    flow.send(datagram)?;
                    return Ok(Some((key, flow)));
                }
            };
            flow.touch();
            flow.send(datagram)?;
            Ok(None)
        });
        match passed {
            Ok(None) => {}
            Ok(Some((key, flow))) => {
                port.lock().insert(key, flow.clone());
                tasks.spawn(reply(port.clone(), key, flow));
            }
            Err(error) => tracing::debug!(%error, "a datagram to a published port is lost"),
        }
    }
}

/// Gives the next datagram to `pass`; `None` if there is none.
fn receive<T>(socket: &UdpSocket, pass: impl FnOnce(Key, &[u8]) -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    let received = |buffer: &mut [u8]| socket.try_io(Interest::READABLE, || addressed::receive(socket.as_fd(), buffer));
    passed(received, pass)
}

/// The same, whatever the runtime knows of the socket.
fn receive_now<T>(socket: &UdpSocket, pass: impl FnOnce(Key, &[u8]) -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    passed(|buffer| addressed::receive(socket.as_fd(), buffer), pass)
}

fn passed<T>(
    receive: impl FnOnce(&mut [u8]) -> io::Result<(usize, SocketAddr, Option<Local>)>,
    pass: impl FnOnce(Key, &[u8]) -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    BUFFER.with_borrow_mut(|buffer| match receive(buffer) {
        Ok((len, from, at)) => pass((from, at), buffer.get(..len).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    })
}

/// Passes the container's datagrams back, until the flow is idle or the container refuses.
async fn reply(port: Arc<Port>, (client, at): Key, flow: Arc<Flow>) {
    let closed = flow.gate.closed(flow.arrival);
    tokio::pin!(closed);
    loop {
        tokio::select! {
            readable = flow.towards_container.readable() => if readable.is_err() { break },
            () = &mut closed => break,
            () = sleep_until(flow.ends().into()) => {
                if flow.ends() <= monotonic::now() { break }
                continue;
            }
        }
        let sent = BUFFER.with_borrow_mut(|buffer| match flow.towards_container.try_recv(buffer) {
            Ok(len) => addressed::send(port.socket.as_fd(), buffer.get(..len).unwrap_or_default(), client, at),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        });
        match sent {
            Ok(()) => flow.touch(),
            // The client's queue is full: this datagram is lost.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    port.lock().remove(&(client, at));
}

/// Passes datagrams in both directions, until the flow is idle, or the container or the client refuses. `socket` is
/// connected to the client.
async fn go_on(socket: UdpSocket, client: SocketAddr, flow: Arc<Flow>) {
    let closed = flow.gate.closed(flow.arrival);
    tokio::pin!(closed);
    loop {
        let passed = tokio::select! {
            () = &mut closed => return,
            readable = flow.towards_container.readable() => readable.and_then(|()| BUFFER.with_borrow_mut(|buffer| {
                let len = flow.towards_container.try_recv(buffer)?;
                send(socket.as_raw_fd(), buffer.get(..len).unwrap_or_default(), SEND)?;
                Ok(())
            })),
            readable = socket.readable() => readable.and_then(|()| BUFFER.with_borrow_mut(|buffer| {
                let (len, from) = socket.try_recv_from(buffer)?;
                // Until it was connected, it received from everyone.
                if from == client { flow.send(buffer.get(..len).unwrap_or_default()) } else { Ok(()) }
            })),
            () = sleep_until(flow.ends().into()) => {
                if flow.ends() <= monotonic::now() { return }
                continue;
            }
        };
        match passed {
            Ok(()) => flow.touch(),
            // Nothing there, or the queue is full: this datagram is lost.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
