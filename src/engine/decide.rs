//! Decisions: a request and the state to what will be, all of it checked before anything is changed. Pure; random
//! numbers and the time are arguments.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::state::State;
use crate::logic::refusal::Refusal;
use crate::logic::{interfaces, ipam, ports, subnets, wanted};
use crate::model::Invalid;
use crate::model::address::{Family, Mac, Pool, Subnet};
use crate::model::endpoint::{Container, Endpoint, EndpointKey};
use crate::model::ids::NetworkId;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{Bridge, Driver, Network, NetworkSubnet};
use crate::model::observed::HostFacts;
use crate::model::publication::{PortSpec, Publication};
use crate::model::request::{ConnectSpec, NetworkSpec};

/// Ports a bridge has room for: `BR_MAX_PORTS` - 1 (net/bridge/br_private.h; port 0 is not used).
const BRIDGE_PORTS: usize = 1023;
/// MTU where the host has no default route.
const MTU: u32 = 1500;
/// Smallest MTU of IPv6 (RFC 8200, section 5).
const MTU_IPV6: u32 = 1280;

/// What is given besides the request and the state.
pub(crate) struct NetworkChoice<'a> {
    pub(crate) facts: &'a HostFacts,
    pub(crate) pools: &'a [Pool],
    pub(crate) id: NetworkId,
    pub(crate) created: u64,
}

/// The network that a spec becomes.
pub(crate) fn create_network(state: &State, spec: &NetworkSpec, choice: NetworkChoice<'_>) -> Result<Network, Refusal> {
    let desired = &state.desired;
    let clash = desired.networks().find(|network| network.name.as_str().eq_ignore_ascii_case(spec.name.as_str()));
    if let Some(network) = clash {
        // Names of networks are parts of DNS names, which have no case.
        return Err(Refusal::NetworkExists(network.name.clone()));
    }
    for (index, subnet) in spec.subnets.iter().enumerate() {
        subnets::check(*subnet, desired, choice.facts)?;
        if let Some(other) = spec.subnets[..index].iter().find(|other| other.overlaps(*subnet)) {
            return Err(Refusal::SubnetOverlap { subnet: *subnet, with: format!("subnet {other} of this network") });
        }
    }
    let mut chosen = spec.subnets.clone();
    let lacks = |chosen: &[Subnet], family| !chosen.iter().any(|subnet| subnet.family() == family);
    if spec.subnets.is_empty() {
        chosen.push(subnets::choose(choice.pools, Family::V4, desired, choice.facts, &[])?);
    }
    if spec.ipv6 && lacks(&chosen, Family::V6) {
        chosen.push(subnets::choose(choice.pools, Family::V6, desired, choice.facts, &chosen)?);
    }
    let subnets = network_subnets(spec, &chosen)?;
    let mtu = spec.mtu.or(choice.facts.uplink_mtu).unwrap_or(MTU);
    if mtu < MTU_IPV6 && !lacks(&chosen, Family::V6) {
        return Err(Invalid::new("MTU", mtu.to_string(), "IPv6 needs at least 1280 (RFC 8200)").into());
    }
    Ok(Network {
        name: spec.name.clone(),
        id: choice.id,
        driver: Driver::Bridge(Bridge {
            name: bridge_name(state, spec, choice.facts)?,
            icc: spec.icc,
            masquerade: spec.masquerade,
        }),
        subnets,
        internal: spec.internal,
        mtu,
        labels: spec.labels.clone(),
        created: choice.created,
    })
}

fn bridge_name(state: &State, spec: &NetworkSpec, facts: &HostFacts) -> Result<IfName, Refusal> {
    let ours = |name: &IfName| state.desired.networks().any(|network| network.bridge().name == *name);
    let taken = |name: &IfName| ours(name) || facts.interfaces.contains(name);
    match &spec.bridge {
        Some(name) if taken(name) => {
            Err(Refusal::IfNameTaken { ifname: name.clone(), holder: "another interface of the host".into() })
        }
        Some(name) => Ok(name.clone()),
        None => interfaces::bridge(spec.name.as_str(), taken)
            .ok_or_else(|| Invalid::new("network name", spec.name.as_str(), "no interface name is free for it").into()),
    }
}

