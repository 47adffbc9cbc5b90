//! What keeps the interfaces of the host apart where it forwards for netd's networks only.

use std::collections::BTreeSet;

use crate::model::address::{Families, Family};
use crate::model::host::element::Element;
use crate::model::host::routing::Routing;
use crate::model::names::IfName;

/// The elements for these families. `is_netds`: whether an interface belongs to a network, so that the network decides.
pub fn transit(families: Families, routing: &Routing, is_netds: impl Fn(&IfName) -> bool) -> BTreeSet<Element> {
    let mut elements = BTreeSet::new();
    if families.is_empty() {
        return elements;
    }
    for uplink in routing.uplinks.iter().filter(|uplink| !is_netds(uplink)) {
        let apart = [Family::V4, Family::V6].into_iter().filter(|family| families.has(*family));
        elements.extend(apart.map(|family| Element::Uplink(family, uplink.clone())));
        // Frames within a bridge are not forwarded by the host, also where they pass the hook.
        if routing.bridges.contains(uplink) {
            elements.insert(Element::Allowed(uplink.clone(), uplink.clone()));
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_own_interfaces_are_kept_apart_and_frames_within_a_bridge_pass() {
        let name = |text: &str| text.parse::<IfName>().unwrap();
        let routing = Routing {
            uplinks: ["br0", "cni0", "eth0"].map(name).into(),
            bridges: ["br0", "cni0"].map(name).into(),
            ..Routing::default()
        };
        let of = |families| transit(families, &routing, |other| *other == name("cni0"));
        assert_eq!(of(Families::default()), BTreeSet::new());
        let uplink = |family, text| Element::Uplink(family, name(text));
        let frames = Element::Allowed(name("br0"), name("br0"));
        let v4 = BTreeSet::from([uplink(Family::V4, "br0"), uplink(Family::V4, "eth0"), frames.clone()]);
        assert_eq!(of(Families { v4: true, v6: false }), v4);
        let v6 = [uplink(Family::V6, "br0"), uplink(Family::V6, "eth0")];
        assert_eq!(of(Families::ALL), v4.into_iter().chain(v6).collect());
    }
}
