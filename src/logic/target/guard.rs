//! From which addresses a container may send: the elements of `table bridge netd`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::policies::sender;
use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::host::element::{Element, Verdict};

/// The elements of a container, from all of its endpoints. None for an endpoint without a bridge, a trusted one, and one
/// whose addresses netd does not know. One that waits for an address of a DHCP server has none to send from.
///
/// Each of its host ends may send from each of its addresses: the reply to a connection that arrived over one network
/// leaves over the network of the default route.
pub(super) fn elements(desired: &Desired, endpoints: &[Arc<Endpoint>]) -> Vec<Element> {
    let addresses: Vec<IpAddr> =
        endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip)).collect();
    let guarded = endpoints.iter().filter(|endpoint| {
        let network = desired.network(&endpoint.network);
        let on_bridge = network.is_some_and(|network| network.bridge().is_some() && !network.trusted);
        let is_known = !endpoint.addresses.is_empty() || endpoint.dhcp.is_some();
        on_bridge && !endpoint.trusted && is_known
    });
    let of = |endpoint: &Arc<Endpoint>| {
        let host_end = endpoint.host_ifname.clone();
        let macs = || [endpoint.mac].into_iter().chain(endpoint.learned_mac);
        // Neighbour discovery and multicast use them, also on a network without IPv6.
        let link_local = macs().map(|mac| IpAddr::V6(mac.link_local().ip()));
        let sources = addresses.iter().copied().chain(link_local);
        let verdict =
            desired.network(&endpoint.network).map_or(Verdict::Accept, |network| sender(desired.ruling(), network));
        let mut elements: Vec<Element> =
            sources.map(|address| Element::Source(host_end.clone(), address, verdict)).collect();
        let targets = elements.iter().filter_map(|element| match element {
            Element::Source(_, IpAddr::V6(address), _) => Some(Element::Target(host_end.clone(), *address)),
            _ => None,
        });
        let targets: Vec<Element> = targets.collect();
        elements.extend(targets);
        elements.extend(macs().map(|mac| Element::Mac(host_end.clone(), mac)));
        elements.push(Element::Guarded(host_end));
        elements
    };
    guarded.flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::logic::samples;

    /// The reply to what arrived over one network leaves over the other, from the address of the first one.
    #[test]
    fn each_host_end_may_send_from_every_address_of_its_container_and_from_no_other() {
        let (mut one, two) = (samples::network("net1", &["10.0.1.0/24"]), samples::network("net2", &["fd00:2::/64"]));
        let first = samples::endpoint(&one, "web", 1, &["10.0.1.2"], &[]);
        let mut second = samples::endpoint(&two, "web", 2, &["fd00:2::2"], &[]);
        let mut desired = Desired::default();
        [&one, &two].into_iter().for_each(|network| drop(desired.insert_network(network.clone())));
        let of = |desired: &Desired, endpoints: &[&Endpoint]| {
            let endpoints: Vec<_> = endpoints.iter().map(|endpoint| Arc::new((*endpoint).clone())).collect();
            elements(desired, &endpoints).into_iter().collect::<BTreeSet<_>>()
        };
        let wants = |endpoint: &Endpoint, addresses: &[&str]| {
            let end = || endpoint.host_ifname.clone();
            let own = addresses.iter().map(|address| Element::Source(end(), address.parse().unwrap(), Verdict::Accept));
            let link_local = endpoint.mac.link_local().ip();
            let six = addresses.iter().filter_map(|address| address.parse().ok()).chain([link_local]);
            let targets = six.map(|address| Element::Target(end(), address));
            let link_local = Element::Source(end(), link_local.into(), Verdict::Accept);
            own.chain(targets)
                .chain([link_local, Element::Guarded(end()), Element::Mac(end(), endpoint.mac)])
                .collect::<BTreeSet<_>>()
        };
        let all = ["10.0.1.2", "fd00:2::2"];
        assert_eq!(of(&desired, &[&first, &second]), &wants(&first, &all) | &wants(&second, &all));
        let tuned = Endpoint { learned_mac: Some("02:aa:bb:cc:dd:ee".parse().unwrap()), ..first.clone() };
        let more = &of(&desired, &[&tuned, &second]) - &of(&desired, &[&first, &second]);
        let (end, link_local) = (|| first.host_ifname.clone(), "fe80::aa:bbff:fecc:ddee");
        let wanted = [
            Element::Mac(end(), tuned.learned_mac.unwrap()),
            Element::Source(end(), link_local.parse().unwrap(), Verdict::Accept),
            Element::Target(end(), link_local.parse().unwrap()),
        ];
        assert_eq!(more, BTreeSet::from(wanted), "a later plugin of the chain changed it");
        second.trusted = true;
        assert_eq!(of(&desired, &[&first, &second]), wants(&first, &all));
        let bare = Endpoint { addresses: Vec::new(), ..second.clone() };
        assert_eq!(of(&desired, &[&bare]), BTreeSet::new());
        let unleased = Endpoint { addresses: Vec::new(), dhcp: Some(Default::default()), ..first.clone() };
        assert_eq!(of(&desired, &[&unleased]), wants(&first, &[]));
        one.trusted = true;
        drop(desired.insert_network(one));
        assert_eq!(of(&desired, &[&first]), BTreeSet::new());
    }
}
