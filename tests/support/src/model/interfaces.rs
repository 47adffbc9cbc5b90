//! Interfaces in containers, and the host's own on networks of stacked ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netd::engine::Snapshot;
use netd::model::address::Mac;
use netd::model::endpoint::Endpoint;
use netd::model::host::element::Element;
use netd::model::host::step::{EndpointLink, LinkKind, ShimLink, VethPair};
use netd::model::names::IfName;
use netd::model::network::Network;

use super::{Parts, limits};

/// A container's interface: where it and its other end are, and what they have. What a stacked one is on top of takes the
/// place of the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    bridge: IfName,
    ifname: IfName,
    inode: u64,
    mac: Mac,
    mtu: u32,
    addresses: BTreeSet<IpNetwork>,
    routes: BTreeSet<String>,
    isolated: bool,
}

/// Parent, addresses, routes.
pub(super) type Shim = (IfName, BTreeSet<IpAddr>, BTreeSet<IpAddr>);

pub(super) fn add(network: &Network, endpoint: &Endpoint, parts: &mut Parts) {
    limits::add(network, endpoint, &mut parts.limits);
    let stacked = network.stacked().map(|stacked| (&stacked.parent, false));
    let Some((bridge, isolated)) = network.own_bridge().map(|own| (&own.name, !own.icc)).or(stacked) else {
        if network.bridge().is_none() {
            parts.elements.insert(Element::Direct(endpoint.host_ifname.clone()));
        }
        return;
    };
    let pair = Pair {
        bridge: bridge.clone(),
        ifname: endpoint.ifname.clone(),
        inode: endpoint.container.netns.id.inode,
        mac: endpoint.mac,
        mtu: network.mtu,
        addresses: endpoint.addresses.iter().copied().collect(),
        routes: endpoint.routes.iter().map(|route| format!("{route:?}")).collect(),
        isolated,
    };
    parts.pairs.insert(endpoint.host_ifname.clone(), pair);
}

/// The interface as the fake kernel has it.
pub(super) fn found(link: &EndpointLink) -> Pair {
    let (bridge, isolated) = match &link.kind {
        LinkKind::Veth(VethPair { bridge, isolated, .. }) => (bridge, *isolated),
        LinkKind::Stacked(stacked) => (&stacked.parent, false),
    };
    Pair {
        bridge: bridge.clone(),
        ifname: link.ifname.clone(),
        inode: link.netns.id.inode,
        mac: link.mac,
        mtu: link.mtu,
        addresses: link.addresses.iter().copied().collect(),
        routes: link.routes.iter().map(|route| format!("{route:?}")).collect(),
        isolated,
    }
}

/// The host reaches each container of the network from an address of its own there.
pub(super) fn add_shim(snapshot: &Snapshot, network: &Network, shims: &mut BTreeMap<IfName, Shim>) {
    let Some((stacked, shim)) = network.stacked().and_then(|stacked| Some((stacked, stacked.shim.as_ref()?))) else {
        return;
    };
    let on_it = snapshot.desired.endpoints().filter(|endpoint| endpoint.network == network.name);
    let to = on_it.flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip)).collect();
    let own = shim.addresses.iter().copied().collect();
    shims.insert(shim.name.clone(), (stacked.parent.clone(), own, to));
}

/// The same as the fake kernel has it.
pub(super) fn found_shim(shim: &ShimLink) -> (IfName, Shim) {
    (shim.name.clone(), (shim.parent.clone(), shim.addresses.iter().copied().collect(), shim.routes.clone()))
}
