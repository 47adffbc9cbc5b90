//! The table `bridge netd`: a container sends from its own MAC and IP addresses only, whichever bridge it is on.
//!
//! It is text, because nft's JSON cannot declare `targets6` for every version of nft: the target of neighbour discovery
//! has no name before nft 1.0.8, so the set has the type of that field's bits there ([`Targets`]). What nft lists must be
//! what nft loads: people keep their ruleset that way.
//!
//! What may be sent to whom on networks with policies is decided in [`super::within`], to which the maps `sources4` and
//! `sources6` lead.
//!
//! Like the other tables, its structure is the same on every host with the same nft. `set guarded` counts what is
//! dropped, for each host end. Interfaces that are not in it (an uplink that somebody put on the bridge, a trusted
//! container's) are not restricted.

use super::sets::{Entry, Kind, Set, Value};
use super::{text, within};
use crate::model::host::element::{Element, Table};

/// The chains. Before br_netfilter (0) and every other table.
///
/// Every rule names the protocol by `meta protocol`: otherwise nft compares bytes 12 and 13 of the frame, which are a
/// VLAN tag's in a frame with tag 0, which hosts accept as if it had no tag. What is left of a second tag is dropped.
///
/// A DHCP server's answers, router advertisements and redirects are dropped from every address: they configure the
/// neighbours. A fragment does not show its port or type, but its first part does, and the rest is useless without it.
const CHAINS: &str = r#"
  chain refused {
    iifname @guarded drop comment "counted in the set"
    drop
  }
  chain from4 {
    udp sport 67 goto refused comment "DHCP server"
    meta protocol ip icmp type redirect goto refused
    meta protocol ip iifname . ip saddr vmap @sources4
    meta protocol ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept comment "DHCP client"
    meta protocol ip ip saddr 0.0.0.0 ip protocol igmp accept
    goto refused
  }
  chain from6 {
    udp sport 547 goto refused comment "DHCP server"
    meta protocol ip6 icmpv6 type { nd-router-advert, nd-redirect } goto refused
    meta protocol ip6 icmpv6 type nd-neighbor-advert iifname . TARGET != @targets6 goto refused
    meta protocol ip6 iifname . ip6 saddr vmap @sources6
    meta protocol ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . TARGET @targets6 accept
    meta protocol ip6 ip6 saddr :: icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report, nd-router-solicit } accept
    goto refused
  }
  chain from_arp {
    meta protocol arp iifname . arp saddr ether @macs iifname . arp saddr ip vmap @sources4
    meta protocol arp iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 accept comment "is the address free?"
    goto refused
  }
  chain known {
    meta protocol ip goto from4
    meta protocol ip6 goto from6
    meta protocol arp goto from_arp
    meta protocol { 8021q, 8021ad } goto refused
  }
  chain guard {
    type filter hook prerouting priority -300; policy accept;
    iifname . ether saddr @macs goto known
    iifname @guarded drop comment "the MAC address of another"
  }
"#;

/// How nft knows the target of neighbour discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// By its name (since nft 1.0.8).
    Named,
    /// As 16 bytes at their place.
    Numbers,
}

impl Targets {
    fn field(self) -> &'static str {
        match self {
            Self::Named => "icmpv6 taddr",
            Self::Numbers => "@th,64,128",
        }
    }
}

/// One transaction that replaces the table, with the elements that belong to it.
pub fn text<'a>(elements: impl IntoIterator<Item = &'a Element>, targets: Targets) -> String {
    let chains = within::text() + &CHAINS.replace("TARGET", targets.field());
    let declared = |set: Set| {
        let kind = if set.data().is_some() { "map" } else { "set" };
        format!("{kind} {} {{ {}; }}", set.name(), declaration(set, targets))
    };
    let mut text = text::structure(Table::Bridge, declared, &chains);
    text.push_str(&text::elements(Table::Bridge, elements, |entry| member(entry, targets)));
    text
}

fn declaration(set: Set, targets: Targets) -> String {
    let kinds = set.key();
    if kinds.contains(&Kind::Target) && targets == Targets::Numbers {
        return format!("typeof iifname . {}", targets.field());
    }
    let counted = if set == Set::Guarded { "; counter" } else { "" };
    let data = set.data().map(|data| format!(" : {}", text::type_of(data))).unwrap_or_default();
    let intervals = if set.interval() { "; flags interval" } else { "" };
    format!("type {}{data}{intervals}{counted}", text::types(kinds))
}

fn member(entry: &Entry, targets: Targets) -> String {
    let field = |value: &Value| match value {
        Value::Target(address) if targets == Targets::Numbers => format!("{:#034x}", u128::from(*address)),
        value => text::value(value),
    };
    let key = entry.key.iter().map(field).collect::<Vec<_>>().join(" . ");
    let data = entry.data.as_ref().map(|data| format!(" : {}", text::value(data))).unwrap_or_default();
    key + &data
}
