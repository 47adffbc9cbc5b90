//! The fast path: a question about a name of ours is answered from the snapshot into a buffer, one about another name
//! from what is kept of upstreams' answers, without a task, a lock that somebody holds for long,
//! or a log line. It leaves the rest to the slow path.

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

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// The reply fills that many bytes of the buffer.
    Replied(usize, Origin),
    /// The same, from us, and whoever asks again is to be told something else: it is another one's turn to come first.
    Rotated(usize),
    /// It is for the slow path.
    Left,
    /// Nobody is told anything.
    Ignored,
}

/// What every reply of ours is made from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// Seconds that a reply may be kept.
    pub(crate) ttl: u32,
    pub(crate) turns: &'a Turns,
    /// Who has answers to other names.
    pub(crate) forwarder: Option<&'a Forwarder>,
}

impl<'a> Source<'a> {
    /// The maker of a reply to a question of this type (its number).
    pub(crate) fn local(&self, kind: u16) -> Local<'a> {
        Local { snapshot: self.snapshot, ttl: self.ttl, turn: self.turns.next(kind) }
    }
}

/// Answers a message of the client into `out`, if it can.
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

/// SERVFAIL to a message that cannot be taken care of now; nothing to what is no ordinary question.
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
        let forwarder = source.forwarder.filter(|_| snapshot.may_forward(Client::Address(client)))?;
        let (length, origin) = forwarder.kept(snapshot, client, query, transport, out)?;
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
