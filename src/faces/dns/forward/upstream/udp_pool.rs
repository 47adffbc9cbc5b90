//! The UDP pool of one name server: a few sockets, each shared by many questions, so that tens of thousands of
//! questions can be in flight with few descriptors.
//!
//! Protection against forged answers (RFC 5452): a question uses one of several sockets, whose ports the kernel chooses
//! at random; its ID is random; the letters of its name are in random case; sockets are replaced regularly. An answer
//! counts only if it comes from the server's address to that port with that ID and that question. Anything else is
//! ignored.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::base::monotonic;
use crate::engine::listener::Resolver;
use crate::faces::dns::message::wire::HEADER;

/// Sockets of one server.
const SOCKETS: usize = 8;
/// A socket is replaced after this many questions, or after this time.
const QUESTIONS: usize = 8192;
const LIFE: Duration = Duration::from_secs(30);
/// A socket that has received nothing is replaced sooner: the host's own address, to which a connected socket is bound,
/// may have changed.
const UNHEARD: Duration = Duration::from_secs(2);
/// In-flight questions of one socket: a quarter of the IDs, because finding a random free ID takes long if most are
/// used.
const WAITING: usize = 16_384;
/// More than netd requests, to accept the answers of servers that ignore the requested size.
const ANSWER_MAX: usize = 4096;
/// A map whose capacity exceeds this is shrunk when few entries are left.
const ROOMY: usize = 1024;
/// After this many errors without a datagram in between a socket is given up.
const ERRORS_MAX: usize = 100;

/// The server's address and the open sockets.
#[derive(Debug)]
pub(super) struct UdpPool {
    to: SocketAddr,
    /// The server is in a container and is asked from within.
    within: Option<Arc<Resolver>>,
    open: Mutex<[Option<Arc<PoolSocket>>; SOCKETS]>,
}

/// What was received for a question.
#[derive(Debug)]
pub(super) enum Received {
    /// An answer to the question.
    Answer(Vec<u8>),
    /// An answer whose question has a different letter case: it is forged, or the server does not preserve the case.
    OtherCase,
    /// The host reports that no socket listens on the port.
    Refused,
}

/// Receives what arrives for a question, once.
#[derive(Debug, Default)]
pub(super) struct ReplySlot {
    heard: Mutex<Option<Received>>,
    waker: AtomicWaker,
}

impl ReplySlot {
    /// Stores what has arrived. An answer replaces anything else; otherwise the first counts.
    fn tell(&self, heard: Received) {
        let mut stored = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match &*stored {
            None => *stored = Some(heard),
            Some(Received::Answer(_)) => return,
            Some(_) if matches!(heard, Received::Answer(_)) => *stored = Some(heard),
            Some(_) => return,
        }
        drop(stored);
        self.waker.wake();
    }

