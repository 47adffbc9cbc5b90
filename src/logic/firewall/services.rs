//! The table `inet netd_services`: which member of a service gets a new connection.
//!
//! A service has slots, and each slot leads to a member. Which slot a connection falls into is computed from its
//! addresses and ports, so all packets that race to open it agree, and a change of the members is a change of a few
//! elements ([`crate::logic::slots`]). The rules are the same whatever services there are.
//!
//! It is text, because nft's JSON cannot declare the type of a slot, which only an expression has (`numgen`). What nft
//! lists must be what nft loads: people keep their ruleset that way.

use std::fmt::Write as _;

use super::sets::{Entry, Kind, Set};
use super::text;
use crate::model::address::Family;
use crate::model::host::element::{Element, Slots, Table};

/// The chains that do not depend on the number of slots.
///
/// What concerns no service passes as few lookups as possible: the addresses, then the ports, and only if there is such a
/// port the question whether the destination is local. `::1` and link-local addresses are left to who serves published
/// ports there, because the kernel routes neither to a member; 127.0.0.0/8 from outside is left alone.
///
/// Strict ports are translated in the output hook only, when netd sends their first packets again (`strict`); what is sent
/// again and not translated, because no member is used, comes back over the loopback and is refused.
///
/// They come right before those of `table inet netd`. After the last rule of `vip4` and `vip6` these do not see the
/// connection any more, so a port that a container publishes never answers at a virtual address.
const CHAINS: &str = r#"
  chain services_in {
    type nat hook prerouting priority -105; policy accept;
    meta l4proto != { tcp, udp, sctp } return
    iifname . ip daddr @vip_from4 goto vip4
    iifname . ip6 daddr @vip_from6 goto vip6
    ip daddr 127.0.0.0/8 return
    meta nfproto ipv4 meta l4proto . th dport @service_strict4 return
    meta nfproto ipv6 meta l4proto . th dport @service_strict6 return
    meta nfproto ipv4 meta l4proto . th dport @service_ports4 fib daddr type local goto port4
    ip6 daddr != { ::1, fe80::/10 } meta l4proto . th dport @service_ports6 fib daddr type local goto port6
  }
  chain services_out {
    type nat hook output priority -105; policy accept;
    meta l4proto != { tcp, udp, sctp } return
    ip daddr @vips4 goto vip4
    ip6 daddr @vips6 goto vip6
    meta nfproto ipv4 meta l4proto . th dport @service_ports4 fib daddr type local goto port4
    ip6 daddr != { ::1, fe80::/10 } meta l4proto . th dport @service_ports6 fib daddr type local goto port6
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    meta l4proto { udp, sctp } reject with icmpx port-unreachable
  }
  chain services_refused {
    type filter hook input priority 0; policy accept;
    ct state != new accept
    ip daddr @vips4 goto refuse
    ip6 daddr @vips6 goto refuse
    iifname != "lo" meta nfproto ipv4 meta l4proto . th dport @service_strict4 accept
    iifname != "lo" meta nfproto ipv6 meta l4proto . th dport @service_strict6 accept
    meta nfproto ipv4 meta l4proto . th dport @service_ports4 fib daddr type local goto refuse
    ip6 daddr != { ::1, fe80::/10 } meta l4proto . th dport @service_ports6 fib daddr type local goto refuse
  }
"#;

/// Where a hash begins: any number, the same on every host.
const SEED: &str = "0x6e657464";

/// The text of one transaction that replaces the table, with those of the elements that belong to it.
pub fn text<'a>(elements: impl IntoIterator<Item = &'a Element>) -> String {
    let chains: String = [Family::V4, Family::V6].map(translations).concat() + CHAINS;
    let mut text = text::structure(Table::Services, declaration, &chains);
    text.push_str(&text::elements(Table::Services, elements, member));
    text
}

/// The maps of one way to select a slot: the number of slots, whether the client alone selects, and both maps.
struct Selection {
    slots: Slots,
    affinity: bool,
    vip: Set,
    port: Set,
}

fn selections(family: Family) -> [Selection; 6] {
    let select = |slots, affinity, vip: fn(Family) -> Set, port: fn(Family) -> Set| Selection {
        slots,
        affinity,
        vip: vip(family),
        port: port(family),
    };
    [
        select(Slots::Few, false, Set::VipFew, Set::PortFew),
        select(Slots::Several, false, Set::VipSeveral, Set::PortSeveral),
        select(Slots::Many, false, Set::VipMany, Set::PortMany),
        select(Slots::Few, true, Set::VipFewClient, Set::PortFewClient),
        select(Slots::Several, true, Set::VipSeveralClient, Set::PortSeveralClient),
        select(Slots::Many, true, Set::VipManyClient, Set::PortManyClient),
    ]
}

/// The chains that translate connections to a virtual address or to a service's port. A missing slot ends the rule, not
/// the chain.
///
/// The destination address is no part of the hash: nft 1.0.6 has too few registers for two IPv6 addresses beside the key.
fn translations(family: Family) -> String {
    let (header, number, port_map) = match family {
        Family::V4 => ("ip", 4, Set::ServicePorts4),
        Family::V6 => ("ip6", 6, Set::ServicePorts6),
    };
    let port = "meta l4proto . th dport";
    let (mut vips, mut ports) = (String::new(), String::new());
    for Selection { slots, affinity, vip, port: map } in selections(family) {
        let of = if affinity { "" } else { " . th sport . th dport" };
        let slot = format!("jhash {header} saddr{of} mod {} seed {SEED}", slots.count());
        // Writing to a string cannot fail.
        _ = writeln!(vips, "    dnat {header} to {header} daddr . {slot} map @{} ", vip.name());
        let to_port = format!("{port} map @{}", port_map.name());
        _ = writeln!(ports, "    dnat {header} to {port} . {slot} map @{} : {to_port} ", map.name());
    }
    format!(
        "\n  chain vip{number} {{\n{vips}    dnat {header} to {header} daddr comment \"without members\"\n  }}\n  \
         chain port{number} {{\n{ports}  }}\n"
    )
}

fn declaration(set: Set) -> String {
    let (name, key) = (set.name(), set.key());
    let mut selections = [Family::V4, Family::V6].into_iter().flat_map(selections);
    let selection = selections.find(|selection| selection.vip == set || selection.port == set);
    match (set.data(), selection) {
        (None, _) => format!("set {name} {{ type {}; }}", text::types(key)),
        (Some(data), None) => format!("map {name} {{ type {} : {}; }}", text::types(key), text::types(&[data])),
        (Some(data), Some(Selection { slots, .. })) => {
            let key: Vec<String> = key.iter().map(|kind| expression(*kind, slots)).collect();
            format!("map {name} {{ typeof {} : {}; }}", key.join(" . "), expression(data, slots))
        }
    }
}

/// An expression that has the type of this kind.
fn expression(kind: Kind, slots: Slots) -> String {
    match kind {
        Kind::Address(Family::V4) => "ip daddr".to_owned(),
        Kind::Address(Family::V6) => "ip6 daddr".to_owned(),
        Kind::Protocol => "meta l4proto".to_owned(),
        Kind::Slot => format!("numgen inc mod {}", slots.count()),
        _ => "th dport".to_owned(),
    }
}

fn member(entry: &Entry) -> String {
    let key = entry.key.iter().map(text::value).collect::<Vec<_>>().join(" . ");
    entry.data.as_ref().map_or_else(|| key.clone(), |data| format!("{key} : {}", text::value(data)))
}
