//! DNS over TCP (RFC 7766): one task for each gateway's listener and one for each connection. A client may send
//! questions without waiting for replies; each reply is sent when it is ready, in any order. A slow, silent or hostile
//! client costs no more than its own connections, which `connections` bounds.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::base::connections::{Busy, Connections};
use crate::base::descriptors::Capacity;
use crate::base::shares::Share;
use crate::base::{connections, monotonic};
use crate::faces::dns::answer::fast_path::Done;
use crate::faces::dns::answer::slow_path::{Handler, Outcome};
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::wire::{HEADER, Transport};
use crate::faces::dns::telemetry;
use crate::faces::dns::telemetry::{Listener, Replied};

/// A connection on which no complete question has arrived for this long is closed (RFC 7766, 6.2.3: "a few seconds").
/// This is longer than an upstream may take.
const IDLE: Duration = Duration::from_secs(10);
/// A connection whose client accepts no byte of its replies for this long is closed.
const STUCK: Duration = Duration::from_secs(10);
/// Questions of one connection that are unanswered or whose replies are not written yet. Beyond that the server reads
/// no further question, so that TCP slows the client down.
const UNDER_WAY: usize = 32;
/// Bytes of a question. An ordinary one has about 50, and clients do not ask questions that do not fit into UDP.
const QUESTION_MAX: u64 = 4096;
/// Replies are batched up to about this many bytes for one write.
const WRITE: usize = 16 * 1024;
/// The delay before accepting again after a lack of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Connections of one client. A resolver uses one (RFC 7766, 6.2.2), a program with many threads a few more.
pub(crate) const PER_CLIENT: usize = 16;
/// Connections of all clients.
pub(crate) const TOTAL: usize = 512;

type Admitted = connections::Admitted<IpAddr>;

/// The limits on connections.
pub(crate) struct Limits {
    pub(crate) clients: Arc<Connections<IpAddr>>,
    pub(crate) capacity: Capacity,
}

/// A reply to be written to the client.
struct Reply {
    bytes: Vec<u8>,
    _held: (Busy<IpAddr>, OwnedSemaphorePermit),
    _share: Share<IpAddr>,
}

/// Accepts connections until `stop` is cancelled, then closes all of them.
pub(crate) async fn serve(
    listener: TcpListener,
    handler: Handler,
    limits: Limits,
    dns_listener: Arc<Listener>,
    stop: CancellationToken,
) {
    let Limits { clients, capacity } = limits;
    let mut connections = JoinSet::new();
    let mut short = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, source)) => {
                short = false;
                if !capacity.has(stream.as_raw_fd()) {
                    // The descriptor reserve is for the daemon's own work: close this connection and dismiss an idle
                    // one.
                    clients.make_room();
                    dns_listener.refused();
                    continue;
                }
                let source = dns_listener.client(source);
                // The stream of a connection that is not admitted is dropped here, which closes it.
                match clients.admit(source.ip().to_canonical()) {
                    Some(admitted) => {
                        connections.spawn(converse(stream, source, handler.clone(), dns_listener.clone(), admitted));
                    }
                    None => dns_listener.refused(),
                }
            }
            Err(error) if is_of_the_connection(&error) => debug!("accept a DNS connection: {error}"),
            Err(error) => {
                if !short {
                    warn!("accept DNS connections: {error}: tried again (see LimitNOFILE in systemd.exec(5))");
                }
                short = true;
                clients.make_room();
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
    connections.shutdown().await;
}

/// Whether the error concerns only the one connection, which is then gone (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied | TimedOut)
}

/// Serves one connection until it ends. `source` is the client.
async fn converse(
    stream: TcpStream,
    source: SocketAddr,
    handler: Handler,
    dns_listener: Arc<Listener>,
    admitted: Admitted,
) {
    let _open = dns_listener.opened();
    // Fails only if the socket is not a TCP socket.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let (replies, waiting) = mpsc::channel(UNDER_WAY);
    let speak = write_replies(writer, waiting);
    tokio::pin!(speak);
    tokio::select! {
        () = admitted.dismissed() => return dns_listener.dismissed(),
        () = &mut speak => return,
        () = read_questions(reader, source, &handler, &dns_listener, &admitted, replies) => {}
    }
    // The client sends no further question. Still answer those in progress.
    tokio::select! {
        () = admitted.dismissed() => dns_listener.dismissed(),
        () = speak => {}
    }
}

