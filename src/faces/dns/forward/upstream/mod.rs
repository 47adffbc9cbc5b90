//! One name server, and how to ask it: over UDP through sockets of netd (`udp_pool`), over TCP, TLS and HTTPS through
//! hickory's connections (`encrypted`). `health` records its health, `race` asks several servers.

mod encrypted;
mod health;
mod race;
mod udp_pool;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::Name;
use hickory_resolver::PoolContext;
use smallvec::SmallVec;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use encrypted::Pool;
pub use encrypted::Roots;
pub(crate) use race::race;
use udp_pool::{Pending, Received, ReplySlot, UdpPool};

use super::cache_key::{Flags, Question};
use crate::base::monotonic;
use crate::engine::listener::Resolver;
use crate::faces::dns::message::reply::Reply;
use crate::faces::dns::message::wire::{HEADER, MAX_UDP};
use crate::model::upstream::{Transport, Upstream};

/// The time for all upstreams together. It is shorter than the 5 s after which stub resolvers ask again
/// (resolv.conf(5), `timeout`), so that they receive SERVFAIL instead of nothing.
pub(crate) const PATIENCE: Duration = Duration::from_millis(4400);
/// How many questions that another server has answered may go on waiting for this one.
const LEARNING: usize = 16;
/// A server that answers no attempt for this long is silent.
const SILENCE: Duration = Duration::from_millis(2000);
/// A datagram may be lost: it is sent again after these multiples of the time after which the server is late.
const AGAIN: [u32; 2] = [3, 8];

/// A question as it is sent: the name in random case or in the client's, the same for all servers and attempts.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    query: Query,
    flags: Flags,
    /// Name and type in wire format.
    pub(crate) as_sent: Arc<[u8]>,
}

/// Why a server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It replied with an error: SERVFAIL, REFUSED or FORMERR.
    Said(ResponseCode),
    /// No reply arrived.
    Silent,
    /// The server cannot be reached, or the connection broke.
    Unreachable(String),
    /// It sent an unreadable reply.
    Unreadable(String),
}

/// How long to wait for an answer, and what to do then.
#[derive(Debug, Clone, Copy)]
enum Wait {
    /// Send the question again.
    Again(Duration),
    /// Count the server as silent.
    Silence,
    /// Give up.
    End,
}

/// One name server.
pub(crate) struct Server {
    pub(crate) upstream: Upstream,
    pub(crate) health: health::Health,
    pool: UdpPool,
    streams: Streams,
    /// It has answered in a different letter case than that of the question.
    any_case: AtomicBool,
    /// It has shown that it does not support EDNS.
    no_edns: AtomicBool,
    /// For questions that another server has answered: see `race`.
    learning: Arc<Semaphore>,
}

/// How to ask it over a connection.
enum Streams {
    Pool(Box<Pool>),
    /// The server is in a container and is asked from within.
    Within(Arc<Resolver>),
}

/// Creates servers.
pub(crate) struct Maker(Arc<PoolContext>);

impl Maker {
    /// The error says what is wrong with TLS.
    pub(crate) fn new(roots: &Roots) -> Result<Self, String> {
        encrypted::context(roots).map(Self)
    }

    pub(crate) fn server(&self, upstream: &Upstream) -> Server {
        let streams = Streams::Pool(Box::new(encrypted::pool(upstream, self.0.clone())));
        Server::new(upstream.clone(), UdpPool::new(upstream.address, None), streams)
    }
}

impl Sent {
    pub(crate) fn new(question: &Question, in_random_case: bool) -> Self {
        let mut name = question.query.name().clone();
        if in_random_case {
            name = name.to_lowercase();
            name.randomize_label_case();
        }
        let mut query = question.query.clone();
        query.set_name(name);
        let flags = question.flags;
        let sent = Question { query, flags };
        Self { as_sent: sent.as_asked().into(), query: sent.query, flags }
    }

    /// Name, type and class as they are sent.
    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    /// The same in lower case, for a server that does not preserve the case.
    fn in_lower_case(&self) -> Self {
        let mut query = self.query.clone();
        query.set_name(query.name().to_lowercase());
        Self { query, flags: self.flags, as_sent: self.as_sent.to_ascii_lowercase().into() }
    }

