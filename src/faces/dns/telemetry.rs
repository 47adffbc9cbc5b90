//! Counting and logging, at the edge: from the bytes that came and the bytes that go, whichever way they took.
//!
//! Counting is an increment at a listener that is known before the query comes. Logging is off for almost everybody, which
//! one look per batch tells; for whom it is on, the bytes are copied and a task reads them. When that task lags, entries
//! are dropped and counted: nobody who answers waits for a log.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use tokio::sync::mpsc;
use tracing::info;

use super::message::origin::Origin;
use super::message::wire;
use super::message::wire::Transport;
use crate::base::{clock, monotonic};
use crate::engine::Snapshot;
use crate::engine::telemetry::log::Logging;
use crate::engine::telemetry::meter::{Unanswered, code_name};
use crate::engine::telemetry::{Entry, Logged, NetworkCounts, Telemetry};
use crate::model::names::NetworkName;

/// Entries that wait to be written, of all containers. Writing one takes some 20 us.
const WAITING: usize = 2048;
/// Answers of which an entry has the data.
const ANSWERS: usize = 8;

/// What counts and logs; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    seen: Arc<Telemetry>,
    notes: mpsc::Sender<Note>,
}

/// One address at which questions come in.
#[derive(Debug)]
pub(super) struct Listener {
    recorder: Recorder,
    address: IpAddr,
    /// Who asks there; `None`: whom the source tells.
    client: Option<IpAddr>,
    counted: ArcSwapOption<Counted>,
}

/// For which network a listener counts.
#[derive(Debug)]
struct Counted {
    network: NetworkName,
    counts: Arc<NetworkCounts>,
}

/// A query that has been replied to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replied<'a> {
    pub(super) question: &'a [u8],
    /// Nothing is counted when it is empty.
    pub(super) reply: &'a [u8],
    pub(super) client: IpAddr,
    pub(super) origin: Origin,
    pub(super) transport: Transport,
    /// When the question came.
    pub(super) came: Instant,
}

/// A batch of questions that came together.
pub(super) struct BatchTelemetry<'a> {
    listener: &'a Listener,
    snapshot: &'a Snapshot,
    counts: Arc<NetworkCounts>,
    logging: arc_swap::Guard<Arc<Logging>>,
    came: Instant,
    /// How many of them were replied to at once, by origin.
    replied: [u64; Origin::WORDS.len()],
}

/// An open TCP connection.
#[derive(Debug)]
pub(super) struct Open(Arc<Telemetry>);

/// An entry to be written.
#[derive(Debug)]
struct Note {
    to: Arc<Logged>,
    time: SystemTime,
    question: Vec<u8>,
    reply: Vec<u8>,
    origin: Origin,
    transport: Transport,
    duration: Duration,
}

impl Recorder {
    /// Starts the task that writes the logs; it ends with the last clone. Must be called within the runtime.
    pub(super) fn start(seen: Arc<Telemetry>) -> Self {
        let (notes, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(waiting));
        Self { seen, notes }
    }

    /// Logs a query of the client, if it is logged.
    fn note(&self, logging: &Logging, snapshot: &Snapshot, replied: Replied<'_>) {
        if logging.is_empty() {
            return;
        }
        let endpoint = snapshot.desired.at_address(replied.client.to_canonical());
        let Some(to) = endpoint.and_then(|endpoint| logging.get(&endpoint.container.id)) else { return };
        let Ok(listener) = self.notes.try_reserve() else {
            to.drop_one();
            return;
        };
        listener.send(Note {
            to: to.clone(),
            time: clock::now(),
            question: replied.question.to_vec(),
            reply: replied.reply.to_vec(),
            origin: replied.origin,
            transport: replied.transport,
            duration: replied.came.elapsed(),
        });
    }
}

impl Listener {
    pub(super) fn new(recorder: Recorder, address: IpAddr, client: Option<IpAddr>) -> Arc<Self> {
        Arc::new(Self { recorder, address, client, counted: ArcSwapOption::empty() })
    }

    /// Who asks a question that came from there.
    pub(super) fn client(&self, source: SocketAddr) -> SocketAddr {
        self.client.map_or(source, |client| SocketAddr::new(client, source.port()))
    }

    /// Whose share a question of this client counts against where questions are too many: its own. Sources that are no
    /// container's have one together, or a container that makes them up would have a share for each.
    pub(super) fn share(&self, snapshot: &Snapshot, client: IpAddr) -> IpAddr {
        let known = client == self.address || snapshot.desired.at_address(client).is_some();
        if known { client } else { Ipv6Addr::UNSPECIFIED.into() }
    }

    /// The counts of the network whose name server this is; within a container, which may change its networks, those of
    /// its first. The network may enter the state after its sockets opened.
    fn counts(&self, snapshot: &Snapshot) -> Arc<NetworkCounts> {
        let (meter, desired) = (&self.recorder.seen.meter, &snapshot.desired);
        let counted = self.counted.load();
        // A gateway's sockets are closed with its network.
        if let Some(counted) = counted.as_ref().filter(|_| self.client.is_none()) {
            return counted.counts.clone();
        }
        let network = match self.client {
            Some(client) => desired.at_address(client).and_then(|endpoint| desired.network(&endpoint.network)),
            None => desired.at_gateway(self.address),
        };
        let Some(network) = network else { return meter.elsewhere.clone() };
        if let Some(counted) = counted.as_ref().filter(|counted| counted.network == network.name) {
            return counted.counts.clone();
        }
        let counts = meter.of(desired, network);
        self.counted.store(Some(Arc::new(Counted { network: network.name.clone(), counts: counts.clone() })));
        counts
    }

