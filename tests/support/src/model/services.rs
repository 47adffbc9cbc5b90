//! What the kernel must have for services: virtual addresses at bridges, and held ports. The elements that lead to members
//! are not compared: labs of ring 3 show with real connections where they lead.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netd::engine::Snapshot;
use netd::model::host::element::{Element, Table};
use netd::model::host::step::{BridgeLink, HostPorts};
use netd::model::names::NetworkName;

use super::held;

/// The virtual addresses on a network, as its bridge has them.
pub(super) fn addresses(snapshot: &Snapshot, network: &NetworkName) -> Vec<IpNetwork> {
    let on = snapshot.desired.services().flat_map(|service| &service.networks).filter(|on| on.network == *network);
    on.flat_map(|on| on.addresses.iter().copied().map(IpNetwork::from)).collect()
}

/// All addresses of a bridge.
pub(super) fn of_bridge(bridge: &BridgeLink) -> BTreeSet<IpNetwork> {
    let virtual_addresses = bridge.virtual_addresses.iter().copied().map(IpNetwork::from);
    bridge.addresses.iter().copied().chain(virtual_addresses).collect()
}

/// The ports that are held for services: as those of containers on one of their networks.
pub(super) fn hold(snapshot: &Snapshot, ports: &mut BTreeSet<HostPorts>) {
    for service in snapshot.desired.services() {
        let networks = service.networks.iter().filter_map(|on| snapshot.desired.network(&on.network));
        let addresses: Vec<IpAddr> = networks.flat_map(|on| on.host_gateways()).collect();
        for publication in &service.publications {
            addresses.iter().for_each(|address| held::add(publication, *address, ports));
        }
    }
}

/// Whether the element is one of those that lead to members.
pub(super) fn lead_to_members(element: &Element) -> bool {
    matches!(element, Element::OwnVip(..)) || element.table() == Table::Services
}
