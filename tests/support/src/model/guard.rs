//! What containers may send, by the sets of `table bridge netd`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netd::engine::Snapshot;
use netd::model::endpoint::Endpoint;
use netd::model::host::element::{Element, Verdict};

use super::network_of;

/// On a bridge, a container sends from its own addresses only: those of all its networks, and the link-local one.
pub(super) fn add(snapshot: &Snapshot, endpoints: &[Arc<Endpoint>], elements: &mut BTreeSet<Element>) {
    for endpoint in endpoints {
        let network = network_of(snapshot, endpoint);
        if network.bridge().is_none() || network.trusted || endpoint.trusted || endpoint.addresses.is_empty() {
            continue;
        }
        let host_end = || endpoint.host_ifname.clone();
        elements.extend([Element::Guarded(host_end()), Element::Mac(host_end(), endpoint.mac)]);
        let all = endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip));
        let own = all.chain([IpAddr::V6(endpoint.mac.link_local().ip())]);
        for address in own {
            elements.insert(Element::Source(host_end(), address, Verdict::Accept));
            if let IpAddr::V6(address) = address {
                elements.insert(Element::Target(host_end(), address));
            }
        }
    }
}
