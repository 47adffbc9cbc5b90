//! Endpoints whose records were lost, as far as the kernel shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::model::address::Family;
use crate::model::endpoint::{Container, Endpoint};
use crate::model::host::element::Element;
use crate::model::host::observed::Traced;
use crate::model::network::Network;
use crate::model::publication::{PortRange, Protocol, Publication, PublishMode};

/// The endpoint of an interface that netd made in a container on the network. `elements`: those of the table. Aliases,
/// labels, limits and what a runtime asked for, routes among it, are not known any more. `None` if the interface has no address of the
/// network: then it is not known what its endpoint had.
pub fn endpoint(
    network: &Network,
    traced: &Traced,
    container: Container,
    sequence: u64,
    elements: &BTreeSet<Element>,
) -> Option<Endpoint> {
    let of_network = |address: &&IpNetwork| network.subnet_of(address.ip()).is_some();
    let addresses: Vec<IpNetwork> = traced.inside.addresses.iter().filter(of_network).copied().collect();
    if addresses.is_empty() || !network.makes_interfaces() {
        return None;
    }
    let gateways =
        addresses.iter().filter(|_| !network.internal).filter_map(|address| network.gateway_for(address.ip()));
    Some(Endpoint {
        network: network.name.clone(),
        container,
        sequence,
        ifname: traced.ifname.clone(),
        host_ifname: traced.host_ifname.clone(),
        gateways: gateways.collect(),
        publications: publications(&addresses, elements),
        addresses,
        mac: traced.inside.mac?,
        aliases: Vec::new(),
        opened: Vec::new(),
        skipped: Vec::new(),
        exposed: Vec::new(),
        labels: BTreeMap::new(),
        owner: None,
        attached_as: None,
        routes: Vec::new(),
        bandwidth: None,
        learned_mac: None,
        trusted: false,
        upstreams: Vec::new(),
        told_inside: false,
        beside_host: !network.is_behind_host(),
        handover: None,
        egress: Default::default(),
        dhcp: None,
    })
}

