//! The cache of upstream answers. An answer is served until its TTL expires, and beyond that while no upstream gives a
//! newer one (RFC 8767).
//!
//! An answer is stored in wire format without the header, so that a later question is answered by copying: first the
//! question's own bytes (with the client's letter case), then the records with their TTLs reduced. moka bounds the
//! memory and chooses what to evict. A lookup takes no lock that an insertion holds for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query as Asked, ResponseCode};
use hickory_proto::rr::{RData, Record};

use crate::base::monotonic;
use crate::faces::dns::message::encode::OPT_LENGTH;
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::reply::Reply;
use crate::faces::dns::message::wire::{HEADER, OPT, Query, Transport};

/// The longest time to cache an answer, in seconds, whatever its TTL; and a negative answer (RFC 2308, 5).
const LIFE_MAX: u32 = 86_400;
const NEGATIVE_MAX: u32 = 3_600;
/// Seconds to cache a failure (RFC 9520, 3.2: at least one), so that a stub resolver's retries do not reach all
/// upstreams.
const FAILURE: u32 = 1;
/// The TTL of a stale answer (RFC 8767, 4), and for how long a stale answer is served, both in seconds.
const STALE_TTL: u32 = 30;
const STALE_MAX: u32 = 86_400;
/// After a stale answer could not be renewed, the next attempt waits this long (RFC 8767, 5).
const RENEW_AFTER: Duration = Duration::from_secs(5);
/// The approximate overhead of an entry in bytes.
const OVERHEAD: usize = 256;

/// The cached answers by key.
pub(crate) struct Cache(Option<moka::sync::Cache<Box<[u8]>, Arc<Cached>>>);

/// A cached answer.
#[derive(Debug)]
pub(crate) struct Cached {
    /// The message after the header.
    body: Box<[u8]>,
    /// The number of records in each section.
    counts: [u16; 3],
    /// The offsets of the TTLs in the body.
    ttls: Box<[u16]>,
    code: ResponseCode,
    authentic: bool,
    at: Instant,
    /// For how many seconds the answer is fresh.
    life: u32,
    /// The upper limit of the TTLs in replies, in seconds.
    ttl_max: u32,
    /// No renewal is attempted before this many milliseconds after `at`.
    renew: AtomicU64,
}

/// What may be done with a cached answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Serve it.
    Fresh,
    /// Ask for a newer one; if that fails, serve it.
    Stale,
    /// Serve it: a renewal has just failed.
    Failed,
    /// Expired: do not use it.
    Over,
}

impl Cache {
    /// A cache of this many bytes. With 0 nothing is cached.
    pub(crate) fn new(bytes: u64) -> Self {
        #[expect(clippy::borrowed_box, reason = "it is what moka shows")]
        let weigh = |key: &Box<[u8]>, cached: &Arc<Cached>| weight(key, cached);
        Self((bytes > 0).then(|| moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).build()))
    }

    /// The number of answers and their approximate size in bytes. `None` if nothing is cached at all.
    pub(crate) fn size(&self) -> Option<(u64, u64)> {
        let cache = self.0.as_ref()?;
        // moka updates its counts lazily.
        cache.run_pending_tasks();
        Some((cache.entry_count(), cache.weighted_size()))
    }

    /// The answer for the key, unless it has expired.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<Cached>> {
        self.0.as_ref()?.get(key).filter(|cached| cached.age() != Age::Over)
    }

    /// Caches an answer. If not `fresh`, it may be served only when upstreams fail.
    pub(crate) fn keep(&self, key: &[u8], asked: &Asked, reply: &Reply, fresh: bool) {
        let Some(cache) = &self.0 else { return };
        if let Some(cached) = Cached::of(asked, reply, fresh) {
            cache.insert(key.into(), Arc::new(cached));
        }
    }

    /// Postpones the next renewal after all upstreams failed. Returns whether there is an answer to serve.
    pub(crate) fn renew_later(&self, key: &[u8]) -> bool {
        let cached = self.0.as_ref().and_then(|cache| cache.get(key));
        let cached = cached.filter(|cached| cached.is_answer() && cached.age() != Age::Over);
        cached.iter().for_each(|cached| cached.renew_later());
        cached.is_some()
    }
}

/// The size of an answer in bytes.
fn weight(key: &[u8], cached: &Cached) -> u32 {
    u32::try_from(key.len() + cached.body.len() + 2 * cached.ttls.len() + OVERHEAD).unwrap_or(u32::MAX)
}

impl Cached {
    /// `None` if the answer must not be cached.
    fn of(asked: &Asked, reply: &Reply, fresh: bool) -> Option<Self> {
        let life = life(reply)?;
        let answer = is_answer(reply);
        if !answer && !fresh {
            return None;
        }
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        let mut query = asked.clone();
        query.set_name(query.name().to_lowercase());
        message.add_query(query);
        message.answers.clone_from(&reply.answers);
        message.authorities.clone_from(&reply.authorities);
        message.additionals.clone_from(&reply.additionals);
        let bytes = message.to_vec().ok()?;
        let count = |place: usize| u16::from_be_bytes([bytes[place], bytes[place + 1]]);
        let counts = [count(6), count(8), count(10)];
        let records = counts.iter().map(|count| usize::from(*count)).sum();
        let body = bytes.get(HEADER..)?;
        Some(Self {
            ttls: ttls(body, records)?,
            body: body.into(),
            counts,
            code: reply.code,
            authentic: reply.authentic,
            at: monotonic::now(),
            life: if fresh { life } else { 0 },
            ttl_max: if answer { LIFE_MAX } else { life },
            renew: AtomicU64::new(0),
        })
    }

