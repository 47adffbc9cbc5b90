//! The chains of `table inet netd` that compare traffic of networks with policies: what is routed between containers, and
//! between them and the host or the outside. [`super::guard`] compares what stays within a bridge.
//!
//! Traffic of other networks never gets here: verdict maps with the bridges lead here, in the place of rules that are
//! there without policies too.

use nftables::expr::{FibFlag, FibResult, MetaKey};
use nftables::schema::NfListObject;
use nftables::stmt::{Drop, Statement};
use serde_json::{Value as Json, json};

use super::TABLE;
use super::render::{
    Expr, FAMILIES, Stmt, accept, any_of, concat, ct, drop_rule, fib, field, goto, has, iifname, is, is_not, jump,
    leave, meta, neighbours, of, oifname, rule, text, update, vmap,
};
use super::sets::Set;
use super::strict::MARK_OF_CONTAINERS;
use crate::model::address::Family;

/// The names of the chains, in the order of their declaration.
pub(super) const CHAINS: [&str; 12] = [
    "denied",
    "pairs",
    "from_internal",
    "to_internal",
    "sent",
    "sent_internal",
    "arrived",
    "entered",
    "received",
    "received_internal",
    "host_received",
    "closed_host_received",
];
/// The chains for what the host sends.
pub(super) const HOST_SENT: [&str; 2] = ["host_sent", "host_translated"];

/// Most counted flows, and how long each is kept after the last packet, in seconds.
const COUNTED: u32 = 4096;
const KEPT: u32 = 600;

/// The sets to which the rules add what they drop: who sent it, to whom, by which protocol and to which port.
pub fn counted(family: Family) -> [(&'static str, &'static [&'static str]); 2] {
    match family {
        Family::V4 => [
            ("denied4", &["ipv4_addr", "ipv4_addr", "inet_proto", "inet_service"]),
            ("denied4_portless", &["ipv4_addr", "ipv4_addr", "inet_proto"]),
        ],
        Family::V6 => [
            ("denied6", &["ipv6_addr", "ipv6_addr", "inet_proto", "inet_service"]),
            ("denied6_portless", &["ipv6_addr", "ipv6_addr", "inet_proto"]),
        ],
    }
}

/// The declarations of these sets.
pub(super) fn declarations() -> Vec<Json> {
    let of = |family| {
        counted(family).map(|(name, key)| {
            json!({"add": {"set": {
                "family": "inet", "table": TABLE, "name": name, "type": key, "flags": ["timeout"],
                "size": COUNTED, "timeout": KEPT, "stmt": [{"counter": null}],
            }}})
        })
    };
    FAMILIES.into_iter().flat_map(of).collect()
}

/// Every rule.
pub(super) fn rules() -> Vec<NfListObject<'static>> {
    let parts = [denied(), pairs(), internal(), sent(), arrived(), entered(), received(), host_received(), host_sent()];
    parts.into_iter().flatten().collect()
}

pub(super) fn families() -> [(Family, &'static str); 2] {
    [(Family::V4, "ip"), (Family::V6, "ip6")]
}

pub(super) fn protocol() -> Expr {
    meta(MetaKey::L4proto)
}

pub(super) fn port() -> Expr {
    field("th", "dport")
}

/// Counts and drops.
fn denied() -> Vec<NfListObject<'static>> {
    let mut rules = Vec::new();
    let drop = || Statement::Drop(Some(Drop {}));
    for (family, header) in families() {
        let [(ported, _), (portless, _)] = counted(family);
        let pair = || vec![field(header, "saddr"), field(header, "daddr"), protocol()];
        // meta l4proto { tcp, udp, sctp } update @denied4 { ip saddr . ip daddr . meta l4proto . th dport } drop
        let has_ports = is(protocol(), any_of(vec![text("tcp"), text("udp"), text("sctp")]));
        let whole = concat([pair(), vec![port()]].concat());
        rules.push(rule("denied", vec![has_ports, update(ported, whole), drop()], None));
        // update @denied4_portless { ip saddr . ip daddr . meta l4proto } drop
        rules.push(rule("denied", vec![update(portless, concat(pair())), drop()], None));
    }
    // Also what is not counted because a set is full.
    rules.push(drop_rule("denied", Vec::new(), "denied by a policy"));
    rules
}

/// Flows between containers.
fn pairs() -> Vec<NfListObject<'static>> {
    let of = |(family, header)| {
        let pair = || vec![field(header, "saddr"), field(header, "daddr")];
        [
            // ip saddr . ip daddr . meta l4proto . th dport vmap @policy4_port
            rule(
                "pairs",
                vec![vmap(concat([pair(), vec![protocol(), port()]].concat()), Set::PolicyPort(family))],
                None,
            ),
            // ip saddr . ip daddr vmap @policy4
            rule("pairs", vec![vmap(concat(pair()), Set::Policy(family))], None),
        ]
    };
    families().into_iter().flat_map(of).collect()
}

/// What leaves and enters internal networks.
fn internal() -> Vec<NfListObject<'static>> {
    vec![
        // iifname . oifname @within goto entered: with br_netfilter, frames within an internal network with policies come here
        rule("from_internal", vec![is(concat(vec![iifname(), oifname()]), of(Set::Within)), goto("entered")], None),
        drop_rule("from_internal", Vec::new(), "from an internal network"),
        drop_rule("to_internal", Vec::new(), "to an internal network"),
    ]
}

