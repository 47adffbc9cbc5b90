//! UDP: a socket towards the container for each flow, which is a client's socket and the address of this host to which it
//! sends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::{Place, Tasks};
use crate::base::monotonic;
use crate::base::shares::Shares;
use crate::engine::proxy::addressed::{self, Local};

/// A flow without datagrams ends after so long, as in the kernel's connection tracking
/// (`nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);
/// Bytes of the largest datagram.
const DATAGRAM: usize = 64 << 10;

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
    _place: Place,
}

/// The flows of a port.
#[derive(Debug, Default)]
struct Flows(Mutex<HashMap<Key, Arc<Flow>>>);

impl Flows {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flow>>> {
        // No statement that holds the lock can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    /// A socket that is connected to the container: only the container's datagrams are received, and its refusals are
    /// errors.
    fn new(to: SocketAddr, place: Place) -> io::Result<Self> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        let towards_container = UdpSocket::from_std(socket)?;
        Ok(Self { towards_container, used: AtomicU64::new(0), start: monotonic::now(), _place: place })
    }

    /// Sends without tokio's readiness, which a new socket does not have yet.
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        send(self.towards_container.as_raw_fd(), datagram, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
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
pub(super) async fn serve(socket: Arc<UdpSocket>, to: SocketAddr, places: Arc<Shares<IpAddr>>, tasks: Tasks) {
    let flows = Arc::new(Flows::default());
    loop {
        if let Err(error) = socket.readable().await {
            tracing::error!(%error, "cannot wait for datagrams to a published port");
            return;
        }
        let passed = receive(&socket, |key: Key, datagram| {
            let flow = match flows.lock().get(&key) {
                Some(flow) => flow.clone(),
                None => {
                    let Some(place) = places.take(key.0.ip(), 1) else { return Ok(None) };
                    let flow = Arc::new(Flow::new(to, place)?);
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
                flows.lock().insert(key, flow.clone());
                tasks.spawn(reply(socket.clone(), key, flow, flows.clone()));
            }
            Err(error) => tracing::debug!(%error, "a datagram to a published port is lost"),
        }
    }
}

/// Gives the next datagram to `pass`; `None` if there is none.
fn receive<T>(socket: &UdpSocket, mut pass: impl FnMut(Key, &[u8]) -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    BUFFER.with_borrow_mut(|buffer| {
        let received = socket.try_io(Interest::READABLE, || addressed::receive(socket.as_fd(), buffer));
        match received {
            Ok((len, from, at)) => pass((from, at), buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    })
}

/// Passes the container's datagrams back, until the flow is idle or the container refuses.
async fn reply(socket: Arc<UdpSocket>, (client, at): Key, flow: Arc<Flow>, flows: Arc<Flows>) {
    loop {
        tokio::select! {
            readable = flow.towards_container.readable() => if readable.is_err() { break },
            () = sleep_until(flow.ends().into()) => {
                if flow.ends() <= monotonic::now() { break }
                continue;
            }
        }
        let sent = BUFFER.with_borrow_mut(|buffer| match flow.towards_container.try_recv(buffer) {
            Ok(len) => addressed::send(socket.as_fd(), buffer.get(..len).unwrap_or_default(), client, at),
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
    flows.lock().remove(&(client, at));
}