/// Joins gateways and ranges to their subnets; every one must fit.
fn network_subnets(spec: &NetworkSpec, chosen: &[Subnet]) -> Result<Vec<NetworkSubnet>, Refusal> {
    let outside = |what, value: String| Refusal::Outside {
        what,
        value,
        network: spec.name.clone(),
        subnets: chosen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    if let Some(gateway) = spec.gateways.iter().find(|gateway| !chosen.iter().any(|s| s.contains(**gateway))) {
        return Err(outside("gateway", gateway.to_string()));
    }
    let within =
        |range: &Subnet, subnet: &Subnet| subnet.contains(range.network()) && range.prefix() >= subnet.prefix();
    if let Some(range) = spec.ranges.iter().find(|range| !chosen.iter().any(|subnet| within(range, subnet))) {
        return Err(outside("range", range.to_string()));
    }
    let mut subnets = Vec::new();
    for subnet in chosen {
        let mut gateways = spec.gateways.iter().filter(|gateway| subnet.contains(**gateway));
        let mut ranges = spec.ranges.iter().filter(|range| within(range, subnet));
        let (low, high) = ipam::usable(*subnet);
        if high == low {
            return Err(
                Invalid::new("subnet", subnet.to_string(), "it has no room for a gateway and a container").into()
            );
        }
        let gateway = gateways.next().copied().or_else(|| subnet.address(low));
        let gateway = gateway.ok_or_else(|| outside("gateway", "the first address".into()))?;
        if !(low..=high).contains(&crate::model::address::number(gateway)) {
            let why = format!("it is the network or broadcast address of {subnet}");
            return Err(Invalid::new("gateway", gateway.to_string(), why).into());
        }
        let range = ranges.next().copied();
        if let Some(second) = gateways.next() {
            let why = format!("subnet {subnet} has the gateway {gateway} already");
            return Err(Invalid::new("gateway", second.to_string(), why).into());
        }
        if let Some(second) = ranges.next() {
            let why = format!("subnet {subnet} has a range already");
            return Err(Invalid::new("range", second.to_string(), why).into());
        }
        subnets.push(NetworkSubnet { subnet: *subnet, gateway, range });
    }
    Ok(subnets)
}

/// What was found to be taken only when it was tried, and a random number.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) ifnames: BTreeSet<IfName>,
    pub(crate) host_ifnames: BTreeSet<IfName>,
    pub(crate) ports: BTreeSet<(crate::model::publication::Protocol, u16)>,
    pub(crate) random: u32,
}

/// The endpoint that a connect becomes. `facts` are looked at for free ports only.
pub(crate) fn connect(
    state: &mut State,
    network: &Network,
    container: Container,
    spec: &ConnectSpec,
    (choice, facts): (&Choice, &HostFacts),
) -> Result<Endpoint, Refusal> {
    let others = state.endpoints_of(&container.id);
    if others.iter().any(|endpoint| endpoint.network == network.name) {
        return Err(Refusal::AlreadyConnected { container: container.name, network: network.name.clone() });
    }
    let used = state.used.get(&network.name).copied().unwrap_or(0);
    if used >= BRIDGE_PORTS {
        return Err(Refusal::BridgeFull { network: network.name.clone(), used, limit: BRIDGE_PORTS });
    }
    let addresses = addresses(state, network, spec)?;
    let first = addresses.first().map(IpNetwork::ip);
    let mac = mac(state, network, spec.mac, first)?;
    let ifname = container_ifname(&others, spec, choice)?;
    let taken = |name: &IfName| state.host_ifnames.contains_key(name) || choice.host_ifnames.contains(name);
    let host_ifname = interfaces::host_end(container.name.as_str(), network.name.as_str(), taken)
        .ok_or_else(|| Invalid::new("container name", container.name.as_str(), "no interface name is free for it"))?;
    let gateway = |address: &IpNetwork| network.gateway_for(address.ip()).filter(|_| !network.internal);
    let mut endpoint = Endpoint {
        network: network.name.clone(),
        sequence: state.sequence + 1,
        ifname,
        host_ifname,
        gateways: addresses.iter().filter_map(gateway).collect(),
        addresses,
        mac,
        aliases: spec.aliases.clone(),
        publications: Vec::new(),
        owner: None,
        routes: Vec::new(),
        bandwidth: None,
        container,
    };
    endpoint.publications = publications(state, network, &endpoint, spec, (choice, facts))?;
    Ok(endpoint)
}

