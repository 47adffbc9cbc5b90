//! The target of a network or a container in the kernel: links, default routes, elements, held ports.
//!
//! A container's ports lead to its address on the network of its default route (per address family), whichever of its
//! networks they were published with: a reply that leaves through another network than the request came in would not
//! pass connection tracking and the source guard.

mod guard;
mod policies;
mod ports;
mod proxied;
pub mod services;
mod transit;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::alloc::interfaces;
use crate::model::address::Families;
use crate::model::bandwidth::{LimitedInterface, Shaping};
use crate::model::desired::{Attached, Desired};
use crate::model::endpoint::Endpoint;
use crate::model::handover::Handover;
use crate::model::host::element::{Element, NameServer};
use crate::model::host::foreign_firewall::Bridge;
use crate::model::host::step::{BridgeLink, DefaultRoute, EndpointLink, LinkKind, VethPair};
use crate::model::inside::Inside;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{DnsListen, Driver, HostAccess, Network};
use ports::{FAMILIES, publish, targets, way_out};
pub use ports::{host_ports, reserved_ports, unheld_ports};
pub use proxied::{proxied, proxied_for_runtimes};
pub use transit::transit;

/// The metric of default routes in containers of another engine. Docker's have the kernel's default (0, for IPv6 1024),
/// Podman's have 100.
const BEHIND_THE_ENGINE: u32 = 2048;

/// The bridge of a network without services, if netd makes it.
pub fn bridge_link(network: &Network) -> Option<BridgeLink> {
    let bridge = network.own_bridge()?;
    Some(BridgeLink {
        network: network.name.clone(),
        name: bridge.name.clone(),
        addresses: if bridge.isolated { Vec::new() } else { network.gateway_interfaces() },
        virtual_addresses: BTreeSet::new(),
        mtu: network.mtu,
    })
}

/// The same with the virtual addresses of the services on it.
pub fn bridge_with_services(desired: &Desired, network: &Network) -> Option<BridgeLink> {
    let virtual_addresses = desired.virtual_addresses(&network.name).collect();
    Some(BridgeLink { virtual_addresses, ..bridge_link(network)? })
}

/// An endpoint's interface, by the program that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface<'a> {
    /// netd makes it.
    Own(Box<EndpointLink>),
    /// Another program made it. netd prepares the interface of the host through which it is reached.
    Adopted(&'a IfName),
}

impl Interface<'_> {
    /// The link, if netd makes it.
    pub fn own(self) -> Option<Box<EndpointLink>> {
        match self {
            Self::Own(link) => Some(link),
            Self::Adopted(_) => None,
        }
    }
}

/// The endpoint's interface. `endpoints` are all endpoints of its container, itself included.
pub fn interface<'a>(network: &'a Network, endpoint: &'a Endpoint, endpoints: &[Arc<Endpoint>]) -> Interface<'a> {
    match &network.driver {
        Driver::Bridge(bridge) => {
            let pair = VethPair {
                bridge: bridge.name.clone(),
                host_ifname: endpoint.host_ifname.clone(),
                isolated: !bridge.icc,
            };
            Interface::Own(Box::new(endpoint_link(network, endpoint, endpoints, LinkKind::Veth(pair))))
        }
        Driver::Adopted(adopted) => Interface::Adopted(adopted.bridge.as_ref().unwrap_or(&endpoint.host_ifname)),
    }
}

fn endpoint_link(network: &Network, endpoint: &Endpoint, endpoints: &[Arc<Endpoint>], kind: LinkKind) -> EndpointLink {
    if let Some(handover) = endpoint.handover.as_ref().filter(|handover| !handover.taken) {
        return waiting_link(network, endpoint, handover, kind);
    }
    let routes = default_routes(endpoints).into_iter();
    EndpointLink {
        network: network.name.clone(),
        container: endpoint.container.name.clone(),
        ifname: endpoint.ifname.clone(),
        netns: endpoint.container.netns.clone(),
        mac: endpoint.mac,
        mtu: network.mtu,
        addresses: endpoint.addresses.clone(),
        default_gateways: routes.filter(|route| route.ifname == endpoint.ifname).map(|route| route.gateway).collect(),
        default_metric: default_metric(endpoint),
        routes: endpoint.routes.clone(),
        kind,
    }
}

