//! The chains and their rules, in the order in which a packet traverses them. The nft syntax is in the comment above
//! each rule.
//!
//! With `net.bridge.bridge-nf-call-iptables` on, frames that a bridge forwards pass the same hooks with the bridge as
//! input and output interface; the rules must not depend on that setting.

use nftables::expr::{Expression, FibFlag, FibResult, MetaKey};
use nftables::schema::{Chain, NfListObject};
use nftables::stmt::Statement;
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::render::{
    Expr, FAMILIES, Stmt, accept, any_of, concat, ct, dnat, drop_rule, fib, field, goto, has, iifname, is, is_not,
    jump, leave, map, masquerade, meta, neighbours, of, oifname, prefix, rule, set, snat, text,
};
use super::sets::Set;
use super::unpublished::unpublished;
use super::{TABLE, egress, forward, policy, strict};
use crate::model::address::Family;

/// Before connection tracking (-200).
const RAW: i32 = -300;
/// After connection tracking (-200), before destination NAT (-100): addresses are still as they arrived.
const MANGLE: i32 = -150;
/// Destination NAT, in prerouting and in output.
const DSTNAT: i32 = -100;
/// Filtering.
const FILTER: i32 = 0;
/// Source NAT.
const SRCNAT: i32 = 100;

/// RFC 1035, 4.2.
const DNS_PORT: u32 = 53;

/// Every chain, then every rule. `hands_over`: whether the kernel can hand packets to netd.
pub(super) fn chains(hands_over: bool) -> Vec<NfListObject<'static>> {
    let mut objects = vec![
        NfListObject::Chain(chain("dns")),
        NfListObject::Chain(chain("strangers")),
        base_chain("dns_in", NfChainType::Filter, NfHook::Prerouting, RAW),
        base_chain("dns_out", NfChainType::Filter, NfHook::Output, RAW),
        base_chain("guard", NfChainType::Filter, NfHook::Prerouting, MANGLE),
        base_chain("dstnat", NfChainType::NAT, NfHook::Prerouting, DSTNAT),
        base_chain("dstnat_local", NfChainType::NAT, NfHook::Output, DSTNAT),
        NfListObject::Chain(chain("publish")),
        NfListObject::Chain(chain("closed")),
        NfListObject::Chain(chain("unpublished")),
        base_chain("input", NfChainType::Filter, NfHook::Input, FILTER),
        base_chain("output", NfChainType::Filter, NfHook::Output, FILTER),
        NfListObject::Chain(chain("first")),
        base_chain("strict", NfChainType::Filter, NfHook::Input, strict::LAST),
        NfListObject::Chain(chain("host_closed")),
        NfListObject::Chain(chain("from_bridge")),
        NfListObject::Chain(chain("to_bridge")),
        base_chain("forward", NfChainType::Filter, NfHook::Forward, FILTER),
        base_chain("srcnat", NfChainType::NAT, NfHook::Postrouting, SRCNAT),
    ];
    let policed = policy::CHAINS.into_iter().chain(policy::HOST_SENT).chain(egress::CHAINS);
    objects.splice(0..0, policed.map(|name| NfListObject::Chain(chain(name))));
    objects.extend(policy::rules());
    objects.extend(egress::rules());
    for rules in [dns(), strangers(), dns_in(), dns_out(), guard(), dstnat(), dstnat_local(), publish()] {
        objects.extend(rules);
    }
    for rules in [closed(), input(), host_closed(), output(), strict::first(hands_over), strict::strict()] {
        objects.extend(rules);
    }
    for rules in [unpublished(), forward::rules(), srcnat()] {
        objects.extend(rules);
    }
    objects
}

fn chain(name: &'static str) -> Chain<'static> {
    Chain { family: NfFamily::INet, table: TABLE.into(), name: name.into(), ..Chain::default() }
}

fn base_chain(name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..chain(name)
    })
}

