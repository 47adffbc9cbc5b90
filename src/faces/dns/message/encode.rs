//! Writes local replies directly into a buffer (RFC 1035, 4.1). They equal the replies that `reply` builds with
//! hickory's types; a property test checks it.

use std::net::IpAddr;

use super::reply::SOA_TIMES;
use super::wire::{HEADER, OPT, Query, Transport};

/// A compression pointer to the name of the question.
const TO_QUESTION: u16 = 0xc000 | HEADER as u16;
const IN: u16 = 1;
const A: u16 = 1;
const SOA: u16 = 6;
const PTR: u16 = 12;
const AAAA: u16 = 28;
/// Length of an OPT record without options.
pub(crate) const OPT_LENGTH: usize = 11;

/// RCODE of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    ServFail = 2,
    NxDomain = 3,
    Refused = 5,
}

/// A reply that is being written.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    /// The end of the space for records. The OPT record has its space after it.
    end: usize,
    answers: u16,
    authorities: u16,
    truncated: bool,
}

impl<'a> Writer<'a> {
    /// Starts with the question, as received. `None` if the buffer is too small for the question and the OPT record.
    pub(crate) fn new(query: &Query<'_>, transport: Transport, out: &'a mut [u8]) -> Option<Self> {
        let limit = query.limit(transport).min(out.len());
        let end = limit.checked_sub(if query.edns.is_some() { OPT_LENGTH } else { 0 })?;
        let begin = HEADER + query.question.len();
        out.get_mut(HEADER..begin).filter(|_| begin <= end)?.copy_from_slice(query.question);
        Some(Self { out, at: begin, end, answers: 0, authorities: 0, truncated: false })
    }

    /// Adds an address to the answers. If it does not fit, TC is set.
    pub(crate) fn address(&mut self, ttl: u32, address: IpAddr) {
        let begin = self.at;
        let written = match address {
            IpAddr::V4(v4) => self.head(A, ttl).and_then(|()| self.data(|w| w.bytes(&v4.octets()))),
            IpAddr::V6(v6) => self.head(AAAA, ttl).and_then(|()| self.data(|w| w.bytes(&v6.octets()))),
        };
        self.answered(begin, written);
    }

    /// Adds a PTR record to the answers, unless the name is too long.
    pub(crate) fn pointer(&mut self, ttl: u32, name: &str) {
        let parts = [name];
        if wire_length(&parts).is_some() {
            let begin = self.at;
            let written = self.head(PTR, ttl).and_then(|()| self.data(|w| w.name(&parts)));
            self.answered(begin, written);
        }
    }

    fn answered(&mut self, begin: usize, written: Option<()>) {
        match written {
            Some(()) => self.answers += 1,
            None => (self.at, self.truncated) = (begin, true),
        }
    }

    /// Adds the SOA record of the zone that contains the name: the local domain, the reverse tree, or the root.
    pub(crate) fn soa(&mut self, query: &Query<'_>, ttl: u32, domain: &str, serial: u32) {
        let begin = self.at;
        match self.try_soa(query.name.as_str(), ttl, domain.trim_matches('.'), serial) {
            Some(()) => self.authorities += 1,
            None => (self.at, self.truncated) = (begin, true),
        }
    }

    fn try_soa(&mut self, name: &str, ttl: u32, domain: &str, serial: u32) -> Option<()> {
        let place = [domain, "in-addr.arpa", "ip6.arpa"].into_iter().find_map(|zone| place_of(name, zone));
        match place {
            Some(place) => self.number(TO_QUESTION + u16::try_from(place).ok()?)?,
            None => self.bytes(&[0])?,
        }
        self.rest_of_head(SOA, ttl)?;
        // Server and mailbox are both in the local domain, which is written at most once more.
        let known = place_of(name, domain).and_then(|place| Some(TO_QUESTION + u16::try_from(place).ok()?));
        self.data(|w| {
            let domain_at = w.in_domain("host", domain, known)?;
            w.in_domain("hostmaster", domain, domain_at)?;
            w.bytes(&serial.to_be_bytes())?;
            let (refresh, retry, expire) = SOA_TIMES;
            for time in [refresh, retry, expire] {
                w.bytes(&time.to_be_bytes())?;
            }
            w.bytes(&ttl.to_be_bytes())
        })
    }

