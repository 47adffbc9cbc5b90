//! The part of `table bridge netd` that compares what containers on networks with policies send to each other within their
//! bridge, where not every kernel tracks connections.
//!
//! The flows that pass are noted in `flows4` and `flows6`, as (sender, port, receiver, port, protocol): what goes the other
//! way is an answer. A TCP segment that is neither the first of a connection nor noted, because it began before the table
//! was loaded or the set was full, counts as going from the side with the port that clients do not use. Who begins it
//! decides in any case, so what a policy denies ends at the next segment.

use crate::model::address::Family;

/// Sets that rules fill, and chains; behind the sets of elements. `FLOWS`: most noted flows of a family.
pub(super) const CHAINS: &str = r#"
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
    meta protocol ip tcp flags & (syn | ack) == syn update @flows4 { ip saddr . th sport . ip daddr . th dport . meta l4proto } accept
    meta protocol ip meta l4proto udp update @flows4 { ip saddr . th sport . ip daddr . th dport . meta l4proto } accept
    meta protocol ip6 tcp flags & (syn | ack) == syn update @flows6 { ip6 saddr . th sport . ip6 daddr . th dport . meta l4proto } accept
    meta protocol ip6 meta l4proto udp update @flows6 { ip6 saddr . th sport . ip6 daddr . th dport . meta l4proto } accept
    accept
  }
  chain going {
    meta protocol ip meta l4proto tcp update @flows4 { ip daddr . th dport . ip saddr . th sport . meta l4proto timeout 2h } accept
    meta protocol ip meta l4proto udp update @flows4 { ip daddr . th dport . ip saddr . th sport . meta l4proto timeout 3m } accept
    meta protocol ip6 meta l4proto tcp update @flows6 { ip6 daddr . th dport . ip6 saddr . th sport . meta l4proto timeout 2h } accept
    meta protocol ip6 meta l4proto udp update @flows6 { ip6 daddr . th dport . ip6 saddr . th sport . meta l4proto timeout 3m } accept
    accept
  }
  chain answer {
    meta protocol ip ip daddr . ip saddr . meta l4proto . th sport vmap @within4_port
    meta protocol ip ip daddr . ip saddr vmap @within4
    meta protocol ip ip saddr @shut_within4 goto denied
    meta protocol ip6 ip6 daddr . ip6 saddr . meta l4proto . th sport vmap @within6_port
    meta protocol ip6 ip6 daddr . ip6 saddr vmap @within6
    meta protocol ip6 ip6 saddr @shut_within6 goto denied
    accept
  }
  chain policy4 {
    meta protocol ip ip daddr != @receivers4 accept comment "routed"
    meta protocol ip meta l4proto { tcp, udp } ip daddr . th dport . ip saddr . th sport . meta l4proto @flows4 goto going
    meta protocol ip icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
    meta protocol ip ip frag-off & 0x1fff != 0 accept comment "useless without its first part"
    meta protocol ip icmp type echo-reply goto answer
    meta protocol ip tcp flags & (syn | ack) != syn tcp sport < 32768 tcp dport >= 32768 goto answer
    meta protocol ip ip saddr . ip daddr . meta l4proto . th dport vmap @within4_port
    meta protocol ip ip saddr . ip daddr vmap @within4
    meta protocol ip ip daddr @shut_within4 goto denied
    goto begin
  }
  chain policy6 {
    meta protocol ip6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld-listener-done, mld2-listener-report } accept
    meta protocol ip6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    meta protocol ip6 ip6 saddr fe80::/10 goto denied
    meta protocol ip6 ip6 daddr fe80::/10 goto denied
    meta protocol ip6 ip6 daddr != @receivers6 accept comment "routed"
    meta protocol ip6 meta l4proto { tcp, udp } ip6 daddr . th dport . ip6 saddr . th sport . meta l4proto @flows6 goto going
    meta protocol ip6 frag frag-off > 0 accept comment "useless without its first part"
    meta protocol ip6 icmpv6 type echo-reply goto answer
    meta protocol ip6 tcp flags & (syn | ack) != syn tcp sport < 32768 tcp dport >= 32768 goto answer
    meta protocol ip6 ip6 saddr . ip6 daddr . meta l4proto . th dport vmap @within6_port
    meta protocol ip6 ip6 saddr . ip6 daddr vmap @within6
    meta protocol ip6 ip6 daddr @shut_within6 goto denied
    goto begin
  }
  chain policed {
    meta protocol vmap { ip : goto policy4, ip6 : goto policy6 }
    accept
  }
  chain to_all {
    meta protocol arp accept
    meta protocol ip meta l4proto igmp accept
    meta protocol ip udp sport 68 udp dport 67 accept comment "DHCP client"
    meta protocol ip6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld-listener-done, mld2-listener-report } accept
    goto denied
  }
  chain policed_shut {
    meta pkttype { broadcast, multicast } goto to_all
    goto policed
  }
"#;

/// Most noted flows of each family.
pub(super) const FLOWS: u32 = 65536;

/// The set of the flows that pass.
pub fn flows(family: Family) -> &'static str {
    match family {
        Family::V4 => "flows4",
        Family::V6 => "flows6",
    }
}

/// The sets to which the rules add what they drop, as [`super::policy::counted`].
pub fn counted(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["denied_within4", "denied_within4_portless"],
        Family::V6 => ["denied_within6", "denied_within6_portless"],
    }
}