/// The interface of an endpoint while it waits on the host for another engine, which will assign the addresses.
fn waiting_link(network: &Network, endpoint: &Endpoint, handover: &Handover, kind: LinkKind) -> EndpointLink {
    EndpointLink {
        network: network.name.clone(),
        container: endpoint.container.name.clone(),
        ifname: handover.staged.clone(),
        netns: handover.host.clone(),
        mac: endpoint.mac,
        mtu: network.mtu,
        addresses: Vec::new(),
        default_gateways: Vec::new(),
        default_metric: None,
        routes: Vec::new(),
        kind,
    }
}

/// The limits of the endpoint's interface, if it has any.
pub fn shaping(network: &Network, endpoint: &Endpoint) -> Option<Shaping> {
    Some(Shaping {
        network: network.name.clone(),
        container: endpoint.container.name.clone(),
        host_ifname: endpoint.host_ifname.clone(),
        ifb: interfaces::limiter(&endpoint.host_ifname),
        mtu: network.mtu,
        bandwidth: endpoint.bandwidth?,
    })
}

/// Where the limits of an endpoint with this host end would be.
pub fn limited_interface(host_ifname: &IfName) -> LimitedInterface {
    LimitedInterface { host_ifname: host_ifname.clone(), ifb: interfaces::limiter(host_ifname) }
}

/// The container's default routes: per address family, on the first connected network with outside access.
pub fn default_routes(endpoints: &[Arc<Endpoint>]) -> Vec<DefaultRoute> {
    let route = |family| {
        let endpoint = way_out(endpoints, family)?;
        let metric = default_metric(endpoint);
        Some(DefaultRoute { ifname: endpoint.ifname.clone(), gateway: endpoint.gateway(family)?, metric })
    };
    FAMILIES.into_iter().filter_map(route).collect()
}

/// The container's engine sets its own default route, and fails if there is an equal one. netd's route therefore has a
/// higher metric, and takes effect at once when the engine removes its own.
fn default_metric(endpoint: &Endpoint) -> Option<u32> {
    endpoint.is_beside_engine().then_some(BEHIND_THE_ENGINE)
}

/// The elements of a network, which is one of `desired`.
pub fn network_elements(desired: &Desired, network: &Network) -> BTreeSet<Element> {
    let mut elements = BTreeSet::new();
    if let Some(bridge) = network.bridge() {
        elements.insert(Element::Bridge(bridge.clone()));
        elements.extend(policies::network_elements(desired.ruling(), network, bridge));
        if network.host_access == HostAccess::None {
            elements.insert(Element::PortsClosed(bridge.clone()));
        }
        if !network.has_gateways() {
            elements.insert(Element::Isolated(bridge.clone()));
        }
    }
    for subnet in network.subnets.iter().filter(|_| network.has_gateways()) {
        // Also on an internal network, where services may have virtual addresses.
        elements.insert(Element::Hairpin(subnet.subnet));
        if network.masquerade() && !network.internal {
            elements.insert(Element::Masquerade(subnet.subnet));
        }
    }
    elements
}

/// The elements of a container, from all of its endpoints.
pub fn container_elements(desired: &Desired, endpoints: &[Arc<Endpoint>]) -> BTreeSet<Element> {
    let bare = |endpoint: &&Arc<Endpoint>| {
        desired.network(&endpoint.network).is_some_and(|network| network.bridge().is_none())
    };
    let direct = endpoints.iter().filter(bare).map(|endpoint| Element::Direct(endpoint.host_ifname.clone()));
    let mut elements: BTreeSet<Element> = direct.collect();
    elements.extend(guard::elements(desired, endpoints));
    for publication in endpoints.iter().flat_map(|endpoint| &endpoint.publications) {
        for to in targets(publication, endpoints) {
            publish(publication, to, &mut elements);
        }
    }
    elements
}

/// The addresses of the name service on the host.
pub fn gateways(desired: &Desired) -> BTreeSet<IpAddr> {
    desired.networks().flat_map(|network| gateways_of(network)).collect()
}

