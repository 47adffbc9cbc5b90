//! The part of `table bridge netd` that compares what containers on networks with policies send to each other within their
//! bridge, where not every kernel tracks connections.
//!
//! A TCP segment that is not the first of a connection, from a port below 32768 to one that clients use (32768 and above),
//! counts as the answer to a connection the other way: the pair of client and server decides about it, too. So what a
//! policy denies ends at the next segment, and such connections need no memory. Other flows that pass are noted in
//! `flows4` and `flows6`, as (sender, port, receiver, port, protocol): what goes the other way is an answer, and passes for
//! as long as the pair may have the flow.
//!
//! `begunN` and `answeredN` decide about a pair: what it may do passes, otherwise they return. Nearly every packet is one that
//! an allowed pair sends over TCP: `tcpN` leads there at once, and only what returns from it is looked up among the noted
//! flows (`notedN`).
//!
//! What the host itself gets (`pkttype host`: the frame is for the bridge's MAC address), also to send it back into the
//! bridge, `table inet netd` decides about. What another container is to route is told by its addresses, which takes a set
//! with prefixes. Looking into that costs the kernel as much as all other lookups together, so it comes after those that
//! decide about nearly every packet. A lookup costs as much as five to ten comparisons, also in a set of two elements that is
//! written into the rule, so what nearly every packet passes are comparisons.

use crate::model::address::Family;

/// Sets that rules fill, and chains; behind the sets of elements. `FLOWS`: most noted flows of a family.
const CHAINS: &str = r#"
  set flows4 { type ipv4_addr . inet_service . ipv4_addr . inet_service . inet_proto; size FLOWS; flags dynamic,timeout; timeout 3m; }
  set flows6 { type ipv6_addr . inet_service . ipv6_addr . inet_service . inet_proto; size FLOWS; flags dynamic,timeout; timeout 3m; }
  set denied_within4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; size 4096; flags dynamic,timeout; counter; timeout 10m; }
  set denied_within6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service; size 4096; flags dynamic,timeout; counter; timeout 10m; }
  set denied_within4_portless { type ipv4_addr . ipv4_addr . inet_proto; size 4096; flags dynamic,timeout; counter; timeout 10m; }
  set denied_within6_portless { type ipv6_addr . ipv6_addr . inet_proto; size 4096; flags dynamic,timeout; counter; timeout 10m; }
  chain denied {
    meta protocol ip meta l4proto { tcp, udp, sctp } update @denied_within4 { ip saddr . ip daddr . meta l4proto . th dport } drop
    meta protocol ip update @denied_within4_portless { ip saddr . ip daddr . meta l4proto } drop
    meta protocol ip6 meta l4proto { tcp, udp, sctp } update @denied_within6 { ip6 saddr . ip6 daddr . meta l4proto . th dport } drop
    meta protocol ip6 update @denied_within6_portless { ip6 saddr . ip6 daddr . meta l4proto } drop
    drop
  }
  chain begin {
    tcp sport >= 32768 tcp dport < 32768 accept comment "its answers are told by the ports"
    tcp flags & (syn | ack) != syn accept
    meta protocol ip tcp flags & (syn | ack) == syn update @flows4 { ip saddr . th sport . ip daddr . th dport . meta l4proto } accept
    meta protocol ip meta l4proto udp update @flows4 { ip saddr . th sport . ip daddr . th dport . meta l4proto } accept
    meta protocol ip6 tcp flags & (syn | ack) == syn update @flows6 { ip6 saddr . th sport . ip6 daddr . th dport . meta l4proto } accept
    meta protocol ip6 meta l4proto udp update @flows6 { ip6 saddr . th sport . ip6 daddr . th dport . meta l4proto } accept
    accept
  }
  chain icmp4 {
    meta protocol ip icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
    meta protocol ip icmp type echo-reply goto answer4
    goto other4
  }
  chain icmp6 {
    meta protocol ip6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld-listener-done, mld2-listener-report } accept
    meta protocol ip6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    meta protocol ip6 ip6 saddr fe80::/10 goto denied
    meta protocol ip6 ip6 daddr fe80::/10 goto denied
    meta pkttype host accept comment "routed"
    meta protocol ip6 icmpv6 type echo-reply goto answer6
    goto other6
  }
  chain policy4 {
    meta l4proto tcp goto noted4
    meta protocol ip ip frag-off & 0x1fff != 0 accept comment "useless without its first part"
    meta l4proto udp goto udp4
    meta l4proto icmp goto icmp4
    goto other4
  }
  chain policy6 {
    meta l4proto icmpv6 goto icmp6
    meta protocol ip6 ip6 saddr fe80::/10 goto denied
    meta protocol ip6 ip6 daddr fe80::/10 goto denied
    meta pkttype host accept comment "routed"
    meta protocol ip6 frag frag-off > 0 accept comment "useless without its first part"
    meta l4proto tcp goto noted6
    meta l4proto udp goto udp6
    goto other6
  }
  chain compared {
    meta protocol ip goto policy4
    meta protocol ip6 goto policy6
    accept
  }
  chain policed {
    meta protocol ip meta l4proto tcp meta pkttype != host jump tcp4
    meta protocol ip meta pkttype host accept comment "routed"
    meta protocol ip6 meta l4proto tcp meta pkttype != host jump tcp6
    goto compared
  }
  chain to_all {
    meta protocol arp accept
    meta protocol ip meta l4proto igmp accept
    meta protocol ip udp sport 68 udp dport 67 accept comment "DHCP client"
    meta protocol ip6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld-listener-done, mld2-listener-report } accept
    goto denied
  }
  chain policed_shut {
    meta protocol ip meta l4proto tcp meta pkttype other jump tcp4
    meta protocol ip6 meta l4proto tcp meta pkttype other jump tcp6
    meta pkttype other goto compared
    meta pkttype broadcast goto to_all
    meta pkttype multicast goto to_all
    goto policed
  }