fn container_ifname(others: &[Arc<Endpoint>], spec: &ConnectSpec, choice: &Choice) -> Result<IfName, Refusal> {
    match &spec.ifname {
        Some(name) => match others.iter().find(|endpoint| endpoint.ifname == *name) {
            Some(holder) => {
                let holder = format!("network {} in this container", holder.network);
                Err(Refusal::IfNameTaken { ifname: name.clone(), holder })
            }
            None => Ok(name.clone()),
        },
        None => interfaces::in_container(others.iter().map(AsRef::as_ref), &choice.ifnames)
            .ok_or_else(|| Invalid::new("interface name", "eth", "every ethN is taken in this container").into()),
    }
}

/// One address per family of the network: the one asked for, or the next free one of the first subnet with room.
fn addresses(state: &mut State, network: &Network, spec: &ConnectSpec) -> Result<Vec<IpNetwork>, Refusal> {
    let mut addresses = Vec::new();
    let asked = [(Family::V4, spec.ip.map(IpAddr::V4)), (Family::V6, spec.ip6.map(IpAddr::V6))];
    for (family, asked) in asked {
        let subnets: Vec<&NetworkSubnet> = network.subnets.iter().filter(|s| s.subnet.family() == family).collect();
        match asked {
            Some(ip) => addresses.push(asked_address(state, network, ip)?),
            None if subnets.is_empty() => {}
            None => {
                let State { desired, ipam, .. } = state;
                let held = |ip: IpAddr| desired.at_address(ip).is_some() || desired.at_gateway(ip).is_some();
                let next =
                    |s: &&NetworkSubnet| ipam.peek(&network.name, s.subnet, held).map(|ip| s.subnet.interface(ip));
                let shown = || {
                    let range = |s: &&NetworkSubnet| s.range.unwrap_or(s.subnet).to_string();
                    subnets.iter().map(range).collect::<Vec<_>>().join(", ")
                };
                let none = || Refusal::NoFreeAddress { network: network.name.clone(), subnets: shown() };
                addresses.push(subnets.iter().find_map(next).ok_or_else(none)?);
            }
        }
    }
    Ok(addresses)
}

fn asked_address(state: &State, network: &Network, ip: IpAddr) -> Result<IpNetwork, Refusal> {
    let taken = |holder: String| Refusal::AddressTaken { address: ip, network: network.name.clone(), holder };
    let usable = |s: &&NetworkSubnet| {
        let (low, high) = ipam::usable(s.subnet);
        (low..=high).contains(&crate::model::address::number(ip)) && s.subnet.contains(ip)
    };
    let subnet = network.subnets.iter().find(usable).ok_or_else(|| Refusal::Outside {
        what: "IP address",
        value: ip.to_string(),
        network: network.name.clone(),
        subnets: network.subnets.iter().map(|s| s.subnet.to_string()).collect::<Vec<_>>().join(", "),
    })?;
    if subnet.gateway == ip {
        return Err(taken("the gateway".into()));
    }
    match state.desired.at_address(ip) {
        Some(holder) => Err(taken(format!("container {}", holder.container.name))),
        None => Ok(subnet.subnet.interface(ip)),
    }
}

fn mac(state: &State, network: &Network, asked: Option<Mac>, first: Option<IpAddr>) -> Result<Mac, Refusal> {
    let Some(mac) = asked else {
        // A network has at least one subnet, so an endpoint has at least one address.
        return Ok(Mac::for_address(first.unwrap_or(IpAddr::from([0, 0, 0, 1]))));
    };
    match state.desired.endpoints_of(&network.name).find(|endpoint| endpoint.mac == mac) {
        Some(holder) => {
            Err(Refusal::MacTaken { mac, network: network.name.clone(), holder: holder.container.name.clone() })
        }
        None => Ok(mac),
    }
}

fn publications(
    state: &State,
    network: &Network,
    endpoint: &Endpoint,
    spec: &ConnectSpec,
    (choice, facts): (&Choice, &HostFacts),
) -> Result<Vec<Publication>, Refusal> {
    let mut chosen: Vec<Publication> = Vec::new();
    for port in &spec.ports {
        check_publishable(state, network, endpoint, port)?;
        for group in ports::candidates(port, facts, choice.random) {
            chosen.push(first_free(state, endpoint, group, port, (&chosen, choice))?);
        }
    }
    Ok(chosen)
}