    /// Waits until something has arrived.
    pub(super) async fn hear(&self) -> Received {
        poll_fn(|context| {
            self.waker.register(context.waker());
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).take();
            heard.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// A question that waits for its answer. Dropping it ends the wait.
#[derive(Debug)]
pub(super) struct Pending {
    pool_socket: Arc<PoolSocket>,
    id: u16,
}

#[derive(Debug)]
struct PoolSocket {
    shared: Arc<Shared>,
    opened: Instant,
    asked: AtomicUsize,
    reader: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    waiting: Mutex<HashMap<u16, Waiting>>,
    heard: AtomicUsize,
}

#[derive(Debug)]
struct Waiting {
    question: Arc<[u8]>,
    any_case: bool,
    reply_slot: Arc<ReplySlot>,
}

impl UdpPool {
    pub(super) fn new(to: SocketAddr, within: Option<Arc<Resolver>>) -> Self {
        Self { to, within, open: Mutex::default() }
    }

    /// Sends a question and sets its ID. `question` is its name, type and class as they are in `message`. What arrives
    /// for it goes to `reply_slot`.
    pub(super) async fn send(
        &self,
        message: &mut [u8],
        question: &Arc<[u8]>,
        any_case: bool,
        reply_slot: &Arc<ReplySlot>,
    ) -> io::Result<Pending> {
        let pool_socket = self.pool_socket().await?;
        let pending =
            pool_socket.wait(Waiting { question: question.clone(), any_case, reply_slot: reply_slot.clone() })?;
        message[..2].copy_from_slice(&pending.id.to_be_bytes());
        pending.pool_socket.shared.socket.send(message).await?;
        Ok(pending)
    }

    /// Chooses one of the sockets, and opens it if necessary.
    async fn pool_socket(&self) -> io::Result<Arc<PoolSocket>> {
        let place = rand::random_range(0..SOCKETS);
        if let Some(pool_socket) = self.open()[place].as_ref().filter(|pool_socket| pool_socket.is_fit()) {
            return Ok(pool_socket.clone());
        }
        let socket = match self.within.clone() {
            None => connected(self.to).await?,
            Some(within) => UdpSocket::from_std(tokio::task::spawn_blocking(move || within.udp()).await??)?,
        };
        let pool_socket = Arc::new(PoolSocket::open(socket));
        // The questions that wait in the old socket keep it open until they are answered.
        self.open()[place] = Some(pool_socket.clone());
        Ok(pool_socket)
    }

    fn open(&self) -> MutexGuard<'_, [Option<Arc<PoolSocket>>; SOCKETS]> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

impl PoolSocket {
    fn open(socket: UdpSocket) -> Self {
        let shared = Arc::new(Shared { socket, waiting: Mutex::default(), heard: AtomicUsize::new(0) });
        let reader = tokio::spawn(shared.clone().read()).abort_handle();
        Self { shared, opened: monotonic::now(), asked: AtomicUsize::new(0), reader }
    }

    /// Whether the socket accepts another question.
    fn is_fit(&self) -> bool {
        let age = monotonic::now().saturating_duration_since(self.opened);
        let unheard = age > UNHEARD && self.shared.heard.load(Ordering::Relaxed) == 0;
        !unheard && age < LIFE && self.asked.load(Ordering::Relaxed) < QUESTIONS && !self.reader.is_finished()
    }

    fn wait(self: &Arc<Self>, waiting: Waiting) -> io::Result<Pending> {
        let mut all = self.shared.waiting();
        if all.len() >= WAITING {
            return Err(io::Error::other("too many questions to this upstream are in flight"));
        }
        let id = loop {
            let id = rand::random();
            if !all.contains_key(&id) {
                break id;
            }
        };
        all.insert(id, waiting);
        self.asked.fetch_add(1, Ordering::Relaxed);
        drop(all);
        Ok(Pending { pool_socket: self.clone(), id })
    }
}

impl Drop for PoolSocket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut waiting = self.pool_socket.shared.waiting();
        waiting.remove(&self.id);
        if waiting.capacity() > ROOMY && waiting.len() < waiting.capacity() / 8 {
            let most = waiting.len() * 2;
            waiting.shrink_to(most);
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u16, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(self: Arc<Self>) {
        let (mut buffer, mut errors) = (vec![0; ANSWER_MAX], 0);
        while errors < ERRORS_MAX {
            match self.socket.recv(&mut buffer).await {
                Ok(length) => {
                    errors = 0;
                    self.heard.fetch_add(1, Ordering::Relaxed);
                    self.hear(&buffer[..length]);
                }
                Err(_) => {
                    errors += 1;
                    // The error does not say which question it concerns.
                    for waiting in self.waiting().values() {
                        waiting.reply_slot.tell(Received::Refused);
                    }
                }
            }
        }
    }

    fn hear(&self, message: &[u8]) {
        let Some(&[i0, i1, flags, code, q0, q1, ..]) = message.first_chunk::<HEADER>() else { return };
        let waiting = self.waiting();
        // A reply to a query (RFC 1035, 4.1.1: QR and OPCODE).
        let Some(asked) = waiting.get(&u16::from_be_bytes([i0, i1])).filter(|_| flags & 0xf8 == 0x80) else { return };
        let heard = match u16::from_be_bytes([q0, q1]) {
            // Some servers report a format error without repeating the question.
            0 if code & 0x0f != 0 => Received::Answer(message.to_vec()),
            1 => match message[HEADER..].get(..asked.question.len()) {
                Some(question) if *question == *asked.question => Received::Answer(message.to_vec()),
                Some(question) if is_same_name(question, &asked.question) => {
                    if asked.any_case {
                        Received::Answer(message.to_vec())
                    } else {
                        Received::OtherCase
                    }
                }
                _ => return,
            },
            _ => return,
        };
        asked.reply_slot.tell(heard);
    }
}

/// Whether two questions of the same length differ in letter case only.
fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    let (name, rest) = one.split_at(one.len().saturating_sub(4));
    other.strip_suffix(rest).is_some_and(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x03wWw\x07exAmple\0\0\x01\0\x01";

    async fn ask(pool: &UdpPool, any_case: bool) -> (Pending, Arc<ReplySlot>) {
        let reply_slot: Arc<ReplySlot> = Arc::default();
        let mut message = [&b"\0\0\x01\0\0\x01\0\0\0\0\0\0"[..], QUESTION].concat();
        (pool.send(&mut message, &QUESTION.into(), any_case, &reply_slot).await.unwrap(), reply_slot)
    }

    fn reply(message: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut reply = message.to_vec();
        reply[2] |= 0x80;
        change(&mut reply);
        reply
    }

    #[tokio::test]
    async fn only_an_answer_to_the_question_counts() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let pool = UdpPool::new(server.local_addr().unwrap(), None);
        let (pending, slot) = ask(&pool, false).await;
        let mut buffer = [0; 512];
        let (length, from) = server.recv_from(&mut buffer).await.unwrap();
        let message = &buffer[..length];
        let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        forger.send_to(&reply(message, |_| ()), from).await.unwrap();
        for forged in [
            reply(message, |m| m[0] ^= 1),
            reply(message, |m| m[2] = 1),
            reply(message, |m| m[2] |= 0x08),
            reply(message, |m| m[5] = 0),
            reply(message, |m| m[14] = b'x'),
            reply(message, |m| m[length - 3] = 28),
            reply(message, |m| m.truncate(20)),
        ] {
            server.send_to(&forged, from).await.unwrap();
        }
        server.send_to(&reply(message, |m| m[13] ^= 0x20), from).await.unwrap();
        assert!(matches!(slot.hear().await, Received::OtherCase));
        server.send_to(&reply(message, |m| m.push(0)), from).await.unwrap();
        let Received::Answer(answer) = slot.hear().await else { panic!() };
        assert_eq!(answer.len(), length + 1);
        drop(pending);
        server.send_to(&reply(message, |_| ()), from).await.unwrap();
        let (_second, second_slot) = ask(&pool, true).await;
        let (length, from) = server.recv_from(&mut buffer).await.unwrap();
        server.send_to(&reply(&buffer[..length], |m| m[HEADER..].make_ascii_lowercase()), from).await.unwrap();
        assert!(matches!(second_slot.hear().await, Received::Answer(_)), "in any case");
        assert!(slot.heard.lock().unwrap().is_none(), "nobody waits for the first any more");
    }

    #[tokio::test]
    async fn ports_and_ids_differ_and_sockets_are_few() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let pool = UdpPool::new(server.local_addr().unwrap(), None);
        let (mut ports, mut ids, mut retained) =
            (std::collections::BTreeSet::new(), std::collections::BTreeSet::new(), Vec::new());
        for _ in 0..200 {
            retained.push(ask(&pool, false).await);
            let mut buffer = [0; 512];
            let (_, from) = server.recv_from(&mut buffer).await.unwrap();
            ports.insert(from.port());
            ids.insert([buffer[0], buffer[1]]);
        }
        assert!((2..=SOCKETS).contains(&ports.len()), "{ports:?}");
        assert!(ids.len() > 190, "{}", ids.len());
    }

    #[tokio::test]
    async fn nobody_there_is_told_at_once() {
        let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (_ticket, slot) = ask(&UdpPool::new(address, None), false).await;
        assert!(matches!(slot.hear().await, Received::Refused));
    }
}
