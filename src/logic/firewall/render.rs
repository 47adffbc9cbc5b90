//! Constructors for nft's JSON that make a rule in `chains.rs` read like the nft line in its comment, and the
//! declarations and entries of the sets.

use std::collections::HashSet;
use std::net::IpAddr;

use nftables::expr::{
    CT, Expression, Fib, FibFlag, FibResult, Map as MapExpression, Meta, MetaKey, NamedExpression, Payload,
    PayloadField, Prefix, Range, SetItem,
};
use nftables::schema::{Element, Map, NfListObject, Rule, Set as NftSet, SetFlag, SetType, SetTypeValue};
use nftables::stmt::{
    AnonymousCounter, Counter, JumpTarget, Mangle, Match, NAT, NATFamily, NATFlag, Operator, Statement,
};
use nftables::types::NfFamily;

use super::TABLE;
use super::sets::{Entry, Kind, Set, Value};
use crate::model::address::Family;

/// Statements and expressions own their text.
pub(super) type Expr = Expression<'static>;
/// One statement of a rule.
pub(super) type Stmt = Statement<'static>;

/// `meta KEY`, also without the keyword: `iifname`, `oifname`.
pub(super) fn meta(key: MetaKey) -> Expr {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

/// `PROTOCOL FIELD`: `ip saddr`, `th dport`.
pub(super) fn field(protocol: &'static str, field: &'static str) -> Expr {
    let payload = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(payload)))
}

/// `ct KEY`.
pub(super) fn ct(key: &'static str) -> Expr {
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}

/// `fib FLAGS RESULT`.
pub(super) fn fib(flags: &[FibFlag], result: FibResult) -> Expr {
    Expression::Named(NamedExpression::Fib(Fib { result, flags: flags.iter().copied().collect() }))
}

/// `A . B`.
pub(super) fn concat(parts: Vec<Expr>) -> Expr {
    Expression::Named(NamedExpression::Concat(parts))
}

/// A word or an address.
pub(super) fn text(text: impl Into<String>) -> Expr {
    Expression::String(text.into().into())
}

/// `@SET`.
pub(super) fn of(set: Set) -> Expr {
    text(format!("@{}", set.name()))
}

/// `{ A, B }`.
pub(super) fn any_of(items: Vec<Expr>) -> Expr {
    Expression::Named(NamedExpression::Set(items.into_iter().map(SetItem::Element).collect()))
}

/// `ADDRESS/LENGTH`.
pub(super) fn prefix(address: &str, len: u32) -> Expr {
    Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(text(address)), len }))
}

/// `LEFT RIGHT`.
pub(super) fn is(left: Expr, right: Expr) -> Stmt {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

/// `LEFT != RIGHT`.
pub(super) fn is_not(left: Expr, right: Expr) -> Stmt {
    Statement::Match(Match { left, right, op: Operator::NEQ })
}

/// `LEFT FLAG,FLAG`: one of the flags is set.
pub(super) fn has(left: Expr, flags: &[&'static str]) -> Stmt {
    let right = match flags {
        [flag] => text(*flag),
        flags => Expression::List(flags.iter().map(|flag| text(*flag)).collect()),
    };
    Statement::Match(Match { left, right, op: Operator::IN })
}

/// `jump CHAIN`.
pub(super) fn jump(chain: &'static str) -> Stmt {
    Statement::Jump(JumpTarget { target: chain.into() })
}

/// `counter`.
pub(super) fn counter() -> Stmt {
    Statement::Counter(Counter::Anonymous(Some(AnonymousCounter::default())))
}

/// `masquerade`, with `fully-random` if requested.
pub(super) fn masquerade(random: bool) -> Stmt {
    let flags = random.then(|| HashSet::from([NATFlag::FullyRandom]));
    Statement::Masquerade(Some(NAT { addr: None, family: None, port: None, flags }))
}

/// `FIELD set VALUE`, checksums included.
pub(super) fn set(key: Expr, value: Expr) -> Stmt {
    Statement::Mangle(Mangle { key, value })
}

/// `KEY map @MAP`. A missing key ends the rule, not the chain.
pub(super) fn map(key: Expr, data: Set) -> Expr {
    Expression::Named(NamedExpression::Map(Box::new(MapExpression { key, data: of(data) })))
}

/// `dnat FAMILY to KEY map @ADDRESS`, and `: KEY map @PORT`. A missing key ends the rule, not the chain.
pub(super) fn dnat(family: Family, key: &Expr, address: Set, port: Option<Set>) -> Stmt {
    let lookup = |set| map(key.clone(), set);
    let nat_family = match family {
        Family::V4 => NATFamily::IP,
        Family::V6 => NATFamily::IP6,
    };
    Statement::DNAT(Some(NAT {
        addr: Some(lookup(address)),
        family: Some(nat_family),
        port: port.map(lookup),
        flags: None,
    }))
}

/// A rule of a chain.
pub(super) fn rule(chain: &'static str, statements: Vec<Stmt>, comment: Option<&'static str>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: statements.into(),
        handle: None,
        index: None,
        comment: comment.map(Into::into),
    })
}

