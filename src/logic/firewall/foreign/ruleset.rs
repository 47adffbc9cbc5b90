//! Parses the output of `nft -j list ruleset`.

use serde_json::Value as Json;

use super::mark_of;
use super::save::{state_bit, subnet};
use crate::model::address::Family;
use crate::model::host::element::Table as Own;
use crate::model::host::foreign_firewall::{
    Base, Chain, Condition, Hook, Rule, Table, TableFamily, TableId, Tool, Verdict, What,
};

/// netd's own tables of the family inet.
const OURS: [&str; 2] = [Own::Inet.name(), Own::Services.name()];

/// The tables in the JSON that filter at one of the hooks, except netd's own.
pub fn tables(json: &Json) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let objects = json["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (kind, object) in objects.iter().filter_map(Json::as_object).flatten() {
        if kind == "table" {
            let Some(family) = family(&object["family"]) else { continue };
            let id = TableId { tool: Tool::Nft, family, name: text(&object["name"]) };
            let flags = &object["flags"];
            // nft 1.0.6 abbreviates the word.
            let is_owner = |flag: &Json| flag.as_str().is_some_and(|flag| flag.starts_with("own"));
            let owned = is_owner(flags) || flags.as_array().is_some_and(|flags| flags.iter().any(is_owner));
            tables.push(Table { id, chains: Vec::new(), owned });
            continue;
        }
        let (Some(family), name) = (family(&object["family"]), object["table"].as_str().unwrap_or_default()) else {
            continue;
        };
        let Some(table) = tables.iter_mut().find(|table| table.id.family == family && table.id.name == name) else {
            continue;
        };
        match kind.as_str() {
            "chain" => table.chains.push(chain(object)),
            "rule" => {
                let name = object["chain"].as_str().unwrap_or_default();
                if let Some(chain) = table.chains.iter_mut().find(|chain| chain.name == name) {
                    chain.rules.extend(rules(object));
                }
            }
            _ => {}
        }
    }
    tables.retain(|table| {
        let ours = table.id.family == TableFamily::Inet && OURS.contains(&table.id.name.as_str());
        !ours && table.chains.iter().any(|chain| chain.base.is_some())
    });
    tables
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn family(json: &Json) -> Option<TableFamily> {
    Some(match json.as_str()? {
        "ip" => TableFamily::Ip,
        "ip6" => TableFamily::Ip6,
        "inet" => TableFamily::Inet,
        _ => return None,
    })
}

fn chain(object: &Json) -> Chain {
    let hook = match object["hook"].as_str() {
        Some("forward") => Some(Hook::Forward),
        Some("input") => Some(Hook::Input),
        _ => None,
    };
    let base = hook.map(|hook| Base { hook, drops: object["policy"] == "drop" });
    Chain { name: text(&object["name"]), base, rules: Vec::new() }
}

/// Parses a rule; one with a verdict map becomes one rule for each of its entries, which exclude each other.
fn rules(object: &Json) -> Vec<Rule> {
    let handle = object["handle"].as_u64();
    let verb = statements(object)
        .find(|(kind, _)| ["drop", "reject"].contains(&kind.as_str()))
        .map_or("rule", |(kind, _)| kind);
    let shown = handle.map_or_else(|| verb.to_owned(), |handle| format!("{verb} with handle {handle}"));
    let mark = object["comment"].as_str().and_then(mark_of);
    let mut rule = Rule { text: shown, handle, mark, ..Rule::default() };
    let mut split = Vec::new();
    for (kind, statement) in statements(object) {
        match kind.as_str() {
            "match" => {
                rule.conditions.push(condition(statement));
                rule.conditions.extend(implied(&statement["left"]));
            }
            "vmap" => split = entries(&rule, statement),
            // They let only some packets continue to what follows.
            "limit" | "quota" | "connlimit" | "ct count" => rule.conditions.push(other()),
            "xt" if statement["type"] == "match" => {
                if statement["name"] != "comment" {
                    rule.conditions.push(other());
                }
            }
            "xt" => match statement["name"].as_str() {
                Some("REJECT") => rule.verdict = Verdict::Drop,
                Some("NFQUEUE") => rule.verdict = Verdict::Unknown,
                _ => {}
            },
            kind => {
                if let Some(verdict) = verdict(kind, statement) {
                    rule.verdict = verdict;
                }
            }
        }
    }
    if split.is_empty() { vec![rule] } else { split }
}

