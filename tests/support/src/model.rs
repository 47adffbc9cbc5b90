//! What the kernel must have for the networks, endpoints, reservations and services of a snapshot, computed without the
//! product's `target`, and what the fake kernel has. Tests compare the two.

mod firewalls;
mod guard;
mod held;
mod interfaces;
mod limits;
mod policies;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netd::engine::Snapshot;
use netd::kernel::fake::World;
use netd::model::endpoint::Endpoint;
use netd::model::host::element::{Element, NameServer, Published, PublishedRange, Verdict};
use netd::model::host::step::HostPorts;
use netd::model::ids::ContainerId;
use netd::model::names::IfName;
use netd::model::network::{DnsListen, HostAccess, Network};
use netd::model::publication::Publication;

use firewalls::{is_at_gateway, is_blocked};
use interfaces::{Pair, Shim};
use limits::Limits;

/// The port of the name service at gateways, as the tests configure it.
const DNS_PORT: u16 = 53;
/// The address of the name service within containers.
const WITHIN: [u8; 4] = [127, 0, 0, 11];

/// The name service within a container: the container, whether another resolver is there, and the gateways that it stands
/// in for.
type Within = (ContainerId, bool, BTreeSet<(IpAddr, IpAddr)>);

/// netd's part of the kernel, by the names under which a person finds it.
#[derive(Debug, Clone, Default)]
struct Parts {
    bridges: BTreeMap<IfName, (BTreeSet<IpNetwork>, u32)>,
    pairs: BTreeMap<IfName, Pair>,
    /// The host's own interfaces on networks of stacked ones, with their addresses and routes.
    shims: BTreeMap<IfName, Shim>,
    /// Namespace, interface, gateway, metric.
    default_routes: BTreeSet<(u64, IfName, IpAddr, Option<u32>)>,
    elements: BTreeSet<Element>,
    held: BTreeSet<HostPorts>,
    /// The name server in each file.
    files: BTreeMap<String, String>,
    limits: Limits,
    within: BTreeMap<u64, Within>,
    /// netd's rules in another program's firewall.
    accepts: BTreeSet<String>,
}

/// The differences between what the snapshot says and what the fake kernel has, one line each; none if they match.
pub fn differences(snapshot: &Snapshot, world: &World) -> Vec<String> {
    let (wanted, found) = (target(snapshot, world), found(snapshot, world));
    let mut lines = Vec::new();
    maps("bridge", &wanted.bridges, &found.bridges, &mut lines);
    maps("interface", &wanted.pairs, &found.pairs, &mut lines);
    maps("host's interface", &wanted.shims, &found.shims, &mut lines);
    sets("default route", &wanted.default_routes, &found.default_routes, &mut lines);
    sets("element", &wanted.elements, &found.elements, &mut lines);
    sets("held port", &wanted.held, &found.held, &mut lines);
    maps("resolv.conf", &wanted.files, &found.files, &mut lines);
    maps("limit", &wanted.limits.interfaces, &found.limits.interfaces, &mut lines);
    maps("intermediate device", &wanted.limits.devices, &found.limits.devices, &mut lines);
    maps("name service within", &wanted.within, &found.within, &mut lines);
    sets("rule in another firewall", &wanted.accepts, &found.accepts, &mut lines);
    if world.elements.is_none() {
        lines.push("the table is missing".into());
    }
    if world.structure_differs {
        lines.push("the table has another structure".into());
    }
    lines.extend(firewalls::forwarding(snapshot, world));
    for adopted in prepared(snapshot).difference(&world.prepared) {
        lines.push(format!("{adopted} is not prepared"));
    }
    lines.extend(held_twice(snapshot));
    lines
}

/// What two endpoints have at the same time although only one can.
fn held_twice(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    let mut see = |what: String| lines.extend((!seen.insert(what.clone())).then_some(what));
    for endpoint in snapshot.desired.endpoints() {
        endpoint.addresses.iter().for_each(|address| see(format!("address {}", address.ip())));
        see(format!("host interface {}", endpoint.host_ifname));
        see(format!("interface {} in {}", endpoint.ifname, endpoint.container.netns.id.inode));
        see(format!("{} on {}", endpoint.mac, endpoint.network));
    }
    for reservation in snapshot.desired.reservations() {
        reservation.addresses.iter().for_each(|address| see(format!("address {}", address.ip())));
        see(format!("{} on {}", reservation.mac, reservation.network));
        ports(&reservation.publications).into_iter().for_each(&mut see);
    }
    for service in snapshot.desired.services() {
        service.addresses().for_each(|address| see(format!("address {address}")));
        ports(&service.publications).into_iter().for_each(&mut see);
    }
    for container in containers(snapshot) {
        let all: BTreeSet<String> = container.iter().flat_map(|endpoint| ports(&endpoint.publications)).collect();
        all.into_iter().for_each(&mut see);
    }
    lines.iter().map(|what| format!("{what} is held twice")).collect()
}