    /// A batch that has just come.
    pub(super) fn batch<'a>(&'a self, snapshot: &'a Snapshot) -> BatchTelemetry<'a> {
        let counts = self.counts(snapshot);
        BatchTelemetry {
            listener: self,
            snapshot,
            counts,
            logging: self.recorder.seen.log.now(),
            came: monotonic::now(),
            replied: [0; Origin::WORDS.len()],
        }
    }

    /// One question has been replied to.
    pub(super) fn replied(&self, snapshot: &Snapshot, replied: Replied<'_>) {
        let counts = self.counts(snapshot);
        if replied.reply.is_empty() {
            counts.unanswered(Unanswered::NoQuestion);
            return;
        }
        counts.replied(wire::kind(replied.question), wire::code(replied.reply), replied.origin);
        self.recorder.seen.meter.took(replied.origin, replied.came.elapsed());
        self.recorder.note(&self.recorder.seen.log.now(), snapshot, replied);
    }
}

impl Listener {
    /// A question was answered SERVFAIL because too much waits.
    pub(super) fn shed(&self, snapshot: &Snapshot) {
        self.counts(snapshot).shed();
    }

    /// A TCP connection has been opened; it is closed when what this returns is dropped.
    pub(super) fn opened(&self) -> Open {
        self.recorder.seen.meter.tcp.open.fetch_add(1, Ordering::Relaxed);
        Open(self.recorder.seen.clone())
    }

    /// A TCP connection was closed at once, because too many are open.
    pub(super) fn refused(&self) {
        self.recorder.seen.meter.tcp.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// An idle TCP connection was closed to make room.
    pub(super) fn dismissed(&self) {
        self.recorder.seen.meter.tcp.dismissed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.meter.tcp.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BatchTelemetry<'_> {
    /// When the batch came.
    pub(super) fn came(&self) -> Instant {
        self.came
    }

    /// A question of the batch is replied to at once.
    pub(super) fn replied(&mut self, question: &[u8], reply: &[u8], client: SocketAddr, origin: Origin) {
        self.counts.replied(wire::kind(question), wire::code(reply), origin);
        self.replied[origin.index()] += 1;
        if !self.logging.is_empty() {
            let (client, came, transport) = (client.ip(), self.came, Transport::Udp);
            let replied = Replied { question, reply, client, origin, transport, came };
            self.listener.recorder.note(&self.logging, self.snapshot, replied);
        }
    }

    /// A message of the batch stays without reply.
    pub(super) fn unanswered(&self, why: Unanswered) {
        self.counts.unanswered(why);
    }

    /// So many questions were dropped by the kernel, because too many waited.
    pub(super) fn lost(&self, count: u32) {
        if count > 0 {
            self.counts.lost(count);
        }
    }

    /// A message of the batch cannot be taken care of now; the reply is empty where it is no ordinary question.
    pub(super) fn shed(&mut self, message: &[u8], reply: &[u8], client: SocketAddr) {
        self.counts.shed();
        if !reply.is_empty() {
            self.replied(message, reply, client, Origin::Nobody);
        }
    }

    /// The replies are ready: each took as long as the batch.
    pub(super) fn ready(self) {
        self.listener.recorder.seen.meter.took_each(self.replied, self.came.elapsed());
    }
}

/// Where a reply comes from that was made without asking anybody: SERVFAIL is only said where somebody should have been
/// asked.
pub(super) fn own(reply: &[u8]) -> Origin {
    if wire::code(reply) == u16::from(ResponseCode::ServFail.low()) { Origin::Nobody } else { Origin::Local }
}

/// Writes entries as they come, into the container's log and the daemon's.
async fn write(mut waiting: mpsc::Receiver<Note>) {
    while let Some(note) = waiting.recv().await {
        let to = note.to.clone();
        let entry = to.add(entry(&note));
        let Entry { transport, name, kind, code, answers, answer_count, origin, duration, dropped_before, .. } =
            &*entry;
        if *dropped_before > 0 {
            info!(target: "netd::dns", container = %to.container.name, "{dropped_before} entries dropped");
        }
        let server = match origin {
            Origin::Upstream(server) => Some(tracing::field::display(server)),
            _ => None,
        };
        let microseconds = duration.as_micros();
        info!(target: "netd::dns", container = %to.container.name, transport, %name, %kind, %code, source = origin.as_str(),
            server, answers = answer_count, first = answers.first(), us = microseconds, "query");
    }
}

fn entry(note: &Note) -> Entry {
    let question = Message::from_vec(&note.question).ok().and_then(|message| message.queries.into_iter().next());
    let (name, kind) = question.map_or_else(Default::default, |query| {
        let name = query.name().to_ascii();
        (name.strip_suffix('.').unwrap_or(&name).to_owned(), query.query_type().to_string())
    });
    let answers = Message::from_vec(&note.reply).map(|message| message.answers).unwrap_or_default();
    Entry {
        time: note.time,
        transport: match note.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        },
        answers: answers.iter().take(ANSWERS).map(|record| data(record, &kind)).collect(),
        name,
        kind,
        code: code_name(wire::code(&note.reply)),
        answer_count: answers.len(),
        origin: note.origin,
        duration: note.duration,
        dropped_before: 0,
    }
}

/// A record's data, without characters that would do something to a terminal; with its type where that is not the one
/// that was asked for.
pub(super) fn data(record: &Record, asked: &str) -> String {
    let kind: RecordType = record.record_type();
    let (kind, data) = (kind.to_string(), record.data.to_string());
    let data: String = data
        .chars()
        .flat_map(|c| c.escape_debug().filter(move |_| c.is_control()).chain((!c.is_control()).then_some(c)))
        .collect();
    if kind == asked { data } else { format!("{kind} {data}") }
}

#[cfg(test)]
mod tests;
