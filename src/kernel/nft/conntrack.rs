//! Connection tracking: deletes entries that outlive what they were made for (ctnetlink,
//! linux/netfilter/nfnetlink_conntrack.h).
//!
//! The first packet of a flow determines its address translation, which is stored in the entry. Without the deletion,
//! UDP from a fixed port would continue to reach a container that no longer exists, or never reach a new one. Reading
//! the table costs some milliseconds even if it is empty, so it is read once for all flows; a deletion that the kernel
//! filters costs 0.2 ms, so that is used if the filter can express it.

use std::io;
use std::net::{IpAddr, UdpSocket};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_DUMP, Nla, ParseableParametrized};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, ConntrackMessageType, IPTuple, ProtoTuple, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};

use crate::kernel::KernelError;
use crate::kernel::netlink::netfilter::{Netfilter, Reply};
use crate::model::address::Family;
use crate::model::host::step::{Flows, Through};
use crate::model::publication::Protocol;

/// `CTA_ID`, `CTA_ZONE`, `CTA_FILTER`.
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// `CTA_FILTER_ORIG_FLAGS`, `CTA_FILTER_REPLY_FLAGS`: which fields of the tuples are compared.
const ORIG_FLAGS: u16 = 1;
const REPLY_FLAGS: u16 = 2;
/// `CTA_FILTER_F_CTA_IP_SRC`, `_IP_DST`, `_PROTO_NUM`, `_PROTO_DST_PORT` (net/netfilter/nf_internals.h).
const IP_SRC: u32 = 1 << 0;
const IP_DST: u32 = 1 << 1;
const PROTO_NUM: u32 = 1 << 3;
const PROTO_DST_PORT: u32 = 1 << 5;
/// The maximum number of filtered deletions; more cost more than reading the whole table once.
const MANY: usize = 32;

/// The connection tracking of the network namespace in which it is first used, always by threads of that namespace.
///
/// The socket stays open: the kernel finishes all deletions in its firewall before it closes one of this kind, which takes
/// 4 to 20 ms after elements were deleted.
#[derive(Debug, Default)]
pub struct Conntrack {
    netfilter: Option<Netfilter>,
}

impl Conntrack {
    /// Deletes the entries that the flows describe. Entries of other ports, addresses or protocols stay.
    pub fn forget(&mut self, flows: &[Flows]) -> Result<(), KernelError> {
        let failed = |source| KernelError::Io {
            attempted: "delete entries of",
            on: "connection tracking".to_owned(),
            source,
            look: "see `conntrack -L`",
        };
        if flows.is_empty() {
            return Ok(());
        }
        let mut netfilter = match self.netfilter.take() {
            Some(netfilter) => netfilter,
            None => Netfilter::open().map_err(failed)?,
        };
        forget_all(&mut netfilter, flows).map_err(failed)?;
        // After an error, replies to it may still be queued on the socket.
        self.netfilter = Some(netfilter);
        Ok(())
    }
}

fn forget_all(netfilter: &mut Netfilter, flows: &[Flows]) -> io::Result<()> {
    let (filtered, read): (Vec<&Flows>, Vec<&Flows>) = flows.iter().partition(|flow| is_one_filter(flow));
    if filtered.len() > MANY {
        return sweep(netfilter, &flows.iter().collect::<Vec<_>>());
    }
    for flow in filtered {
        match forget_filtered(netfilter, flow) {
            // An older kernel takes a filter for an incomplete entry.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return sweep(netfilter, &flows.iter().collect::<Vec<_>>());
            }
            done => done?,
        }
    }
    if read.is_empty() { Ok(()) } else { sweep(netfilter, &read) }
}

/// Whether the kernel can find the entries itself. No filter can express "any address of the host", and a filter with an
/// IPv6 address finds every entry except those with that address (`ctnetlink_filter_match_tuple`, Linux 5.8 to 6.18).
fn is_one_filter(flow: &Flows) -> bool {
    match flow {
        Flows::Of(address) => address.is_ipv4(),
        Flows::Through(through) => {
            through.family == Family::V4 && (through.address.is_some() || through.member.is_some())
        }
        Flows::Denied(_) => false,
        Flows::To(ports) => ports.ports.count() == 1 && ports.address.is_ipv4() && !ports.address.is_unspecified(),
    }
}

