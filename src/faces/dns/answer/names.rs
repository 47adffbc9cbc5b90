//! The interface for other faces: asks questions on behalf of a container, and reports the health of upstreams.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::future::BoxFuture;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::slow_path::Handler;
use crate::engine::dns::names::{Asked, CacheCounts, Names, UpstreamHealth};
use crate::engine::telemetry::meter::code_name;
use crate::faces::dns::forward::Explained;
use crate::faces::dns::forward::cache_key::{Flags, Question};
use crate::faces::dns::forward::selection::Source;
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::reply::Reply;
use crate::faces::dns::telemetry::data;
use crate::model::upstream::Upstream;

/// The forwarding of a [`Server`](crate::faces::dns::Server).
pub(crate) struct Forwarding(pub(crate) Handler);

impl Forwarding {
    async fn inquire(&self, client: IpAddr, name: &str, kind: &str) -> Asked {
        let Some(question) = question(name, kind) else {
            return nobody(vec![format!("{name:?} {kind} does not fit into a DNS message")]);
        };
        let forwarder = self.0.forwarder();
        // Explained before asking: asking changes the health of the upstreams and thereby their order.
        let notes = forwarder.explain(client, &question).map(|explained| notes(&explained)).unwrap_or_default();
        match forwarder.take_permit(client, &question) {
            Ok(permit) => {
                // In a task of its own: other clients may wait for the same answer after this requester has gone.
                let handler = self.0.clone();
                let task = tokio::spawn(async move {
                    let _permit = permit;
                    handler.forwarder().ask(client, &question).await
                });
                match task.await {
                    Ok((reply, origin)) => asked(&reply, origin, kind, notes),
                    Err(error) => nobody(vec![format!("the question was not forwarded: {error}")]),
                }
            }
            Err(not_admitted) => nobody(vec![not_admitted.to_string()]),
        }
    }
}

impl Names for Forwarding {
    fn ask<'a>(&'a self, container: Option<IpAddr>, name: &'a str, kind: &'a str) -> BoxFuture<'a, Asked> {
        // The host belongs to no network: the unspecified address has no upstreams of a container or network.
        let client = container.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.to_canonical());
        Box::pin(self.inquire(client, name, kind))
    }

    fn has_beside(&self, container: IpAddr) -> bool {
        self.0.forwarder().has_beside(container)
    }

    fn upstreams(&self) -> Vec<UpstreamHealth> {
        self.0.forwarder().health()
    }

    fn cache(&self) -> Option<CacheCounts> {
        self.0.forwarder().cache()
    }

    fn waiting(&self) -> u64 {
        self.0.forwarder().taken()
    }
}

fn question(name: &str, kind: &str) -> Option<Question> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    let flags = Flags { recursion_desired: true, ..Flags::default() };
    Some(Question { query: Query::query(name, kind.parse::<RecordType>().ok()?), flags })
}

fn nobody(notes: Vec<String>) -> Asked {
    let code = code_name(ResponseCode::ServFail.into());
    Asked { code, answers: Vec::new(), origin: Origin::Nobody, ttl: None, notes }
}

fn asked(reply: &Reply, origin: Origin, kind: &str, notes: Vec<String>) -> Asked {
    // The TTL of a negative answer is in the SOA record (RFC 2308, 5).
    let known = if reply.answers.is_empty() { &reply.authorities } else { &reply.answers };
    Asked {
        code: code_name(reply.code.into()),
        answers: reply.answers.iter().map(|record| data(record, kind)).collect(),
        origin,
        ttl: known.iter().map(|record| record.ttl).min(),
        notes,
    }
}

/// Describes which upstreams a question goes to, and why.
fn notes(explained: &Explained) -> Vec<String> {
    let list = |servers: &[Upstream]| servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let whose = match explained.source {
        Source::Beside => {
            return vec![format!("the container's own resolver is asked: {}", list(&explained.servers))];
        }
        Source::Container => "of the container",
        Source::Network => "of the network",
        Source::Split => "configured for this domain",
        Source::Configuration => "of the configuration",
        Source::Host => "of the host's resolv.conf",
    };
    let servers = if explained.servers.is_empty() {
        format!("there is no upstream {whose}")
    } else {
        format!("upstreams {whose}: {}", list(&explained.servers))
    };
    let left_out = (!explained.left_out.is_empty())
        .then(|| format!("skipped because they forward to netd: {}", list(&explained.left_out)));
    [Some(servers), left_out].into_iter().flatten().collect()
}
