//! Replies: from an answer of the zone to records, and from records to a message that fits its transport.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, HeaderCounts, Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tracing::debug;

use crate::engine::Snapshot;
use crate::model::question::{Answer, Service};

/// Largest UDP message we send or ask for: fits every path without fragments (DNS flag day 2020).
pub(super) const MAX_UDP: u16 = 1232;
/// Largest UDP message for an asker without EDNS (RFC 1035, 4.2.1).
const PLAIN_UDP: u16 = 512;
/// SOA refresh, retry and expire in seconds: of use to secondary servers only, of which there are none.
const SOA_TIMES: (i32, i32, i32) = (3600, 600, 86_400);

/// Bytes that services and their addresses may have in one message, which has 64 KiB.
const SERVICES_MAX: usize = 60_000;
/// Bytes of a SRV record besides its target (RFC 2782; the owner is compressed).
const SERVICE_HEADER: usize = 18;
/// Bytes of an address record besides its owner, at most.
const ADDRESS_SIZE: usize = 26;

/// What is said, without the header bits that come from the request.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    /// AA.
    pub(super) authoritative: bool,
    /// AD.
    pub(super) authentic: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Reply {
    /// No records, only a code.
    pub(super) fn error(code: ResponseCode) -> Self {
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
pub(super) struct Local<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) ttl: u32,
    pub(super) turn: usize,
}

impl Local<'_> {
    /// The reply to a question about a name of ours; `None` when it is not ours.
    pub(super) fn reply(&self, name: &Name, kind: RecordType, answer: Answer) -> Option<Reply> {
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

    /// Turns the list by one for each query, but keeps the networks in their order: the asker's first network stays
    /// the preferred one, and only the containers that share a name on it take turns.
    fn rotated<T: Into<IpAddr> + Copy>(&self, mut list: Vec<T>) -> Vec<T> {
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

    /// The serial counts changes, so it grows as a serial must.
    fn soa(&self, zone: Name) -> Record {
        let (refresh, retry, expire) = SOA_TIMES;
        let serial = (self.snapshot.revision & u64::from(u32::MAX)) as u32;
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

/// Sends a reply: question and EDNS as asked, cut with TC set where it does not fit the transport.
pub(super) async fn send(request: &Request, mut reply: Reply, mut handler: impl ResponseHandler) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.recursion_available = true;
    metadata.response_code = reply.code;
    metadata.authoritative = reply.authoritative;
    metadata.authentic_data = reply.authentic;
    let limit = request.max_payload().min(MAX_UDP);
    let edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(limit).set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
    if request.protocol() == Protocol::Udp {
        let limit = if edns.is_some() { limit } else { PLAIN_UDP };
        metadata.truncation = fit(request, &metadata, edns.as_ref(), &mut reply, limit.into());
    }
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if let Some(edns) = &edns {
        builder.edns(edns);
    }
    let response = builder.build(metadata, &reply.answers, &reply.authorities, [], &reply.additionals);
    match handler.send_response(response).await {
        Ok(info) => info,
        Err(error) => {
            debug!(asker = %request.src(), "send a DNS reply: {error}");
            info(metadata)
        }
    }
}

/// What hickory wants to know about a reply that is sent later, or was not sent.
pub(super) fn info(metadata: Metadata) -> ResponseInfo {
    Header { metadata, counts: HeaderCounts::default() }.into()
}

/// Drops what does not fit into `limit` bytes: first the additional records, which nobody has to be told about, then
/// as many answers as need be. The OPT record always stays (RFC 6891, 7). Returns whether the reply is truncated: TC
/// makes the asker come again over TCP; resolvers that do not (old musl) use the answers that are left.
fn fit(request: &Request, metadata: &Metadata, edns: Option<&Edns>, reply: &mut Reply, limit: usize) -> bool {
    let Ok(info) = request.request_info() else {
        return false;
    };
    let mut message = Message::new(metadata.id, metadata.message_type, metadata.op_code);
    message.add_query(info.query.original().clone());
    message.edns = edns.cloned();
    let fits = |message: &Message| message.to_vec().is_ok_and(|bytes| bytes.len() <= limit);
    message.answers.clone_from(&reply.answers);
    message.authorities.clone_from(&reply.authorities);
    message.additionals.clone_from(&reply.additionals);
    if fits(&message) {
        return false;
    }
    reply.additionals.clear();
    message.additionals.clear();
    if fits(&message) {
        return false;
    }
    reply.authorities.clear();
    message.authorities.clear();
    let (mut fitting, mut too_many) = (0, reply.answers.len() + 1);
    while fitting + 1 < too_many {
        let middle = usize::midpoint(fitting, too_many);
        message.answers = reply.answers[..middle].to_vec();
        if fits(&message) { fitting = middle } else { too_many = middle }
    }
    reply.answers.truncate(fitting);
    true
}