    /// Whether it has records that answer the question.
    fn is_answer(&self) -> bool {
        self.code == ResponseCode::NoError && self.counts[0] > 0
    }

    fn elapsed(&self) -> Duration {
        monotonic::now().saturating_duration_since(self.at)
    }

    pub(crate) fn age(&self) -> Age {
        let elapsed = self.elapsed();
        let seconds = elapsed.as_secs();
        if seconds < u64::from(self.life) {
            Age::Fresh
        } else if !self.is_answer() || seconds >= u64::from(self.life) + u64::from(STALE_MAX) {
            Age::Over
        } else if elapsed.as_millis() < self.renew.load(Ordering::Relaxed).into() {
            Age::Failed
        } else {
            Age::Stale
        }
    }

    /// Postpones the next renewal, after one has failed or timed out.
    pub(crate) fn renew_later(&self) {
        let next = (self.elapsed() + RENEW_AFTER).as_millis();
        self.renew.store(u64::try_from(next).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The origin of a reply made of this answer.
    pub(crate) fn origin(&self) -> Origin {
        if self.age() == Age::Fresh { Origin::Cache } else { Origin::Stale }
    }

    /// The current value of a TTL of the answer.
    fn counted(&self, ttl: u32) -> u32 {
        match u32::try_from(self.elapsed().as_secs()) {
            Ok(elapsed) if elapsed < self.life => ttl.min(self.ttl_max).saturating_sub(elapsed),
            _ => STALE_TTL,
        }
    }

    /// Writes the reply to a question with this key. `None` if it does not fit; the slow path must truncate it.
    pub(crate) fn write(&self, query: &Query<'_>, transport: Transport, out: &mut [u8]) -> Option<usize> {
        let end = HEADER + self.body.len();
        let whole = end + if query.edns.is_some() { OPT_LENGTH } else { 0 };
        let out = out.get_mut(..whole).filter(|_| whole <= query.limit(transport))?;
        out[HEADER..end].copy_from_slice(&self.body);
        out[HEADER..query.end()].copy_from_slice(query.question);
        for place in self.ttls.iter().map(|place| HEADER + usize::from(*place)) {
            let ttl = out.get_mut(place..place + 4)?;
            let counted_down = self.counted(u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]));
            ttl.copy_from_slice(&counted_down.to_be_bytes());
        }
        let [i0, i1, f0, f1] = query.head;
        let authentic = if self.authentic { 0x20 } else { 0 };
        let [answers, authorities, additionals] = self.counts;
        let additionals = additionals + u16::from(query.edns.is_some());
        // QR, RD as in the question; RA, AD, CD as in the question.
        out[..6].copy_from_slice(&[i0, i1, 0x80 | (f0 & 0x01), 0x80 | authentic | (f1 & 0x10) | self.code.low(), 0, 1]);
        for (place, count) in [answers, authorities, additionals].into_iter().enumerate() {
            out[6 + 2 * place..8 + 2 * place].copy_from_slice(&count.to_be_bytes());
        }
        if let Some(edns) = query.edns {
            let [o0, o1] = OPT.to_be_bytes();
            let [s0, s1] = query.payload().to_be_bytes();
            let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
            out[end..].copy_from_slice(&[0, o0, o1, s0, s1, 0, 0, dnssec_ok, 0, 0, 0]);
        }
        Some(whole)
    }

    /// The reply for the slow path.
    pub(crate) fn reply(&self) -> Option<Reply> {
        let mut bytes = vec![0; HEADER];
        (bytes[2], bytes[5]) = (0x80, 1);
        for (place, count) in self.counts.into_iter().enumerate() {
            bytes[6 + 2 * place..8 + 2 * place].copy_from_slice(&count.to_be_bytes());
        }
        bytes.extend_from_slice(&self.body);
        let mut message = Message::from_vec(&bytes).ok()?;
        let all = message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals);
        all.for_each(|record| record.ttl = self.counted(record.ttl));
        Some(Reply {
            code: self.code,
            authoritative: false,
            authentic: self.authentic,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
            extended: None,
        })
    }
}

fn is_answer(reply: &Reply) -> bool {
    reply.code == ResponseCode::NoError && !reply.answers.is_empty()
}

/// For how many seconds a reply may be cached. `None` if it must not be.
fn life(reply: &Reply) -> Option<u32> {
    let answers = reply.answers.iter().map(|record| record.ttl).min();
    let soa = |record: &Record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum).min(NEGATIVE_MAX)),
        _ => None,
    };
    let life = match reply.code {
        ResponseCode::ServFail => Some(FAILURE),
        // A CNAME chain to a name without data ends with an SOA record too (RFC 2308, 2.2).
        ResponseCode::NoError if answers.is_some() => {
            let end = reply.authorities.iter().find_map(soa);
            answers.into_iter().chain(end).min().map(|life| life.min(LIFE_MAX))
        }
        // Without an SOA record a negative answer has no TTL (RFC 2308, 5).
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let end = reply.authorities.iter().find_map(soa)?;
            Some(answers.map_or(end, |answers| answers.min(end)))
        }
        _ => None,
    };
    life.filter(|life| *life > 0)
}

/// The offsets of the records' TTLs in the body of a message. `None` if the body is malformed.
fn ttls(body: &[u8], records: usize) -> Option<Box<[u16]>> {
    let mut at = after_name(body, 0)? + 4;
    let mut places = Vec::with_capacity(records);
    for _ in 0..records {
        let fixed = after_name(body, at)?;
        places.push(u16::try_from(fixed + 4).ok()?);
        let length = body.get(fixed + 8..fixed + 10)?;
        at = fixed + 10 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
    Some(places.into())
}

/// The offset after a name (RFC 1035, 4.1.4).
fn after_name(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *body.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests;