fn forget_filtered(netfilter: &mut Netfilter, flow: &Flows) -> io::Result<()> {
    match flow {
        Flows::Of(address) => {
            let source = || vec![Tuple::Ip(vec![IPTuple::SourceAddress(*address)])];
            let original = [ConntrackAttribute::CtaTupleOrig(source()), filter(IP_SRC, 0)];
            let reply = [ConntrackAttribute::CtaTupleReply(source()), filter(0, IP_SRC)];
            delete(netfilter, Family::of(*address), &original)?;
            delete(netfilter, Family::of(*address), &reply)
        }
        Flows::Through(through) => forget_through(netfilter, through),
        Flows::Denied(_) => sweep(netfilter, &[flow]),
        Flows::To(port) => {
            let tuple = vec![
                Tuple::Ip(vec![IPTuple::DestinationAddress(port.address)]),
                Tuple::Proto(vec![
                    ProtoTuple::Protocol(port.protocol.number().into()),
                    ProtoTuple::DestinationPort(port.ports.first()),
                ]),
            ];
            let filter = filter(IP_DST | PROTO_NUM | PROTO_DST_PORT, 0);
            delete(netfilter, Family::of(port.address), &[ConntrackAttribute::CtaTupleOrig(tuple), filter])
        }
    }
}

fn forget_through(netfilter: &mut Netfilter, through: &Through) -> io::Result<()> {
    let (mut original, mut fields, mut flags) = (Vec::new(), Vec::new(), 0);
    if let Some(address) = through.address {
        original.push(Tuple::Ip(vec![IPTuple::DestinationAddress(address)]));
        flags |= IP_DST;
    }
    if let Some(protocol) = through.protocol {
        fields.push(ProtoTuple::Protocol(protocol.number().into()));
        flags |= PROTO_NUM;
    }
    if let Some(port) = through.port {
        fields.push(ProtoTuple::DestinationPort(port));
        flags |= PROTO_DST_PORT;
    }
    if !fields.is_empty() {
        original.push(Tuple::Proto(fields));
    }
    let mut what = Vec::new();
    if !original.is_empty() {
        what.push(ConntrackAttribute::CtaTupleOrig(original));
    }
    if let Some(member) = through.member {
        what.push(ConntrackAttribute::CtaTupleReply(vec![Tuple::Ip(vec![IPTuple::SourceAddress(member)])]));
    }
    what.push(filter(flags, if through.member.is_some() { IP_SRC } else { 0 }));
    delete(netfilter, through.family, &what)
}

fn filter(orig: u32, reply: u32) -> ConntrackAttribute {
    let flags = [
        DefaultNla::new(ORIG_FLAGS, orig.to_ne_bytes().into()),
        DefaultNla::new(REPLY_FLAGS, reply.to_ne_bytes().into()),
    ];
    let mut value = vec![0; flags.as_slice().buffer_len()];
    flags.as_slice().emit(&mut value);
    ConntrackAttribute::Other(DefaultNla::new(FILTER | NLA_F_NESTED, value))
}

/// Deletes one entry, or those that a filter matches; finding none is no error.
///
/// Each request must name at least a part of an entry: one without any would delete the whole table.
fn delete(netfilter: &mut Netfilter, family: Family, what: &[ConntrackAttribute]) -> io::Result<()> {
    match netfilter.ask(&message(Some(family), ConntrackMessageType::Delete, what), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done.map(drop),
    }
}