fn statements(rule: &Json) -> impl Iterator<Item = (&String, &Json)> {
    rule["expr"].as_array().into_iter().flatten().filter_map(Json::as_object).flatten()
}

fn other() -> Condition {
    Condition { negated: false, what: What::Other }
}

fn verdict(kind: &str, statement: &Json) -> Option<Verdict> {
    Some(match kind {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "return" => Verdict::Return,
        "queue" | "tproxy" | "synproxy" => Verdict::Unknown,
        "jump" => Verdict::Jump(text(&statement["target"])),
        "goto" => Verdict::Goto(text(&statement["target"])),
        _ => return None,
    })
}

fn entries(before: &Rule, vmap: &Json) -> Vec<Rule> {
    let unknown = || vec![Rule { verdict: Verdict::Unknown, ..before.clone() }];
    let Some(entries) = vmap["data"]["set"].as_array() else {
        // A named map, whose entries are not listed: its effect is uncertain.
        let mut rule = unknown();
        rule[0].conditions.push(other());
        rule[0].verdict = Verdict::Next;
        return rule;
    };
    let entry = |entry: &Json| {
        let (key, verdicts) = (entry.get(0)?, entry.get(1)?.as_object()?);
        let (kind, statement) = verdicts.iter().next()?;
        let condition = match key.as_str() {
            Some("*") => None,
            _ => Some(Condition { negated: false, what: what(&vmap["key"], key, "==") }),
        };
        let conditions = before.conditions.iter().cloned().chain(condition).chain(implied(&vmap["key"])).collect();
        Some(Rule { conditions, verdict: verdict(kind, statement)?, ..before.clone() })
    };
    entries.iter().filter_map(entry).collect()
}

fn condition(statement: &Json) -> Condition {
    let op = statement["op"].as_str().unwrap_or_default();
    let (left, right) = (&statement["left"], &statement["right"]);
    match op {
        "==" | "in" => Condition { negated: false, what: what(left, right, op) },
        "!=" | "!" => Condition { negated: true, what: what(left, right, op) },
        _ => other(),
    }
}

/// What a field of a header says about its packet without saying it: nft leaves that out.
fn implied(left: &Json) -> Option<Condition> {
    let what = match left["payload"]["protocol"].as_str()? {
        "ip" => What::Family(Family::V4),
        "ip6" => What::Family(Family::V6),
        "icmpv6" => What::Protocol(vec!["ipv6-icmp".to_owned()]),
        protocol @ ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "icmp" | "igmp" | "ah" | "esp" | "comp") => {
            What::Protocol(vec![protocol.to_owned()])
        }
        _ => return None,
    };
    Some(Condition { negated: false, what })
}

fn what(left: &Json, right: &Json, op: &str) -> What {
    if left["fib"]["result"] == "type" && left["fib"]["flags"] == "daddr" && right == "local" {
        return What::ToHost;
    }
    let Some(values) = values(right) else { return What::Other };
    let names = || values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let payload = (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str());
    let found = match (left["meta"]["key"].as_str(), left["ct"]["key"].as_str(), payload) {
        (Some("iifname" | "iif"), ..) => names().map(What::In),
        (Some("oifname" | "oif"), ..) => names().map(What::Out),
        (Some("l4proto"), ..) => names().map(What::Protocol),
        (Some("nfproto" | "protocol"), ..) => match names().as_deref() {
            Some([one]) => match one.as_str() {
                "ipv4" | "ip" => Some(What::Family(Family::V4)),
                "ipv6" | "ip6" => Some(What::Family(Family::V6)),
                _ => None,
            },
            _ => None,
        },
        // "in" and flags, "==" and a set: any of them; "==" and several flags would be exactly these.
        (_, Some("state" | "status"), _) if op != "!=" || values.len() == 1 => {
            let bits: Option<Vec<u8>> = names().and_then(|all| all.iter().map(|name| state_bit(name)).collect());
            bits.map(|bits| What::State(bits.into_iter().fold(0, |all, bit| all | bit)))
        }
        (_, _, (Some("ip" | "ip6"), Some("saddr"))) => {
            values.iter().map(|v| address(v)).collect::<Option<_>>().map(What::From)
        }
        (_, _, (Some("ip" | "ip6"), Some("daddr"))) => {
            values.iter().map(|v| address(v)).collect::<Option<_>>().map(What::To)
        }
        (_, _, (Some("udp" | "tcp" | "sctp" | "th"), Some("dport"))) => {
            values.iter().map(|v| ports(v)).collect::<Option<_>>().map(What::Port)
        }
        _ => None,
    };
    found.unwrap_or(What::Other)
}

