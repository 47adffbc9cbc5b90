//! The slow path: turns any message into a reply, with hickory's types. It answers local names at once and forwards
//! other questions to upstreams.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use tracing::debug;

use super::egress;
use super::egress::{Gate, Judged};
use super::fast_path;
use super::fast_path::{Done, Source};
use super::rotation::Turns;
use crate::engine::{Handle, Snapshot};
use crate::faces::dns::forward::cache_key::Question;
use crate::faces::dns::forward::in_flight::{NotAdmitted, Permit};
use crate::faces::dns::forward::{Begun, Forwarder};
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::reply;
use crate::faces::dns::message::reply::Reply;
use crate::faces::dns::message::wire::{HEADER, Transport};
use crate::faces::dns::{Config, View};
use crate::model::question::{Client, RecordType as Kind};

/// Bytes of the shortest question: the root's name, type and class.
const QUESTION_MIN: usize = 5;

/// Answers messages. All clones share one state.
#[derive(Clone)]
pub(crate) struct Handler(Arc<Inner>);

struct Inner {
    /// The engine, which opens what is answered to containers whose egress is denied.
    engine: OnceLock<Handle>,
    ttl: u32,
    view: View,
    forwarder: Forwarder,
    turns: Turns,
}

/// The result for a message.
pub(crate) enum Outcome {
    /// Send this reply. Send nothing if it is empty.
    Reply(Vec<u8>),
    /// Send this reply; the question was shed because too many wait.
    Shed(Vec<u8>),
    /// Ask an upstream: see [`Handler::finish`].
    Forward(Box<Forwarding>),
}

/// The result for a question.
enum Decision {
    Reply(Reply),
    Shed(Reply),
    Forward(Box<(Question, Permit, Option<Box<Gate>>)>),
}

/// A question that is to be forwarded to an upstream.
pub(crate) struct Forwarding {
    question: Question,
    permit: Permit,
    /// What happens to the answer before it leaves.
    gate: Option<Box<Gate>>,
}

impl Handler {
    pub(crate) fn new(config: Config, view: View) -> Self {
        let ttl = config.ttl;
        let (engine, forwarder) = (OnceLock::new(), Forwarder::new(config, view.clone()));
        Self(Arc::new(Inner { engine, ttl, forwarder, view, turns: Turns::default() }))
    }

    /// Names the engine that opens what is answered; without one nothing is answered that would have to be opened.
    pub(crate) fn open_with(&self, engine: Handle) {
        // A second one is not needed.
        let _ = self.0.engine.set(engine);
    }

    /// The current state.
    pub(crate) fn view(&self) -> Arc<Snapshot> {
        (self.0.view)()
    }

    /// The fast path, see [`fast_path::answer`].
    pub(crate) fn fast_path(
        &self,
        snapshot: &Snapshot,
        message: &[u8],
        client: SocketAddr,
        transport: Transport,
        out: &mut [u8],
    ) -> Done {
        fast_path::answer(self.source(snapshot), message, client, transport, out)
    }

    /// Processes any message. Never waits.
    pub(crate) fn decide(&self, bytes: &[u8], source: SocketAddr, transport: Transport) -> Outcome {
        let Some(header) = bytes.first_chunk::<HEADER>().filter(|header| header[2] & 0x80 == 0) else {
            // The message is too short to answer, or is itself a reply: answering replies could loop.
            return Outcome::Reply(Vec::new());
        };
        let broken =
            || Outcome::Reply(reply::header_only([header[0], header[1], header[2], header[3]], ResponseCode::FormErr));
        let questions = usize::from(u16::from_be_bytes([header[4], header[5]]));
        // hickory allocates memory for as many questions as the header claims.
        if questions > (bytes.len() - HEADER) / QUESTION_MIN {
            return broken();
        }
        let request = match Message::from_vec(bytes) {
            Ok(request) => request,
            Err(error) => {
                debug!(%source, "cannot read a message: {error}");
                return broken();
            }
        };
        match self.reply(&request, source) {
            Decision::Reply(reply) => Outcome::Reply(reply::message(&request, reply, transport).unwrap_or_default()),
            Decision::Shed(reply) => Outcome::Shed(reply::message(&request, reply, transport).unwrap_or_default()),
            Decision::Forward(forward) => {
                let (question, permit, gate) = *forward;
                Outcome::Forward(Box::new(Forwarding { question, permit, gate }))
            }
        }
    }