/// A message of that type with these attributes; without a family, about both. Version 1 of the header makes the family count. The crate would lose
/// the nested flag of attributes that it does not know, and without the flag the kernel accepts no filter.
pub(super) fn message(
    family: Option<Family>,
    kind: ConntrackMessageType,
    attributes: &[ConntrackAttribute],
) -> NetfilterMessage {
    let family = match family {
        Some(Family::V4) => NetfilterProtoFamily::IPv4,
        Some(Family::V6) => NetfilterProtoFamily::IPv6,
        None => NetfilterProtoFamily::Unspec,
    };
    let raw = |attribute: &ConntrackAttribute| {
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        let nested = if attribute.is_nested() { NLA_F_NESTED } else { 0 };
        DefaultNla::new(attribute.kind() | nested, value)
    };
    let inner = NetfilterMessageInner::Other {
        subsys: NetfilterSubsystem::Conntrack,
        message_type: kind.into(),
        attributes: attributes.iter().map(raw).collect(),
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 1, 0), inner)
}

/// Reads the entries, once for both families, and deletes those that belong to the flows.
fn sweep(netfilter: &mut Netfilter, flows: &[&Flows]) -> io::Result<()> {
    let mut families = flows.iter().map(|flow| flow.family());
    let first = families.next().flatten();
    let family = first.filter(|first| families.all(|other| other == Some(*first)));
    let dump = |netfilter: &mut Netfilter, filters: &[ConntrackAttribute]| {
        netfilter.ask(&message(family, ConntrackMessageType::Get, filters), NLM_F_DUMP)
    };
    // An older kernel returns all, whatever the filter.
    let entries = match narrowed(flows) {
        Some(filters) => dump(netfilter, &filters).or_else(|_| dump(netfilter, &[]))?,
        None => dump(netfilter, &[])?,
    };
    let ports = Ports::of(flows);
    for entry in &entries {
        let family = if i32::from(entry.family) == libc::AF_INET6 { Family::V6 } else { Family::V4 };
        if let Some(name) = name_among(entry, flows, &ports) {
            delete(netfilter, family, &name)?;
        }
    }
    Ok(())
}

/// What all of the flows have in common, as a filter: the protocol, or also the port.
fn narrowed(flows: &[&Flows]) -> Option<[ConntrackAttribute; 2]> {
    let mut ports = flows.iter().map(|flow| match flow {
        Flows::To(port) => Some(port),
        Flows::Of(_) | Flows::Through(_) | Flows::Denied(_) => None,
    });
    let first = ports.next()??;
    let mut is_one = first.ports.count() == 1;
    let (mut tuple, mut fields) = (vec![ProtoTuple::Protocol(first.protocol.number().into())], PROTO_NUM);
    for port in ports {
        let port = port.filter(|port| port.protocol == first.protocol)?;
        is_one &= port.ports == first.ports;
    }
    if is_one {
        tuple.push(ProtoTuple::DestinationPort(first.ports.first()));
        fields |= PROTO_DST_PORT;
    }
    Some([ConntrackAttribute::CtaTupleOrig(vec![Tuple::Proto(tuple)]), filter(fields, 0)])
}

/// The ports of many flows, so that an entry is compared with each of them only if it is to one of these.
struct Ports {
    /// Whether there are flows of addresses.
    any: bool,
    is_one: Vec<bool>,
}

impl Ports {
    fn of(flows: &[&Flows]) -> Self {
        let mut ports = Self { any: false, is_one: vec![false; usize::from(u16::MAX) + 1] };
        for flow in flows {
            match flow {
                Flows::Of(_) | Flows::Through(_) | Flows::Denied(_) => ports.any = true,
                Flows::To(to) => to.ports.ports().for_each(|port| ports.is_one[usize::from(port)] = true),
            }
        }
        ports
    }

    fn may_have(&self, original: &[Tuple]) -> bool {
        let is_one = |field: &ProtoTuple| match field {
            ProtoTuple::DestinationPort(port) => self.is_one[usize::from(*port)],
            _ => false,
        };
        self.any || protocols(original).any(is_one)
    }
}

/// What identifies a dumped entry in a deletion, if it belongs to one of the flows.
#[cfg(any(test, fuzzing))]
pub(super) fn name_of(entry: &Reply, flows: &[&Flows]) -> Option<Vec<ConntrackAttribute>> {
    name_among(entry, flows, &Ports::of(flows))
}

