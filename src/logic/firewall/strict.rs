//! Strict ports: published ports about which the host's own rules about packets to itself decide.
//!
//! Nothing is translated when a packet to such a port arrives, so it passes the input hook as a packet to the host. What
//! every base chain there lets pass arrives at the last one, `strict`. It hands the first packet of a flow to netd, which
//! sends it again from the host; then the output hook translates it, and connection tracking carries the rest of the flow.

use nftables::expr::{FibFlag, FibResult, MetaKey};
use nftables::schema::NfListObject;
use nftables::stmt::{Accept, Drop, Log, Statement};

use super::render::{Expr, Stmt, concat, counter, ct, fib, field, is, is_not, jump, meta, of, prefix, rule, text};
use super::sets::Set;
use crate::model::address::Family;

/// The group of nfnetlink_log to which first packets are handed.
pub const GROUP: u16 = 28_260;
/// What the messages begin with.
pub const PREFIX: &str = "netd strict";
/// What those begin with whose packet came from a container.
pub const PREFIX_OF_CONTAINERS: &str = "netd strict, from a container";
/// The mark of what netd sends again. None of its bits is one of those that Kubernetes (0xc000), Cilium (0x0f00) and Calico
/// or Tailscale (0xffff0000) act on.
pub const MARK: u32 = 0x106e;
/// The mark of those whose packet came from a container: policies about the outside are not about it.
pub const MARK_OF_CONTAINERS: u32 = 0x106f;
/// After the input chains of everybody else.
pub(super) const LAST: i32 = 1000;

/// The rules that do this with packets to strict ports: one for each set.
pub(super) fn ports(chain: &'static str, then: &Stmt) -> Vec<NfListObject<'static>> {
    let families = [(Family::V4, "ip", "ipv4", Set::Strict4), (Family::V6, "ip6", "ipv6", Set::Strict6)];
    let rules = families.into_iter().flat_map(|(family, header, protocol, every)| {
        let port = || vec![meta(MetaKey::L4proto), field("th", "dport")];
        let at = [vec![field(header, "daddr")], port()].concat();
        let of_family = |key: Vec<Expr>, set| {
            let matched = is(meta(MetaKey::Nfproto), text(protocol));
            rule(chain, vec![matched, is(concat(key), of(set)), then.clone()], None)
        };
        // meta nfproto ipv4 ip daddr . meta l4proto . th dport @strict4_at …
        // meta nfproto ipv4 meta l4proto . th dport @strict4 …
        [of_family(at, Set::StrictAt(family)), of_family(port(), every)]
    });
    rules.collect()
}

/// The last chain of the input hook. What the host sends to itself was translated, and `::1` and link-local addresses are
/// the proxy's.
pub(super) fn strict() -> Vec<NfListObject<'static>> {
    let accept = || Statement::Accept(Some(Accept {}));
    let mut rules = vec![
        // ct state != new accept
        rule("strict", vec![is_not(ct("state"), text("new")), accept()], None),
        // iifname "lo" accept: also what was sent again and is not translated, which must not come here a second time
        rule("strict", vec![is(meta(MetaKey::Iifname), text("lo")), accept()], None),
        // ip6 saddr fe80::/10 accept, ip6 daddr fe80::/10 accept: the kernel routes them to no other link
        rule("strict", vec![is(field("ip6", "saddr"), prefix("fe80::", 10)), accept()], None),
        rule("strict", vec![is(field("ip6", "daddr"), prefix("fe80::", 10)), accept()], None),
    ];
    rules.extend(ports("strict", &jump("first")));
    rules
}

/// What becomes of first packets. They would not meet the chain `forward` any more, so an internal network is a matter of
/// this one. `hands_over`: whether the kernel can hand packets to netd; without, nobody reaches a strict port.
pub(super) fn first(hands_over: bool) -> Vec<NfListObject<'static>> {
    let local = || is(fib(&[FibFlag::Daddr], FibResult::Type), text("local"));
    let internal = vec![local(), is(meta(MetaKey::Iifname), of(Set::Internal)), counter(), drop()];
    let handed = |prefix: &'static str, from: Option<Stmt>| {
        let log = Log { prefix: Some(prefix.into()), ..Log::new(Some(u32::from(GROUP))) };
        let mut statements: Vec<Stmt> = from.into_iter().chain([local()]).collect();
        statements.extend(hands_over.then(|| Statement::Log(Some(log))));
        statements.extend([counter(), drop()]);
        rule("first", statements, Some("netd sends it again"))
    };
    vec![
        // fib daddr type local iifname @internal counter drop
        rule("first", internal, Some("from an internal network")),
        // iifname @bridges fib daddr type local log prefix "netd strict, from a container" group 28260 counter drop
        handed(PREFIX_OF_CONTAINERS, Some(is(meta(MetaKey::Iifname), of(Set::Bridges)))),
        // fib daddr type local log prefix "netd strict" group 28260 counter drop
        handed(PREFIX, None),
    ]
}

fn drop() -> Stmt {
    Statement::Drop(Some(Drop {}))
}