    fn message(&self, with_edns: bool) -> Message {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        message.add_query(self.query.clone());
        message.metadata.recursion_desired = self.flags.recursion_desired;
        message.metadata.authentic_data = self.flags.authentic_data;
        message.metadata.checking_disabled = self.flags.checking_disabled;
        if with_edns {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP).set_dnssec_ok(self.flags.dnssec_ok);
            message.set_edns(edns);
        }
        message
    }
}

impl Server {
    fn new(upstream: Upstream, pool: UdpPool, streams: Streams) -> Self {
        Self {
            upstream,
            health: health::Health::default(),
            learning: Arc::new(Semaphore::new(LEARNING)),
            pool,
            streams,
            any_case: AtomicBool::new(false),
            no_edns: AtomicBool::new(false),
        }
    }

    /// The resolver in a container.
    pub(crate) fn within(resolver: Resolver) -> Self {
        let address = SocketAddr::from(resolver.address());
        let resolver = Arc::new(resolver);
        let pool = UdpPool::new(address, Some(resolver.clone()));
        Self::new(Upstream { address, transport: Transport::Plain }, pool, Streams::Within(resolver))
    }

    /// Asks the server. An error means that another server is to be asked.
    pub(crate) async fn ask(&self, sent: &Arc<Sent>) -> Result<Reply, Failure> {
        let started = monotonic::now();
        self.health.asked();
        let response = match self.upstream.transport {
            Transport::Plain => self.ask_plain(sent, started).await,
            Transport::Tls { .. } | Transport::Https { .. } => {
                // Boxed: otherwise every waiting question would reserve the memory for it.
                let whole = Box::pin(timeout(PATIENCE, self.over_stream(sent.message(true))));
                whole.await.unwrap_or(Err(Failure::Silent))
            }
        };
        let round_trip = Some(monotonic::now().saturating_duration_since(started));
        match &response {
            Ok(_) => self.health.heard(round_trip, true),
            Err(Failure::Said(_) | Failure::Unreadable(_)) => self.health.heard(round_trip, false),
            // `over_udp` has reported it already.
            Err(Failure::Silent) if self.upstream.transport == Transport::Plain => {}
            Err(failure @ (Failure::Silent | Failure::Unreachable(_))) => self.was_silent(started, failure),
        }
        if let Err(failure) = &response {
            debug!(server = %self.upstream, query = %sent.query, ?failure, "an upstream gave no usable answer");
        }
        response
    }

    async fn ask_plain(&self, sent: &Arc<Sent>, started: Instant) -> Result<Reply, Failure> {
        let mut with_edns = !self.no_edns.load(Ordering::Relaxed);
        let mut message = self.over_udp(sent, with_edns, started).await?;
        if message.metadata.response_code == ResponseCode::FormErr && with_edns {
            // The server may be too old for EDNS (RFC 6891, 7).
            with_edns = false;
            message = self.over_udp(sent, with_edns, started).await?;
            self.no_edns.store(message.metadata.response_code != ResponseCode::FormErr, Ordering::Relaxed);
        }
        if message.metadata.truncation {
            self.health.alive();
            return Box::pin(self.over_stream(sent.message(with_edns))).await;
        }
        match message.metadata.response_code {
            code @ (ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::FormErr) => Err(Failure::Said(code)),
            _ => Ok(reply(*message)),
        }
    }

    async fn over_stream(&self, message: Message) -> Result<Reply, Failure> {
        match &self.streams {
            Streams::Pool(pool) => encrypted::ask(pool, message).await,
            Streams::Within(resolver) => {
                let whole = encrypted::ask_within(resolver.clone(), message);
                timeout(PATIENCE, whole).await.unwrap_or(Err(Failure::Silent))
            }
        }
    }

    /// Asks over UDP, and sends the question again if nothing arrives.
    async fn over_udp(&self, sent: &Arc<Sent>, with_edns: bool, started: Instant) -> Result<Box<Message>, Failure> {
        let mut any_case = self.any_case.load(Ordering::Relaxed);
        let mut sent = if any_case { Arc::new(sent.in_lower_case()) } else { sent.clone() };
        let reply_slot: Arc<ReplySlot> = Arc::default();
        let mut waits = Waits::of(&self.health);
        let mut pending: SmallVec<[Pending; 1]> = SmallVec::new();
        let mut send = true;
        loop {
            if send {
                pending.push(Box::pin(self.send(&sent, with_edns, any_case, &reply_slot)).await?);
            }
            let wait = waits.next().unwrap_or(Wait::End);
            match timeout(wait.span(), reply_slot.hear()).await {
                Ok(Received::Answer(answer)) => {
                    self.any_case.fetch_or(any_case, Ordering::Relaxed);
                    return read(answer, &sent).map(Box::new);
                }
                // Ask again at once, ignoring case: if the server answers that, it does not preserve the case.
                Ok(Received::OtherCase) if !any_case => {
                    (any_case, sent, send) = (true, Arc::new(sent.in_lower_case()), true);
                }
                Ok(Received::OtherCase) => send = false,
                Ok(Received::Refused) => return Err(Failure::Unreachable("the port is closed".into())),
                Err(_) => match wait {
                    Wait::Again(_) => send = true,
                    // It may still answer, but later questions go to other servers first.
                    Wait::Silence => {
                        send = false;
                        self.was_silent(started, &Failure::Silent);
                    }
                    Wait::End => return Err(Failure::Silent),
                },
            }
        }
    }

