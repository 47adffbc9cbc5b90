//! Netlink representation of elements (linux/netfilter/nf_tables.h): encoding for changes, decoding for reading back.
//!
//! A key is the concatenation of its fields, each padded to 4 bytes if there are several. An interval set with one
//! field (rbtree) stores an interval as two elements: its first key, and the key after its last. One with several
//! fields (pipapo) stores it as one element with first and last key.

use std::borrow::Cow;
use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_CREATE, NLM_F_REQUEST};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags, SetElementList,
    SetElementMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::verdict;
use crate::kernel::netlink::netfilter::{Batch, Reply, attributes};
use crate::logic::firewall::sets::{Entry, Kind, Set, Value};
use crate::model::address::{Family, Mac, Subnet, address, number};
use crate::model::host::element::{Table, Verdict};
use crate::model::policy::ruling::Edge;
use crate::model::publication::{PortRange, Protocol};

/// `NFT_MSG_DESTROYSETELEM` (Linux 6.3): deletes, and ignores missing elements.
pub(in crate::kernel) const DESTROY: u8 = 30;
/// `NFTA_DATA_VALUE`.
pub(super) const DATA_VALUE: u16 = 1;
/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
pub(super) const LIST_ELEMENTS: u16 = 3;
/// `NFTA_SET_ELEM_KEY`, `_DATA`, `_FLAGS`, `_KEY_END`.
pub(super) const KEY: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VERDICT`.
const DATA_VERDICT: u16 = 2;
const FLAGS: u16 = 3;
const KEY_END: u16 = 10;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// `IFNAMSIZ` (linux/if.h).
const IFNAMSIZ: usize = 16;
/// Elements per message: one attribute holds them, and its length has 16 bits.
pub(super) const PER_MESSAGE: usize = 400;

/// What happens to the entries of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Change {
    /// Add; existing entries are no error.
    Add,
    /// Delete; missing entries are no error. Uses this message type, [`DESTROY`].
    Destroy(u8),
    /// Delete; a missing entry fails the batch.
    Delete,
}

/// Appends messages for entries of one set; returns how many.
pub(in crate::kernel) fn push(batch: &mut Batch, change: Change, set: Set, entries: &[&Entry]) -> u32 {
    let before = batch.len;
    for some in entries.chunks(PER_MESSAGE) {
        let elements = some.iter().flat_map(|entry| encode(entry, change)).map(ListAttribute::Element).collect();
        let message = SetElementMessageBuilder { set, elements };
        match change {
            Change::Add => {
                batch.push(message.build(NfTablesMessage::NewSetElement), NLM_F_REQUEST | NLM_F_CREATE, None);
            }
            Change::Delete => batch.push(message.build(NfTablesMessage::DeleteSetElement), NLM_F_REQUEST, None),
            Change::Destroy(kind) => {
                batch.push(message.build(NfTablesMessage::DeleteSetElement), NLM_F_REQUEST, Some(kind));
            }
        }
    }
    batch.len - before
}

struct SetElementMessageBuilder {
    set: Set,
    elements: Vec<ListAttribute<SetElementAttribute>>,
}

impl SetElementMessageBuilder {
    fn build(self, kind: fn(SetElementMessage) -> NfTablesMessage) -> NetfilterMessage {
        let mut attributes = address_of(self.set);
        attributes.push(SetElementList::Elements(self.elements));
        message(self.set.table(), kind(SetElementMessage { attributes }))
    }
}

fn address_of(set: Set) -> Vec<SetElementList> {
    vec![SetElementList::Table(set.table().name().to_owned()), SetElementList::Set(set.name().to_owned())]
}

/// A message in the family of the table.
pub(in crate::kernel) fn message(table: Table, message: NfTablesMessage) -> NetfilterMessage {
    let family = match table {
        Table::Inet | Table::Services => NetfilterProtoFamily::Inet,
        Table::Bridge => NetfilterProtoFamily::Bridge,
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

/// The request to dump a set.
pub(in crate::kernel) fn list(set: Set) -> NetfilterMessage {
    message(set.table(), NfTablesMessage::GetSetElement(SetElementMessage { attributes: address_of(set) }))
}

/// Encodes one entry as one or two elements. Data is included only for adding; for a deletion it would have to match.
fn encode(entry: &Entry, change: Change) -> Vec<Vec<SetElementAttribute>> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for value in &entry.key {
        let (low, high) = field(value);
        put(&mut first, &low, entry.key.len() > 1);
        put(&mut last, &high, entry.key.len() > 1);
    }
    let mut element = vec![SetElementAttribute::Key(DataAttribute::Value(first))];
    let interval = entry.set.interval();
    if interval && entry.key.len() > 1 {
        element.push(SetElementAttribute::KeyEnd(vec![DefaultNla::new(DATA_VALUE, last.clone())]));
    }
    if let Some(data) = entry.data.as_ref().filter(|_| change == Change::Add) {
        element.push(SetElementAttribute::Data(data_of(data)));
    }
    let mut elements = vec![element];
    if interval && entry.key.len() == 1 {
        // The key after the last one; none if the interval reaches the end of the key space.
        if let Some(end) = successor(last) {
            let key = SetElementAttribute::Key(DataAttribute::Value(end));
            elements.push(vec![key, SetElementAttribute::Flags(SetElementFlags::IntervalEnd)]);
        }
    }
    elements
}

fn put(key: &mut Vec<u8>, field: &[u8], padded: bool) {
    key.extend_from_slice(field);
    if padded {
        key.resize(key.len().next_multiple_of(4), 0);
    }
}

/// First and last value of a field, in network byte order except for slots; names are zero-padded.
fn field(value: &Value) -> (Vec<u8>, Vec<u8>) {
    let same = |bytes: Vec<u8>| (bytes.clone(), bytes);
    match value {
        Value::Interface(name) => {
            let mut bytes = name.as_str().as_bytes().to_vec();
            bytes.resize(IFNAMSIZ, 0);
            same(bytes)
        }
        Value::Mac(mac) => same(mac.bytes().to_vec()),
        Value::Target(address) => same(address.octets().to_vec()),
        Value::Address(address) => same(octets(*address)),
        Value::Subnet(subnet) => {
            let (first, last) = subnet.bounds();
            (octets(address(first, subnet.family())), octets(address(last, subnet.family())))
        }
        Value::Protocol(protocol) => same(vec![protocol.number()]),
        Value::Port(port) => same(port.to_be_bytes().to_vec()),
        Value::Ports(ports) => (ports.first().to_be_bytes().to_vec(), ports.last().to_be_bytes().to_vec()),
        // As the kernel's hash and nft write it.
        Value::Slot(slot) => same(u32::from(*slot).to_ne_bytes().to_vec()),
        // As the kernel's routing writes it.
        Value::Edge(edge) => same(address_type(*edge).to_ne_bytes().to_vec()),
        // Never part of a key.
        Value::Verdict(_) => same(Vec::new()),
    }
}

/// The type of the addresses at an edge: `RTN_LOCAL`, `RTN_UNICAST` (linux/rtnetlink.h).
fn address_type(edge: Edge) -> u32 {
    match edge {
        Edge::Host => 2,
        Edge::Outside => 1,
    }
}

/// The data of a map's entry.
fn data_of(data: &Value) -> DataAttribute {
    let Value::Verdict(verdict) = data else { return DataAttribute::Value(field(data).0) };
    DataAttribute::Other(DefaultNla::new(DATA_VERDICT | NLA_F_NESTED, verdict::encode(*verdict)))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn successor(mut key: Vec<u8>) -> Option<Vec<u8>> {
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(key);
        }
    }
    None
}

fn predecessor(mut key: Vec<u8>) -> Option<Vec<u8>> {
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            return Some(key);
        }
    }
    None
}

/// A decoded but uninterpreted element.
struct Raw<'a> {
    key: &'a [u8],
    key_end: Option<Cow<'a, [u8]>>,
    data: Option<&'a [u8]>,
    verdict: Option<Verdict>,
    end: bool,
}

/// The entries of a dumped set, and how many elements could not be decoded.
pub(in crate::kernel) fn decode(set: Set, replies: &[Reply]) -> (Vec<Entry>, usize) {
    let mut raws: Vec<Raw<'_>> = Vec::new();
    for reply in replies {
        let lists = attributes(&reply.attributes).filter(|(kind, _)| *kind == LIST_ELEMENTS);
        raws.extend(lists.flat_map(|(_, list)| attributes(list)).map(|(_, element)| raw(element)));
    }
    if set.interval() && set.key().len() == 1 {
        close_intervals(&mut raws);
    }
    let count = raws.len();
    let entries: Vec<Entry> = raws.into_iter().filter_map(|raw| entry(set, &raw)).collect();
    let undecodable = count - entries.len();
    (entries, undecodable)
}

fn raw(element: &[u8]) -> Raw<'_> {
    let mut raw = Raw { key: &[], key_end: None, data: None, verdict: None, end: false };
    for (kind, content) in attributes(element) {
        match kind {
            KEY => raw.key = data_value(content).unwrap_or_default(),
            KEY_END => raw.key_end = data_value(content).map(Cow::Borrowed),
            DATA => {
                raw.data = data_value(content);
                raw.verdict = attributes(content)
                    .find(|(kind, _)| *kind == DATA_VERDICT)
                    .and_then(|(_, verdict)| verdict::decode(verdict));
            }
            FLAGS => {
                let flags = content.first_chunk::<4>().map_or(0, |flags| u32::from_be_bytes(*flags));
                raw.end = flags & INTERVAL_END != 0;
            }
            _ => {}
        }
    }
    raw
}

fn data_value(nested: &[u8]) -> Option<&[u8]> {
    attributes(nested).find(|(kind, _)| *kind == DATA_VALUE).map(|(_, value)| value)
}

/// Sets the last key of each interval of an rbtree set, and drops the elements that only end one.
fn close_intervals(raws: &mut Vec<Raw<'_>>) {
    raws.sort_by(|a, b| (a.key, !a.end).cmp(&(b.key, !b.end)));
    let mut next: Option<&[u8]> = None;
    for raw in raws.iter_mut().rev() {
        let last = match next {
            Some(next) => predecessor(next.to_vec()),
            None => Some(vec![u8::MAX; raw.key.len()]),
        };
        raw.key_end = last.map(Cow::Owned);
        next = Some(raw.key);
    }
    raws.retain(|raw| !raw.end);
}

fn entry(set: Set, raw: &Raw<'_>) -> Option<Entry> {
    let kinds = set.key();
    let padded = kinds.len() > 1;
    let (mut first, mut last) = (raw.key, raw.key_end.as_deref().unwrap_or(raw.key));
    let mut key = Vec::with_capacity(kinds.len());
    for kind in kinds.iter().copied() {
        let (low, high) = (take(&mut first, kind, padded)?, take(&mut last, kind, padded)?);
        key.push(value(kind, low, high)?);
    }
    let data = match (set.data(), &raw.data) {
        (Some(Kind::Verdict), _) => Some(Value::Verdict(raw.verdict?)),
        (None, None) => None,
        // The kernel pads data to its register size.
        (Some(kind), Some(bytes)) => {
            let bytes = bytes.get(..size(kind))?;
            Some(value(kind, bytes, bytes)?)
        }
        _ => return None,
    };
    Some(Entry { set, key, data })
}

fn size(kind: Kind) -> usize {
    match kind {
        Kind::Interface => IFNAMSIZ,
        Kind::Mac => 6,
        Kind::Address(Family::V4) | Kind::Subnet(Family::V4) => 4,
        Kind::Address(Family::V6) | Kind::Subnet(Family::V6) | Kind::Target => 16,
        Kind::Protocol => 1,
        Kind::Port | Kind::Ports => 2,
        Kind::Slot | Kind::Edge => 4,
        Kind::Verdict => 0,
    }
}

fn take<'a>(bytes: &mut &'a [u8], kind: Kind, padded: bool) -> Option<&'a [u8]> {
    let size = size(kind);
    let (field, rest) = bytes.split_at_checked(if padded { size.next_multiple_of(4) } else { size })?;
    *bytes = rest;
    field.get(..size)
}

fn value(kind: Kind, low: &[u8], high: &[u8]) -> Option<Value> {
    let one = |value| (low == high).then_some(value);
    let port = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    match kind {
        Kind::Interface => one(Value::Interface(crate::kernel::netlink::netfilter::text(low).parse().ok()?)),
        Kind::Mac => one(Value::Mac(Mac::from_bytes(*low.first_chunk()?)?)),
        Kind::Target => one(Value::Target(<[u8; 16]>::try_from(low).ok()?.into())),
        Kind::Address(_) => one(Value::Address(ip(low)?)),
        Kind::Protocol => one(Value::Protocol(Protocol::from_number(*low.first()?)?)),
        Kind::Port => one(Value::Port(port(low)?)),
        Kind::Slot => one(Value::Slot(u32::from_ne_bytes(*low.first_chunk()?).try_into().ok()?)),
        Kind::Edge => {
            let number = u32::from_ne_bytes(*low.first_chunk()?);
            one(Value::Edge(Edge::ALL.into_iter().find(|edge| address_type(*edge) == number)?))
        }
        Kind::Verdict => None,
        Kind::Ports => Some(Value::Ports(PortRange::new(port(low)?, port(high)?)?)),
        Kind::Subnet(family) => {
            let (first, last) = (number(ip(low)?), number(ip(high)?));
            let bits = if family == Family::V4 { 32 } else { 128 };
            // A prefix has as many host bits as the bits in which first and last differ.
            let host_bits = u128::BITS - (first ^ last).leading_zeros();
            let subnet = Subnet::containing(ip(low)?, u8::try_from(bits - host_bits).ok()?)?;
            (subnet.bounds() == (first, last)).then_some(Value::Subnet(subnet))
        }
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_closed_by_the_next_key() {
        // 10.0.1.0/24 without an end element of its own, and 10.0.3.0/24; as the kernel lists them, from the last.
        let keys = [4, 3, 2, 1, 0].map(|last| [10, 0, last, 0]);
        let ends = [true, false, true, false, true];
        let each = keys.iter().zip(ends);
        let mut raws: Vec<_> =
            each.map(|(key, end)| Raw { key, key_end: None, data: None, verdict: None, end }).collect();
        close_intervals(&mut raws);
        let found: Vec<_> = raws.iter().filter_map(|raw| entry(Set::Masquerade(Family::V4), raw)).collect();
        let subnet = |text: &str| vec![Value::Subnet(text.parse().unwrap())];
        assert_eq!(
            found.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(),
            [subnet("10.0.1.0/24"), subnet("10.0.3.0/24")]
        );
    }

    #[test]
    fn an_interval_up_to_the_last_key_has_no_end() {
        let subnet: Subnet = "255.255.255.0/24".parse().unwrap();
        let entry = Entry { set: Set::Masquerade(Family::V4), key: vec![Value::Subnet(subnet)], data: None };
        assert_eq!(encode(&entry, Change::Add).len(), 1);
    }

    #[test]
    fn an_interval_that_is_no_prefix_is_not_decoded() {
        assert_eq!(value(Kind::Subnet(Family::V4), &[10, 0, 0, 0], &[10, 0, 0, 254]), None);
        assert_eq!(
            value(Kind::Subnet(Family::V4), &[10, 0, 0, 1], &[10, 0, 0, 1]),
            Some(Value::Subnet("10.0.0.1/32".parse().unwrap()))
        );
    }
}
