//! Tables as text for `nft -f`, for what nft's JSON cannot declare.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::sets::{Entry, Kind, Set, Value, entries};
use crate::model::address::Family;
use crate::model::host::element::{Element, Table};
use crate::model::policy::ruling::Edge;

/// Commands that replace the table, without elements: its sets and maps as `declared`, and its chains.
pub(super) fn structure(table: Table, declared: impl Fn(Set) -> String, chains: &str) -> String {
    // The table is added before it is deleted, because deleting a missing table fails.
    let mut text = format!("{table}\ndelete {table}\n{table} {{\n");
    for set in Set::all().into_iter().filter(|set| set.table() == table) {
        // Writing to a string cannot fail.
        _ = writeln!(text, "  {}", declared(set));
    }
    text.push_str(chains);
    text.push_str("}\n");
    text
}

/// Commands that add those of the elements that belong to the table; `member` writes one.
pub(super) fn elements<'a>(
    table: Table,
    elements: impl IntoIterator<Item = &'a Element>,
    member: impl Fn(&Entry) -> String,
) -> String {
    let mut by_set: BTreeMap<Set, Vec<String>> = BTreeMap::new();
    for entry in elements.into_iter().filter(|element| element.table() == table).flat_map(entries) {
        by_set.entry(entry.set).or_default().push(member(&entry));
    }
    let mut text = String::new();
    let table = table.to_string().replacen("table ", "", 1);
    for (set, members) in by_set {
        _ = writeln!(text, "add element {table} {} {{ {} }}", set.name(), members.join(", "));
    }
    text
}

/// The type of a key, except for what has none.
pub(super) fn types(kinds: &[Kind]) -> String {
    kinds.iter().copied().map(type_of).collect::<Vec<_>>().join(" . ")
}

pub(super) fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Interface => "ifname",
        Kind::Mac => "ether_addr",
        Kind::Address(Family::V4) | Kind::Subnet(Family::V4) => "ipv4_addr",
        Kind::Address(Family::V6) | Kind::Subnet(Family::V6) | Kind::Target => "ipv6_addr",
        Kind::Protocol => "inet_proto",
        Kind::Port | Kind::Ports => "inet_service",
        Kind::Slot => "integer",
        Kind::Edge => "fib_addrtype",
        Kind::Verdict => "verdict",
    }
}

/// One field of a key, or the data of a map.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Interface(name) => format!("\"{name}\""),
        Value::Mac(mac) => mac.to_string(),
        Value::Target(address) => address.to_string(),
        Value::Address(address) => address.to_string(),
        Value::Subnet(subnet) => subnet.to_string(),
        Value::Protocol(protocol) => protocol.as_str().to_owned(),
        Value::Port(port) => port.to_string(),
        Value::Ports(ports) => format!("{}-{}", ports.first(), ports.last()),
        Value::Slot(slot) => slot.to_string(),
        Value::Edge(edge) => address_type(*edge).to_owned(),
        Value::Verdict(verdict) => verdict.to_string(),
    }
}

/// How nft writes the type of the addresses there (`fib daddr type`).
pub(super) fn address_type(edge: Edge) -> &'static str {
    match edge {
        Edge::Host => "local",
        Edge::Outside => "unicast",
    }
}