/// The values to compare with; `None` for a named set.
fn values(right: &Json) -> Option<Vec<&Json>> {
    match right {
        Json::String(text) if text.starts_with('@') => None,
        Json::Array(values) => Some(values.iter().collect()),
        Json::Object(fields) => match fields.get("set") {
            Some(Json::Array(values)) => Some(values.iter().collect()),
            Some(one) => values(one),
            None => Some(vec![right]),
        },
        one => Some(vec![one]),
    }
}

fn address(value: &Json) -> Option<crate::model::address::Subnet> {
    match value {
        Json::String(text) => subnet(text),
        value => {
            let prefix = value.get("prefix")?;
            subnet(&format!("{}/{}", prefix["addr"].as_str()?, prefix["len"].as_u64()?))
        }
    }
}

fn ports(value: &Json) -> Option<(u16, u16)> {
    let port = |value: &Json| value.as_u64().and_then(|port| port.try_into().ok());
    match value.get("range") {
        Some(range) => Some((port(range.get(0)?)?, port(range.get(1)?)?)),
        None => port(value).map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::host::foreign_firewall::state;

    #[test]
    fn what_nft_writes_is_read() {
        let rule = |handle: u64, expr: Json| json!({"rule": {"family": "inet", "table": "fw", "chain": "f", "handle": handle, "expr": expr}});
        let on = |left: Json, right: Json| json!({"match": {"op": "==", "left": left, "right": right}});
        let json = json!({"nftables": [
            {"table": {"family": "inet", "name": "netd", "handle": 1}},
            {"chain": {"family": "inet", "table": "netd", "name": "f", "hook": "forward", "policy": "drop"}},
            {"table": {"family": "inet", "name": "netd_services", "handle": 2}},
            {"chain": {"family": "inet", "table": "netd_services", "name": "i", "hook": "input", "policy": "drop"}},
            {"table": {"family": "bridge", "name": "fw", "handle": 2}},
            {"table": {"family": "inet", "name": "fw", "handle": 3, "flags": "own"}},
            {"chain": {"family": "inet", "table": "fw", "name": "f", "hook": "forward", "policy": "drop"}},
            rule(1, json!([on(json!({"meta": {"key": "iifname"}}), json!({"set": ["eth0", "nd*"]})), {"accept": null}])),
            rule(2, json!([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set":
                [["established", {"accept": null}], ["invalid", {"jump": {"target": "x"}}]]}}}])),
            rule(3, json!([on(json!({"payload": {"protocol": "ip", "field": "saddr"}}), json!("@bad")), {"drop": null}])),
            rule(4, json!([on(json!({"payload": {"protocol": "ip", "field": "saddr"}}),
                json!({"prefix": {"addr": "10.0.0.0", "len": 8}})), {"counter": null}])),
            rule(5, json!([on(json!({"payload": {"protocol": "udp", "field": "dport"}}),
                json!({"set": [53, {"range": [67, 68]}]})), {"xt": {"type": "target", "name": "REJECT"}}])),
        ]});
        let tables = tables(&json);
        assert_eq!(tables.len(), 1, "{tables:?}");
        assert!(tables[0].owned);
        let rules = &tables[0].chain("f").unwrap().rules;
        let shown: Vec<_> = rules.iter().map(|rule| (rule.conditions[0].what.clone(), rule.verdict.clone())).collect();
        assert_eq!(
            shown,
            [
                (What::In(vec!["eth0".into(), "nd*".into()]), Verdict::Accept),
                (What::State(state::ESTABLISHED), Verdict::Accept),
                (What::State(state::INVALID), Verdict::Jump("x".into())),
                (What::Other, Verdict::Drop),
                (What::From(vec!["10.0.0.0/8".parse().unwrap()]), Verdict::Next),
                (What::Port(vec![(53, 53), (67, 68)]), Verdict::Drop),
            ]
        );
    }
}