"#;

/// The chains that are the same for both families: `IP` is how nft calls the header, `N` the digit in names.
const OF_FAMILY: &str = r#"
  chain begunN {
    meta protocol IP IP saddr . IP daddr . meta l4proto . th dport vmap @withinN_port
LINK_LOCAL    meta protocol IP IP daddr != @policedN accept comment "routed"
    meta protocol IP IP saddr . IP daddr vmap @withinN
    meta protocol IP IP saddr . IP daddr != @receiversN accept comment "routed"
    meta protocol IP IP daddr @shut_withinN return
    goto begin
  }
  chain answeredN {
    meta protocol IP IP daddr . IP saddr . meta l4proto . th sport vmap @withinN_port
LINK_LOCAL    meta protocol IP IP daddr != @policedN accept comment "routed"
    meta protocol IP IP daddr . IP saddr vmap @withinN
    meta protocol IP IP saddr . IP daddr != @receiversN accept comment "routed"
    meta protocol IP IP saddr @shut_withinN return
    accept
  }
  chain tcpN {
    th sport < 32768 th dport >= 32768 tcp flags & (syn | ack) != syn goto answeredN
    goto begunN
  }
  chain goingN {
    meta protocol IP meta l4proto tcp update @flowsN { IP daddr . th dport . IP saddr . th sport . meta l4proto timeout 2h }
    meta protocol IP meta l4proto udp update @flowsN { IP daddr . th dport . IP saddr . th sport . meta l4proto timeout 3m }
    goto answeredN
  }
  chain answerN {
    jump answeredN
    goto answer_notedN
  }
  chain answer_notedN {
    meta protocol IP IP saddr . th sport . IP daddr . th dport . meta l4proto @flowsN jump begunN
    goto denied
  }
  chain otherN {
    jump begunN
    goto denied
  }
  chain notedN {
    th sport < 32768 th dport >= 32768 tcp flags & (syn | ack) != syn goto answer_notedN
    meta protocol IP IP daddr . th dport . IP saddr . th sport . meta l4proto @flowsN jump goingN
PARTS    goto denied
  }
  chain udpN {
    meta protocol IP IP daddr . th dport . IP saddr . th sport . meta l4proto @flowsN jump goingN
    goto otherN
  }
"#;

/// In [`OF_FAMILY`], of IPv6: such addresses carry no flows between containers, whatever network they are on.
const LINK_LOCAL: &str = r#"    meta protocol ip6 ip6 saddr fe80::/10 return
    meta protocol ip6 ip6 daddr fe80::/10 return
"#;
/// In [`OF_FAMILY`], of IPv4. A part without its ports passes no rule about ports before.
const PARTS: &str = r#"    meta protocol ip ip frag-off & 0x1fff != 0 accept comment "useless without its first part"
"#;
/// What has a digit in [`OF_FAMILY`].
const NAMES: [&str; 12] =
    ["within", "policed", "receivers", "flows", "begun", "answered", "going", "noted", "answer", "other", "tcp", "udp"];

/// Most noted flows of each family.
const FLOWS: u32 = 65536;

/// Sets that rules fill, and chains.
pub(super) fn text() -> String {
    let of_family = |(header, digit)| {
        let only = |digit_of: &str, rules: &'static str| if digit == digit_of { rules } else { "" };
        let text = OF_FAMILY.replace("LINK_LOCAL", only("6", LINK_LOCAL)).replace("PARTS", only("4", PARTS));
        let named = |text: String, name: &&str| text.replace(&format!("{name}N"), &format!("{name}{digit}"));
        NAMES.iter().fold(text.replace("IP", header), named)
    };
    CHAINS.replace("FLOWS", &FLOWS.to_string()) + &[("ip", "4"), ("ip6", "6")].map(of_family).concat()
}

/// The sets to which the rules add what they drop, as [`super::policy::counted`].
pub fn counted(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["denied_within4", "denied_within4_portless"],
        Family::V6 => ["denied_within6", "denied_within6_portless"],
    }
}
