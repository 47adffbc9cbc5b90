//! The links of the fake kernel as an observer sees them.

use crate::model::bandwidth::Shaping;
use crate::model::host::observed::ObservedLink;
use crate::model::host::step::{BridgeLink, EndpointLink};

pub(super) fn bridge(bridge: &BridgeLink) -> ObservedLink {
    ObservedLink {
        kind: "bridge".into(),
        master: None,
        up: true,
        mtu: bridge.mtu,
        isolated: false,
        addresses: bridge.addresses.clone(),
        ours: true,
        finished: true,
    }
}

pub(super) fn link(link: &EndpointLink) -> ObservedLink {
    ObservedLink {
        kind: "veth".into(),
        master: Some(link.bridge.clone()),
        up: true,
        mtu: link.mtu,
        isolated: link.isolated,
        addresses: Vec::new(),
        ours: true,
        finished: true,
    }
}

pub(super) fn ifb(shaping: &Shaping) -> ObservedLink {
    ObservedLink {
        kind: "ifb".into(),
        master: None,
        up: true,
        mtu: shaping.mtu,
        isolated: false,
        addresses: Vec::new(),
        ours: true,
        finished: true,
    }
}