async fn read_questions(
    reader: OwnedReadHalf,
    source: SocketAddr,
    handler: &Handler,
    dns_listener: &Arc<Listener>,
    admitted: &Admitted,
    replies: mpsc::Sender<Reply>,
) {
    let mut reader = BufReader::with_capacity(2048, reader);
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    let mut question = Vec::new();
    loop {
        // The semaphore is never closed.
        let Ok(free) = places.clone().acquire_owned().await else { return };
        match timeout(IDLE, frame(&mut reader, &mut question)).await {
            Ok(Ok(())) if question.len() >= HEADER => {}
            // The client was silent, closed the connection, broke it, or does not speak DNS.
            _ => return,
        }
        let held = (admitted.busy(), free);
        let came = monotonic::now();
        let (bytes, origin) = match fast_path(handler, &question, source) {
            Some(reply) => reply,
            None => match handler.decide(&question, source, Transport::Tcp) {
                Outcome::Reply(bytes) => {
                    let origin = telemetry::own(&bytes);
                    (bytes, origin)
                }
                Outcome::Shed(bytes) => {
                    dns_listener.shed(&handler.view());
                    (bytes, Origin::Nobody)
                }
                Outcome::Forward(forwarding) => {
                    let (handler, replies, dns_listener) = (handler.clone(), replies.clone(), dns_listener.clone());
                    let question = question.clone();
                    tokio::spawn(async move {
                        let (bytes, origin) = handler.finish(&question, source, Transport::Tcp, forwarding).await;
                        record(&handler, &dns_listener, (&question, &bytes), source, origin, came);
                        let Some(share) = weigh(&handler, source, &bytes) else {
                            return dns_listener.shed(&handler.view());
                        };
                        // Fails when the connection is gone.
                        let _ = replies.send(Reply { bytes, _held: held, _share: share }).await;
                    });
                    continue;
                }
            },
        };
        record(handler, dns_listener, (&question, &bytes), source, origin, came);
        if bytes.is_empty() {
            continue;
        }
        // The client does not read its replies and has used up its share of memory: read no further question of it.
        let Some(share) = weigh(handler, source, &bytes) else { return dns_listener.shed(&handler.view()) };
        if replies.send(Reply { bytes, _held: held, _share: share }).await.is_err() {
            return;
        }
    }
}

/// Takes the memory for a reply that waits to be written. `None` if the client has reached its limit.
fn weigh(handler: &Handler, source: SocketAddr, reply: &[u8]) -> Option<Share<IpAddr>> {
    handler.forwarder().waiting().take(source.ip().to_canonical(), reply.len() as u64)
}

/// Counts and logs a reply.
fn record(
    handler: &Handler,
    dns_listener: &Listener,
    (question, reply): (&[u8], &[u8]),
    source: SocketAddr,
    origin: Origin,
    came: Instant,
) {
    let replied = Replied { question, reply, client: source.ip(), origin, transport: Transport::Tcp, came };
    dns_listener.replied(&handler.view(), replied);
}

/// The fast path's reply and its origin. The reply is empty if none is to be sent. `None`: the slow path must answer.
fn fast_path(handler: &Handler, question: &[u8], source: SocketAddr) -> Option<(Vec<u8>, Origin)> {
    thread_local! {
        static OUT: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; usize::from(u16::MAX)]);
    }
    OUT.with_borrow_mut(|out| match handler.fast_path(&handler.view(), question, source, Transport::Tcp, out) {
        Done::Replied(length, origin) => Some((out[..length].to_vec(), origin)),
        Done::Rotated(length) => Some((out[..length].to_vec(), Origin::Local)),
        Done::Ignored => Some((Vec::new(), Origin::Local)),
        Done::Left => None,
    })
}

/// Reads a message with its length prefix (RFC 1035, 4.2.2). Memory grows with the bytes received, not with the
/// announced length.
async fn frame(reader: &mut (impl AsyncRead + Unpin), message: &mut Vec<u8>) -> io::Result<()> {
    message.clear();
    let length = u64::from(reader.read_u16().await?);
    if length > QUESTION_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    reader.take(length).read_to_end(message).await?;
    if message.len() as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Writes replies as they become ready, and batches those that wait together into one write. Returns when there are no
/// more replies or the client accepts none.
async fn write_replies(mut writer: OwnedWriteHalf, mut waiting: mpsc::Receiver<Reply>) {
    let mut buffer = Vec::new();
    let mut written = Vec::new();
    while let Some(first) = waiting.recv().await {
        let mut next = Some(first);
        while let Some(reply) = next {
            // hickory and the fast path never exceed the maximum length.
            let Ok(length) = u16::try_from(reply.bytes.len()) else { return };
            buffer.extend(length.to_be_bytes());
            buffer.extend(&reply.bytes);
            written.push(reply);
            next = if buffer.len() < WRITE { waiting.try_recv().ok() } else { None };
        }
        if !write(&mut writer, &buffer).await {
            return;
        }
        buffer.clear();
        // Drop the permits only now: the client may then have further questions in progress.
        written.clear();
    }
}

/// Writes all bytes. Returns false if the client is gone or has accepted nothing for [`STUCK`].
async fn write(writer: &mut OwnedWriteHalf, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match timeout(STUCK, writer.write(bytes)).await {
            Ok(Ok(count)) if count > 0 => bytes = &bytes[count..],
            _ => return false,
        }
    }
    true
}
