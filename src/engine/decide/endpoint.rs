//! Computes endpoints from requests.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::attachment::FoundInterface;
use super::{address, dhcp, stacked};
use crate::engine::state::State;
use crate::logic::alloc::{interfaces, ports};
use crate::logic::refusal::Refusal;
use crate::logic::target;
use crate::model::Invalid;
use crate::model::address::{Family, Mac};
use crate::model::endpoint::{Container, Endpoint, Netns};
use crate::model::handover::Handover;
use crate::model::host::observed::HostFacts;
use crate::model::host::parent::Parent;
use crate::model::host::step::HostPort;
use crate::model::ids::ContainerId;
use crate::model::names::{Alias, IfName};
use crate::model::network::{BRIDGE_PORTS, Network};
use crate::model::publication::skipped::{Skipped, Unpublishable};
use crate::model::publication::{Opened, PortSpec, Publication};
use crate::model::request::EndpointSpec;
use crate::model::reservation::Reservation;

/// What turned out to be taken when it was applied, and a random number.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) ifnames: BTreeSet<IfName>,
    pub(crate) host_ifnames: BTreeSet<IfName>,
    pub(crate) ports: BTreeSet<(crate::model::publication::Protocol, u16)>,
    pub(crate) random: u32,
    /// The interface of the host that the new one is to be on top of.
    pub(crate) parent: Option<Parent>,
    /// The namespace of the host, for an interface that is handed over.
    pub(crate) host: Option<Netns>,
}

impl Choice {
    /// Leaves out the port, which turned out to be taken. Returns whether netd has chosen it for one of these ports, and
    /// can choose another.
    pub(crate) fn avoid_port(&mut self, taken: &HostPort, ports: &[PortSpec]) -> bool {
        let chosen = |asked: &PortSpec| {
            let free = asked.host.is_none_or(|host| host.count() != asked.container.count());
            free && asked.protocol == taken.protocol
        };
        ports.iter().any(chosen) && self.ports.insert((taken.protocol, taken.port))
    }
}

/// The container of a new endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) container: Container,
    /// The id that the runtime uses, if the container is known by another.
    pub(crate) attached_as: Option<ContainerId>,
    /// The name that the runtime gives it, if it is known by another.
    pub(crate) alias: Option<Alias>,
}

impl From<Container> for Identity {
    fn from(container: Container) -> Self {
        Self { container, attached_as: None, alias: None }
    }
}

/// The endpoint that a request becomes on a network whose interfaces netd makes. `facts` is used only to find free
/// ports.
pub(crate) fn connect(
    state: &mut State,
    network: &Network,
    identity: Identity,
    requested: &EndpointSpec,
    (choice, facts): (&Choice, &HostFacts),
) -> Result<Endpoint, Refusal> {
    super::takes_endpoints(network)?;
    stacked::check(state, network, requested, choice.parent.as_ref())?;
    dhcp::check(network, requested)?;
    let Identity { container, attached_as, alias } = identity;
    let others = state.endpoints_of(&container.id);
    if requested.owner().is_none() && others.iter().any(|endpoint| endpoint.network == network.name) {
        return Err(Refusal::AlreadyConnected { container: container.name, network: network.name.clone() });
    }
    let reserved = requested.reservation().map(|id| super::reserved_on(state, network, id)).transpose()?;
    let addresses = match &reserved {
        Some(reserved) => reserved.addresses.clone(),
        None => {
            has_room(state, network)?;
            address::choose(state, network, requested.into(), Some(&container.name))?
        }
    };
    let first = addresses.first().map(IpNetwork::ip);
    let mac = mac(state, network, (&container, reserved.as_deref(), first), (requested, choice))?;
    let host_ifname = host_ifname(state, network, &container, choice)?;
    let handover = handover(requested, &host_ifname, choice);
    let named = stacked::ifname(network).or_else(|| handover.as_ref().map(|handover| handover.staged.clone()));
    let ifname = named.map_or_else(|| container_ifname(&container, &others, requested, choice), Ok)?;
    let mut endpoint = Endpoint {
        network: network.name.clone(),
        sequence: state.sequence + 1,
        ifname,
        host_ifname,
        gateways: address::gateways(network, &addresses, requested),
        mac,
        addresses,
        aliases: requested.aliases.iter().cloned().chain(alias).collect(),
        publications: Vec::new(),
        opened: Vec::new(),
        skipped: Vec::new(),
        exposed: requested.exposed.clone(),
        labels: requested.labels.clone(),
        owner: requested.owner().cloned(),
        attached_as,
        routes: requested.routes.clone(),
        bandwidth: requested.bandwidth,
        learned_mac: None,
        trusted: requested.trusted,
        upstreams: requested.upstreams.clone(),
        told_inside: false,
        beside_host: !network.is_behind_host(),
        handover,
        egress: requested.egress.clone(),
        dhcp: dhcp::begin(state, network, &container.name, (requested, choice.parent.as_ref())),
        container,
    };
    if network.is_routed() && !network.internal {
        endpoint.opened = requested.ports.iter().map(Opened::from).collect();
        return Ok(endpoint);
    }
    (endpoint.publications, endpoint.skipped) = match reserved {
        Some(reserved) => (reserved.publications.clone(), Vec::new()),
        None => publications(state, network, &endpoint, requested, (choice, facts))?,
    };
    Ok(endpoint)
}