/// The declaration of a set or map.
pub(super) fn declaration(set: Set) -> NfListObject<'static> {
    let kinds: Vec<SetType> = set.key().iter().copied().map(set_type).collect();
    let key = match kinds.as_slice() {
        [one] => SetTypeValue::Single(*one),
        _ => SetTypeValue::Concatenated(kinds.into()),
    };
    let flags = set.interval().then(|| HashSet::from([SetFlag::Interval]));
    let (family, table, name) = (NfFamily::INet, TABLE.into(), set.name().into());
    match set.data() {
        None => NfListObject::Set(Box::new(NftSet { family, table, name, set_type: key, flags, ..NftSet::default() })),
        Some(kind) => {
            let map = SetTypeValue::Single(set_type(kind));
            NfListObject::Map(Box::new(Map { family, table, name, set_type: key, map, flags, ..Map::default() }))
        }
    }
}

fn set_type(kind: Kind) -> SetType {
    match kind {
        Kind::Interface => SetType::Ifname,
        Kind::Mac => SetType::EtherAddr,
        Kind::Address(Family::V4) | Kind::Subnet(Family::V4) => SetType::Ipv4Addr,
        Kind::Address(Family::V6) | Kind::Subnet(Family::V6) | Kind::Target => SetType::Ipv6Addr,
        Kind::Protocol => SetType::InetProto,
        Kind::Port | Kind::Ports => SetType::InetService,
        // Only in tables that are text: it has no type that JSON could name.
        Kind::Slot => SetType::Mark,
    }
}

/// The entries of one set.
pub(super) fn members(set: Set, entries: &[Entry]) -> NfListObject<'static> {
    let elem: Vec<Expr> = entries.iter().map(member).collect();
    NfListObject::Element(Element {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: set.name().into(),
        elem: elem.into(),
    })
}

fn member(entry: &Entry) -> Expr {
    let key = match entry.key.as_slice() {
        [one] => value(one),
        fields => concat(fields.iter().map(value).collect()),
    };
    match &entry.data {
        None => key,
        Some(data) => Expression::List(vec![key, value(data)]),
    }
}

fn value(value: &Value) -> Expr {
    match value {
        Value::Interface(name) => text(name.as_str()),
        Value::Mac(mac) => text(mac.to_string()),
        Value::Target(address) => text(address.to_string()),
        Value::Address(address) => text(address.to_string()),
        Value::Subnet(subnet) if subnet.prefix() == bits(subnet.network()) => text(subnet.network().to_string()),
        Value::Subnet(subnet) => prefix(&subnet.network().to_string(), u32::from(subnet.prefix())),
        Value::Protocol(protocol) => text(protocol.as_str()),
        Value::Port(port) | Value::Slot(port) => Expression::Number(u32::from(*port)),
        Value::Ports(ports) if ports.first() == ports.last() => Expression::Number(u32::from(ports.first())),
        Value::Ports(ports) => {
            let ends = [ports.first(), ports.last()].map(|port| Expression::Number(u32::from(port)));
            Expression::Range(Box::new(Range { range: ends }))
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