    /// Writes `LABEL.DOMAIN` and returns a pointer to the domain. Writes the root if that name would be too long.
    fn in_domain(&mut self, label: &str, domain: &str, pointer: Option<u16>) -> Option<Option<u16>> {
        if wire_length(&[label, domain]).is_none() {
            self.bytes(&[0])?;
            return Some(pointer);
        }
        let Some(pointer) = pointer else {
            let domain_at = self.at + 1 + label.len();
            self.name(&[label, domain])?;
            return Some(u16::try_from(domain_at).ok().filter(|at| *at < 0x4000).map(|at| 0xc000 | at));
        };
        self.label(label)?;
        self.number(pointer)?;
        Some(Some(pointer))
    }

    /// Finishes the message. Returns its length.
    pub(crate) fn finish(self, query: &Query<'_>, code: Code, authoritative: bool) -> usize {
        let [i0, i1, f0, f1] = query.head;
        let aa = if authoritative { 0x04 } else { 0 };
        let tc = if self.truncated { 0x02 } else { 0 };
        // QR; RD and CD as in the question; RA.
        let flags = [0x80 | aa | tc | (f0 & 0x01), 0x80 | (f1 & 0x10) | code as u8];
        let [n0, n1] = self.answers.to_be_bytes();
        let [a0, a1] = self.authorities.to_be_bytes();
        let opt = u8::from(query.edns.is_some());
        self.out[..HEADER].copy_from_slice(&[i0, i1, flags[0], flags[1], 0, 1, n0, n1, a0, a1, 0, opt]);
        let Some(edns) = query.edns else {
            return self.at;
        };
        let [s0, s1] = query.payload().to_be_bytes();
        let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
        let record = [0, 0, OPT as u8, s0, s1, 0, 0, dnssec_ok, 0, 0, 0];
        // The space has been reserved.
        self.out[self.at..self.at + OPT_LENGTH].copy_from_slice(&record);
        self.at + OPT_LENGTH
    }

    /// Name (the question's), type, class, TTL.
    fn head(&mut self, kind: u16, ttl: u32) -> Option<()> {
        self.number(TO_QUESTION)?;
        self.rest_of_head(kind, ttl)
    }

    fn rest_of_head(&mut self, kind: u16, ttl: u32) -> Option<()> {
        self.number(kind)?;
        self.number(IN)?;
        self.bytes(&ttl.to_be_bytes())
    }

    /// Writes data with its length prefix.
    fn data(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let place = self.at;
        self.number(0)?;
        write(self)?;
        let length = u16::try_from(self.at - place - 2).ok()?;
        self.out[place..place + 2].copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    fn name(&mut self, parts: &[&str]) -> Option<()> {
        for label in parts.iter().flat_map(|part| labels(part)) {
            self.label(label)?;
        }
        self.bytes(&[0])
    }

    /// The caller ensures that the label has at most 63 bytes.
    fn label(&mut self, label: &str) -> Option<()> {
        self.bytes(&[u8::try_from(label.len()).ok()?])?;
        self.bytes(label.as_bytes())
    }

    fn number(&mut self, number: u16) -> Option<()> {
        self.bytes(&number.to_be_bytes())
    }

    /// `None` if there is no room.
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len()).filter(|end| *end <= self.end)?;
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }
}

fn labels(name: &str) -> impl Iterator<Item = &str> {
    let name = name.trim_matches('.');
    name.split('.').filter(move |_| !name.is_empty())
}

/// Bytes of the name that the parts form together. `None` if it is not a valid name (RFC 1035, 2.3.4).
fn wire_length(parts: &[&str]) -> Option<usize> {
    let mut length = 1;
    for label in parts.iter().flat_map(|part| labels(part)) {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        length += 1 + label.len();
    }
    (2..=255).contains(&length).then_some(length)
}

/// The offset of the zone in the name (lower case), if the name is in the zone.
fn place_of(name: &str, zone: &str) -> Option<usize> {
    let place = name.len().checked_sub(zone.len()).filter(|_| !zone.is_empty())?;
    let whole = place == 0 || name.as_bytes()[place - 1] == b'.';
    (whole && name.as_bytes()[place..].eq_ignore_ascii_case(zone.as_bytes())).then_some(place)
}