/// The MAC address: that of the parent, or of the reservation, or the one of a container of this name, or a free one.
fn mac(
    state: &State,
    network: &Network,
    (container, reserved, first): (&Container, Option<&Reservation>, Option<IpAddr>),
    (requested, choice): (&EndpointSpec, &Choice),
) -> Result<Mac, Refusal> {
    match (reserved, stacked::mac_of_parent(network, choice.parent.as_ref())) {
        (_, Some(mac)) => Ok(mac),
        (Some(reserved), None) => Ok(reserved.mac),
        (None, None) => {
            let random = choice.random;
            let asked = requested.mac.or_else(|| dhcp::mac(state, network, &container.name));
            address::mac(state, network, asked, first, random)
        }
    }
}

fn host_ifname(state: &State, network: &Network, container: &Container, choice: &Choice) -> Result<IfName, Refusal> {
    let taken = |name: &IfName| state.host_ifnames.contains_key(name) || choice.host_ifnames.contains(name);
    let name = container.name.as_str();
    let found = interfaces::host_end(name, network.name.as_str(), taken);
    found.ok_or_else(|| Invalid::new("container name", name, "no interface name is free for it").into())
}

/// How the interface gets into the container, if another engine takes it there.
fn handover(requested: &EndpointSpec, host_ifname: &IfName, choice: &Choice) -> Option<Handover> {
    let (asked, host) = (requested.handover.as_ref()?, choice.host.clone()?);
    Some(Handover {
        endpoint: asked.endpoint.clone(),
        sandbox: asked.sandbox.clone(),
        host,
        staged: interfaces::staged(host_ifname),
        taken: false,
        leads: false,
    })
}

