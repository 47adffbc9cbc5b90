//! What netd adds to another program's table: chains of its own, to which one rule with netd's mark jumps.
//!
//! They accept traffic between netd's bridges, and between them and the host's outgoing interfaces; `table inet netd`
//! decides what of that is allowed. Traffic from and to the bridges of other engines continues through the other
//! program's rules, which isolate them.

use serde_json::{Value as Json, json};

use super::MARK;
use crate::model::address::Family;
use crate::model::host::foreign_firewall::{Bridge, Foreign, Hook, TableFamily, Tool};
use crate::model::names::IfName;

/// The content of netd's chains.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    /// The chains; the jump leads to the first.
    pub chains: &'static [&'static str],
    /// The comment of the jump, which identifies the content.
    pub mark: String,
    /// In the format of `iptables-restore`, or JSON for nft.
    pub rules: Vec<Line>,
}

/// A rule of netd.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    Iptables(String),
    /// The chain's name and the statements.
    Nft(&'static str, Json),
}

/// The names of netd's chains in a table.
pub(super) fn chains(tool: Tool, hook: Hook) -> &'static [&'static str] {
    match (tool, hook) {
        (Tool::Nft, Hook::Forward) => &["netd_forward"],
        (Tool::Nft, Hook::Input) => &["netd_input"],
        (_, Hook::Forward) => &["NETD-FORWARD", "NETD-FORWARD-OUT", "NETD-FORWARD-IN"],
        (_, Hook::Input) => &["NETD-INPUT"],
    }
}

/// The content that a table of that family must have for the bridges.
pub(super) fn content(tool: Tool, family: TableFamily, hook: Hook, foreign: &Foreign, bridges: &[Bridge]) -> Content {
    let sees = |bridge: &&Bridge| [Family::V4, Family::V6].into_iter().any(|one| family.sees(one) && bridge.has(one));
    let bridges: Vec<&Bridge> = bridges.iter().filter(sees).collect();
    let chains = chains(tool, hook);
    let ways: Vec<&IfName> = foreign.ways.iter().collect();
    let rules = match (tool, hook) {
        (Tool::Nft, Hook::Forward) => nft_forward(chains[0], &ways, &bridges),
        (Tool::Nft, Hook::Input) => nft_input(chains[0], family, &bridges),
        (_, Hook::Forward) => iptables_forward(&ways, &bridges),
        (_, Hook::Input) => iptables_input(family, &bridges),
    };
    let what = match hook {
        Hook::Forward => "forward",
        Hook::Input => "ask for names",
    };
    let mark = format!("{MARK} {what} [{:08x}]", digest(&format!("{rules:?}")));
    Content { chains, mark, rules }
}

/// FNV-1a: distinguishes contents, also across restarts.
fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn iptables_forward(ways: &[&IfName], bridges: &[&Bridge]) -> Vec<Line> {
    let [chain, out, back] = ["NETD-FORWARD", "NETD-FORWARD-OUT", "NETD-FORWARD-IN"];
    let mut rules: Vec<String> = Vec::new();
    rules.extend(bridges.iter().map(|bridge| format!("-A {chain} -i {} -j {out}", bridge.name)));
    rules.extend(bridges.iter().map(|bridge| format!("-A {chain} -o {} -j {back}", bridge.name)));
    let targets = bridges.iter().map(|bridge| &bridge.name).chain(ways.iter().copied());
    rules.extend(targets.map(|to| format!("-A {out} -o {to} -j ACCEPT")));
    rules.extend(ways.iter().map(|from| format!("-A {back} -i {from} -j ACCEPT")));
    rules.into_iter().map(Line::Iptables).collect()
}

fn iptables_input(family: TableFamily, bridges: &[&Bridge]) -> Vec<Line> {
    let chain = "NETD-INPUT";
    let mut rules: Vec<String> = Vec::new();
    for bridge in bridges {
        let name = &bridge.name;
        for (gateway, port) in bridge.name_servers.iter().filter(|(ip, _)| family.sees(Family::of(*ip))) {
            for protocol in ["udp", "tcp"] {
                rules.push(format!(
                    "-A {chain} -d {gateway} -i {name} -p {protocol} -m {protocol} --dport {port} -j ACCEPT"
                ));
            }
        }
        if family == TableFamily::Ip6 {
            // Neighbour solicitation and advertisement: without them the gateway cannot be resolved.
            for kind in [135, 136] {
                rules.push(format!("-A {chain} -i {name} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT"));
            }
        }
    }
    rules.into_iter().map(Line::Iptables).collect()
}

fn is(left: &Json, right: &Json) -> Json {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn meta(key: &str) -> Json {
    json!({"meta": {"key": key}})
}

fn field(protocol: &str, field: &str) -> Json {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn nft_forward(chain: &'static str, ways: &[&IfName], bridges: &[&Bridge]) -> Vec<Line> {
    let ours: Vec<&str> = bridges.iter().map(|bridge| bridge.name.as_str()).collect();
    let ways: Vec<&str> = ways.iter().map(|way| way.as_str()).collect();
    let all: Vec<&str> = ours.iter().chain(&ways).copied().collect();
    let rule = |from: &[&str], to: &[&str]| {
        let (from, to) = (json!({"set": from}), json!({"set": to}));
        Line::Nft(chain, json!([is(&meta("iifname"), &from), is(&meta("oifname"), &to), {"accept": null}]))
    };
    let mut rules = vec![rule(&ours, &all)];
    if !ways.is_empty() {
        rules.push(rule(&ways, &ours));
    }
    rules
}

fn nft_input(chain: &'static str, family: TableFamily, bridges: &[&Bridge]) -> Vec<Line> {
    let mut rules = Vec::new();
    for bridge in bridges {
        let from = || is(&meta("iifname"), &json!(bridge.name.as_str()));
        for (gateway, port) in bridge.name_servers.iter().filter(|(ip, _)| family.sees(Family::of(*ip))) {
            let header = if gateway.is_ipv4() { "ip" } else { "ip6" };
            for protocol in ["udp", "tcp"] {
                let at = is(&field(header, "daddr"), &json!(gateway.to_string()));
                rules.push(json!([from(), at, is(&field(protocol, "dport"), &json!(port)), {"accept": null}]));
            }
        }
        if family.sees(Family::V6) {
            let kinds = json!({"set": ["nd-neighbor-solicit", "nd-neighbor-advert"]});
            rules.push(json!([from(), is(&field("icmpv6", "type"), &kinds), {"accept": null}]));
        }
    }
    rules.into_iter().map(|rule| Line::Nft(chain, rule)).collect()
}
