//! Replies: converts an answer to records, and records to a message that fits its transport.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tracing::debug;

use super::wire::{HEADER, MAX_UDP, PLAIN_UDP, Transport};
use crate::engine::Snapshot;
use crate::model::question::{Answer, Service};

/// The option code of an extended error (RFC 8914, 5.1).
const EXTENDED_ERROR: u16 = 15;
/// SOA refresh, retry and expire in seconds. Only secondary servers use them, and there are none.
pub(crate) const SOA_TIMES: (i32, i32, i32) = (3600, 600, 86_400);

/// Bytes of the services and their addresses in one message, which can have 64 KiB.
const SERVICES_MAX: usize = 60_000;
/// Bytes of an SRV record besides its target (RFC 2782; the owner is compressed).
const SERVICE_HEADER: usize = 18;
/// The maximum number of bytes of an address record besides its owner.
const ADDRESS_SIZE: usize = 26;

/// The content of a reply, without the header bits that come from the request.
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
    /// The extended error (RFC 8914), for a client that understands it.
    pub(crate) extended: Option<(u16, &'static str)>,
}

impl Reply {
    /// A reply without records.
    pub(crate) fn error(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            authentic: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            extended: None,
        }
    }

    fn ours(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Self {
        Self { authoritative: true, answers, authorities, ..Self::error(code) }
    }
}

/// What local replies are built from: the state, the TTL in seconds, and by how much to rotate addresses.
pub(crate) struct Local<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) ttl: u32,
    pub(crate) turn: usize,
}

impl Local<'_> {
    /// The reply to a question about a local name. `None` if the name is not local.
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
            // RFC 8482, 4.2: one small record, of a type that clients do not ask for otherwise.
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

    /// The SRV records of a service and the addresses of each target, as many as one message holds. Targets of equal
    /// priority are rotated.
    fn services(&self, name: &Name, mut services: Vec<Service>) -> Reply {
        for equal in services.chunk_by_mut(|one, other| one.priority == other.priority) {
            equal.rotate_left(self.turn % equal.len());
        }
        let (mut answers, mut additionals, mut written) = (Vec::new(), Vec::new(), HashSet::new());
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
            // The addresses of a target that serves on several ports are added once.
            for address in addresses.into_iter().filter(|_| !written.contains(&host)) {
                let data = match address {
                    IpAddr::V4(v4) => RData::A(A(v4)),
                    IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
                };
                if let Some(rest) = left.checked_sub(ADDRESS_SIZE + host.len()) {
                    left = rest;
                    additionals.push(Record::from_rdata(host.clone(), self.ttl, data));
                }
            }
            written.insert(host);
        }
        Reply { additionals, ..Reply::ours(ResponseCode::NoError, answers, Vec::new()) }
    }

    /// NOERROR with the SOA record (RFC 2308, 2.2). The apex has SOA and NS records.
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

    /// Rotates the list by one for each query, but preserves the order of the networks: the client's first network
    /// stays preferred, and only the containers that share a name on one network are rotated.
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

    /// The zone whose SOA record accompanies a negative answer. It must be an ancestor of the name, or resolvers ignore
    /// it. It is the local domain; for a name outside it, the reverse zone or the root.
    fn zone_of(&self, name: &Name) -> Name {
        let zones = [self.snapshot.domain.as_str(), "in-addr.arpa", "ip6.arpa"];
        zones.into_iter().filter_map(to_name).find(|zone| zone.zone_of(name)).unwrap_or_else(Name::root)
    }

    /// The revision of the zone, which increases as a serial must.
    pub(crate) fn serial(&self) -> u32 {
        (self.snapshot.zone_revision & u64::from(u32::MAX)) as u32
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

/// One text, split into strings of at most 255 bytes, which readers concatenate (RFC 7208, 3.3).
fn txt(text: &str) -> TXT {
    TXT::from_bytes(text.as_bytes().chunks(255).collect())
}

/// Converts a local name to a domain name. `None` if it is too long (RFC 1035, 2.3.4).
fn to_name(text: &str) -> Option<Name> {
    let labels = text.trim_matches('.').split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Encodes a reply, with the question and EDNS of the request, in a length that fits the transport (see [`fitting`]).
/// `None` if it cannot be encoded, which is logged.
pub(crate) fn message(request: &Message, reply: Reply, transport: Transport) -> Option<Vec<u8>> {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.recursion_available = true;
    metadata.response_code = reply.code;
    metadata.authoritative = reply.authoritative;
    metadata.authentic_data = reply.authentic;
    let mut message = Message::new(metadata.id, metadata.message_type, metadata.op_code);
    message.metadata = metadata;
    // More than one question is an error (RFC 9619), and all of them might not fit.
    if request.queries.len() == 1 {
        message.queries.clone_from(&request.queries);
    }
    let limit = request.max_payload().min(MAX_UDP);
    message.edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(limit).set_dnssec_ok(asked.flags().dnssec_ok);
        if let Some((code, why)) = reply.extended {
            let data = [&code.to_be_bytes()[..], why.as_bytes()].concat();
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
        }
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

/// Encodes an upstream's reply. The names in it that are compressed to the question's name or a suffix of it get the
/// client's letter case, because they point to the question.
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

/// Encodes the message in at most `limit` bytes. What does not fit is dropped: first the additional records, which are
/// optional, then the authority records and as many answers as necessary. The OPT record always stays (RFC 6891, 7). TC
/// makes the client ask again over TCP; resolvers that do not (old musl) use the remaining answers.
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

/// A message with only a header, for a request whose question is unreadable: ID, operation, RD and CD are those of the
/// `request`.
pub(crate) fn header_only(request: [u8; 4], code: ResponseCode) -> Vec<u8> {
    let [i0, i1, f0, f1] = request;
    vec![i0, i1, 0x80 | (f0 & 0x79), 0x80 | (f1 & 0x10) | code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
}
