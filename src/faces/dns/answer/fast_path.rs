//! The fast path: answers a question into a buffer, without a task, without a lock that is held for long, and without a
//! log line. It answers local names from the snapshot and other names from the cache of upstream answers. The slow path
//! answers the rest.

use std::net::{IpAddr, SocketAddr};

use super::rotation::Turns;
use crate::engine::Snapshot;
use crate::faces::dns::forward::Forwarder;
use crate::faces::dns::message::encode::{Code, Writer};
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::reply::Local;
use crate::faces::dns::message::wire;
use crate::faces::dns::message::wire::{Incoming, Query, Transport};
use crate::model::question::{Answer, Client, RecordType};

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;

/// The result of the fast path for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// The reply has this many bytes of the buffer.
    Replied(usize, Origin),
    /// A local reply of this many bytes with several addresses. It must not be cached: rotation changes the order of
    /// the addresses in the next reply.
    Rotated(usize),
    /// The slow path must answer.
    Left,
    /// No reply is sent.
    Ignored,
}

/// What local replies are built from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// The TTL of a reply, in seconds.
    pub(crate) ttl: u32,
    pub(crate) turns: &'a Turns,
    /// The forwarder, which has the cached answers for other names.
    pub(crate) forwarder: Option<&'a Forwarder>,
}

impl<'a> Source<'a> {
    /// The builder of a reply to a question of this type, given as its number.
    pub(crate) fn local(&self, kind: u16) -> Local<'a> {
        Local { snapshot: self.snapshot, ttl: self.ttl, turn: self.turns.next(kind) }
    }
}

/// Answers a message of the client into `out`, if possible.
pub(crate) fn answer(
    source: Source<'_>,
    message: &[u8],
    client: SocketAddr,
    transport: Transport,
    out: &mut [u8],
) -> Done {
    match wire::read(message) {
        Incoming::Query(query) => {
            reply(source, &query, client.ip().to_canonical(), transport, out).unwrap_or(Done::Left)
        }
        Incoming::Odd => Done::Left,
        Incoming::Nothing => Done::Ignored,
    }
}

/// Writes SERVFAIL for an ordinary question that cannot be processed now. Returns 0 for any other message.
pub(crate) fn fail(message: &[u8], transport: Transport, out: &mut [u8]) -> usize {
    let Incoming::Query(query) = wire::read(message) else {
        return 0;
    };
    Writer::new(&query, transport, out).map_or(0, |writer| writer.finish(&query, Code::ServFail, false))
}

fn reply(source: Source<'_>, query: &Query<'_>, client: IpAddr, transport: Transport, out: &mut [u8]) -> Option<Done> {
    let (snapshot, kind) = (source.snapshot, RecordType::from_code(query.kind));
    let answer = snapshot.resolve(Client::Address(client), query.name.as_str(), kind);
    if source.forwarder.is_some_and(|forwarder| forwarder.defers(client, &answer)) {
        return None;
    }
    if answer == Answer::Forward {
        if snapshot.desired.restraint_at(client).is_some() {
            return None;
        }
        let forwarder = source.forwarder.filter(|_| snapshot.may_forward(Client::Address(client)))?;
        let (length, origin) = forwarder.cached(snapshot, client, query, transport, out)?;
        return Some(Done::Replied(length, origin));
    }
    if !matches!(query.kind, A | AAAA | PTR) {
        return None;
    }
    let local = source.local(query.kind);
    let rotates = match &answer {
        Answer::A(addresses) => addresses.len() > 1,
        Answer::Aaaa(addresses) => addresses.len() > 1,
        _ => false,
    };
    let mut writer = Writer::new(query, transport, out)?;
    let (code, authoritative) = match answer {
        Answer::A(addresses) => {
            local.rotated(addresses).into_iter().for_each(|v4| writer.address(local.ttl, v4.into()));
            (Code::NoError, true)
        }
        Answer::Aaaa(addresses) => {
            local.rotated(addresses).into_iter().for_each(|v6| writer.address(local.ttl, v6.into()));
            (Code::NoError, true)
        }
        Answer::Ptr(names) => {
            names.iter().for_each(|name| writer.pointer(local.ttl, name));
            (Code::NoError, true)
        }
        Answer::NoData => {
            writer.soa(query, local.ttl, &snapshot.domain, local.serial());
            (Code::NoError, true)
        }
        Answer::NxDomain => {
            writer.soa(query, local.ttl, &snapshot.domain, local.serial());
            (Code::NxDomain, true)
        }
        Answer::Refused => (Code::Refused, false),
        _ => return None,
    };
    let length = writer.finish(query, code, authoritative);
    Some(if rotates { Done::Rotated(length) } else { Done::Replied(length, Origin::Local) })
}