/// The addresses of the name service on the host for one network.
pub fn gateways_of(network: &Network) -> Vec<IpAddr> {
    let subnets = network.subnets.iter().filter(|_| network.has_gateways());
    subnets.map(|subnet| subnet.gateway).collect()
}

/// Networks from which questions do not reach the name service at the gateway, because of a firewall.
pub type Blocked = BTreeSet<NetworkName>;

/// Whether the containers of a network are served within their namespaces, and not at their gateway.
pub fn asks_inside(network: &Network, blocked: &Blocked) -> bool {
    match network.dns.listen {
        DnsListen::Container => true,
        DnsListen::Auto | DnsListen::Gateway if !network.has_gateways() => true,
        DnsListen::Gateway => false,
        DnsListen::Auto => blocked.contains(&network.name),
    }
}

/// Whether a container that is connected to the network now is told to ask within itself because of a firewall.
pub fn is_told_inside(network: &Network, blocked: &Blocked) -> bool {
    network.dns.listen == DnsListen::Auto && blocked.contains(&network.name)
}

/// What a container needs for an inner name service, if one of its networks requires it; the inner name service answers
/// for all of them. `beside`: another resolver answers in the container; then it is served there on every network that
/// leaves the choice to netd.
pub fn inside(desired: &Desired, blocked: &Blocked, attached: &Attached, beside: bool) -> Option<Inside> {
    let on = |endpoint: &Arc<Endpoint>| desired.network(&endpoint.network);
    let wants = |endpoint: &Arc<Endpoint>| {
        let may = |network: &Arc<Network>| network.dns.listen == DnsListen::Auto && (beside || endpoint.told_inside);
        on(endpoint).is_some_and(|network| asks_inside(network, blocked) || may(network))
    };
    if !attached.endpoints.iter().any(wants) {
        return None;
    }
    // The other resolver may query a gateway itself, and these queries must not be redirected back.
    let gateways = attached.endpoints.iter().filter(|_| !beside).flat_map(|endpoint| {
        let network = on(endpoint).filter(|network| network.has_gateways());
        let both = |address: &IpNetwork| Some((address.ip(), network?.gateway_for(address.ip())?));
        endpoint.addresses.iter().filter_map(both).collect::<Vec<_>>()
    });
    let container = &attached.container;
    let (container, netns) = (container.id.clone(), container.netns.clone());
    Some(Inside { container, netns, gateways: gateways.collect(), beside })
}

/// The elements that redirect questions from a gateway's port 53 to the port of the name service there, and its answers
/// back.
pub fn name_server(gateway: IpAddr, port: u16) -> [Element; 2] {
    let server = NameServer { gateway, port };
    [Element::AskAt(server), Element::AnswerFrom(server)]
}

/// netd's bridges from the perspective of other programs' firewalls. `served`: the port of the name service at each
/// gateway. Questions to a gateway that is blocked are to be accepted too, so that it can be asked again.
pub fn foreign_bridges(desired: &Desired, served: &BTreeMap<IpAddr, u16>) -> Vec<Bridge> {
    let bridge = |network: &Arc<Network>| {
        let asked = !asks_inside(network, &Blocked::new());
        let gateways = network.subnets.iter().map(|subnet| subnet.gateway).filter(|_| asked);
        Some(Bridge {
            name: network.bridge()?.clone(),
            network: network.name.clone(),
            subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
            internal: network.internal,
            icc: network.icc(),
            name_servers: gateways.filter_map(|gateway| Some((gateway, *served.get(&gateway)?))).collect(),
        })
    };
    desired.networks().filter_map(bridge).collect()
}

/// The elements that say which flows pass.
pub fn policy_elements(desired: &Desired) -> BTreeSet<Element> {
    policies::elements(desired)
}

/// All elements that the table must have for networks, containers, services and policies.
pub fn all_elements(desired: &Desired) -> BTreeSet<Element> {
    let of_networks = desired.networks().flat_map(|network| network_elements(desired, network));
    let of_services = desired.services().flat_map(|service| services::elements(desired, service));
    let of_containers = desired.containers().flat_map(|attached| container_elements(desired, &attached.endpoints));
    // Sorted once, not one by one.
    of_networks.chain(of_services).chain(of_containers).chain(policy_elements(desired)).collect()
}

