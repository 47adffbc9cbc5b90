//! Replies: from an answer of the zone to records, and from records to a message that fits its transport.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tracing::debug;

use super::wire::{HEADER, MAX_UDP, PLAIN_UDP, Transport};
use crate::engine::Snapshot;
use crate::model::question::{Answer, Service};

/// SOA refresh, retry and expire in seconds: of use to secondary servers only, of which there are none.
pub(crate) const SOA_TIMES: (i32, i32, i32) = (3600, 600, 86_400);

/// Bytes that services and their addresses may have in one message, which has 64 KiB.
const SERVICES_MAX: usize = 60_000;
/// Bytes of a SRV record besides its target (RFC 2782; the owner is compressed).
const SERVICE_HEADER: usize = 18;
/// Bytes of an address record besides its owner, at most.
const ADDRESS_SIZE: usize = 26;

/// What is said, without the header bits that come from the request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    /// AA.
    pub(crate) authoritative: bool,
    /// AD.
    pub(crate) authentic: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Reply {
    /// No records, only a code.
    pub(crate) fn error(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            authentic: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    fn ours(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Self {
        Self { authoritative: true, answers, authorities, ..Self::error(code) }
    }
}

/// How replies of ours are made: the state, the time to live in seconds, and by how much addresses are rotated.
pub(crate) struct Local<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) ttl: u32,
    pub(crate) turn: usize,
}

impl Local<'_> {
    /// The reply to a question about a name of ours; `None` when it is not ours.
    pub(crate) fn reply(&self, name: &Name, kind: RecordType, answer: Answer) -> Option<Reply> {
        let record = |data: RData| Record::from_rdata(name.clone(), self.ttl, data);
        let answers = match answer {
            Answer::A(addresses) => self.rotated(addresses).into_iter().map(|v4| record(RData::A(A(v4)))).collect(),
            Answer::Aaaa(addresses) => {
                self.rotated(addresses).into_iter().map(|v6| record(RData::AAAA(AAAA(v6)))).collect()
            }
            Answer::Ptr(names) => names.iter().filter_map(|n| to_name(n)).map(|n| record(RData::PTR(PTR(n)))).collect(),
            Answer::Srv(services) => return Some(self.services(name, services)),
            Answer::Txt(texts) => texts.iter().map(|text| record(RData::TXT(txt(text)))).collect(),
            // RFC 8482, 4.2: one small record, of a type that nobody asks for by itself.
            Answer::Any => vec![record(RData::HINFO(HINFO::new("RFC8482".into(), String::new())))],
            Answer::NoData => return Some(self.no_data(name, kind)),
            Answer::NxDomain => {
                return Some(Reply::ours(ResponseCode::NXDomain, Vec::new(), vec![self.soa(self.zone_of(name))]));
            }
            Answer::Refused => return Some(Reply::error(ResponseCode::Refused)),
            Answer::Forward => return None,
        };
        Some(Reply::ours(ResponseCode::NoError, answers, Vec::new()))
    }

    /// Where a service is, with the addresses of each target, as many as one message holds. Equal priorities take turns.
    fn services(&self, name: &Name, mut services: Vec<Service>) -> Reply {
        for equal in services.chunk_by_mut(|one, other| one.priority == other.priority) {
            equal.rotate_left(self.turn % equal.len());
        }
        let (mut answers, mut additionals, mut told) = (Vec::new(), Vec::new(), HashSet::new());
        let mut left = SERVICES_MAX;
        for Service { priority, port, target, addresses } in services {
            let Some(host) = to_name(&target) else { continue };
            let Some(rest) = left.checked_sub(SERVICE_HEADER + host.len()) else { break };
            left = rest;
            answers.push(Record::from_rdata(
                name.clone(),
                self.ttl,
                RData::SRV(SRV::new(priority, 1, port, host.clone())),
            ));
            // A target that serves on several ports is told of once.
            for address in addresses.into_iter().filter(|_| !told.contains(&host)) {
                let data = match address {
                    IpAddr::V4(v4) => RData::A(A(v4)),
                    IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
                };
                if let Some(rest) = left.checked_sub(ADDRESS_SIZE + host.len()) {
                    left = rest;
                    additionals.push(Record::from_rdata(host.clone(), self.ttl, data));
                }
            }
            told.insert(host);
        }
        Reply { additionals, ..Reply::ours(ResponseCode::NoError, answers, Vec::new()) }
    }

    /// NOERROR with SOA (RFC 2308, 2.2); the apex has its SOA and NS.
    fn no_data(&self, name: &Name, kind: RecordType) -> Reply {
        let at_apex = to_name(&self.snapshot.domain).is_some_and(|apex| apex == *name);
        match kind {
            RecordType::SOA if at_apex => Reply::ours(ResponseCode::NoError, vec![self.soa(name.clone())], Vec::new()),
            RecordType::NS if at_apex => {
                let ns = Record::from_rdata(name.clone(), self.ttl, RData::NS(NS(self.in_domain("host"))));
                Reply::ours(ResponseCode::NoError, vec![ns], Vec::new())
            }
            _ => Reply::ours(ResponseCode::NoError, Vec::new(), vec![self.soa(self.zone_of(name))]),
        }
    }

    /// Turns the list by one for each query, but keeps the networks in their order: the client's first network stays
    /// the preferred one, and only the containers that share a name on it take turns.
    pub(crate) fn rotated<T: Into<IpAddr> + Copy>(&self, mut list: Vec<T>) -> Vec<T> {
        if list.len() > 1 {
            let network =
                |address: &T| self.snapshot.desired.at_address((*address).into()).map(|endpoint| &endpoint.network);
            for same in list.chunk_by_mut(|one, other| network(one) == network(other)) {
                same.rotate_left(self.turn % same.len());
            }
        }
        list
    }

    /// The zone whose SOA says that a name is not there: an ancestor of the name, or resolvers ignore it. Ours is the
    /// domain; a name without it hangs from the root.
    fn zone_of(&self, name: &Name) -> Name {
        let zones = [self.snapshot.domain.as_str(), "in-addr.arpa", "ip6.arpa"];
        zones.into_iter().filter_map(to_name).find(|zone| zone.zone_of(name)).unwrap_or_else(Name::root)
    }

    /// Counts changes, so it grows as a serial must.
    pub(crate) fn serial(&self) -> u32 {
        (self.snapshot.revision & u64::from(u32::MAX)) as u32
    }

    fn soa(&self, zone: Name) -> Record {
        let (refresh, retry, expire) = SOA_TIMES;
        let serial = self.serial();
        let (mname, rname) = (self.in_domain("host"), self.in_domain("hostmaster"));
        let soa = SOA::new(mname, rname, serial, refresh, retry, expire, self.ttl);
        Record::from_rdata(zone, self.ttl, RData::SOA(soa))
    }

    fn in_domain(&self, label: &str) -> Name {
        to_name(&format!("{label}.{}", self.snapshot.domain)).unwrap_or_else(Name::root)
    }
}

