//! The table `ip netd_dns` in a container's own namespace: it redirects questions to the name service's sockets there
//! and rewrites the answers, without connection tracking. Port 53 thus stays free for the container's own servers.
//!
//! Written by netlink: an `nft` process would take ten times as long. Each rule is a list of expressions
//! (linux/netfilter/nf_tables.h); the equivalent nft line is in the comment above it.

use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{
    DefaultNla, Emitable as _, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST,
};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Expressions, Hook, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableFlags, TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::kernel::netlink::netfilter::{Batch, Netfilter};

/// The table's name.
pub(in crate::kernel) const TABLE: &str = "netd_dns";
const CHAIN: &str = "output";
/// Before connection tracking (-200).
const PRIORITY: i32 = -300;
/// RFC 1035, 4.2.
const DNS_PORT: u16 = 53;
/// UDP and TCP: their protocol numbers and the offsets of their checksums.
const PROTOCOLS: [(u8, u32); 2] = [(17, 6), (6, 16)];
/// `NFT_PAYLOAD_NETWORK_HEADER`, and the offsets of the addresses and the checksum in it (RFC 791, 3.1).
const NETWORK: u32 = 1;
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const HEADER_CHECKSUM: u32 = 10;
/// `NFT_PAYLOAD_TRANSPORT_HEADER`, and the offsets of the ports in it.
const TRANSPORT: u32 = 2;
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
/// `NFT_META_MARK`.
const MARK: u32 = 3;
/// `NFT_META_L4PROTO`.
const L4PROTO: u32 = 16;
/// `NFT_REG_1`.
const REGISTER: u32 = 1;

/// What the table redirects.
#[derive(Debug)]
pub(in crate::kernel) struct Leads<'a> {
    /// The address of the sockets.
    pub(in crate::kernel) at: Ipv4Addr,
    /// The port of the sockets.
    pub(in crate::kernel) port: u16,
    /// Addresses of the container, each with its gateway: questions to the gateway are answered within the container.
    pub(in crate::kernel) gateways: &'a [(Ipv4Addr, Ipv4Addr)],
    /// Packets with this mark bypass the table.
    pub(in crate::kernel) passes: u32,
}

/// The socket that a table belongs to: the kernel removes the table when it closes.
#[derive(Debug)]
pub(in crate::kernel) struct Owner(#[expect(dead_code, reason = "it is kept open")] Netfilter);

/// Writes the table in the calling thread's namespace and replaces an existing one. Closing the socket waits for a
/// deletion (4 ms), so a deletion is requested only if there is something to delete.
pub(in crate::kernel) fn write(leads: &Leads<'_>) -> io::Result<()> {
    match commit(&new_table(leads, TableFlags::empty(), NLM_F_EXCL, Batch::default())) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut batch = Batch::default();
            remove_from(&mut batch);
            commit(&new_table(leads, TableFlags::empty(), 0, batch))
        }
        outcome => outcome,
    }
}

/// Writes the table so that it ends with the process (`flags owner`, Linux 5.12), and replaces one that does not.
pub(in crate::kernel) fn own(leads: &Leads<'_>) -> io::Result<Owner> {
    let mut owner = Netfilter::open()?;
    let written = owner.commit(&new_table(leads, TableFlags::Owner, NLM_F_EXCL, Batch::default()));
    match written.map_err(|refused| refused.error) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut batch = Batch::default();
            remove_from(&mut batch);
            owner.commit(&new_table(leads, TableFlags::Owner, 0, batch)).map_err(|refused| refused.error)?;
        }
        written => written?,
    }
    Ok(Owner(owner))
}

fn new_table(leads: &Leads<'_>, flags: TableFlags, exclusive: u16, mut batch: Batch) -> Batch {
    let mut new = vec![TableAttribute::Name(TABLE.to_owned())];
    if !flags.is_empty() {
        new.push(TableAttribute::Flags(flags));
    }
    let new = message(NfTablesMessage::NewTable(TableMessage { attributes: new }));
    batch.push(new, NLM_F_REQUEST | NLM_F_CREATE | exclusive, None);
    batch.push(chain(), NLM_F_REQUEST | NLM_F_CREATE, None);
    for rule in rules(leads) {
        batch.push(message(NfTablesMessage::NewRule(rule)), NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND, None);
    }
    batch
}