    /// The forwarder.
    pub(crate) fn forwarder(&self) -> &Forwarder {
        &self.0.forwarder
    }

    /// Asks an upstream. Returns the reply to the message and its origin. While it waits it holds the message as bytes:
    /// parsed, the message is several times as large.
    pub(crate) async fn finish(
        &self,
        message: &[u8],
        source: SocketAddr,
        transport: Transport,
        forwarding: Box<Forwarding>,
    ) -> (Vec<u8>, Origin) {
        let (begun, permit, gate) = self.begin(source, *forwarding);
        let (mut reply, origin) = self.0.forwarder.wait(begun).await;
        // This cannot fail: the message has been parsed before.
        let Ok(request) = Message::from_vec(message) else { return (Vec::new(), origin) };
        if let (Some(gate), Some(query)) = (gate, request.queries.first()) {
            reply = Box::pin(gate.pass(query.name(), reply, self.0.engine.get())).await;
        }
        // What waits for the engine counts as long as it waits.
        drop(permit);
        (reply::forwarded(&request, reply, transport).unwrap_or_default(), origin)
    }

    /// A separate function, so that the waiting future does not hold the question.
    fn begin(&self, source: SocketAddr, forwarding: Forwarding) -> (Begun, Permit, Option<Box<Gate>>) {
        let Forwarding { question, permit, gate } = forwarding;
        (self.0.forwarder.begin(source.ip().to_canonical(), &question), permit, gate)
    }

    fn reply(&self, request: &Message, source: SocketAddr) -> Decision {
        let error = |code| Decision::Reply(Reply::error(code));
        if request.metadata.op_code != OpCode::Query {
            return error(ResponseCode::NotImp);
        }
        // Exactly one question is required (RFC 9619).
        let [query] = request.queries.as_slice() else {
            return error(ResponseCode::FormErr);
        };
        if request.version() > 0 {
            return error(ResponseCode::BADVERS);
        }
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfer {
            return error(ResponseCode::Refused);
        }
        self.look_up(request, query, source)
    }

    fn look_up(&self, request: &Message, query: &Query, source: SocketAddr) -> Decision {
        let snapshot = self.view();
        let address = source.ip().to_canonical();
        let client = Client::Address(address);
        let name = query.name().to_ascii();
        let kind = Kind::from_code(query.query_type().into());
        let answer = snapshot.resolve(client, name.strip_suffix('.').unwrap_or(&name), kind);
        debug!(client = %source, %query, ?answer, "DNS query");
        if !self.0.forwarder.defers(address, &answer) {
            let local = self.source(&snapshot).local(query.query_type().into());
            if let Some(reply) = local.reply(query.name(), query.query_type(), answer) {
                return Decision::Reply(reply);
            }
            if !snapshot.may_forward(client) {
                // Not NXDOMAIN: the name may exist, but this client may not resolve it.
                return Decision::Reply(Reply::error(ResponseCode::ServFail));
            }
        }
        let gate = match egress::judge(&snapshot, address, query, self.0.engine.get()) {
            Judged::Free => None,
            Judged::Refused(reply) => return Decision::Reply(reply),
            Judged::Held(gate) => Some(gate),
        };
        let question = Question::of(request, query);
        match self.0.forwarder.take_permit(address, &question) {
            Ok(permit) => Decision::Forward(Box::new((question, permit, gate))),
            Err(not_admitted) => {
                debug!(client = %source, %query, ?not_admitted, "not forwarded");
                let reply = Reply::error(ResponseCode::ServFail);
                if not_admitted == NotAdmitted::Full { Decision::Shed(reply) } else { Decision::Reply(reply) }
            }
        }
    }

    fn source<'a>(&'a self, snapshot: &'a Snapshot) -> Source<'a> {
        Source { snapshot, ttl: self.0.ttl, turns: &self.0.turns, forwarder: Some(&self.0.forwarder) }
    }
}
