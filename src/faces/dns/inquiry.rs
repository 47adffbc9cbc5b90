//! The door for other faces: asks as a container's question would be asked, and tells what it was told.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RecordType};

use super::handler::Handler;
use super::origin::Origin;
use super::reply::Reply;
use super::watch::data;
use crate::engine::names::{Asked, CacheCounts, Names, UpstreamHealth};
use crate::engine::seen::meter::code_name;

/// The address that the host asks from: none that a container, a gateway or a server has.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The name service as other faces see it.
pub(super) struct Inquiry(Handler);

impl Inquiry {
    pub(super) fn new(handler: Handler) -> Arc<dyn Names> {
        Arc::new(Self(handler))
    }

    async fn inquire(&self, asker: IpAddr, name: &str, kind: &str) -> Asked {
        let name = name.strip_suffix('.').unwrap_or(name);
        let query = match (Name::from_ascii(format!("{name}.")), kind.parse::<RecordType>()) {
            (Ok(name), Ok(kind)) => Query::query(name, kind),
            _ => return nobody(format!("{name} {kind} is no question that a message could hold")),
        };
        match self.0.forward(asker, &query).await {
            Ok((reply, origin)) => asked(&reply, origin, kind),
            Err(grounded) => nobody(grounded.to_string()),
        }
    }
}

impl Names for Inquiry {
    fn ask<'a>(&'a self, container: Option<IpAddr>, name: &'a str, kind: &'a str) -> BoxFuture<'a, Asked> {
        Box::pin(self.inquire(container.unwrap_or(HOST), name, kind))
    }

    fn upstreams(&self) -> Vec<UpstreamHealth> {
        Vec::new()
    }

    fn cache(&self) -> Option<CacheCounts> {
        None
    }
}

fn nobody(note: String) -> Asked {
    let code = code_name(hickory_proto::op::ResponseCode::ServFail.low().into());
    Asked { code, answers: Vec::new(), origin: Origin::Nobody, ttl: None, notes: vec![note] }
}

fn asked(reply: &Reply, origin: Origin, kind: &str) -> Asked {
    let known = if reply.answers.is_empty() { &reply.authorities } else { &reply.answers };
    Asked {
        code: code_name(reply.code.into()),
        answers: reply.answers.iter().map(|record| data(record, kind)).collect(),
        origin,
        ttl: known.iter().map(|record| record.ttl).min(),
        notes: Vec::new(),
    }
}
