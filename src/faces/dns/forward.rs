//! Forwarding: a question that is not ours to the host's name servers, one after the other, and what they say back.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::net::xfer::DnsHandle as _;
use hickory_resolver::net::{DnsError, NetError};
use tracing::debug;

use super::flights::{Flight, Flights, Grounded};
use super::origin::Origin;
use super::reply::{MAX_UDP, Reply};
use super::upstreams::{Upstream, Upstreams, leads_back};
use super::{Config, View};

/// A question as its asker put it, with the flags that an upstream must see.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Name, type, class.
    pub(super) query: Query,
    /// Whether the asker knows EDNS, and whether it wants DNSSEC records (RFC 3225).
    pub(super) edns: Option<bool>,
    /// RD, AD and CD.
    pub(super) flags: [bool; 3],
}

/// Asks the host's name servers.
pub(super) struct Forwarder {
    upstreams: Upstreams,
    flights: Arc<Flights>,
    view: View,
}

impl Forwarder {
    pub(super) fn new(config: Config, view: View) -> Self {
        Self { upstreams: Upstreams::new(config), flights: Arc::default(), view }
    }

    /// A place for a query under way, or why there is none.
    pub(super) fn take_off(&self, asker: IpAddr, question: &Question) -> Result<Flight, Grounded> {
        let from_host = (self.view)().desired.at_gateway(asker).is_some();
        self.flights.take_off(asker, from_host, &question.query)
    }

    /// What the first server says that knows an answer. SERVFAIL when none does: NXDOMAIN would be a lie that gets
    /// cached.
    pub(super) async fn ask(&self, asker: IpAddr, question: &Question) -> (Reply, Origin) {
        let servers = self.upstreams.now();
        let snapshot = (self.view)();
        for server in servers.in_order() {
            if leads_back(server.address.ip(), asker, &snapshot) {
                debug!(server = %server.address, %asker, "not asked: the server leads back here");
                continue;
            }
            match tokio::time::timeout(servers.share, ask_one(&server, question)).await {
                Ok(Ok(reply)) => return (reply, Origin::Upstream(server.address)),
                Ok(Err(failure)) => debug!(server = %server.address, query = %question.query, "{failure}"),
                Err(_) => {
                    server.was_silent();
                    debug!(server = %server.address, query = %question.query, "no answer");
                }
            }
        }
        (Reply::error(ResponseCode::ServFail), Origin::Nobody)
    }
}

/// What one server says; an error when the next one is to be asked.
async fn ask_one(server: &Upstream, question: &Question) -> Result<Reply, NetError> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.add_query(question.query.clone());
    [message.metadata.recursion_desired, message.metadata.authentic_data, message.metadata.checking_disabled] =
        question.flags;
    if let Some(dnssec_ok) = question.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP).set_dnssec_ok(dnssec_ok);
        message.set_edns(edns);
    }
    let request = DnsRequest::new(message, DnsRequestOptions::default());
    let response = server.pool.send(request).next().await.unwrap_or(Err(NetError::NoConnections));
    match response {
        Ok(response) => {
            let message = response.into_message();
            Ok(Reply {
                code: message.metadata.response_code,
                authoritative: false,
                authentic: message.metadata.authentic_data,
                answers: message.answers,
                authorities: message.authorities,
                additionals: message.additionals,
            })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let soa = || none.soa.map(|soa| vec![soa.into_record_of_rdata()]).unwrap_or_default();
            let authorities = none.authorities.map_or_else(soa, |records| records.to_vec());
            Ok(Reply { authorities, ..Reply::error(none.response_code) })
        }
        Err(NetError::Dns(DnsError::ResponseCode(code)))
            if !matches!(code, ResponseCode::ServFail | ResponseCode::Refused) =>
        {
            Ok(Reply::error(code))
        }
        Err(error) => {
            if matches!(error, NetError::Timeout | NetError::Io(_) | NetError::NoConnections) {
                server.was_silent();
            }
            Err(error)
        }
    }
}