/// One text, cut into strings of at most 255 bytes, which readers put together again (RFC 7208, 3.3).
fn txt(text: &str) -> TXT {
    TXT::from_bytes(text.as_bytes().chunks(255).collect())
}

/// A name of ours as a domain name; `None` when it is too long for one (RFC 1035, 2.3.4).
fn to_name(text: &str) -> Option<Name> {
    let labels = text.trim_matches('.').split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The message that says it: questions and EDNS as asked, cut with TC set where it does not fit the transport. `None`
/// when it cannot be written, which is logged.
pub(crate) fn message(request: &Message, reply: Reply, transport: Transport) -> Option<Vec<u8>> {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.recursion_available = true;
    metadata.response_code = reply.code;
    metadata.authoritative = reply.authoritative;
    metadata.authentic_data = reply.authentic;
    let mut message = Message::new(metadata.id, metadata.message_type, metadata.op_code);
    message.metadata = metadata;
    // More than one is an error (RFC 9619), and all of them might not fit.
    if request.queries.len() == 1 {
        message.queries.clone_from(&request.queries);
    }
    let limit = request.max_payload().min(MAX_UDP);
    message.edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(limit).set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
    (message.answers, message.authorities, message.additionals) = (reply.answers, reply.authorities, reply.additionals);
    let limit = match transport {
        Transport::Udp if message.edns.is_none() => PLAIN_UDP,
        Transport::Udp => limit,
        Transport::Tcp => u16::MAX,
    };
    match fitting(message, limit.into()) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            debug!(query = ?request.queries, "write a DNS reply: {error}");
            None
        }
    }
}

/// The same for an upstream's reply: names in it that the question's name ends in, and that name itself, get the client's
/// case, because they point to the question.
pub(crate) fn forwarded(request: &Message, reply: Reply, transport: Transport) -> Option<Vec<u8>> {
    let mut lower = request.clone();
    lower.queries.iter_mut().for_each(|query| _ = query.set_name(query.name().to_lowercase()));
    let mut bytes = message(&lower, reply, transport)?;
    let mut at = HEADER;
    for label in request.queries.first().into_iter().flat_map(|query| query.name().iter()) {
        at += 1;
        bytes.get_mut(at..at + label.len())?.copy_from_slice(label);
        at += label.len();
    }
    Some(bytes)
}

/// The message in at most `limit` bytes. What does not fit is dropped: first the additional records, which nobody has
/// to be told about, then as many answers as need be. The OPT record always stays (RFC 6891, 7). TC makes the client
/// come again over TCP; resolvers that do not (old musl) use the answers that are left.
fn fitting(mut message: Message, limit: usize) -> Result<Vec<u8>, hickory_proto::ProtoError> {
    let bytes = message.to_vec()?;
    if bytes.len() <= limit {
        return Ok(bytes);
    }
    message.additionals.clear();
    let bytes = message.to_vec()?;
    if bytes.len() <= limit {
        return Ok(bytes);
    }
    message.authorities.clear();
    message.metadata.truncation = true;
    let answers = std::mem::take(&mut message.answers);
    let (mut fitting, mut too_many) = (0, answers.len() + 1);
    while fitting + 1 < too_many {
        let middle = usize::midpoint(fitting, too_many);
        message.answers = answers[..middle].to_vec();
        if message.to_vec()?.len() <= limit { fitting = middle } else { too_many = middle }
    }
    message.answers = answers[..fitting].to_vec();
    message.to_vec()
}

/// A message of a header alone, for what is too broken to have a question: ID, operation, RD and CD as in the
/// `request`'s header.
pub(crate) fn header_only(request: [u8; 4], code: ResponseCode) -> Vec<u8> {
    let [i0, i1, f0, f1] = request;
    vec![i0, i1, 0x80 | (f0 & 0x79), 0x80 | (f1 & 0x10) | code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
}