/// The address families for which forwarding is needed.
pub fn forwarding(desired: &Desired) -> Families {
    desired.networks().fold(Families::default(), |needed, network| needed.with(forwarding_of(network)))
}

/// The address families for which the network needs forwarding.
pub fn forwarding_of(network: &Network) -> Families {
    Families::which(|family| !network.internal && network.has(family))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::host::element::{Table, Verdict};
    use crate::model::network::{Adopted, Driver};

    fn desired(networks: &[&Network]) -> Desired {
        let mut desired = Desired::default();
        networks.iter().for_each(|network| drop(desired.insert_network((*network).clone())));
        desired
    }

    #[test]
    fn the_interface_of_a_container_without_bridge_is_known() {
        let mut network = samples::network("routed", &["10.0.1.0/24"]);
        let endpoint = Arc::new(samples::endpoint(&network, "web", 1, &["10.0.1.2"], &[]));
        let is_direct = |network: &Network| {
            let element = Element::Direct(endpoint.host_ifname.clone());
            container_elements(&desired(&[network]), std::slice::from_ref(&endpoint)).contains(&element)
        };
        assert!(!is_direct(&network));
        for (bridge, direct) in [(Some("cni0".parse().unwrap()), false), (None, true)] {
            network.driver = Driver::Adopted(Adopted { bridge, icc: true, masquerade: false });
            assert_eq!(is_direct(&network), direct);
        }
    }

    #[test]
    fn ports_lead_to_the_network_of_the_default_route() {
        let one = samples::network("net1", &["10.0.1.0/24"]);
        let two = samples::network("net2", &["10.0.2.0/24", "fd00:2::/64"]);
        let first = Arc::new(samples::endpoint(&one, "web", 1, &["10.0.1.2"], &[]));
        let mut second = samples::endpoint(&two, "web", 2, &["10.0.2.2", "fd00:2::2"], &["4000:80"]);
        second.ifname = "eth1".parse().unwrap();
        let both = [first, Arc::new(second)];
        let to: Vec<IpAddr> = container_elements(&desired(&[&one, &two]), &both)
            .iter()
            .filter_map(|element| match element {
                Element::Publish(published) => Some(published.to),
                _ => None,
            })
            .collect();
        assert_eq!(to, ["10.0.1.2".parse::<IpAddr>().unwrap(), "fd00:2::2".parse().unwrap()]);
        let routes: Vec<_> = default_routes(&both).iter().map(|r| format!("{} {}", r.ifname, r.gateway)).collect();
        assert_eq!(routes, ["eth0 10.0.1.1", "eth1 fd00:2::1"]);
    }

    #[test]
    fn what_of_the_host_is_reached_stands_in_two_sets() {
        let mut network = samples::network("net1", &["10.0.1.0/24"]);
        let bridge = network.bridge().unwrap().clone();
        let closed = || Element::ToHost(bridge.clone(), Verdict::Closed);
        for (access, closed) in [
            (HostAccess::All, vec![]),
            (HostAccess::Ports, vec![closed()]),
            (HostAccess::None, vec![closed(), Element::PortsClosed(bridge.clone())]),
        ] {
            network.host_access = access;
            let elements = network_elements(&desired(&[&network]), &network).into_iter();
            let elements: Vec<Element> =
                elements.filter(|element| matches!(element, Element::ToHost(..) | Element::PortsClosed(_))).collect();
            assert_eq!(elements, closed, "{access:?}");
        }
    }

    #[test]
    fn a_range_that_keeps_its_numbers_is_one_element() {
        let network = samples::network("net1", &["10.0.1.0/24"]);
        let ports = ["10000-20000:10000-20000/udp", "7000-7001:8000-8001"];
        let endpoint = Arc::new(samples::endpoint(&network, "turn", 1, &["10.0.1.2"], &ports));
        let elements = container_elements(&desired(&[&network]), std::slice::from_ref(&endpoint));
        assert_eq!(elements.iter().filter(|element| element.table() == Table::Inet).count(), 3);
        // A range, and two ports in both families: what comes over the other one is proxied.
        assert_eq!(host_ports(&[endpoint]).len(), 1 + 2 * 2);
    }
}