/// Whether the calling thread's namespace has the table with as many rules as netd writes.
pub(in crate::kernel) fn is_written(leads: &Leads<'_>) -> io::Result<bool> {
    let of_table = RuleMessage { attributes: vec![RuleAttribute::Table(TABLE.to_owned())] };
    match Netfilter::open()?.ask(&message(NfTablesMessage::GetRule(of_table)), NLM_F_DUMP) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        found => Ok(found?.len() == rules(leads).len()),
    }
}

/// Removes the table from the calling thread's namespace; a missing table is no error, and costs no deletion.
pub(in crate::kernel) fn remove() -> io::Result<()> {
    let mut netfilter = Netfilter::open()?;
    match netfilter.ask(&table(NfTablesMessage::GetTable), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        found => drop(found?),
    }
    let mut batch = Batch::default();
    remove_from(&mut batch);
    netfilter.commit(&batch).map_err(|refused| refused.error)
}

/// Deleting a missing table would fail, so it is created first.
fn remove_from(batch: &mut Batch) {
    batch.push(table(NfTablesMessage::NewTable), NLM_F_REQUEST | NLM_F_CREATE, None);
    batch.push(table(NfTablesMessage::DeleteTable), NLM_F_REQUEST, None);
}

fn commit(batch: &Batch) -> io::Result<()> {
    Netfilter::open()?.commit(batch).map_err(|refused| refused.error)
}

fn message(message: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0), message)
}

fn table(kind: fn(TableMessage) -> NfTablesMessage) -> NetfilterMessage {
    message(kind(TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] }))
}

/// `type route hook output priority raw`: a packet whose address is changed is rerouted.
fn chain() -> NetfilterMessage {
    let hook = vec![Hook::Number(InetHookNumber::LocalOut.into()), Hook::Priority(PRIORITY.cast_unsigned())];
    message(NfTablesMessage::NewChain(ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(CHAIN.to_owned()),
            ChainAttribute::Hook(hook),
            ChainAttribute::Type("route".to_owned()),
        ],
    }))
}

fn rules(leads: &Leads<'_>) -> Vec<RuleMessage> {
    let (at, port) = (leads.at.octets(), leads.port.to_be_bytes());
    let mut rules = Vec::new();
    for (protocol, checksum) in PROTOCOLS {
        let asks = |address: Ipv4Addr| {
            let to = is(NETWORK, DESTINATION, &address.octets());
            [is_not_marked(leads.passes), is_protocol(protocol), to, is(TRANSPORT, DESTINATION_PORT, &DNS)]
        };
        let answers = |to: &[u8]| {
            [
                is_protocol(protocol),
                is(NETWORK, SOURCE, &at),
                is(TRANSPORT, SOURCE_PORT, &port),
                is(NETWORK, DESTINATION, to),
            ]
        };
        let put_port = |place, port: [u8; 2]| put(TRANSPORT, place, &port, (checksum, false));
        let put_address = |place, address: Ipv4Addr| put(NETWORK, place, &address.octets(), (HEADER_CHECKSUM, true));
        // meta mark != PASSES ip daddr AT udp dport 53 udp dport set PORT notrack
        rules.push(rule(asks(leads.at).concat(), &[put_port(DESTINATION_PORT, port)]));
        // ip saddr AT udp sport PORT ip daddr 127.0.0.0/8 udp sport set 53 notrack
        rules.push(rule(answers(&[127]).concat(), &[put_port(SOURCE_PORT, DNS)]));
        for (own, gateway) in leads.gateways {
            // meta mark != PASSES ip daddr GATEWAY udp dport 53 udp dport set PORT ip daddr set AT notrack
            let changes = [put_port(DESTINATION_PORT, port), put_address(DESTINATION, leads.at)];
            rules.push(rule(asks(*gateway).concat(), &changes));
            // ip saddr AT udp sport PORT ip daddr OWN udp sport set 53 ip saddr set GATEWAY notrack
            let changes = [put_port(SOURCE_PORT, DNS), put_address(SOURCE, *gateway)];
            rules.push(rule(answers(&own.octets()).concat(), &changes));
        }
    }
    rules
}

