//! Serving a router on a listener until told to stop: who may have how many connections, and how long a client may take.
//!
//! One task per connection. A client (a user, or an address) has a bounded number of them, and so have all together: the
//! newest wins over the one that has been idle for longest, and where all are busy it gets 503. Connections never take
//! the last descriptors, which the daemon needs for its own work. A head that does not come, a body that stalls and a
//! reply that is not taken each end the connection, and so does silence; streams of events may last.
//!
//! On stop no connection is accepted any more, streams end, requests in hand are answered, and what is not whole is
//! dropped at once. What is not done by [`DRAIN`] is dropped too: its effects are the engine's, which finishes every
//! command it has taken.

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::response::IntoResponse as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::budget::{Budget, Stopping, Weight};
use super::caller::{Caller, Client};
use super::local;
use super::socket::{Socket, Wire};
use crate::base::connections::{Admitted, Busy, Connections};
use crate::base::descriptors::Room;
use crate::base::shares::Shares;

/// How long requests in hand may take after the stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a connection on which nothing is in hand may take to send what it has already been given.
const LINGER: Duration = Duration::from_millis(200);
/// A request's head must be there after this long, and so must the next request's.
const HEAD: Duration = Duration::from_secs(20);
/// Bytes of a request's head, and of a reply that waits to be written.
const BUFFER: usize = 64 * 1024;
/// Connections of one client, and of all together.
const PER_CLIENT: usize = 512;
const TOTAL: usize = 1024;
/// Bytes of bodies that are in hand, of all clients.
const BODIES: u64 = 16 << 20;
/// Streams without an end, of all clients.
const STREAMS: u64 = 256;
/// Nothing can be accepted for want of descriptors or memory: tried again after this.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What a client gets whose connection is one too many, without having been heard.
const BUSY: &str =
    "{\"error\":{\"code\":\"unavailable\",\"message\":\"netd has too many connections: close some, or try again\"}}";

/// What all connections of a listener have in common.
#[derive(Clone)]
struct Server {
    router: Router,
    stopping: Stopping,
    clients: Arc<Connections<Client>>,
    bodies: Arc<Shares<Client>>,
    streams: Arc<Shares<Client>>,
    room: Room,
    /// Whether requests must show that they come from this host's programs.
    checked: bool,
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
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }
}

/// Serves on a unix socket until `shutdown` ends. Connections take no descriptor for which there is no `room`.
pub async fn serve_unix(
    listener: UnixListener,
    router: Router,
    room: Room,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve(Listener::Unix(listener), Server::new(router, room, false), shutdown).await
}

/// Serves the API on a loopback address until `shutdown` ends. There is no authentication: every program of this host
/// may do everything, but for web pages in a browser.
pub async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    room: Room,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve(Listener::Tcp(listener), Server::new(router, room, true), shutdown).await
}

/// Serves what anybody may see until `shutdown` ends.
pub async fn serve_public(
    listener: TcpListener,
    router: Router,
    room: Room,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve(Listener::Tcp(listener), Server::new(router, room, false), shutdown).await
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
                let socket = match server.room.has(socket.as_raw_fd()) {
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
    drop(listener);
    server.stopping.stop();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(seconds = DRAIN.as_secs(), "HTTP connections did not end in time and are closed");
    }
    Ok(())
}

/// Has an idle connection go for one that there is no room for, and waits until it, or another one, has given its
/// descriptor back. The new one takes that number: as long as none keeps a high one, numbers tell how many are taken.
async fn make_room(server: &Server, connections: &mut JoinSet<()>, socket: Socket) -> Result<Socket, Option<Socket>> {
    if !server.clients.make_room() || tokio::time::timeout(BACK_OFF, connections.join_next()).await.is_err() {
        return Err(Some(socket));
    }
    let socket = socket.renumbered().map_err(|_| None)?;
    if server.room.has(socket.as_raw_fd()) { Ok(socket) } else { Err(Some(socket)) }
}

/// Whether it says something about the one connection only, which is then gone (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected, PermissionDenied,
    };
    let kinds = [ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected, PermissionDenied];
    kinds.contains(&error.kind())
}

impl Server {
    fn new(router: Router, room: Room, checked: bool) -> Self {
        let stopping = Stopping::default();
        Self {
            router: router.layer(axum::Extension(stopping.clone())),
            stopping,
            clients: Connections::new(PER_CLIENT, TOTAL),
            bodies: Shares::new(BODIES, 1),
            streams: Shares::new(STREAMS, 1),
            room,
            checked,
        }
    }

    /// Lets a connection in, or says why not and closes it; an error where there is no descriptor for it.
    fn admit(&self, socket: Result<Socket, Option<Socket>>) -> Option<(Arc<Socket>, Admitted<Client>)> {
        let (socket, has_room) = match socket {
            Ok(socket) => (socket, true),
            Err(socket) => (socket?, false),
        };
        let admitted = has_room.then(|| self.clients.admit(socket.client())).flatten();
        if admitted.is_none() {
            let length = BUSY.len();
            let reply = format!(
                "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{BUSY}"
            );
            // Nobody waits for a client that takes nothing.
            let _ = socket.try_write(reply.as_bytes());
            tracing::debug!("a connection to the API was one too many");
        }
        Some((Arc::new(socket), admitted?))
    }

    /// One connection, to its end.
    async fn converse(self, socket: Arc<Socket>, admitted: Admitted<Client>) {
        let admitted = Arc::new(admitted);
        let budget = Budget { client: socket.client(), bodies: self.bodies, streams: self.streams };
        let router = TowerToHyperService::new(self.router);
        let (checked, caller, requests) = (self.checked, Caller::new(socket.clone()), admitted.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let busy = requests.busy();
            let weight = Weight::default();
            let refused = checked.then(|| local::check(&request).err()).flatten();
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(caller.clone()));
            extensions.insert(budget.clone());
            extensions.insert(weight.clone());
            let reply = match refused {
                Some(problem) => Err(problem.into_response()),
                None => Ok(router.call(request)),
            };
            async move {
                let response = match reply {
                    Ok(reply) => reply.await?,
                    Err(refused) => refused,
                };
                // What the body weighed is given back once the request has been dealt with.
                drop(weight);
                Ok::<_, std::convert::Infallible>(response.map(|body| Held { body, _busy: busy }))
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(Wire::new(socket)), service));
        tokio::select! {
            // What ends it is the client's affair.
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

/// A reply's body; the request counts as under way until it has been sent.
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
