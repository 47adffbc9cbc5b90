//! The target of a network or a container in the kernel: links, default routes, elements, held ports.
//!
//! A container's ports lead to its address on the network of its default route (per address family), whichever of its
//! networks they were published with: a reply that leaves through another network than the request came in would not
//! pass connection tracking and the source guard.

mod egress;
mod guard;
mod policies;
mod ports;
mod proxied;
pub mod services;
mod shim;
mod transit;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::alloc::interfaces;
use crate::model::address::{Families, Family};
use crate::model::bandwidth::{LimitedInterface, Shaping};
use crate::model::desired::{Attached, Desired};
use crate::model::endpoint::Endpoint;
use crate::model::handover::Handover;
use crate::model::host::element::{Element, NameServer};
use crate::model::host::foreign_firewall::Bridge;
use crate::model::host::step::{BridgeLink, DefaultRoute, EndpointLink, LinkKind, StackedLink, VethPair};
use crate::model::inside::Inside;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{DnsListen, Driver, HostAccess, Network, VlanId};
use crate::model::publication::PublishMode;
use ports::{FAMILIES, obey, publish, targets, way_out};
pub use ports::{host_ports, is_reached, reserved_ports, unheld_ports};
pub use proxied::{proxied, proxied_for_runtimes};
pub use shim::{shim, shim_routes, shim_with_routes};
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
    /// There is none.
    Nothing,
}

impl Interface<'_> {
    /// The link, if netd makes it.
    pub fn own(self) -> Option<Box<EndpointLink>> {
        match self {
            Self::Own(link) => Some(link),
            Self::Adopted(_) | Self::Nothing => None,
        }
    }
}

/// The endpoint's interface. `endpoints` are all endpoints of its container, itself included.
pub fn interface<'a>(network: &'a Network, endpoint: &'a Endpoint, endpoints: &[Arc<Endpoint>]) -> Interface<'a> {
    match &network.driver {
        Driver::Bridge(bridge) => {
            let pair = port(endpoint, (&bridge.name, None), bridge.icc);
            Interface::Own(Box::new(endpoint_link(network, endpoint, endpoints, pair)))
        }
        Driver::Unmanaged(unmanaged) => {
            let pair = port(endpoint, (&unmanaged.bridge, unmanaged.vlan), unmanaged.icc);
            Interface::Own(Box::new(endpoint_link(network, endpoint, endpoints, pair)))
        }
        Driver::Stacked(stacked) => {
            let (parent, mode) = (stacked.parent.clone(), stacked.mode);
            let kind = LinkKind::Stacked(StackedLink { host_ifname: endpoint.host_ifname.clone(), parent, mode });
            Interface::Own(Box::new(endpoint_link(network, endpoint, endpoints, kind)))
        }
        Driver::Nothing => Interface::Nothing,
        Driver::Adopted(adopted) => Interface::Adopted(adopted.bridge.as_ref().unwrap_or(&endpoint.host_ifname)),
    }
}

fn port(endpoint: &Endpoint, (bridge, vlan): (&IfName, Option<VlanId>), icc: bool) -> LinkKind {
    let (bridge, host_ifname) = (bridge.clone(), endpoint.host_ifname.clone());
    LinkKind::Veth(VethPair { bridge, host_ifname, isolated: !icc, vlan })
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
    if let Some(bridge) = network.guest_bridge() {
        elements.insert(Element::Bridge(bridge.clone()));
        let chains = policies::network_elements(desired.ruling(), network, bridge);
        let is_held = desired.holds(&network.name);
        elements.extend(if is_held { egress::network_elements(network, chains) } else { chains });
        if network.host_access == HostAccess::None {
            elements.insert(Element::PortsClosed(bridge.clone()));
        }
        if !network.has_gateways() {
            elements.insert(Element::Isolated(bridge.clone()));
        }
        if network.is_routed() && !network.internal {
            elements.insert(Element::Routed(bridge.clone()));
        }
        if network.own_bridge().is_some_and(|own| own.unprotected) && !network.internal {
            elements.insert(Element::Unprotected(bridge.clone()));
        }
    }
    for subnet in network.subnets.iter().filter(|_| network.has_gateways()) {
        // Also on an internal network, where services may have virtual addresses.
        elements.insert(Element::Hairpin(subnet.subnet));
        let source = network.own_bridge().and_then(|bridge| {
            bridge.source.iter().copied().find(|source| source.is_ipv4() == subnet.subnet.network().is_ipv4())
        });
        match source.filter(|_| !network.internal && !network.is_routed()) {
            Some(source) => drop(elements.insert(Element::Outbound(subnet.subnet, source))),
            None if network.masquerade() && !network.internal => {
                elements.insert(Element::Masquerade(subnet.subnet));
            }
            None => {}
        }
    }
    elements
}

/// The elements of a container, from all of its endpoints.
pub fn container_elements(desired: &Desired, endpoints: &[Arc<Endpoint>]) -> BTreeSet<Element> {
    let bare = |endpoint: &&Arc<Endpoint>| {
        let on = desired.network(&endpoint.network);
        on.is_some_and(|network| network.is_behind_host() && network.guest_bridge().is_none())
    };
    let direct = endpoints.iter().filter(bare).map(|endpoint| Element::Direct(endpoint.host_ifname.clone()));
    let mut elements: BTreeSet<Element> = direct.collect();
    elements.extend(guard::elements(desired, endpoints));
    elements.extend(egress::elements(desired, endpoints));
    for endpoint in endpoints {
        for address in endpoint.addresses.iter().map(IpNetwork::ip) {
            elements.extend(endpoint.opened.iter().map(|open| Element::Opened(address, open.protocol, open.ports)));
        }
        for publication in &endpoint.publications {
            let is_strict = desired.publish_mode([&endpoint.network], publication.mode) == PublishMode::Strict;
            for to in targets(publication, endpoints) {
                publish(publication, to, &mut elements);
                elements.extend(is_strict.then(|| obey(publication, Family::of(to))));
            }
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
    network.host_gateways().collect()
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
        let network = on(endpoint);
        let both = |address: &IpNetwork| Some((address.ip(), network?.name_server_for(address.ip())?));
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
        let gateways = network.host_gateways().filter(|_| asked);
        Some(Bridge {
            name: network.guest_bridge()?.clone(),
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
    Families::which(|family| network.is_behind_host() && !network.internal && network.has(family))
}

#[cfg(test)]
mod tests;
