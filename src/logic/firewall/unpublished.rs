//! The chain for what enters one of netd's bridges without having been translated.

use nftables::expr::MetaKey;
use nftables::schema::NfListObject;

use super::render::{accept, concat, drop_rule, field, is, meta, of, oifname, rule, text};
use super::sets::Set;
use crate::model::address::Family;

/// Networks may let it pass.
pub(super) fn unpublished() -> Vec<NfListObject<'static>> {
    let mut rules = vec![
        // oifname @unprotected accept
        rule("unpublished", vec![is(oifname(), of(Set::Unprotected)), accept()], None),
    ];
    for (family, header, icmp) in [(Family::V4, "ip", "icmp"), (Family::V6, "ip6", "icmpv6")] {
        let asked = vec![is(oifname(), of(Set::Routed)), is(field(icmp, "type"), text("echo-request")), accept()];
        let key = concat(vec![field(header, "daddr"), meta(MetaKey::L4proto), field("th", "dport")]);
        rules.extend([
            // oifname @routed icmp type echo-request accept
            rule("unpublished", asked, None),
            // ip daddr . meta l4proto . th dport @opened4 accept
            rule("unpublished", vec![is(key, of(Set::Opened(family))), accept()], None),
        ]);
    }
    // counter drop
    rules.push(drop_rule("unpublished", Vec::new(), "unpublished port"));
    rules
}
