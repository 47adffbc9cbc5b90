//! Answers of upstreams that are kept: for as long as they say, and longer when no upstream gives a newer one (RFC 8767).
//!
//! An answer is kept as it stands in a message behind the header, so that a question that comes again is answered by
//! copying: the question's own bytes first (the client's case), then the records with their times to live counted down.
//! moka bounds the memory and chooses what goes; looking up takes no lock that an insertion holds for long.

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

/// Seconds that an answer is kept at most, whatever it says; and one that there is none (RFC 2308, 5).
const LIFE_MAX: u32 = 86_400;
const NEGATIVE_MAX: u32 = 3_600;
/// Seconds that a failure is kept (RFC 9520, 3.2: at least one), so that a stub's further tries do not ask everybody
/// again.
const FAILURE: u32 = 1;
/// What is told of an answer beyond its time (RFC 8767, 4), and for how long it is told.
const STALE_TTL: u32 = 30;
const STALE_MAX: u32 = 86_400;
/// After a try to renew such an answer has failed, the next comes this much later (RFC 8767, 5).
const RENEW_AFTER: Duration = Duration::from_secs(5);
/// Bytes that an entry takes besides its own, about.
const OVERHEAD: usize = 256;

/// Answers by their keys.
pub(crate) struct Cache(Option<moka::sync::Cache<Box<[u8]>, Arc<Kept>>>);

/// An answer.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What follows the header.
    body: Box<[u8]>,
    /// Records in each section.
    counts: [u16; 3],
    /// Where in the body times to live stand.
    ttls: Box<[u16]>,
    code: ResponseCode,
    authentic: bool,
    at: Instant,
    /// Seconds for which it is fresh.
    life: u32,
    /// What is told of times to live at most, in seconds.
    ttl_max: u32,
    /// Milliseconds after `at` before which no newer one is asked for.
    renew: AtomicU64,
}

/// What may be done with an answer that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// It is told.
    Fresh,
    /// A newer one is asked for; if that fails, it is told.
    Stale,
    /// That has just failed: it is told.
    Failed,
    /// It is of no use.
    Over,
}

impl Cache {
    /// Of so many bytes; 0: nothing is kept.
    pub(crate) fn new(bytes: u64) -> Self {
        #[expect(clippy::borrowed_box, reason = "it is what moka shows")]
        let weigh = |key: &Box<[u8]>, kept: &Arc<Kept>| weight(key, kept);
        Self((bytes > 0).then(|| moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).build()))
    }

    /// How many answers there are and about how many bytes they take; `None`: nothing is kept.
    pub(crate) fn size(&self) -> Option<(u64, u64)> {
        let cache = self.0.as_ref()?;
        // moka counts in when it finds the time.
        cache.run_pending_tasks();
        Some((cache.entry_count(), cache.weighted_size()))
    }

    /// What is kept under the key, if it is of use.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<Kept>> {
        self.0.as_ref()?.get(key).filter(|kept| kept.age() != Age::Over)
    }

    /// Keeps an answer. `fresh`: it may be told before its time is over.
    pub(crate) fn keep(&self, key: &[u8], asked: &Asked, reply: &Reply, fresh: bool) {
        let Some(cache) = &self.0 else { return };
        if let Some(kept) = Kept::of(asked, reply, fresh) {
            cache.insert(key.into(), Arc::new(kept));
        }
    }

    /// Nobody knew an answer: an older one becomes more precious. Whether there is one.
    pub(crate) fn renew_later(&self, key: &[u8]) -> bool {
        let kept = self.0.as_ref().and_then(|cache| cache.get(key));
        let kept = kept.filter(|kept| kept.is_answer() && kept.age() != Age::Over);
        kept.iter().for_each(|kept| kept.renew_later());
        kept.is_some()
    }
}

/// Bytes that an answer takes.
fn weight(key: &[u8], kept: &Kept) -> u32 {
    u32::try_from(key.len() + kept.body.len() + 2 * kept.ttls.len() + OVERHEAD).unwrap_or(u32::MAX)
}

impl Kept {
    /// `None`: it is not to be kept.
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

    /// Whether it has what was asked for.
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

    /// A try to renew it has failed, or takes long.
    pub(crate) fn renew_later(&self) {
        let next = (self.elapsed() + RENEW_AFTER).as_millis();
        self.renew.store(u64::try_from(next).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Where a reply made of it comes from.
    pub(crate) fn origin(&self) -> Origin {
        if self.age() == Age::Fresh { Origin::Cache } else { Origin::Stale }
    }

    /// What a time to live of the answer has become.
    fn counted(&self, ttl: u32) -> u32 {
        match u32::try_from(self.elapsed().as_secs()) {
            Ok(elapsed) if elapsed < self.life => ttl.min(self.ttl_max).saturating_sub(elapsed),
            _ => STALE_TTL,
        }
    }

    /// Writes the reply to a question of its key. `None`: it does not fit, and has to be cut on the slow path.
    pub(crate) fn write(&self, query: &Query<'_>, transport: Transport, out: &mut [u8]) -> Option<usize> {
        let end = HEADER + self.body.len();
        let whole = end + if query.edns.is_some() { OPT_LENGTH } else { 0 };
        let out = out.get_mut(..whole).filter(|_| whole <= query.limit(transport))?;
        out[HEADER..end].copy_from_slice(&self.body);
        out[HEADER..query.end()].copy_from_slice(query.question);
        for place in self.ttls.iter().map(|place| HEADER + usize::from(*place)) {
            let ttl = out.get_mut(place..place + 4)?;
            let told = self.counted(u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]));
            ttl.copy_from_slice(&told.to_be_bytes());
        }
        let [i0, i1, f0, f1] = query.head;
        let authentic = if self.authentic { 0x20 } else { 0 };
        let [answers, authorities, additionals] = self.counts;
        let additionals = additionals + u16::from(query.edns.is_some());
        // QR, RD as asked; RA, AD, CD as asked.
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

    /// The same for the slow path.
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
        })
    }
}

fn is_answer(reply: &Reply) -> bool {
    reply.code == ResponseCode::NoError && !reply.answers.is_empty()
}

/// Seconds for which a reply may be kept; `None`: not at all.
fn life(reply: &Reply) -> Option<u32> {
    let answers = reply.answers.iter().map(|record| record.ttl).min();
    let soa = |record: &Record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum).min(NEGATIVE_MAX)),
        _ => None,
    };
    let life = match reply.code {
        ResponseCode::ServFail => Some(FAILURE),
        // A chain of aliases to a name without data ends with a SOA record too (RFC 2308, 2.2).
        ResponseCode::NoError if answers.is_some() => {
            let end = reply.authorities.iter().find_map(soa);
            answers.into_iter().chain(end).min().map(|life| life.min(LIFE_MAX))
        }
        // Without a SOA record nobody knows for how long (RFC 2308, 5).
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let end = reply.authorities.iter().find_map(soa)?;
            Some(answers.map_or(end, |answers| answers.min(end)))
        }
        _ => None,
    };
    life.filter(|life| *life > 0)
}

/// Where in a message's body the times to live of its records stand; `None` when it cannot be read.
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

/// The place behind a name (RFC 1035, 4.1.4).
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
