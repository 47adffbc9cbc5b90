//! Counting and logging of queries, from the bytes of the question and of the reply, whichever path answered.
//!
//! Counting increments atomics that belong to a listener, which is known before the query arrives. Query logs are off
//! for most containers, and one check per batch finds out whether any is on. If a container is logged, its messages are
//! copied and a task parses them. If that task lags, entries are dropped and counted, so that logging never delays a
//! reply.

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

/// Entries of all containers that wait to be written. Writing one takes about 20 us.
const WAITING: usize = 2048;
/// Answers whose data an entry includes.
const ANSWERS: usize = 8;

/// Counts and logs queries. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    telemetry: Arc<Telemetry>,
    notes: mpsc::Sender<Note>,
}

/// One address at which questions arrive.
#[derive(Debug)]
pub(super) struct Listener {
    recorder: Recorder,
    address: IpAddr,
    /// The client of all questions that arrive there. `None`: the source address of each question is its client.
    client: Option<IpAddr>,
    counted: ArcSwapOption<Counted>,
}

/// The network for which a listener counts.
#[derive(Debug)]
struct Counted {
    network: NetworkName,
    counts: Arc<NetworkCounts>,
}

/// A query and its reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replied<'a> {
    pub(super) question: &'a [u8],
    /// If empty, the query counts as unanswered.
    pub(super) reply: &'a [u8],
    pub(super) client: IpAddr,
    pub(super) origin: Origin,
    pub(super) transport: Transport,
    /// When the question arrived.
    pub(super) came: Instant,
}

/// A batch of questions that arrived together.
pub(super) struct BatchTelemetry<'a> {
    listener: &'a Listener,
    snapshot: &'a Snapshot,
    counts: Arc<NetworkCounts>,
    logging: arc_swap::Guard<Arc<Logging>>,
    came: Instant,
    /// The number of questions of the batch that were answered at once, by origin.
    replied: [u64; Origin::WORDS.len()],
}

/// An open TCP connection.
#[derive(Debug)]
pub(super) struct Open(Arc<Telemetry>);