fn ports(publications: &[Publication]) -> BTreeSet<String> {
    let each = publications.iter().flat_map(|publication| {
        publication.host.ports().map(move |port| (publication.host_ip, publication.protocol, port))
    });
    each.map(|port| format!("port {port:?}")).collect()
}

fn maps<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    wanted: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    lines: &mut Vec<String>,
) {
    for (key, value) in wanted {
        match found.get(key) {
            None => lines.push(format!("{what} {key:?} is missing: {value:?}")),
            Some(other) if other != value => lines.push(format!("{what} {key:?} is {other:?}, not {value:?}")),
            Some(_) => {}
        }
    }
    let stray = found.iter().filter(|(key, _)| !wanted.contains_key(key));
    lines.extend(stray.map(|(key, value)| format!("{what} {key:?} belongs to nobody: {value:?}")));
}

fn sets<T: Ord + Debug>(what: &str, wanted: &BTreeSet<T>, found: &BTreeSet<T>, lines: &mut Vec<String>) {
    lines.extend(wanted.difference(found).map(|missing| format!("{what} is missing: {missing:?}")));
    lines.extend(found.difference(wanted).map(|stray| format!("{what} belongs to nobody: {stray:?}")));
}

/// The endpoints of each container, in the order in which they were connected.
fn containers(snapshot: &Snapshot) -> Vec<Vec<Arc<Endpoint>>> {
    let mut containers: BTreeMap<_, Vec<Arc<Endpoint>>> = BTreeMap::new();
    for endpoint in snapshot.desired.endpoints() {
        containers.entry(endpoint.container.id.clone()).or_default().push(endpoint.clone());
    }
    containers.values_mut().for_each(|endpoints| endpoints.sort_by_key(|endpoint| endpoint.sequence));
    containers.into_values().collect()
}

fn network_of<'a>(snapshot: &'a Snapshot, endpoint: &Endpoint) -> &'a Network {
    // An endpoint is on a network.
    snapshot.desired.network(&endpoint.network).unwrap()
}

fn target(snapshot: &Snapshot, world: &World) -> Parts {
    let mut parts = Parts { accepts: firewalls::target(snapshot, world), ..Parts::default() };
    for network in snapshot.desired.networks() {
        if let Some(bridge) = network.own_bridge() {
            let gateways = network.subnets.iter().map(|subnet| subnet.subnet.interface(subnet.gateway.unwrap()));
            let gateways = gateways.filter(|_| !bridge.isolated);
            let addresses = gateways.chain(services::addresses(snapshot, &network.name)).collect();
            parts.bridges.insert(bridge.name.clone(), (addresses, network.mtu));
        }
        interfaces::add_shim(snapshot, network, &mut parts.shims);
        parts.elements.extend(elements_of_network(network));
    }
    parts.elements.extend(firewalls::elements_of_ways(world));
    for endpoints in containers(snapshot) {
        endpoints.iter().for_each(|endpoint| interfaces::add(network_of(snapshot, endpoint), endpoint, &mut parts));
        add_routes(snapshot, &endpoints, &mut parts);
        add_ports(snapshot, &endpoints, &mut parts);
        guard::add(snapshot, &endpoints, &mut parts.elements);
        add_names(snapshot, world, &endpoints, &mut parts);
    }
    for reservation in snapshot.desired.reservations() {
        let network = snapshot.desired.network(&reservation.network).unwrap();
        for address in reservation.addresses.iter().map(IpNetwork::ip).filter(|_| !network.internal) {
            reservation.publications.iter().for_each(|publication| held::add(publication, address, &mut parts.held));
        }
    }
    services::hold(snapshot, &mut parts.held);
    if let Some(elements) = policies::elements(snapshot) {
        parts.elements.retain(|element| matches!(element, Element::AskAt(_) | Element::AnswerFrom(_)));
        parts.elements.extend(elements);
        parts.elements.extend(firewalls::elements_of_ways(world));
    }
    parts
}