const DNS: [u8; 2] = DNS_PORT.to_be_bytes();

type Expression = ListAttribute<ExpressionAttribute>;

fn rule(mut expressions: Vec<Expression>, changes: &[[Expression; 2]]) -> RuleMessage {
    expressions.extend(changes.iter().flatten().cloned());
    expressions.push(expression("notrack", Vec::new()));
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(CHAIN.to_owned()),
            RuleAttribute::Expressions(expressions),
        ],
    }
}

fn expression(name: &str, attributes: Vec<DefaultNla>) -> Expression {
    Expressions::Other { expression_type: name.to_owned(), attributes }.into()
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// A value in `NFTA_DATA_VALUE`, nested in the attribute of that kind.
fn data(kind: u16, value: &[u8]) -> DefaultNla {
    /// `NLA_F_NESTED`.
    const NESTED: u16 = 1 << 15;
    let inner = DefaultNla::new(1, value.to_vec());
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | NESTED, bytes)
}

/// `meta mark != MARK`
fn is_not_marked(mark: u32) -> [Expression; 2] {
    // NFTA_META_DREG, NFTA_META_KEY; NFTA_CMP_SREG, NFTA_CMP_OP (NFT_CMP_NEQ), NFTA_CMP_DATA
    let load = expression("meta", vec![number(1, REGISTER), number(2, MARK)]);
    [load, expression("cmp", vec![number(1, REGISTER), number(2, 1), data(3, &mark.to_ne_bytes())])]
}

/// `meta l4proto PROTOCOL`
fn is_protocol(protocol: u8) -> [Expression; 2] {
    // NFTA_META_DREG, NFTA_META_KEY
    [expression("meta", vec![number(1, REGISTER), number(2, L4PROTO)]), equals(&[protocol])]
}

/// Matches a part of a header against the value; for an address, against its leading bytes if the value is shorter.
fn is(header: u32, offset: u32, value: &[u8]) -> [Expression; 2] {
    // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
    let length = u32::try_from(value.len()).unwrap_or_default();
    let load = vec![number(1, REGISTER), number(2, header), number(3, offset), number(4, length)];
    [expression("payload", load), equals(value)]
}

fn equals(value: &[u8]) -> Expression {
    // NFTA_CMP_SREG, NFTA_CMP_OP (NFT_CMP_EQ), NFTA_CMP_DATA
    expression("cmp", vec![number(1, REGISTER), number(2, 0), data(3, value)])
}

/// Writes a value into a header and corrects the checksum in it. `pseudo`: also those checksums that cover the address.
fn put(header: u32, offset: u32, value: &[u8], (checksum, pseudo): (u32, bool)) -> [Expression; 2] {
    // NFTA_IMMEDIATE_DREG, _DATA
    let load = expression("immediate", vec![number(1, REGISTER), data(2, value)]);
    let length = u32::try_from(value.len()).unwrap_or_default();
    // NFTA_PAYLOAD_BASE, _OFFSET, _LEN, _SREG, _CSUM_TYPE (NFT_PAYLOAD_CSUM_INET), _CSUM_OFFSET, _CSUM_FLAGS
    let mut write = vec![number(2, header), number(3, offset), number(4, length), number(5, REGISTER)];
    write.extend([number(6, 1), number(7, checksum)]);
    if pseudo {
        // NFT_PAYLOAD_L4CSUM_PSEUDOHDR
        write.push(number(8, 1));
    }
    [load, expression("payload", write)]
}
