//! The host's own interface on a network of stacked interfaces, and its routes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::host::step::{ShimLink, Step};
use crate::model::network::Network;

/// The host's interface on a network without containers, if it has one.
pub fn shim(network: &Network) -> Option<ShimLink> {
    let stacked = network.stacked()?;
    let shim = stacked.shim.as_ref()?;
    Some(ShimLink {
        network: network.name.clone(),
        name: shim.name.clone(),
        parent: stacked.parent.clone(),
        addresses: shim.addresses.clone(),
        routes: BTreeSet::new(),
        mtu: network.mtu,
    })
}

/// The same with the routes to its containers.
pub fn shim_with_routes(desired: &Desired, network: &Network) -> Option<ShimLink> {
    let mut shim = shim(network)?;
    shim.routes = desired.endpoints_of(&network.name).flat_map(|endpoint| addresses(endpoint)).collect();
    Some(shim)
}

/// The step that changes the routes to containers of the network, if the host has an interface on it.
pub fn shim_routes(network: &Network, remove: &[&Endpoint], add: &[&Endpoint]) -> Option<Step> {
    let all = |endpoints: &[&Endpoint]| endpoints.iter().flat_map(|endpoint| addresses(endpoint)).collect();
    Some(Step::ShimRoutes { shim: shim(network)?, remove: all(remove), add: all(add) })
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + '_ {
    endpoint.addresses.iter().map(IpNetwork::ip)
}