/// The endpoint that a request becomes on an interface that another program made.
pub(crate) fn adopt(
    state: &State,
    network: &Network,
    identity: Identity,
    requested: &EndpointSpec,
    found: &FoundInterface,
) -> Result<Endpoint, Refusal> {
    let Identity { container, attached_as, alias } = identity;
    let others = state.endpoints_of(&container.id);
    let ifname = container_ifname(&container, &others, requested, &Choice::default())?;
    for ip in found.addresses.iter().map(IpNetwork::ip) {
        address::is_free(state, network, ip)?;
    }
    let host_end = &found.host_end.name;
    if let Some(holder) = state.host_ifnames.get(host_end) {
        let holder = format!("container {}", super::owner_name(state, holder));
        return Err(Refusal::IfNameTaken { ifname: host_end.clone(), holder });
    }
    let mut endpoint = Endpoint {
        network: network.name.clone(),
        sequence: state.sequence + 1,
        ifname,
        host_ifname: found.host_end.name.clone(),
        gateways: address::gateways(network, &found.addresses, requested),
        addresses: found.addresses.clone(),
        mac: found.mac,
        aliases: requested.aliases.iter().cloned().chain(alias).collect(),
        publications: Vec::new(),
        opened: Vec::new(),
        skipped: Vec::new(),
        exposed: requested.exposed.clone(),
        labels: requested.labels.clone(),
        owner: requested.owner().cloned(),
        attached_as,
        routes: Vec::new(),
        bandwidth: requested.bandwidth,
        learned_mac: None,
        trusted: requested.trusted,
        upstreams: requested.upstreams.clone(),
        told_inside: false,
        beside_host: false,
        handover: None,
        egress: requested.egress.clone(),
        dhcp: None,
        container,
    };
    super::egress::check(state, network, &endpoint)?;
    let choice = (&Choice::default(), &HostFacts::default());
    (endpoint.publications, endpoint.skipped) = publications(state, network, &endpoint, requested, choice)?;
    Ok(endpoint)
}

/// The existing endpoint without addresses, with the addresses that it gets now.
pub(crate) fn addressed(
    state: &mut State,
    network: &Network,
    bare: &Endpoint,
    requested: &EndpointSpec,
) -> Result<Endpoint, Refusal> {
    let addresses = address::choose(state, network, requested.into(), Some(&bare.container.name))?;
    let gateways = address::gateways(network, &addresses, requested);
    let mut endpoint = Endpoint { gateways, addresses, routes: requested.routes.clone(), ..bare.clone() };
    // What cannot be published is already known: it depends on the host's address only.
    for port in &requested.ports {
        let known = endpoint.skipped.iter().any(|skipped| skipped.port == *port);
        if let Some(why) = unpublishable(state, network, &endpoint, port).filter(|_| !known) {
            endpoint.publications.retain(|publication| publication.host_ip != port.host_ip);
            endpoint.skipped.push(Skipped { port: port.clone(), why });
        }
    }
    Ok(endpoint)
}

/// Checks that another container can join the network.
pub(crate) fn has_room(state: &State, network: &Network) -> Result<(), Refusal> {
    let used = state.used.get(&network.name).copied().unwrap_or(0);
    if network.bridge().is_some() && used >= BRIDGE_PORTS {
        return Err(Refusal::BridgeFull { network: network.name.clone(), used, limit: BRIDGE_PORTS });
    }
    Ok(())
}

fn container_ifname(
    container: &Container,
    others: &[Arc<Endpoint>],
    requested: &EndpointSpec,
    choice: &Choice,
) -> Result<IfName, Refusal> {
    // Podman, if it attached the container through CNI.
    let has_engine = container.of_engine || others.iter().any(|endpoint| endpoint.owner.is_some());
    match &requested.ifname {
        Some(name) => match others.iter().find(|endpoint| endpoint.ifname == *name) {
            Some(holder) => {
                let holder = format!("network {} in this container", holder.network);
                Err(Refusal::IfNameTaken { ifname: name.clone(), holder })
            }
            None => Ok(name.clone()),
        },
        None => interfaces::in_container(others.iter().map(AsRef::as_ref), &choice.ifnames, has_engine)
            .ok_or_else(|| Invalid::new("interface name", "eth", "every number is taken in this container").into()),
    }
}

type Ports = (Vec<Publication>, Vec<Skipped>);

/// Turns the requested ports into publications. A user's request for ports that the network cannot have is refused. A
/// runtime passes a container's ports to each of its networks, so those that a network cannot have are skipped there.
fn publications(
    state: &State,
    network: &Network,
    endpoint: &Endpoint,
    requested: &EndpointSpec,
    (choice, facts): (&Choice, &HostFacts),
) -> Result<Ports, Refusal> {
    let (mut chosen, mut skipped) = (Vec::new(), Vec::new());
    for port in &requested.ports {
        match unpublishable(state, network, endpoint, port) {
            Some(why) if endpoint.owner.is_some() => skipped.push(Skipped { port: port.clone(), why }),
            Some(why) => {
                let (ports, network, why) = (port.to_string(), network.name.clone(), why.to_string());
                return Err(Refusal::CannotPublish { ports, network, why });
            }
            None => {
                super::can_obey(state, network, port)?;
                let of_runtime = endpoint.owner.as_ref().map(|_| &endpoint.container.id);
                publish(state, of_runtime, port, &mut chosen, (choice, facts))?;
            }
        }
    }
    Ok((chosen, skipped))
}

