//! Serves a router on a listener until shutdown, with limits on connections and timeouts.
//!
//! There is one task per connection, which also does the TLS handshake. The connections of one client (a user or an
//! address) are bounded, and so are all connections together. A new connection replaces the one that has been idle
//! longest; if all are busy, the new one gets 503, or no reply where TLS is spoken. Connections never use the last
//! descriptors, which the daemon needs for its own work. A connection is closed if a handshake or a request head does
//! not arrive, a body stalls, a reply is not read, or the client is silent; event streams may last.
//!
//! On shutdown streams end, requests in progress are answered, and incomplete requests are dropped at once. Requests that
//! are not finished after [`DRAIN`] are dropped too. New connections get 503 until the process ends; those of a socket
//! that the next daemon will have as well wait for it instead.

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::access::{Access, Rights};
use super::budget::{Budget, Place, Stopping, Weight};
use super::caller::{Caller, Client};
use super::check::{Hosts, check};
use super::dialect::Dialect;
use super::problem::Problem;
use super::socket::{Socket, Wire};
use super::tls::Tls;
use crate::base::connections::{Admitted, Busy, Connections};
use crate::base::descriptors::Capacity;
use crate::base::shares::Shares;
use crate::engine;
use crate::model::names::DnsName;

/// How long requests in progress may take after shutdown.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long an idle connection may take to send what has been written to it.
const LINGER: Duration = Duration::from_millis(200);
/// The TLS handshake, the head of the first request, and that of each further one must arrive within this time each.
const HEAD: Duration = Duration::from_secs(20);
/// A connection whose client reads nothing for this long is closed.
const STUCK: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of a reply that waits to be written.
const BUFFER: usize = 64 * 1024;
/// Connections of one client, and of all clients.
const PER_CLIENT: usize = 512;
const TOTAL: usize = 1024;
/// Bytes of all bodies in progress, of all clients.
const BODIES: u64 = 16 << 20;
/// Endless streams of all clients.
const STREAMS: u64 = 256;
/// The delay before accepting again after a lack of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What all connections of a listener share.
#[derive(Clone)]
struct Server {
    router: Router,
    stopping: Stopping,
    clients: Arc<Connections<Client>>,
    bodies: Arc<Shares<Client>>,
    streams: Arc<Shares<Client>>,
    capacity: Capacity,
    /// Which names requests may have in `Host`.
    hosts: Hosts,
    dialect: Dialect,
    /// What TLS is spoken with, if it is.
    tls: Option<Tls>,
    /// Who may do what, on a unix socket.
    access: Option<Arc<Access>>,
    /// Whether the service manager has the listener, and gives it to the next daemon too.
    inherited: bool,
    /// How long a client may read nothing.
    stuck: Duration,
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Socket::Unix(stream)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                Socket::tcp(stream)
            }
        }
    }
}

/// A listening unix socket.
#[derive(Debug)]
pub struct Local {
    /// The socket.
    pub listener: UnixListener,
    /// Who may do what.
    pub access: Access,
    /// Whether the service manager has the listener, and gives it to the next daemon too.
    pub inherited: bool,
    /// What its clients speak.
    pub dialect: Dialect,
}

/// Serves on a unix socket until `shutdown` completes. Connections use no descriptors beyond `capacity`.
pub async fn serve_unix(
    local: Local,
    router: Router,
    capacity: Capacity,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let Local { listener, access, inherited, dialect } = local;
    let server = Server::new(router, capacity, dialect.hosts());
    let (access, stuck) = (Some(Arc::new(access)), dialect.stuck(STUCK));
    serve(Listener::Unix(listener), Server { access, inherited, dialect, stuck, ..server }, shutdown).await
}

/// Serves on a TCP socket with mutual TLS until `shutdown` completes.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    capacity: Capacity,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = Server::new(router, capacity, Hosts::OfCertificate(tls.certificate()));
    serve(Listener::Tcp(listener), Server { tls: Some(tls), ..server }, shutdown).await
}

/// Serves public content until `shutdown` completes. `names`: which DNS names clients may use for this machine.
pub async fn serve_public(
    listener: TcpListener,
    names: &[DnsName],
    router: Router,
    capacity: Capacity,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve(Listener::Tcp(listener), Server::new(router, capacity, Hosts::public(names)), shutdown).await
}

async fn serve(listener: Listener, server: Server, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) => {
                let socket = match server.capacity.has(socket.as_raw_fd()) {
                    true => Ok(socket),
                    false => make_room(&server, &mut connections, socket).await,
                };
                if let Some((socket, admitted)) = server.admit(socket) {
                    connections.spawn(server.clone().converse(socket, admitted));
                }
            }
            Err(error) if is_of_the_connection(&error) => tracing::debug!("accept a connection to the API: {error}"),
            Err(error) => {
                tracing::warn!("accept connections to the API: {error}: tried again (see `ulimit -n`)");
                server.clients.make_room();
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
    server.stopping.stop();
    if !server.inherited {
        tokio::spawn(refuse_all(listener, server));
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(seconds = DRAIN.as_secs(), "HTTP connections did not end in time and are closed");
    }
    Ok(())
}

