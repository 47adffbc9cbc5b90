//! Constructors for nft's JSON that make a rule in `chains.rs` read like the nft line in its comment, and the
//! declarations and entries of the sets.

use std::collections::HashSet;
use std::net::IpAddr;

use nftables::expr::{
    CT, Expression, Fib, FibFlag, FibResult, Map as MapExpression, Meta, MetaKey, NamedExpression, Payload,
    PayloadField, Prefix, SetItem,
};
use nftables::schema::{NfListObject, Rule};
use nftables::stmt::{
    Accept, AnonymousCounter, Counter, Drop, JumpTarget, Mangle, Match, NAT, NATFamily, NATFlag, Operator, Return,
    Set as NftSet, SetOp, Statement, VerdictMap,
};
use nftables::types::NfFamily;
use serde_json::{Value as Json, json};

use super::TABLE;
use super::sets::{Entry, Set, Value};
use super::text::type_of;
use crate::model::address::Family;
use crate::model::host::element::VerdictCode;

/// Statements and expressions own their text.
pub(super) type Expr = Expression<'static>;
/// One statement of a rule.
pub(super) type Stmt = Statement<'static>;

/// Both.
pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

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

/// `goto CHAIN`.
pub(super) fn goto(chain: &'static str) -> Stmt {
    Statement::Goto(JumpTarget { target: chain.into() })
}

/// `KEY vmap @MAP`. A missing key ends the rule, not the chain.
pub(super) fn vmap(key: Expr, map: Set) -> Stmt {
    Statement::VerdictMap(VerdictMap { key, data: of(map) })
}

/// `update @SET { KEY }`.
pub(super) fn update(set: &str, key: Expr) -> Stmt {
    Statement::Set(NftSet { op: SetOp::Update, elem: key, set: format!("@{set}").into() })
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

/// `snat FAMILY to KEY map @ADDRESS fully-random`. A missing key ends the rule, not the chain.
pub(super) fn snat(family: Family, key: Expr, address: Set) -> Stmt {
    let nat_family = match family {
        Family::V4 => NATFamily::IP,
        Family::V6 => NATFamily::IP6,
    };
    let flags = Some(HashSet::from([NATFlag::FullyRandom]));
    Statement::SNAT(Some(NAT { addr: Some(map(key, address)), family: Some(nat_family), port: None, flags }))
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

/// `accept`.
pub(super) fn accept() -> Stmt {
    Statement::Accept(Some(Accept {}))
}

/// `return`.
pub(super) fn leave() -> Stmt {
    Statement::Return(Some(Return {}))
}

/// `iifname`.
pub(super) fn iifname() -> Expr {
    meta(MetaKey::Iifname)
}

/// `oifname`.
pub(super) fn oifname() -> Expr {
    meta(MetaKey::Oifname)
}

/// `icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }`
pub(super) fn neighbours() -> Stmt {
    is(field("icmpv6", "type"), any_of(vec![text("nd-neighbor-solicit"), text("nd-neighbor-advert")]))
}

/// A rule that drops and counts, with the reason as its comment.
pub(super) fn drop_rule(chain: &'static str, mut matches: Vec<Stmt>, why: &'static str) -> NfListObject<'static> {
    matches.extend([counter(), Statement::Drop(Some(Drop {}))]);
    rule(chain, matches, Some(why))
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

/// The declaration of a set or map. The nftables crate does not know every type.
pub(super) fn declaration(set: Set) -> Json {
    let types: Vec<&str> = set.key().iter().copied().map(type_of).collect();
    let key = match types.as_slice() {
        [one] => json!(one),
        several => json!(several),
    };
    let mut declared = json!({"family": "inet", "table": TABLE, "name": set.name(), "type": key});
    if set.interval() {
        declared["flags"] = json!(["interval"]);
    }
    let Some(data) = set.data() else { return json!({"add": {"set": declared}}) };
    declared["map"] = json!(type_of(data));
    json!({"add": {"map": declared}})
}

/// The entries of one set.
pub(super) fn members(set: Set, entries: &[Entry]) -> Json {
    let elem: Vec<Json> = entries.iter().map(member).collect();
    json!({"add": {"element": {"family": "inet", "table": TABLE, "name": set.name(), "elem": elem}}})
}

fn member(entry: &Entry) -> Json {
    let key = match entry.key.as_slice() {
        [one] => value(one),
        fields => json!({"concat": fields.iter().map(value).collect::<Vec<_>>()}),
    };
    match &entry.data {
        None => key,
        Some(data) => json!([key, value(data)]),
    }
}

fn value(value: &Value) -> Json {
    match value {
        Value::Subnet(subnet) if subnet.prefix() == bits(subnet.network()) => json!(subnet.network().to_string()),
        Value::Subnet(subnet) => json!({"prefix": {"addr": subnet.network().to_string(), "len": subnet.prefix()}}),
        Value::Port(port) | Value::Slot(port) => json!(port),
        Value::Ports(ports) if ports.first() == ports.last() => json!(ports.first()),
        Value::Ports(ports) => json!({"range": [ports.first(), ports.last()]}),
        Value::Interface(name) => json!(name.as_str()),
        Value::Verdict(verdict) => match verdict.code() {
            VerdictCode::Accept => json!({"accept": null}),
            VerdictCode::Return => json!({"return": null}),
            VerdictCode::Goto(chain) => json!({"goto": {"target": chain}}),
            VerdictCode::Jump(chain) => json!({"jump": {"target": chain}}),
        },
        Value::Mac(_) | Value::Target(_) | Value::Address(_) | Value::Protocol(_) | Value::Edge(_) => {
            json!(super::text::value(value))
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