/// The lookups for what a container has with the host or the outside. `side`: where the other one's address is, whose type
/// tells the two apart; `own`: where the container's address is.
fn edges(
    chain: &'static str,
    (side, own): (FibFlag, &'static str),
    sets: fn(Family) -> [Set; 2],
) -> Vec<NfListObject<'static>> {
    let of = |(family, header)| {
        let key = move || vec![fib(&[side], FibResult::Type), field(header, own)];
        let [with_port, without] = sets(family);
        [
            rule(chain, vec![vmap(concat([key(), vec![protocol(), port()]].concat()), with_port)], None),
            rule(chain, vec![vmap(concat(key()), without)], None),
        ]
    };
    families().into_iter().flat_map(of).collect()
}

fn sent_sets(family: Family) -> [Set; 2] {
    [Set::SentPort(family), Set::Sent(family)]
}

/// What leaves a network with policies.
fn sent() -> Vec<NfListObject<'static>> {
    // oifname @bridges goto pairs
    let mut rules = vec![rule("sent", vec![is(oifname(), of(Set::Bridges)), goto("pairs")], None)];
    // fib daddr type . ip saddr . meta l4proto . th dport vmap @sent4_port, …
    rules.extend(edges("sent", (FibFlag::Daddr, "saddr"), sent_sets));
    rules.push(rule("sent_internal", vec![jump("sent")], None));
    rules.push(rule("sent_internal", vec![goto("from_internal")], None));
    rules
}

/// What enters a network with policies from the host or the outside.
fn arrived() -> Vec<NfListObject<'static>> {
    // fib saddr type . ip daddr . meta l4proto . th dport vmap @received4_port, …
    edges("arrived", (FibFlag::Saddr, "daddr"), |family| [Set::ReceivedPort(family), Set::Received(family)])
}

fn shut(chain: &'static str) -> Vec<NfListObject<'static>> {
    // ip daddr @shut4 goto denied
    let of =
        |(family, header)| rule(chain, vec![is(field(header, "daddr"), of(Set::Shut(family))), goto("denied")], None);
    families().into_iter().map(of).collect()
}

/// What enters a network with policies: pairs of containers have been compared when it left the other network.
fn entered() -> Vec<NfListObject<'static>> {
    let mut rules = vec![
        // icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept: where frames within a bridge get here
        rule("entered", vec![neighbours(), accept()], None),
        // iifname != @bridges jump arrived
        rule("entered", vec![is_not(iifname(), of(Set::Bridges)), jump("arrived")], None),
    ];
    rules.extend(shut("entered"));
    // iifname . oifname @within accept
    rules.push(rule("entered", vec![is(concat(vec![iifname(), oifname()]), of(Set::Within)), accept()], None));
    rules
}

/// As for networks without policies, behind them.
fn received() -> Vec<NfListObject<'static>> {
    vec![
        rule("received", vec![jump("entered")], None),
        // ct status dnat accept
        rule("received", vec![has(ct("status"), &["dnat"]), accept()], None),
        rule("received", vec![goto("unpublished")], None),
        rule("received_internal", vec![jump("entered")], None),
        rule("received_internal", vec![goto("to_internal")], None),
    ]
}

/// What containers send to the host. The name service answers in any case.
fn host_received() -> Vec<NfListObject<'static>> {
    let mut rules = to_host("host_received");
    rules.push(rule("closed_host_received", vec![jump("host_received")], None));
    rules.push(rule("closed_host_received", vec![goto("host_closed")], None));
    rules
}

/// The rules of a chain for what containers send to the host.
pub(super) fn to_host(chain: &'static str) -> Vec<NfListObject<'static>> {
    let mut rules = vec![
        // ct state established,related return
        rule(chain, vec![has(ct("state"), &["established", "related"]), leave()], None),
        rule(chain, vec![neighbours(), leave()], None),
    ];
    for (family, header) in families() {
        for protocol in ["udp", "tcp"] {
            // ip daddr . udp dport @dns4_from return
            let asked = concat(vec![field(header, "daddr"), field(protocol, "dport")]);
            rules.push(rule(chain, vec![is(asked, of(Set::DnsFrom(family))), leave()], None));
        }
    }
    rules.extend(edges(chain, (FibFlag::Daddr, "saddr"), sent_sets));
    rules
}

/// What the host sends to containers. Answers of the name service are not tracked. What it sends to a published port at its
/// own address still has the loopback as its interface here, after it was translated.
fn host_sent() -> Vec<NfListObject<'static>> {
    let [chain, translated] = HOST_SENT;
    let answers = has(ct("state"), &["established", "related", "untracked"]);
    let of_a_container = is_not(meta(MetaKey::Mark), Expr::Number(MARK_OF_CONTAINERS));
    let mut rules: Vec<NfListObject<'static>> = vec![
        // ct state established,related,untracked return
        rule(chain, vec![answers, leave()], None),
        rule(chain, vec![neighbours(), leave()], None),
        // What netd sends again for a strict port has the address of who sent it, maybe of a container.
        rule(chain, vec![jump("pairs")], None),
        // meta mark != 0x106f jump arrived
        rule(chain, vec![of_a_container, jump("arrived")], None),
    ];
    rules.extend(shut(chain));
    // ct status dnat goto host_sent
    rules.push(rule(translated, vec![has(ct("status"), &["dnat"]), goto(chain)], None));
    rules
}

/// `oifname vmap @from_host`, `iifname vmap @to_host` and the like: where the bridges lead.
pub(super) fn led(chain: &'static str, interface: Expr, map: Set) -> NfListObject<'static> {
    let lead: Stmt = vmap(interface, map);
    rule(chain, vec![lead], None)
}