/// The first publication of the group that nobody has; a group of one says who has it.
fn first_free(
    state: &State,
    endpoint: &Endpoint,
    group: Vec<Publication>,
    spec: &PortSpec,
    (chosen, choice): (&[Publication], &Choice),
) -> Result<Publication, Refusal> {
    let single = group.len() == 1;
    for publication in group {
        let own = chosen.iter().find(|other| other.conflicts(&publication));
        let held = own
            .map(|held| (held.clone(), endpoint.container.name.to_string()))
            .or_else(|| state.ports.conflict(&publication).map(|(held, key)| (held.clone(), owner_name(state, key))));
        match held {
            Some((held, owner)) if single => return Err(Refusal::PortTaken { asked: publication, held, owner }),
            Some(_) => {}
            None if publication.host.ports().any(|p| choice.ports.contains(&(publication.protocol, p))) && !single => {}
            None => return Ok(publication),
        }
    }
    Err(Refusal::NoFreePort(spec.to_string()))
}

fn owner_name(state: &State, key: &EndpointKey) -> String {
    let holder = state.desired.endpoint(key);
    holder.map_or_else(|| key.container.short().to_owned(), |endpoint| endpoint.container.name.to_string())
}

fn check_publishable(state: &State, network: &Network, endpoint: &Endpoint, spec: &PortSpec) -> Result<(), Refusal> {
    let refuse =
        |why: String| Err(Refusal::CannotPublish { ports: spec.to_string(), network: network.name.clone(), why });
    if network.internal {
        return refuse("it is internal and has no way in; publish on another network".into());
    }
    let mut endpoints = state.endpoints_of(&endpoint.container.id);
    endpoints.push(Arc::new(endpoint.clone()));
    let reachable = |family| {
        let covers = spec.host_ip.is_none_or(|ip| Family::of(ip) == family);
        covers && endpoints.iter().any(|endpoint| endpoint.gateway(family).is_some())
    };
    if !reachable(Family::V4) && !reachable(Family::V6) {
        let family = if spec.host_ip.is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" };
        return refuse(format!("the container has no {family} address there; create the network with such a subnet"));
    }
    Ok(())
}

/// The endpoint of a container on a network, or why there is none.
pub(crate) fn find_endpoint(state: &State, network: &NetworkName, container: &str) -> Result<EndpointKey, Refusal> {
    use crate::model::desired::Lookup;
    let not_connected = || Refusal::NotConnected { container: container.to_owned(), network: network.clone() };
    match state.desired.find_container(container) {
        Lookup::One(attached) => {
            let found = attached.endpoints.iter().find(|endpoint| endpoint.network == *network);
            found.map(|endpoint| endpoint.key()).ok_or_else(not_connected)
        }
        Lookup::None => Err(not_connected()),
        Lookup::Ambiguous(count) => Err(Refusal::Ambiguous { what: "container", text: container.to_owned(), count }),
    }
}

/// The network that a name or id means.
pub(crate) fn find_network(state: &State, text: &str) -> Result<Arc<Network>, Refusal> {
    use crate::model::desired::Lookup;
    match state.desired.find_network(text) {
        Lookup::One(network) => Ok(network),
        Lookup::None => Err(Refusal::NoSuchNetwork(text.to_owned())),
        Lookup::Ambiguous(count) => Err(Refusal::Ambiguous { what: "network", text: text.to_owned(), count }),
    }
}

/// Checks that a network can go.
pub(crate) fn remove_network(state: &State, text: &str) -> Result<Arc<Network>, Refusal> {
    let network = find_network(state, text)?;
    let holders: Vec<String> =
        state.desired.endpoints_of(&network.name).map(|endpoint| endpoint.container.name.to_string()).collect();
    if holders.is_empty() {
        return Ok(network);
    }
    Err(Refusal::NetworkInUse { network: network.name.clone(), holders })
}

/// The elements and ports that change when a container's endpoints go from `before` to `after`.
pub(crate) struct Difference {
    pub(crate) remove: Vec<crate::model::element::Element>,
    pub(crate) add: Vec<crate::model::element::Element>,
    pub(crate) release: Vec<crate::model::step::HostPort>,
    pub(crate) hold: Vec<crate::model::step::HostPort>,
}

/// Compares what two sets of endpoints of one container want.
pub(crate) fn difference(before: &[Arc<Endpoint>], after: &[Arc<Endpoint>]) -> Difference {
    let (old, new) = (wanted::container_elements(before), wanted::container_elements(after));
    let (held, wanted) = (wanted::host_ports(before), wanted::host_ports(after));
    Difference {
        remove: old.difference(&new).cloned().collect(),
        add: new.difference(&old).cloned().collect(),
        release: held.difference(&wanted).copied().collect(),
        hold: wanted.difference(&held).copied().collect(),
    }
}
