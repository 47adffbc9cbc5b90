//! The shape of a table: chains, rules, set and map declarations as the kernel lists them, without what differs
//! between loads (handles, counters, use counts). Two tables with equal shapes behave identically.

use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_netfilter::nftables::{
    ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetMessage, TableAttribute, TableMessage,
};

use super::wire::message;
use crate::kernel::netlink::netfilter::{Netfilter, Reply, attributes, text};
use crate::model::host::element::Table;

/// `NFTA_TABLE_FLAGS` (dormant, owned), `_USERDATA` (comment).
const TABLE_SHAPE: [u16; 2] = [2, 6];
/// `NFTA_CHAIN_NAME`, `_HOOK`, `_POLICY`, `_TYPE`, `_FLAGS`.
const CHAIN_SHAPE: [u16; 5] = [3, 4, 5, 7, 10];
/// `NFTA_RULE_CHAIN`, `_EXPRESSIONS`, `_USERDATA` (comment).
const RULE_SHAPE: [u16; 3] = [2, RULE_EXPRESSIONS, 7];
/// `NFTA_SET_NAME`, `_FLAGS`, `_KEY_TYPE`, `_KEY_LEN`, `_DATA_TYPE`, `_DATA_LEN`, `_POLICY`, `_DESC`, `_TIMEOUT`,
/// `_OBJ_TYPE`, `_EXPR`, `_EXPRESSIONS`.
const SET_SHAPE: [u16; 12] = [2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 17, 18];
/// `NFTA_*_TABLE` of chains, rules, sets and elements.
pub(in crate::kernel) const OBJECT_TABLE: u16 = 1;
/// `NFTA_RULE_EXPRESSIONS`.
const RULE_EXPRESSIONS: u16 = 4;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;

/// The shape of one of netd's tables in the socket's network namespace; `None` if there is no such table.
pub(in crate::kernel) fn shape(netfilter: &mut Netfilter, of: Table) -> io::Result<Option<Vec<u8>>> {
    let name = || of.name().to_owned();
    let message = |kind| message(of, kind);
    let table = NfTablesMessage::GetTable(TableMessage { attributes: vec![TableAttribute::Name(name())] });
    let tables = match netfilter.ask(&message(table), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        tables => tables?,
    };
    let mut shape = Vec::new();
    add(&mut shape, &tables, &TABLE_SHAPE);
    let chains = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    let sets = NfTablesMessage::GetSet(SetMessage { attributes: vec![SetAttribute::Table(name())] });
    let rules = NfTablesMessage::GetRule(RuleMessage { attributes: vec![RuleAttribute::Table(name())] });
    for (list, kinds) in [(chains, &CHAIN_SHAPE[..]), (sets, &SET_SHAPE[..]), (rules, &RULE_SHAPE[..])] {
        let mut replies = netfilter.ask(&message(list), NLM_F_DUMP)?;
        // The kernel lists the chains of every table.
        replies.retain(|reply| reply.attribute(OBJECT_TABLE).is_some_and(|table| text(table) == of.name()));
        add(&mut shape, &replies, kinds);
    }
    Ok(Some(shape))
}

pub(super) fn add(shape: &mut Vec<u8>, replies: &[Reply], kinds: &[u16]) {
    put(shape, u16::MAX, &replies.len().to_be_bytes());
    for reply in replies {
        put(shape, u16::from(reply.kind), &[]);
        for (kind, value) in attributes(&reply.attributes).filter(|(kind, _)| kinds.contains(kind)) {
            match kind {
                RULE_EXPRESSIONS if kinds == RULE_SHAPE => add_expressions(shape, value),
                kind => put(shape, kind, value),
            }
        }
    }
}

/// The expressions of a rule; of a counter only its presence.
fn add_expressions(shape: &mut Vec<u8>, list: &[u8]) {
    for (_, expression) in attributes(list) {
        let mut counter = false;
        for (kind, value) in attributes(expression) {
            counter |= kind == EXPR_NAME && text(value) == "counter";
            if kind != EXPR_DATA || !counter {
                put(shape, kind, value);
            }
        }
    }
}

fn put(shape: &mut Vec<u8>, kind: u16, value: &[u8]) {
    shape.extend(kind.to_be_bytes());
    shape.extend(value.len().to_be_bytes());
    shape.extend(value);
}