/// Questions to port 53 of a gateway are redirected to the port of the name service there, and are not tracked: a burst
/// of them uses no entries of the connection table, and causes no races for them.
fn dns() -> Vec<NfListObject<'static>> {
    let mut rules = Vec::new();
    for (family, header) in FAMILIES.into_iter().zip(["ip", "ip6"]) {
        for protocol in ["udp", "tcp"] {
            // udp dport set ip daddr map @dns4 notrack
            let to = set(field(protocol, "dport"), map(field(header, "daddr"), Set::Dns(family)));
            rules.push(rule("dns", vec![to, Statement::Notrack], None));
        }
    }
    rules
}

/// `meta l4proto { tcp, udp }`
fn tcp_or_udp() -> Stmt {
    is(meta(MetaKey::L4proto), any_of(vec![text("tcp"), text("udp")]))
}

/// `th dport 53 meta l4proto { tcp, udp } jump dns`: every packet of the host passes it, and comparing the port costs less
/// than the lookup.
fn asked(chain: &'static str) -> NfListObject<'static> {
    rule(chain, vec![is(field("th", "dport"), Expression::Number(DNS_PORT)), tcp_or_udp(), jump("dns")], None)
}

/// Questions to the name service of a gateway that come neither from a container nor from the host. Otherwise anyone
/// with a route to the gateway could use up the name service's connections, or make it send answers to others.
fn strangers() -> Vec<NfListObject<'static>> {
    let asked = |(family, header)| {
        // ip daddr . th dport @dns4_from counter drop
        let asked = is(concat(vec![field(header, "daddr"), field("th", "dport")]), of(Set::DnsFrom(family)));
        drop_rule("strangers", vec![asked], "question from outside")
    };
    FAMILIES.into_iter().zip(["ip", "ip6"]).map(asked).collect()
}

fn dns_in() -> Vec<NfListObject<'static>> {
    // iifname != "lo" iifname != @bridges iifname != @direct meta l4proto { tcp, udp } jump strangers
    let from_outside = vec![
        is_not(iifname(), text("lo")),
        is_not(iifname(), of(Set::Bridges)),
        is_not(iifname(), of(Set::Direct)),
        tcp_or_udp(),
        jump("strangers"),
    ];
    vec![asked("dns_in"), rule("dns_in", from_outside, None)]
}

/// The host's own questions, and all answers.
fn dns_out() -> Vec<NfListObject<'static>> {
    let mut rules = vec![asked("dns_out")];
    for (family, header) in FAMILIES.into_iter().zip(["ip", "ip6"]) {
        for protocol in ["udp", "tcp"] {
            let port = || field(protocol, "sport");
            // ip saddr . udp sport @dns4_from udp sport set 53 notrack
            let from = is(concat(vec![field(header, "saddr"), port()]), of(Set::DnsFrom(family)));
            let statements = vec![from, set(port(), Expression::Number(DNS_PORT)), Statement::Notrack];
            rules.push(rule("dns_out", statements, None));
        }
    }
    rules
}

/// Restrictions on what containers may send.
///
/// A reply to a tracked connection may leave a container through another network than the one on which the request came
/// in (its default route is on only one of them), so only the original direction of a connection is checked for the
/// correct source network.
fn guard() -> Vec<NfListObject<'static>> {
    let loopback = prefix("127.0.0.0", 8);
    vec![
        // iifname != @bridges accept
        rule("guard", vec![is_not(iifname(), of(Set::Bridges)), accept()], None),
        // ip daddr 127.0.0.0/8 counter drop: route_localnet is on for our bridges
        drop_rule("guard", vec![is(field("ip", "daddr"), loopback)], "container to host loopback"),
        // iifname @isolated fib daddr type local counter drop
        drop_rule(
            "guard",
            vec![is(iifname(), of(Set::Isolated)), is(fib(&[FibFlag::Daddr], FibResult::Type), text("local"))],
            "to a host that is not on the network",
        ),
        // iifname @isolated accept: no route leads where its sources live, and they can reach nobody but each other
        rule("guard", vec![is(iifname(), of(Set::Isolated)), accept()], None),
        // ct direction reply accept
        rule("guard", vec![is(ct("direction"), text("reply")), accept()], None),
        // iifname @ports_closed fib daddr type local jump closed: before anybody's destination NAT
        rule(
            "guard",
            vec![
                is(iifname(), of(Set::PortsClosed)),
                is(fib(&[FibFlag::Daddr], FibResult::Type), text("local")),
                jump("closed"),
            ],
            None,
        ),
        // ip6 saddr { ::, fe80::/10 } accept: neighbour discovery and MLD
        rule("guard", vec![is(field("ip6", "saddr"), any_of(vec![text("::"), prefix("fe80::", 10)])), accept()], None),
        // ip saddr 0.0.0.0 ip daddr 255.255.255.255 accept: DHCP
        rule(
            "guard",
            vec![
                is(field("ip", "saddr"), text("0.0.0.0")),
                is(field("ip", "daddr"), text("255.255.255.255")),
                accept(),
            ],
            None,
        ),
        // fib saddr . iif oif missing counter drop
        drop_rule(
            "guard",
            vec![is(fib(&[FibFlag::Saddr, FibFlag::Iif], FibResult::Oif), Expression::Boolean(false))],
            "spoofed source",
        ),
    ]
}