/// A log entry to be written.
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
    /// Starts the task that writes the logs. It ends when the last clone is dropped. Must be called within the runtime.
    pub(super) fn start(telemetry: Arc<Telemetry>) -> Self {
        let (notes, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(waiting));
        Self { telemetry, notes }
    }

    /// Logs a query if the query log of its client is on.
    fn note(&self, logging: &Logging, snapshot: &Snapshot, replied: Replied<'_>) {
        if logging.is_empty() {
            return;
        }
        let endpoint = snapshot.desired.at_address(replied.client.to_canonical());
        let Some(to) = endpoint.and_then(|endpoint| logging.get(&endpoint.container.id)) else { return };
        let Ok(permit) = self.notes.try_reserve() else {
            to.drop_one();
            return;
        };
        permit.send(Note {
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

    /// The client of a question from this source address.
    pub(super) fn client(&self, source: SocketAddr) -> SocketAddr {
        self.client.map_or(source, |client| SocketAddr::new(client, source.port()))
    }

    /// The client to count a question against in load shedding. All sources that are not containers count as one
    /// client, because a container that forges source addresses would otherwise get a share for each.
    pub(super) fn share(&self, snapshot: &Snapshot, client: IpAddr) -> IpAddr {
        let known = client == self.address || snapshot.desired.at_address(client).is_some();
        if known { client } else { Ipv6Addr::UNSPECIFIED.into() }
    }

    /// The counters of the network whose name server this is. For a listener within a container, which can change its
    /// networks, those of its first network. A network may enter the state after its sockets were opened.
    fn counts(&self, snapshot: &Snapshot) -> Arc<NetworkCounts> {
        let (meter, desired) = (&self.recorder.telemetry.meter, &snapshot.desired);
        let counted = self.counted.load();
        // A gateway's sockets are closed with its network, so that its counters never change.
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

    /// Starts a batch that has just arrived.
    pub(super) fn batch<'a>(&'a self, snapshot: &'a Snapshot) -> BatchTelemetry<'a> {
        let counts = self.counts(snapshot);
        BatchTelemetry {
            listener: self,
            snapshot,
            counts,
            logging: self.recorder.telemetry.log.now(),
            came: monotonic::now(),
            replied: [0; Origin::WORDS.len()],
        }
    }

    /// Counts and logs one reply.
    pub(super) fn replied(&self, snapshot: &Snapshot, replied: Replied<'_>) {
        let counts = self.counts(snapshot);
        if replied.reply.is_empty() {
            counts.unanswered(Unanswered::NoQuestion);
            return;
        }
        counts.replied(wire::kind(replied.question), wire::code(replied.reply), replied.origin);
        self.recorder.telemetry.meter.took(replied.origin, replied.came.elapsed());
        self.recorder.note(&self.recorder.telemetry.log.now(), snapshot, replied);
    }
}

impl Listener {
    /// Counts a question that was answered with SERVFAIL because too many wait.
    pub(super) fn shed(&self, snapshot: &Snapshot) {
        self.counts(snapshot).shed();
    }

    /// Counts an opened TCP connection. Dropping the result counts it as closed.
    pub(super) fn opened(&self) -> Open {
        self.recorder.telemetry.meter.tcp.open.fetch_add(1, Ordering::Relaxed);
        Open(self.recorder.telemetry.clone())
    }

    /// Counts a TCP connection that was closed at once because too many are open.
    pub(super) fn refused(&self) {
        self.recorder.telemetry.meter.tcp.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an idle TCP connection that was closed to make room.
    pub(super) fn dismissed(&self) {
        self.recorder.telemetry.meter.tcp.dismissed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.meter.tcp.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BatchTelemetry<'_> {
    /// When the batch arrived.
    pub(super) fn came(&self) -> Instant {
        self.came
    }

    /// Counts and logs a question of the batch that was answered at once.
    pub(super) fn replied(&mut self, question: &[u8], reply: &[u8], client: SocketAddr, origin: Origin) {
        self.counts.replied(wire::kind(question), wire::code(reply), origin);
        self.replied[origin.index()] += 1;
        if !self.logging.is_empty() {
            let (client, came, transport) = (client.ip(), self.came, Transport::Udp);
            let replied = Replied { question, reply, client, origin, transport, came };
            self.listener.recorder.note(&self.logging, self.snapshot, replied);
        }
    }

    /// Counts a message of the batch that gets no reply.
    pub(super) fn unanswered(&self, why: Unanswered) {
        self.counts.unanswered(why);
    }

    /// Counts questions that the kernel dropped because its receive queue was full.
    pub(super) fn lost(&self, count: u32) {
        if count > 0 {
            self.counts.lost(count);
        }
    }

    /// Counts a message of the batch that was not admitted. The reply is empty unless it is an ordinary question.
    pub(super) fn shed(&mut self, message: &[u8], reply: &[u8], client: SocketAddr) {
        self.counts.shed();
        if !reply.is_empty() {
            self.replied(message, reply, client, Origin::Nobody);
        }
    }

    /// Finishes the batch: each of its replies took as long as the batch.
    pub(super) fn ready(self) {
        self.listener.recorder.telemetry.meter.took_each(self.replied, self.came.elapsed());
    }
}

/// The origin of a reply that was made without asking an upstream. Such a reply is SERVFAIL only if an upstream should
/// have been asked.
pub(super) fn own(reply: &[u8]) -> Origin {
    if wire::code(reply) == u16::from(ResponseCode::ServFail.low()) { Origin::Nobody } else { Origin::Local }
}

/// Writes entries as they arrive, to the container's query log and to the daemon's log.
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

/// The data of a record with control characters escaped for terminals. It starts with the record's type if that is not
/// the requested type.
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
