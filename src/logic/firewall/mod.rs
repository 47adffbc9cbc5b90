//! netd's firewall tables: their structure, which never changes, and the representation of elements. This file,
//! `chains`, `forward`, `unpublished`, `strict`, `policy` and `egress` make `table inet netd`, `guard` and `within` make
//! `table bridge netd`, `services` makes `table inet netd_services`.
//!
//! Everything that changes (networks, bridges, subnets, published ports) is an element of a set or map, so every lookup
//! is O(1), a duplicate publication cannot exist, and creating a network needs no `nft` process.

mod chains;
pub mod egress;
pub mod foreign;
mod forward;
pub mod guard;
pub mod policy;
mod render;
pub mod services;
pub mod sets;
pub mod strict;
mod text;
mod unpublished;
pub mod within;

use std::collections::{BTreeMap, BTreeSet};

use nftables::schema::{NfCmd, NfListObject, NfObject};
use serde_json::{Value as Json, json};

use crate::model::host::element::{Element, Table as OwnTable};
use sets::{Entry, Set};

/// The name of `table inet netd`.
const TABLE: &str = OwnTable::Inet.name();

/// One transaction that replaces the table `inet netd`, without elements, as the JSON input of `nft -j -f`. The table is
/// added before it is deleted, because deleting a missing table fails.
pub fn structure() -> Json {
    json!({ "nftables": commands(true) })
}

/// One transaction that replaces the table `inet netd`, structure and elements. Elements of the other tables are left out.
/// `hands_over`: whether the kernel can hand packets to netd, which strict ports need.
pub fn table(elements: &BTreeSet<Element>, hands_over: bool) -> Json {
    let mut by_set: BTreeMap<Set, Vec<Entry>> = BTreeMap::new();
    for entry in elements.iter().filter(|element| element.table() == OwnTable::Inet).flat_map(sets::entries) {
        by_set.entry(entry.set).or_default().push(entry);
    }
    let mut commands = commands(hands_over);
    commands.extend(by_set.iter().map(|(set, entries)| render::members(*set, entries)));
    json!({ "nftables": commands })
}

fn commands(hands_over: bool) -> Vec<Json> {
    let table = json!({"table": {"family": "inet", "name": TABLE}});
    let mut commands = vec![json!({ "add": table }), json!({ "delete": table }), json!({ "add": table })];
    let sets = Set::all().into_iter().filter(|set| set.table() == OwnTable::Inet);
    commands.extend(sets.map(render::declaration));
    commands.extend(policy::declarations());
    commands.extend(egress::declarations());
    commands.extend(chains::chains(hands_over).into_iter().map(add));
    commands
}

/// The command that adds a chain or a rule, always the same for the same one: the crate keeps flags in hash sets, whose
/// order differs between runs, and serialises a statement without arguments as a string, which nft refuses.
fn add(object: NfListObject<'static>) -> Json {
    // Plain data with string keys: serialising it cannot fail.
    let mut command = serde_json::to_value(NfObject::CmdObject(NfCmd::Add(object))).unwrap_or(Json::Null);
    sort_flags(&mut command);
    make_objects(&mut command);
    command
}

fn make_objects(json: &mut Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(make_objects),
        Json::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Json::Array(statements) if name == "expr" => {
                        for word in statements.iter_mut().filter(|statement| statement.is_string()) {
                            let name = word.as_str().unwrap_or_default().to_owned();
                            *word = Json::Object([(name, Json::Null)].into_iter().collect());
                        }
                    }
                    value => make_objects(value),
                }
            }
        }
        _ => {}
    }
}

fn sort_flags(json: &mut Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(sort_flags),
        Json::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Json::Array(flags) if name == "flags" => flags.sort_by_key(Json::to_string),
                    value => sort_flags(value),
                }
            }
        }
        _ => {}
    }
}
