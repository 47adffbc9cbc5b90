//! The chains of `table inet netd` that hold containers to what they may send: to the addresses that are allowed as such, and
//! to those that the name service has answered to them, which are in sets with timeouts and no elements of the state.
//!
//! Maps with the bridges lead here, in the place of rules that are there without egress too. Policies decide first: what
//! one allows passes, whatever the container's own list says.

use nftables::expr::{FibFlag, FibResult, MetaKey};
use nftables::schema::NfListObject;
use serde_json::{Value as Json, json};

use super::policy::{families, port, protocol, to_host};
use super::render::{
    Expr, FAMILIES, Stmt, any_of, concat, fib, field, goto, is, is_not, jump, leave, meta, of, oifname, prefix, rule,
    text,
};
use super::sets::Set;
use super::{TABLE, strict};
use crate::model::address::Family;

/// The names of the chains, in the order of their declaration.
pub(super) const CHAINS: [&str; 8] = [
    "egress_by_address4",
    "egress_by_address6",
    "egress_to4",
    "egress_to6",
    "sent_egress",
    "sent_internal_egress",
    "host_egress",
    "closed_host_egress",
];

/// The sets of what has been opened: (container, receiver, protocol, port), and (container, receiver).
pub fn opened(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["answered4", "answered4_any"],
        Family::V6 => ["answered6", "answered6_any"],
    }
}

/// The declarations of these sets.
pub(super) fn declarations() -> Vec<Json> {
    let of = |family| {
        let address = if family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
        let [ported, any] = opened(family);
        [(ported, json!([address, address, "inet_proto", "inet_service"])), (any, json!([address, address]))]
    };
    let declare = |(name, key)| json!({"add": {"set": {"family": "inet", "table": TABLE, "name": name, "type": key, "flags": ["timeout"]}}});
    FAMILIES.into_iter().flat_map(of).map(declare).collect()
}

/// Every rule.
pub(super) fn rules() -> Vec<NfListObject<'static>> {
    [allowed(), sent(), host()].into_iter().flatten().collect()
}

/// The chain for what goes outside, and the one for what goes to the host: an answered address opens nothing there.
fn compared_in(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["egress_to4", "egress_by_address4"],
        Family::V6 => ["egress_to6", "egress_by_address6"],
    }
}

/// What a container may send returns, the rest is denied.
fn allowed() -> Vec<NfListObject<'static>> {
    let mut rules = Vec::new();
    for (family, header) in families() {
        let [chain, by_address] = compared_in(family);
        let pair = || vec![field(header, "saddr"), field(header, "daddr")];
        let whole = || concat([pair(), vec![protocol(), port()]].concat());
        let named = |set: &str| -> Expr { text(format!("@{set}")) };
        let [ported, any] = opened(family);
        let returns = |chain, key, set| rule(chain, vec![is(key, set), leave()], None);
        rules.extend([
            // ip saddr . ip daddr . meta l4proto . th dport @answered4 return
            returns(chain, whole(), named(ported)),
            // ip saddr . ip daddr @answered4_any return
            returns(chain, concat(pair()), named(any)),
            rule(chain, vec![goto(by_address)], None),
            // ip saddr . ip daddr . meta l4proto . th dport @egress4_to return
            returns(by_address, whole(), of(Set::EgressToPorts(family))),
            // ip saddr . ip daddr @egress4_to_any return
            returns(by_address, concat(pair()), of(Set::EgressTo(family))),
            rule(by_address, vec![goto("denied")], None),
        ]);
    }
    rules
}

/// `ip saddr @egress4 goto egress_to4`, and the same for IPv6.
/// `if_so`: what else must be so.
fn held(chain: &'static str, if_so: &[Stmt], compared: fn(Family) -> &'static str) -> Vec<NfListObject<'static>> {
    let of = |(family, header)| {
        let held = is(field(header, "saddr"), of(Set::Egress(family)));
        let statements = if_so.iter().cloned().chain([held, goto(compared(family))]);
        rule(chain, statements.collect(), None)
    };
    families().into_iter().map(of).collect()
}

/// What leaves a network with such containers. What they have with each other is not about egress.
fn sent() -> Vec<NfListObject<'static>> {
    let mut rules = vec![
        rule("sent_egress", vec![jump("sent")], None),
        // oifname @bridges return
        rule("sent_egress", vec![is(oifname(), of(Set::Bridges)), leave()], None),
    ];
    rules.extend(held("sent_egress", &[], |family| compared_in(family)[0]));
    rules.push(rule("sent_internal_egress", vec![jump("sent_egress")], None));
    rules.push(rule("sent_internal_egress", vec![goto("from_internal")], None));
    rules
}

/// What they send to the host. Link-local addresses are told apart by the MAC address, which [`super::guard`] has compared;
/// what multicast routing needs from them says nothing to the host.
fn host() -> Vec<NfListObject<'static>> {
    let chain = "host_egress";
    let mut rules = to_host(chain);
    let listens = ["mld-listener-report", "mld-listener-done", "mld2-listener-report", "nd-router-solicit"];
    let link_local = || is(field("ip6", "saddr"), prefix("fe80::", 10));
    rules.extend([
        // meta l4proto igmp return
        rule(chain, vec![is(meta(MetaKey::L4proto), text("igmp")), leave()], None),
        // icmpv6 type { mld-listener-report, … } return
        rule(chain, vec![is(field("icmpv6", "type"), any_of(listens.map(text).into())), leave()], None),
        // ip6 saddr fe80::/10 ether saddr @egress_macs goto denied
        rule(chain, vec![link_local(), is(field("ether", "saddr"), of(Set::EgressMacs)), goto("denied")], None),
    ]);
    // fib daddr type != local ip saddr @egress4 goto egress_by_address4: multicast and broadcast
    let elsewhere = is_not(fib(&[FibFlag::Daddr], FibResult::Type), text("local"));
    rules.extend(held(chain, &[elsewhere], |family| compared_in(family)[1]));
    // ip6 daddr fe80::/10 ip6 saddr @egress6 goto egress_by_address6: no port is published there
    let link_local = is(field("ip6", "daddr"), prefix("fe80::", 10));
    rules.extend(held(chain, &[link_local], |family| compared_in(family)[1]).into_iter().skip(1));
    // … @strict4 return: containers are behind these ports
    rules.extend(strict::ports(chain, &leave()));
    rules.extend(held(chain, &[], |family| compared_in(family)[1]));
    rules.push(rule("closed_host_egress", vec![jump(chain)], None));
    rules.push(rule("closed_host_egress", vec![goto("host_closed")], None));
    rules
}