/// Adds the publications that the port becomes. `of_runtime`: the container, if a runtime asks for its port.
pub(super) fn publish(
    state: &State,
    of_runtime: Option<&ContainerId>,
    port: &PortSpec,
    chosen: &mut Vec<Publication>,
    (choice, facts): (&Choice, &HostFacts),
) -> Result<(), Refusal> {
    for group in ports::candidates(port, facts, choice.random) {
        let free = first_free(state, of_runtime, group, port, (chosen, choice))?;
        chosen.push(free);
    }
    Ok(())
}

/// The first publication of the group that is free; for a group of one, the refusal names the holder.
fn first_free(
    state: &State,
    of_runtime: Option<&ContainerId>,
    group: Vec<Publication>,
    spec: &PortSpec,
    (chosen, choice): (&[Publication], &Choice),
) -> Result<Publication, Refusal> {
    let single = group.len() == 1;
    for publication in group {
        let own = chosen.iter().find(|other| other.conflicts(&publication));
        match (own, state.ports.conflict(&publication, of_runtime)) {
            (Some(own), _) if single => {
                let why = format!("its host port is given twice, also by {own}");
                return Err(Invalid::new("port", spec.to_string(), why).into());
            }
            (None, Some((held, holder))) if single => {
                let owner = super::taken_by(state, holder);
                return Err(Refusal::PortTaken { asked: publication, held: held.clone(), owner });
            }
            (Some(_), _) | (_, Some(_)) => {}
            _ if publication.host.ports().any(|p| choice.ports.contains(&(publication.protocol, p))) && !single => {}
            _ => return Ok(publication),
        }
    }
    Err(Refusal::NoFreePort(spec.to_string()))
}

/// Why a port at that host address cannot be published for the endpoint. An internal network cannot be reached from
/// outside, but a container's ports are reachable through any of its networks that can; a user may therefore request
/// them on an internal one.
pub(super) fn unpublishable(
    state: &State,
    network: &Network,
    endpoint: &Endpoint,
    port: &PortSpec,
) -> Option<Unpublishable> {
    if network.internal && endpoint.owner.is_some() {
        return Some(Unpublishable::Internal);
    }
    if !network.is_behind_host() {
        return Some(Unpublishable::Beside);
    }
    let mut endpoints = state.endpoints_of(&endpoint.container.id);
    endpoints.push(Arc::new(endpoint.clone()));
    if endpoint.addresses.is_empty() {
        // The addresses come later, and with them the gateways that decide.
        return None;
    }
    let leads = |family| target::is_reached(&endpoints, family);
    // netd holds no ports for a runtime, so it cannot proxy what comes in the other family.
    let proxied = endpoint.owner.is_none() && port.can_be_proxied();
    unreachable(network, port.host_ip.filter(|_| !proxied), leads)
}

/// Why a port at that host address leads nowhere if there is a way out in the families for which `leads` returns true;
/// `None` if it leads somewhere.
pub(super) fn unreachable(
    network: &Network,
    host_ip: Option<IpAddr>,
    leads: impl Fn(Family) -> bool,
) -> Option<Unpublishable> {
    let covers = |family: &Family| host_ip.is_none_or(|ip| Family::of(ip) == *family);
    if [Family::V4, Family::V6].into_iter().filter(covers).any(leads) {
        return None;
    }
    Some(match host_ip {
        _ if network.internal => Unpublishable::Internal,
        Some(ip) if ip.is_ipv6() => Unpublishable::NoIpv6,
        _ => Unpublishable::NoIpv4,
    })
}
