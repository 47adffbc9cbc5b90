//! The chains `forward`, `from_bridge` and `to_bridge`: what is forwarded from and to netd's bridges. The nft syntax is in
//! the comment above each rule.

use nftables::expr::MetaKey;
use nftables::schema::NfListObject;

use super::policy;
use super::render::{accept, concat, ct, drop_rule, goto, has, iifname, is, meta, of, oifname, rule, text};
use super::sets::Set;

/// All of their rules.
pub(super) fn rules() -> Vec<NfListObject<'static>> {
    [forward(), from_bridge(), to_bridge()].concat()
}

/// Filters forwarded traffic from and to netd's bridges. Other traffic is accepted unchecked, unless it is forwarded only
/// because netd turned forwarding on.
fn forward() -> Vec<NfListObject<'static>> {
    let mut rules = vec![
        // iifname @bridges goto from_bridge
        rule("forward", vec![is(iifname(), of(Set::Bridges)), goto("from_bridge")], None),
        // oifname @bridges goto to_bridge
        rule("forward", vec![is(oifname(), of(Set::Bridges)), goto("to_bridge")], None),
        // iifname . oifname @allowed accept: frames within an uplink that is a bridge
        rule("forward", vec![is(concat(vec![iifname(), oifname()]), of(Set::Allowed)), accept()], None),
    ];
    for (protocol, uplinks) in [("ipv4", Set::Uplinks4), ("ipv6", Set::Uplinks6)] {
        // meta nfproto ipv4 iifname @uplinks4 oifname @uplinks4 counter drop: the host was no router before netd
        let family = is(meta(MetaKey::Nfproto), text(protocol));
        let between = vec![family, is(iifname(), of(uplinks)), is(oifname(), of(uplinks))];
        rules.push(drop_rule("forward", between, "forwarding is on for netd's networks only"));
    }
    rules
}

/// What containers send. Comparing the state of the connection costs less than a lookup, and passes nearly every packet.
fn from_bridge() -> Vec<NfListObject<'static>> {
    let to_ours = || is(oifname(), of(Set::Bridges));
    vec![
        open_flows("from_bridge"),
        // iifname . oifname @allowed accept: before anything that depends on tracking, so that frames within a bridge
        // pass whether the bridge shows them to us or not
        rule("from_bridge", vec![is(concat(vec![iifname(), oifname()]), of(Set::Allowed)), accept()], None),
        // ct state invalid counter drop: it would leave with a container's address
        drop_rule("from_bridge", vec![has(ct("state"), &["invalid"])], "untranslatable reply"),
        // iifname vmap @leaving: internal networks, and those with policies
        policy::led("from_bridge", iifname(), Set::Leaving),
        // oifname vmap @entering
        policy::led("from_bridge", oifname(), Set::Entering),
        // ct status dnat oifname @bridges accept
        rule("from_bridge", vec![has(ct("status"), &["dnat"]), to_ours(), accept()], None),
        // oifname @bridges goto unpublished
        rule("from_bridge", vec![to_ours(), goto("unpublished")], None),
    ]
}

/// What comes to containers from elsewhere.
fn to_bridge() -> Vec<NfListObject<'static>> {
    vec![
        open_flows("to_bridge"),
        // oifname vmap @entering
        policy::led("to_bridge", oifname(), Set::Entering),
        // ct status dnat accept
        rule("to_bridge", vec![has(ct("status"), &["dnat"]), accept()], None),
        rule("to_bridge", vec![goto("unpublished")], None),
    ]
}

/// `ct state established,related accept`
fn open_flows(chain: &'static str) -> NfListObject<'static> {
    rule(chain, vec![has(ct("state"), &["established", "related"]), accept()], None)
}