/// Replies to every request with 503. Never completes.
async fn refuse_all(listener: Listener, server: Server) {
    let dialect = server.dialect;
    let refused = move || std::future::ready(dialect.refuse(Problem::from(engine::Error::Stopped)));
    let router = Router::new().fallback(refused);
    let server = Server { router, stopping: Stopping::default(), ..server };
    loop {
        let Ok(socket) = listener.accept().await else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        let socket = if server.capacity.has(socket.as_raw_fd()) { Ok(socket) } else { Err(Some(socket)) };
        if let Some((socket, admitted)) = server.admit(socket) {
            tokio::spawn(server.clone().converse(socket, admitted));
        }
    }
}

/// Dismisses an idle connection to make room for a new one, and waits until it or another one has closed its
/// descriptor. The new connection then moves to that number: while no connection holds a high number, descriptor
/// numbers show how many are in use.
async fn make_room(server: &Server, connections: &mut JoinSet<()>, socket: Socket) -> Result<Socket, Option<Socket>> {
    if !server.clients.make_room() || tokio::time::timeout(BACK_OFF, connections.join_next()).await.is_err() {
        return Err(Some(socket));
    }
    let socket = socket.renumbered().map_err(|_| None)?;
    if server.capacity.has(socket.as_raw_fd()) { Ok(socket) } else { Err(Some(socket)) }
}

/// Whether the error concerns only the one connection, which is then gone (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected, PermissionDenied,
    };
    let kinds = [ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected, PermissionDenied];
    kinds.contains(&error.kind())
}

impl Server {
    fn new(router: Router, capacity: Capacity, hosts: Hosts) -> Self {
        let stopping = Stopping::default();
        Self {
            router: router.layer(axum::Extension(stopping.clone())),
            stopping,
            clients: Connections::new(PER_CLIENT, TOTAL),
            bodies: Shares::new(BODIES, 1),
            streams: Shares::new(STREAMS, 1),
            capacity,
            hosts,
            dialect: Dialect::Native,
            tls: None,
            access: None,
            inherited: false,
            stuck: STUCK,
        }
    }

    /// Admits a connection, or closes it, after a reply with 503 if no TLS is spoken. `Err` holds a socket for which there is no descriptor
    /// left.
    fn admit(&self, socket: Result<Socket, Option<Socket>>) -> Option<(Arc<Socket>, Admitted<Client>)> {
        let (socket, has_room) = match socket {
            Ok(socket) => (socket, true),
            Err(socket) => (socket?, false),
        };
        let admitted = has_room.then(|| self.clients.admit(socket.client())).flatten();
        if admitted.is_none() && self.tls.is_none() {
            let busy = self.dialect.busy();
            let length = busy.len();
            let reply = format!(
                "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{busy}"
            );
            // Do not wait for a client that does not read.
            let _ = socket.try_write(reply.as_bytes());
        }
        if admitted.is_none() {
            tracing::debug!("a connection to the API was one too many");
        }
        Some((Arc::new(socket), admitted?))
    }

    /// Serves one connection until it ends. During the handshake it counts as idle.
    async fn converse(self, socket: Arc<Socket>, admitted: Admitted<Client>) {
        let wire = Wire::new(socket.clone(), self.stuck);
        let Some(tls) = self.tls.clone() else { return self.answer(wire, socket, admitted).await };
        let stream = tokio::select! {
            stream = tls.accept(wire, HEAD) => stream,
            () = admitted.dismissed() => return,
            () = self.stopping.clone().stopped() => return,
        };
        if let Some(stream) = stream {
            self.answer(stream, socket, admitted).await;
        }
    }

    /// Answers the requests that arrive on the stream, which is that of the socket.
    async fn answer<S>(self, stream: S, socket: Arc<Socket>, admitted: Admitted<Client>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let admitted = Arc::new(admitted);
        let budget = Budget { client: socket.client(), bodies: self.bodies, streams: self.streams };
        let rights = self.access.as_deref().map_or(Rights::All, |access| access.of(&socket));
        let router = TowerToHyperService::new(self.router);
        let (hosts, dialect, caller, requests) = (self.hosts, self.dialect, Caller::new(socket), admitted.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let busy = requests.busy();
            let weight = Weight::default();
            let refused = rights.check(request.method()).and_then(|()| check(&request, &hosts)).err();
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(caller.clone()));
            extensions.insert(budget.clone());
            extensions.insert(weight.clone());
            extensions.insert(Place::new(&requests));
            let reply = match refused {
                Some(problem) => Err(dialect.refuse(problem)),
                None => Ok(router.call(request)),
            };
            async move {
                let response = match reply {
                    Ok(reply) => reply.await?,
                    Err(refused) => refused,
                };
                // The request has been processed: return its share of the budget for bodies.
                drop(weight);
                Ok::<_, std::convert::Infallible>(response.map(|body| Held { body, _busy: busy }))
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        tokio::select! {
            // Errors of the connection concern only its client.
            _ = connection.as_mut() => return,
            () = admitted.dismissed() => return,
            () = self.stopping.stopped() => {}
        }
        connection.as_mut().graceful_shutdown();
        if admitted.is_busy() {
            let _ = connection.await;
        } else {
            let _ = tokio::time::timeout(LINGER, connection).await;
        }
    }
}

/// The body of a reply. Its request counts as in progress until the body has been sent.
struct Held {
    body: Body,
    _busy: Busy<Client>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