/// The first endpoint that leads out, for each address family.
fn ways_out(endpoints: &[Arc<Endpoint>]) -> impl Iterator<Item = (bool, &Arc<Endpoint>, IpAddr)> {
    [true, false].into_iter().filter_map(|v4| {
        let gateway = |endpoint: &Endpoint| endpoint.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
        let endpoint = endpoints.iter().find(|endpoint| gateway(endpoint).is_some())?;
        Some((v4, endpoint, gateway(endpoint)?))
    })
}

/// Default routes over interfaces of other programs are theirs to set.
fn add_routes(snapshot: &Snapshot, endpoints: &[Arc<Endpoint>], parts: &mut Parts) {
    for (_, endpoint, gateway) in ways_out(endpoints) {
        if network_of(snapshot, endpoint).makes_interfaces() {
            // Behind the routes of the engine that made the container.
            let metric = (endpoint.container.of_engine && endpoint.owner.is_none()).then_some(2048);
            let inode = endpoint.container.netns.id.inode;
            parts.default_routes.insert((inode, endpoint.ifname.clone(), gateway, metric));
        }
    }
}

/// Ports lead to the address beside the default route. Those that a person asked for are held, those of runtimes
/// over IPv6.
fn add_ports(snapshot: &Snapshot, endpoints: &[Arc<Endpoint>], parts: &mut Parts) {
    for (v4, to, _) in ways_out(endpoints) {
        let Some(to) = to.addresses.iter().map(IpNetwork::ip).find(|ip| ip.is_ipv4() == v4) else { continue };
        for endpoint in endpoints {
            let of_family = |ip: &IpAddr| ip.is_ipv4() == v4;
            if endpoint.owner.is_none() {
                endpoint.publications.iter().for_each(|publication| held::add(publication, to, &mut parts.held));
            } else {
                let every = endpoint.publications.iter().filter(|publication| publication.host_ip.is_none());
                let unproxied = snapshot.unproxied.get(&endpoint.container.id);
                every.for_each(|publication| held::add_shared(publication, unproxied, &mut parts.held));
            }
            for publication in endpoint.publications.iter().filter(|p| p.host_ip.as_ref().is_none_or(of_family)) {
                let only = publication.host_ip.filter(|ip| !ip.is_unspecified());
                let (host, inner) = (publication.host, publication.container);
                if host == inner && host.count() > 1 {
                    let range = PublishedRange { host_ip: only, protocol: publication.protocol, ports: host, to };
                    parts.elements.insert(Element::PublishRange(range));
                }
                for (port, to_port) in host.ports().zip(inner.ports()) {
                    let protocol = publication.protocol;
                    if host != inner || host.count() == 1 {
                        let one = Published { host_ip: only, protocol, port, to, to_port };
                        parts.elements.insert(Element::Publish(one));
                    }
                }
            }
        }
    }
}

/// Where the container's names are answered, and what its resolv.conf says.
fn add_names(snapshot: &Snapshot, world: &World, endpoints: &[Arc<Endpoint>], parts: &mut Parts) {
    let container = &endpoints[0].container;
    let inode = container.netns.id.inode;
    let asks_within = |endpoint: &Arc<Endpoint>| {
        let network = network_of(snapshot, endpoint);
        let blocked = is_blocked(snapshot, world, network) || endpoint.told_inside;
        let isolated = !is_at_gateway(network) && network.dns.listen != DnsListen::Container;
        network.dns.listen == DnsListen::Container || (network.dns.listen == DnsListen::Auto && blocked) || isolated
    };
    let leaves_choice = |endpoint: &Arc<Endpoint>| network_of(snapshot, endpoint).dns.listen == DnsListen::Auto;
    let within = endpoints.iter().any(asks_within);
    let beside = world.resolvers.contains(&inode) && (container.of_engine || within);
    let gateways = |endpoint: &Arc<Endpoint>| {
        let network = network_of(snapshot, endpoint);
        let of =
            |ip: IpAddr| network.subnets.iter().find(|s| s.subnet.contains(ip)).and_then(|s| Some((ip, s.gateway?)));
        endpoint
            .addresses
            .iter()
            .filter(|_| is_at_gateway(network))
            .filter_map(|address| of(address.ip()))
            .collect::<Vec<_>>()
    };
    if within || (beside && endpoints.iter().any(leaves_choice)) {
        let reachable = endpoints.iter().filter(|e| !beside && is_at_gateway(network_of(snapshot, e)));
        parts.within.insert(inode, (container.id.clone(), beside, reachable.flat_map(gateways).collect()));
    }
    if let Ok(name) = container.netns.path.strip_prefix("/run/netns") {
        let at_gateways = endpoints.iter().map(gateways).find(|gateways| !gateways.is_empty()).unwrap_or_default();
        let first = at_gateways.iter().map(|(_, gateway)| *gateway).min_by_key(IpAddr::is_ipv6);
        let server = if within { Some(IpAddr::from(WITHIN)) } else { first };
        let server = server.map(|server| format!("nameserver {server}\n")).unwrap_or_default();
        let search =
            if snapshot.search.is_empty() { String::new() } else { format!("search {}\n", snapshot.search.join(" ")) };
        let text = format!("# Written by netd\n{server}{search}options ndots:0\n");
        parts.files.insert(name.display().to_string(), text);
    }
}