fn name_among(entry: &Reply, flows: &[&Flows], ports: &Ports) -> Option<Vec<ConntrackAttribute>> {
    let attributes = ConntrackMessage::parse_with_param(entry.attributes.as_slice(), entry.kind);
    let Ok(ConntrackMessage::New(mut attributes)) = attributes else { return None };
    let (mut original, mut reply): (&[Tuple], &[Tuple]) = (&[], &[]);
    for attribute in &attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = tuple,
            ConntrackAttribute::CtaTupleReply(tuple) => reply = tuple,
            _ => {}
        }
    }
    // Without the original tuple nothing would name the entry, and the kernel would delete all of them.
    if original.is_empty() || !ports.may_have(original) || !flows.iter().any(|flow| belongs(flow, original, reply)) {
        return None;
    }
    attributes.retain(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuple) => !tuple.is_empty(),
        ConntrackAttribute::Other(other) => matches!(other.kind(), ID | ZONE),
        _ => false,
    });
    Some(attributes)
}

/// Whether an entry with these tuples belongs to a flow, as defined by [`Flows`].
fn belongs(flow: &Flows, original: &[Tuple], reply: &[Tuple]) -> bool {
    match flow {
        Flows::Of(address) => [original, reply].into_iter().any(|tuple| source(tuple) == Some(*address)),
        Flows::Through(through) => {
            let has = |field: ProtoTuple| protocols(original).any(|other| *other == field);
            destination(original).is_some_and(|to| Family::of(to) == through.family)
                && through.address.is_none_or(|address| destination(original) == Some(address))
                && through.protocol.is_none_or(|protocol| has(ProtoTuple::Protocol(protocol.number().into())))
                && through.port.is_none_or(|port| has(ProtoTuple::DestinationPort(port)))
                && through.member.is_none_or(|member| source(reply) == Some(member))
        }
        Flows::Denied(ended) => {
            let (Some(from), Some(to)) = (source(original), source(reply)) else { return false };
            let number = protocols(reply).find_map(|field| match field {
                ProtoTuple::Protocol(number) => Protocol::from_number(u8::from(*number)),
                _ => None,
            });
            let port = protocols(reply).find_map(|field| match field {
                ProtoTuple::SourcePort(port) => Some(*port),
                _ => None,
            });
            ended.has((from, to), number.zip(port), (destination(original) != Some(to), is_local))
        }
        Flows::To(port) => {
            let protocol =
                protocols(original).any(|field| *field == ProtoTuple::Protocol(port.protocol.number().into()));
            let is_one = |field: &ProtoTuple| matches!(field, ProtoTuple::DestinationPort(number) if port.ports.contains(*number));
            let number = protocols(original).any(is_one);
            let any = port.address.is_unspecified();
            let here =
                |to: IpAddr| to == port.address || (any && Family::of(to) == Family::of(port.address) && is_local(to));
            protocol && number && destination(original).is_some_and(here)
        }
    }
}

fn protocols(tuple: &[Tuple]) -> impl Iterator<Item = &ProtoTuple> {
    tuple.iter().flat_map(|part| match part {
        Tuple::Proto(fields) => fields.as_slice(),
        _ => &[],
    })
}

fn addresses(tuple: &[Tuple]) -> impl Iterator<Item = &IPTuple> {
    tuple.iter().flat_map(|part| match part {
        Tuple::Ip(fields) => fields.as_slice(),
        _ => &[],
    })
}

fn source(tuple: &[Tuple]) -> Option<IpAddr> {
    addresses(tuple).find_map(|field| if let IPTuple::SourceAddress(address) = field { Some(*address) } else { None })
}

fn destination(tuple: &[Tuple]) -> Option<IpAddr> {
    let field = |field: &IPTuple| if let IPTuple::DestinationAddress(address) = field { Some(*address) } else { None };
    addresses(tuple).find_map(field)
}

/// Whether it is an address of this host: only local addresses can be bound.
fn is_local(address: IpAddr) -> bool {
    !address.is_multicast() && UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests;
