//! The handler: one query to one reply. What is ours is answered at once; what is not goes upstream in a task of its
//! own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{LowerQuery, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use tracing::debug;

use super::forward::{Forwarder, Question};
use super::reply::{Local, Reply, info, send};
use super::{Config, View};
use crate::model::question::{Asker, RecordType as Kind};

/// Shared by the sockets of all gateways.
#[derive(Clone)]
pub(super) struct Handler(Arc<Inner>);

struct Inner {
    ttl: u32,
    view: View,
    forwarder: Forwarder,
    /// Counts answers, to rotate them.
    turn: AtomicUsize,
}

/// What becomes of a query.
enum Outcome {
    Reply(Reply),
    Forward(Question),
}

impl Handler {
    pub(super) fn new(config: Config, view: View) -> Self {
        let ttl = config.ttl;
        Self(Arc::new(Inner { ttl, forwarder: Forwarder::new(config, view.clone()), view, turn: AtomicUsize::new(0) }))
    }

    fn decide(&self, request: &Request) -> Outcome {
        let error = |code| Outcome::Reply(Reply::error(code));
        if request.metadata.op_code != OpCode::Query {
            return error(ResponseCode::NotImp);
        }
        // Without exactly one question there is nothing to answer (RFC 9619).
        let Ok(asked) = request.request_info() else {
            return error(ResponseCode::FormErr);
        };
        if request.version() > 0 {
            return error(ResponseCode::BADVERS);
        }
        let transfer = matches!(asked.query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if asked.query.query_class() != DNSClass::IN || transfer {
            return error(ResponseCode::Refused);
        }
        self.look_up(request, asked.query)
    }

    fn look_up(&self, request: &Request, query: &LowerQuery) -> Outcome {
        let snapshot = (self.0.view)();
        let asker = Asker::Address(request.src().ip().to_canonical());
        let original = query.original();
        let name = original.name().to_ascii();
        let kind = Kind::from_code(query.query_type().into());
        let answer = snapshot.resolve(asker, name.strip_suffix('.').unwrap_or(&name), kind);
        debug!(asker = %request.src(), query = %original, ?answer, "DNS query");
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let local = Local { snapshot: &snapshot, ttl: self.0.ttl, turn };
        if let Some(reply) = local.reply(original.name(), query.query_type(), answer) {
            return Outcome::Reply(reply);
        }
        if !snapshot.may_forward(asker) {
            // Not NXDOMAIN: the name may well exist, only not for this asker.
            return Outcome::Reply(Reply::error(ResponseCode::ServFail));
        }
        let flags = &request.metadata;
        Outcome::Forward(Question {
            query: original.clone(),
            edns: request.edns.as_ref().map(|edns| edns.flags().dnssec_ok),
            flags: [flags.recursion_desired, flags.authentic_data, flags.checking_disabled],
        })
    }

    /// Asks upstream in a task of its own, so that later queries on the same TCP connection do not wait for it.
    fn forward(&self, request: &Request, question: Question, handler: impl ResponseHandler) -> Result<(), Reply> {
        let servfail = || Reply::error(ResponseCode::ServFail);
        let asker = request.src().ip().to_canonical();
        let flight = self.0.forwarder.take_off(asker, &question).map_err(|grounded| {
            debug!(%asker, query = %question.query, ?grounded, "not forwarded");
            servfail()
        })?;
        // hickory lends the request; the task needs one of its own.
        let request = Request::from_bytes(request.as_slice().to_vec(), request.src(), request.protocol());
        let request = request.map_err(|_| servfail())?;
        let inner = self.0.clone();
        tokio::spawn(async move {
            let reply = inner.forwarder.ask(asker, &question).await;
            drop(flight);
            send(&request, reply, handler).await;
        });
        Ok(())
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, response: R) -> ResponseInfo {
        let reply = match self.decide(request) {
            Outcome::Reply(reply) => reply,
            Outcome::Forward(question) => match self.forward(request, question, response.clone()) {
                Ok(()) => return info(Metadata::response_from_request(&request.metadata)),
                Err(reply) => reply,
            },
        };
        send(request, reply, response).await
    }
}