fn elements_of_network(network: &Network) -> BTreeSet<Element> {
    let mut elements = BTreeSet::new();
    if network.stacked().is_some() {
        return elements;
    }
    let isolated = network.own_bridge().is_some_and(|own| own.isolated);
    if let Some(bridge) = network.bridge().cloned() {
        let access = network.host_access;
        let on_condition = [
            (true, Element::Bridge(bridge.clone())),
            (network.internal, Element::Internal(bridge.clone())),
            (network.internal, Element::Leaving(bridge.clone(), Verdict::FromInternal)),
            (network.internal, Element::Entering(bridge.clone(), Verdict::ToInternal)),
            (access != HostAccess::All, Element::ToHost(bridge.clone(), Verdict::Closed)),
            (access == HostAccess::None, Element::PortsClosed(bridge.clone())),
            (isolated, Element::Isolated(bridge.clone())),
            (network.icc(), Element::Allowed(bridge.clone(), bridge)),
        ];
        elements.extend(on_condition.into_iter().filter(|(on, _)| *on).map(|(_, element)| element));
    }
    for subnet in &network.subnets {
        if !isolated {
            // Also within an internal network, whose services have virtual addresses.
            elements.insert(Element::Hairpin(subnet.subnet));
        }
        if !network.internal && network.masquerade() {
            elements.insert(Element::Masquerade(subnet.subnet));
        }
        if !isolated {
            let server = NameServer { gateway: subnet.gateway.unwrap(), port: DNS_PORT };
            elements.extend([Element::AskAt(server), Element::AnswerFrom(server)]);
        }
    }
    elements
}

/// The interfaces of other programs that must be prepared for published ports.
fn prepared(snapshot: &Snapshot) -> BTreeSet<IfName> {
    let adopted = snapshot.desired.endpoints().filter_map(|endpoint| {
        let network = network_of(snapshot, endpoint);
        let of_other = !network.makes_interfaces();
        of_other.then(|| network.bridge().unwrap_or(&endpoint.host_ifname).clone())
    });
    adopted.collect()
}

fn found(snapshot: &Snapshot, world: &World) -> Parts {
    let own = |inode: u64, ifname: &IfName| {
        let same = |e: &&Arc<Endpoint>| e.container.netns.id.inode == inode && e.ifname == *ifname;
        let mut links = world.links.values();
        let left = links.any(|link| link.netns.id.inode == inode && link.ifname == *ifname);
        let of_netd = |e: &Arc<Endpoint>| network_of(snapshot, e).makes_interfaces();
        left || snapshot.desired.endpoints().find(same).is_some_and(of_netd)
    };
    let routes = world.routes.iter().flat_map(|(inode, routes)| {
        routes.iter().map(|route| (*inode, route.ifname.clone(), route.gateway, route.metric))
    });
    Parts {
        accepts: firewalls::found(world),
        bridges: world
            .bridges
            .values()
            .map(|bridge| (bridge.name.clone(), (services::of_bridge(bridge), bridge.mtu)))
            .collect(),
        shims: world.shims.values().map(interfaces::found_shim).collect(),
        pairs: world.links.iter().map(|(name, link)| (name.clone(), interfaces::found(link))).collect(),
        default_routes: routes.filter(|(inode, ifname, ..)| own(*inode, ifname)).collect(),
        elements: world
            .elements
            .iter()
            .flatten()
            .filter(|element| !services::lead_to_members(element))
            .cloned()
            .collect(),
        held: world.held.clone(),
        files: world.resolv.clone(),
        limits: limits::found(world),
        within: world
            .inside
            .iter()
            .map(|(inode, inside)| {
                let gateways = inside.gateways.iter().copied().collect();
                (*inode, (inside.container.clone(), inside.beside, gateways))
            })
            .collect(),
    }
}