    /// A separate function, so that a waiting question does not hold the message.
    async fn send(
        &self,
        sent: &Sent,
        with_edns: bool,
        any_case: bool,
        reply_slot: &Arc<ReplySlot>,
    ) -> Result<Pending, Failure> {
        let (mut message, question) = encoded(sent, with_edns)?;
        let pending = self.pool.send(&mut message, &question, any_case, reply_slot).await;
        pending.map_err(|error| Failure::Unreachable(error.to_string()))
    }

    /// Records that nothing has arrived since `since`.
    fn was_silent(&self, since: Instant, failure: &Failure) {
        if self.health.silent(since) {
            warn!(server = %self.upstream, ?failure, "an upstream does not answer: netd asks others first");
        }
    }
}

/// The successive waits for an answer.
#[derive(Debug)]
struct Waits {
    late: Duration,
    /// How many of [`AGAIN`] have been used.
    again: usize,
    silence: bool,
}

impl Waits {
    fn of(health: &health::Health) -> Self {
        // Do not send again to a server that was silent lately: a lost datagram does not matter there.
        Self { late: health.late(), again: if health.is_out() { AGAIN.len() } else { 0 }, silence: true }
    }
}

impl Iterator for Waits {
    type Item = Wait;

    fn next(&mut self) -> Option<Wait> {
        if let Some(times) = AGAIN.get(self.again) {
            self.again += 1;
            return Some(Wait::Again((self.late * *times).min(SILENCE / 2)));
        }
        std::mem::take(&mut self.silence).then_some(Wait::Silence)
    }
}

impl Wait {
    fn span(self) -> Duration {
        match self {
            Self::Again(span) => span,
            Self::Silence => SILENCE,
            Self::End => PATIENCE,
        }
    }
}

/// The message, and the name, type and class in it.
fn encoded(sent: &Sent, with_edns: bool) -> Result<(Vec<u8>, Arc<[u8]>), Failure> {
    let message = sent.message(with_edns).to_vec().map_err(|error| Failure::Unreadable(error.to_string()))?;
    let end = HEADER + sent.as_sent.len() + 2;
    let question = message.get(HEADER..end).ok_or_else(|| Failure::Unreadable("the question".into()))?;
    let question = question.into();
    Ok((message, question))
}

/// Parses the answer to a question. Its random case must not be passed on: names that point to the question become
/// lower case.
fn read(mut answer: Vec<u8>, sent: &Sent) -> Result<Message, Failure> {
    // Errors may come without the question.
    let name = sent.as_sent.len() - 2;
    if let Some(question) = answer.get_mut(HEADER..HEADER + name)
        && question.eq_ignore_ascii_case(&sent.as_sent[..name])
    {
        question.make_ascii_lowercase();
    }
    Message::from_vec(&answer).map_err(|error| Failure::Unreadable(error.to_string()))
}

/// Converts a reply for the client. Names that equal the question's become lower case, because the client's own case
/// replaces them.
fn reply(message: Message) -> Reply {
    let asked: Option<Name> = message.queries.first().map(|query| query.name().to_lowercase());
    let Message { metadata, mut answers, mut authorities, mut additionals, .. } = message;
    if let Some(asked) = asked {
        let all = answers.iter_mut().chain(&mut authorities).chain(&mut additionals);
        all.filter(|record| record.name == asked).for_each(|record| record.name = asked.clone());
    }
    Reply {
        code: metadata.response_code,
        authoritative: false,
        authentic: metadata.authentic_data,
        answers,
        authorities,
        additionals,
        extended: None,
    }
}