/// `fib daddr type local jump publish`
fn published(chain: &'static str) -> NfListObject<'static> {
    rule(chain, vec![is(fib(&[FibFlag::Daddr], FibResult::Type), text("local")), jump("publish")], None)
}

/// Published ports for arriving packets.
fn dstnat() -> Vec<NfListObject<'static>> {
    let mut rules = vec![
        // ip daddr 127.0.0.0/8 return: a neighbour that sends to 127.0.0.1 must not reach what is published there; what
        // the host sends itself was translated in dstnat_local
        rule("dstnat", vec![is(field("ip", "daddr"), prefix("127.0.0.0", 8)), leave()], None),
    ];
    // … @strict4 return: the host's input rules see it as a packet to the host
    rules.extend(strict::ports("dstnat", &leave()));
    rules.push(published("dstnat"));
    rules
}

/// Published ports for what the host sends to itself.
fn dstnat_local() -> Vec<NfListObject<'static>> {
    vec![published("dstnat_local")]
}

/// The lookups, more specific ones first: a host address before any address, a single port before a range.
fn publish() -> Vec<NfListObject<'static>> {
    let protocols = any_of(vec![text("tcp"), text("udp"), text("sctp")]);
    let mut rules = vec![
        // meta l4proto != { tcp, udp, sctp } return
        rule("publish", vec![is_not(meta(MetaKey::L4proto), protocols), leave()], None),
        // ip6 daddr { ::1, fe80::/10 } return: the kernel routes neither source to another link
        rule(
            "publish",
            vec![is(field("ip6", "daddr"), any_of(vec![text("::1"), prefix("fe80::", 10)])), leave()],
            None,
        ),
    ];
    for family in FAMILIES {
        let (header, protocol) = match family {
            Family::V4 => ("ip", "ipv4"),
            Family::V6 => ("ip6", "ipv6"),
        };
        let port = || vec![meta(MetaKey::L4proto), field("th", "dport")];
        let any = concat(port());
        let at = concat([vec![field(header, "daddr")], port()].concat());
        let lookup = |key: &Expr, address, port| {
            let matched = is(meta(MetaKey::Nfproto), text(protocol));
            rule("publish", vec![matched, dnat(family, key, address, port)], None)
        };
        rules.extend([
            // dnat ip to ip daddr . meta l4proto . th dport map @publish4_at : … map @publish4_at_port
            lookup(&at, Set::PublishAt(family), Some(Set::PublishAtPort(family))),
            // dnat ip to ip daddr . meta l4proto . th dport map @publish4_at_range
            lookup(&at, Set::PublishAtRange(family), None),
            // dnat ip to meta l4proto . th dport map @publish4 : meta l4proto . th dport map @publish4_port
            lookup(&any, Set::Publish(family), Some(Set::PublishPort(family))),
            // dnat ip to meta l4proto . th dport map @publish4_range
            lookup(&any, Set::PublishRange(family), None),
        ]);
    }
    rules
}