/// The publications that lead to these addresses.
fn publications(addresses: &[IpNetwork], elements: &BTreeSet<Element>) -> Vec<Publication> {
    let family_of = |to: IpAddr| addresses.iter().any(|address| address.ip() == to).then(|| Family::of(to));
    type Key = (Option<IpAddr>, PortRange, PortRange, Protocol);
    let mut found: BTreeMap<Key, BTreeSet<Family>> = BTreeMap::new();
    let mut add = |to, host_ip, host, container, protocol| {
        if let Some(family) = family_of(to) {
            found.entry((host_ip, host, container, protocol)).or_default().insert(family);
        }
    };
    for element in elements {
        match element {
            Element::Publish(one) => {
                let Some((host, container)) = PortRange::single(one.port).zip(PortRange::single(one.to_port)) else {
                    continue;
                };
                add(one.to, one.host_ip, host, container, one.protocol);
            }
            Element::PublishRange(many) => add(many.to, many.host_ip, many.ports, many.ports, many.protocol),
            _ => {}
        }
    }
    let all: BTreeSet<Family> = addresses.iter().map(|address| Family::of(address.ip())).collect();
    let publication = |((host_ip, host, container, protocol), families): (Key, BTreeSet<Family>)| {
        // All addresses of one family are not all addresses.
        let only = families.first().filter(|_| families != all).map(|family| match family {
            Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        });
        let obeys = |element: &Element| match element {
            Element::Strict(family, of, ports) => {
                host_ip.is_none() && families.contains(family) && *of == protocol && ports.contains(host.first())
            }
            Element::StrictAt(at, of, ports) => host_ip == Some(*at) && *of == protocol && ports.contains(host.first()),
            _ => false,
        };
        // What decided about the port decides about it, whatever network and configuration say now.
        let mode = elements.iter().any(obeys).then_some(PublishMode::Strict);
        Publication { host_ip: host_ip.or(only), host, container, protocol, mode }
    };
    found.into_iter().map(publication).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::logic::{samples, target};
    use crate::model::desired::Desired;
    use crate::model::host::observed::ObservedInterface;
    use crate::model::host::step::EndpointLink;
    use crate::model::route::Route;

    /// What the kernel shows of an endpoint.
    fn traced(endpoint: &Endpoint) -> Traced {
        Traced {
            container: endpoint.container.name.clone(),
            network: endpoint.network.clone(),
            netns: endpoint.container.netns.clone(),
            ifname: endpoint.ifname.clone(),
            host_ifname: endpoint.host_ifname.clone(),
            inside: ObservedInterface {
                mac: Some(endpoint.mac),
                up: true,
                loopback_up: true,
                link_local: true,
                unrouted: Vec::new(),
                mtu: 1500,
                addresses: endpoint.addresses.clone(),
                routes: vec![Route::via("0.0.0.0/0".parse().unwrap(), endpoint.gateways.first().copied())],
                default_elsewhere: Vec::new(),
                host_end: None,
            },
        }
    }

    fn recovered(network: &Network, endpoint: &Endpoint) -> Option<Endpoint> {
        let mut desired = Desired::default();
        desired.insert_network(network.clone());
        let elements = target::container_elements(&desired, &[Arc::new(endpoint.clone())]);
        let (container, sequence) = (endpoint.container.clone(), endpoint.sequence);
        super::endpoint(network, &traced(endpoint), container, sequence, &elements)
    }

    /// What decided about the packets of a port decides about them.
    const STRICT: [&str; 3] = [
        "published=4000,target=80,publish=strict",
        "published=4001-4003,target=4001-4003,protocol=udp,publish=strict",
        "host_ip=127.0.0.1,published=4000,target=80,protocol=udp,publish=strict",
    ];

    #[test]
    fn an_endpoint_is_as_it_was() {
        let network = samples::network("net1", &["10.0.0.0/24", "fd00::/64"]);
        for ports in [&["4000:80"][..], &["4000-4003:4000-4003", "127.0.0.1:53:53/udp", "0.0.0.0:80:80"], &STRICT, &[]]
        {
            let endpoint = samples::endpoint(&network, "web", 3, &["10.0.0.2", "fd00::2"], ports);
            let recovered = recovered(&network, &endpoint).unwrap();
            let sorted = |endpoint: &Endpoint| {
                let mut publications = endpoint.publications.clone();
                publications.sort();
                Endpoint { publications, ..endpoint.clone() }
            };
            assert_eq!(sorted(&recovered), sorted(&endpoint));
        }
        let network = Network { internal: true, ..samples::network("net1", &["10.0.0.0/24"]) };
        let endpoint = samples::endpoint(&network, "web", 3, &["10.0.0.2"], &[]);
        assert_eq!(recovered(&network, &endpoint), Some(endpoint));
    }

    #[test]
    fn the_host_end_names_container_and_network() {
        let network = samples::network("on", &["10.0.0.0/24"]);
        for name in ["web", "a.b_c-d", "on"] {
            let endpoint = Arc::new(samples::endpoint(&network, name, 3, &["10.0.0.2"], &[]));
            let all = [endpoint.clone()];
            let target::Interface::Own(link) = target::interface(&network, &endpoint, &all) else { panic!("{name}") };
            let read = EndpointLink::read_alias(&link.alias());
            assert_eq!(read, Some((endpoint.container.name.clone(), network.name.clone())));
        }
        for other in ["", "netd: web", "netd network net1", "web on net1", "netd:  on net1", "netd: a/b on net1"] {
            assert_eq!(EndpointLink::read_alias(other), None, "{other}");
        }
    }

    #[test]
    fn ports_that_change_their_numbers_are_published_one_by_one() {
        let network = samples::network("net1", &["10.0.0.0/24"]);
        let endpoint = samples::endpoint(&network, "web", 3, &["10.0.0.2"], &["4000-4001:80-81"]);
        let recovered = recovered(&network, &endpoint).unwrap();
        let shown: Vec<_> = recovered
            .publications
            .iter()
            .map(|one| (one.host.first(), one.container.first(), one.host.count()))
            .collect();
        assert_eq!(shown, [(4000, 80, 1), (4001, 81, 1)]);
    }

    #[test]
    fn an_interface_without_an_address_of_the_network_says_nothing() {
        let network = samples::network("net1", &["10.0.0.0/24"]);
        let mut endpoint = samples::endpoint(&network, "web", 3, &["10.0.0.2"], &[]);
        endpoint.addresses = vec!["192.0.2.1/24".parse().unwrap()];
        assert_eq!(recovered(&network, &endpoint), None);
    }
}