/// What a container can reach on the host if its network is closed towards the host: what IP itself needs, replies to
/// connections that the host opened, the services of its network, and the name service.
fn closed() -> Vec<NfListObject<'static>> {
    let why = "to a host that is closed";
    let mut rules = vec![
        // ct state established,related return
        rule("closed", vec![has(ct("state"), &["established", "related"]), leave()], None),
        // icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return
        rule("closed", vec![neighbours(), leave()], None),
        // ip6 daddr fe80::/10 counter drop: netd answers at gateways, others may at the bridge's own address
        drop_rule("closed", vec![is(field("ip6", "daddr"), prefix("fe80::", 10))], why),
    ];
    for (family, header) in FAMILIES.into_iter().zip(["ip", "ip6"]) {
        // iifname . ip daddr @own_vips4 return: a service of the client's own network
        let own = is(concat(vec![iifname(), field(header, "daddr")]), of(Set::OwnVips(family)));
        rules.push(rule("closed", vec![own, leave()], None));
        for protocol in ["udp", "tcp"] {
            // fib daddr . iif type local ip daddr . udp dport @dns4_from return: at the client's own gateway
            let own = is(fib(&[FibFlag::Daddr, FibFlag::Iif], FibResult::Type), text("local"));
            let asked = concat(vec![field(header, "daddr"), field(protocol, "dport")]);
            rules.push(rule("closed", vec![own, is(asked, of(Set::DnsFrom(family))), leave()], None));
        }
    }
    // counter drop
    rules.push(drop_rule("closed", Vec::new(), why));
    rules
}

/// Filters packets to the host itself, after destination NAT; of published ports only strict ones get here.
fn input() -> Vec<NfListObject<'static>> {
    // iifname vmap @to_host
    vec![policy::led("input", iifname(), Set::ToHost)]
}

/// What containers send to a host that is closed to them. Strict ports are published ports, whatever else the host has there.
fn host_closed() -> Vec<NfListObject<'static>> {
    // ip6 daddr fe80::/10 goto closed: no port is published there
    let link_local = is(field("ip6", "daddr"), prefix("fe80::", 10));
    let mut rules = vec![rule("host_closed", vec![link_local, goto("closed")], None)];
    // … @strict4 accept
    rules.extend(strict::ports("host_closed", &accept()));
    rules.push(rule("host_closed", vec![goto("closed")], None));
    rules
}

/// Filters what the host itself sends.
fn output() -> Vec<NfListObject<'static>> {
    // oifname vmap @from_host
    vec![policy::led("output", oifname(), Set::FromHost)]
}

/// Source NAT: determines the address that the receiver sees.
fn srcnat() -> Vec<NfListObject<'static>> {
    let mut rules = Vec::new();
    for (family, header) in FAMILIES.into_iter().zip(["ip", "ip6"]) {
        let (saddr, daddr) = (|| field(header, "saddr"), || field(header, "daddr"));
        rules.extend([
            // ip saddr @masquerade4 oifname != @bridges oifname != "lo" masquerade fully-random: lo carries what the
            // host sends itself from a gateway address
            rule(
                "srcnat",
                vec![
                    is(saddr(), of(Set::Masquerade(family))),
                    is_not(oifname(), of(Set::Bridges)),
                    is_not(oifname(), text("lo")),
                    masquerade(true),
                ],
                None,
            ),
            // ct status dnat ip saddr . ip daddr @hairpin4 masquerade: by address, because with bridge-nf-call-iptables
            // the interfaces of published and of plain traffic are the same
            rule(
                "srcnat",
                vec![
                    has(ct("status"), &["dnat"]),
                    is(concat(vec![saddr(), daddr()]), of(Set::Hairpin(family))),
                    masquerade(false),
                ],
                None,
            ),
        ]);
    }
    // ip saddr 127.0.0.0/8 oifname @bridges masquerade
    let loopback = is(field("ip", "saddr"), prefix("127.0.0.0", 8));
    for (family, header) in FAMILIES.into_iter().zip(["ip", "ip6"]) {
        let leaves = [is_not(oifname(), of(Set::Bridges)), is_not(oifname(), text("lo"))];
        // oifname != @bridges oifname != "lo" snat ip to ip saddr map @outbound4 fully-random
        let outbound = [snat(family, field(header, "saddr"), Set::Outbound(family))];
        rules.push(rule("srcnat", leaves.into_iter().chain(outbound).collect(), None));
    }
    rules.push(rule("srcnat", vec![loopback, is(oifname(), of(Set::Bridges)), masquerade(false)], None));
    rules
}
