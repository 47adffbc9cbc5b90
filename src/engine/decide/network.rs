//! Networks: which network a request describes, and whether one can be removed.

use std::sync::Arc;

use crate::engine::state::State;
use crate::logic::alloc::{interfaces, subnets};
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::address::{Family, Pool};
use crate::model::host::observed::HostFacts;
use crate::model::ids::NetworkId;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{Bridge, Driver, HostAccess, Network, NetworkSubnet};
use crate::model::request::NetworkSpec;
use crate::model::subnets::SubnetSpec;

/// MTU where the host has no default route.
const MTU: u32 = 1500;
/// Smallest MTU of IPv6 (RFC 8200, section 5).
const MTU_IPV6: u32 = 1280;

/// The inputs of a decision besides the request and the state.
pub(crate) struct NetworkChoice<'a> {
    pub(crate) facts: &'a HostFacts,
    pub(crate) pools: &'a [Pool],
    pub(crate) id: NetworkId,
    pub(crate) created: u64,
}

/// Computes the network that a spec describes.
pub(crate) fn create_network(state: &State, spec: &NetworkSpec, choice: NetworkChoice<'_>) -> Result<Network, Refusal> {
    let desired = &state.desired;
    name_is_free(state, &spec.name)?;
    for given in spec.subnets.as_slice() {
        subnets::check(given.subnet, desired, choice.facts)?;
    }
    let mut chosen = spec.subnets.as_slice().to_vec();
    let lacks = |chosen: &[SubnetSpec], family| !chosen.iter().any(|chosen| chosen.subnet.family() == family);
    if chosen.is_empty() {
        chosen.push(subnets::choose(choice.pools, Family::V4, desired, choice.facts)?.into());
    }
    if spec.ipv6 && lacks(&chosen, Family::V6) {
        chosen.push(subnets::choose(choice.pools, Family::V6, desired, choice.facts)?.into());
    }
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
            isolated: spec.isolated,
        }),
        subnets: chosen.into_iter().map(network_subnet).collect(),
        internal: spec.internal,
        mtu,
        labels: spec.labels.clone(),
        created: choice.created,
        dns: spec.dns.clone(),
        host_access: host_access(spec),
        sticky: spec.sticky,
        trusted: spec.trusted,
        engines: spec.engine.clone().into_iter().collect(),
        on_demand: spec.on_demand,
    })
}

/// Names the first property in which a network on demand is not as its runtime defines it. Name servers are left out: they
/// can be changed.
pub(crate) fn differs(network: &Network, spec: &NetworkSpec) -> Option<&'static str> {
    let has = |(known, asked): (&NetworkSubnet, &SubnetSpec)| {
        known.subnet == asked.subnet
            && asked.gateway.is_none_or(|gateway| gateway == known.gateway)
            && asked.range == known.range
    };
    let (known, asked) = (&network.subnets, spec.subnets.as_slice());
    let bridge = network.own_bridge();
    let as_asked = known.len() == asked.len() && known.iter().zip(asked).all(has);
    if !as_asked && !asked.is_empty() {
        Some("subnet or gateway")
    } else if network.internal != spec.internal || bridge.is_some_and(|bridge| bridge.isolated != spec.isolated) {
        Some("access to the outside")
    } else if spec.mtu.is_some_and(|mtu| mtu != network.mtu) {
        Some("MTU")
    } else if spec.bridge.is_some() && spec.bridge.as_ref() != network.bridge() {
        Some("bridge")
    } else if (network.icc(), network.masquerade()) != (spec.icc, spec.masquerade) {
        Some("firewall")
    } else {
        None
    }
}

/// An internal network without an explicit setting is closed towards the host as well.
pub(super) fn host_access(spec: &NetworkSpec) -> HostAccess {
    spec.host_access.unwrap_or(if spec.internal { HostAccess::None } else { HostAccess::All })
}

/// Network names are compared without case, because they are parts of DNS names.
pub(crate) fn name_is_free(state: &State, name: &NetworkName) -> Result<(), Refusal> {
    let clash = |network: &&Arc<Network>| network.name.as_str().eq_ignore_ascii_case(name.as_str());
    state.desired.networks().find(clash).map_or(Ok(()), |other| Err(Refusal::NetworkExists(other.name.clone())))
}

fn bridge_name(state: &State, spec: &NetworkSpec, facts: &HostFacts) -> Result<IfName, Refusal> {
    let ours = |name: &IfName| state.desired.networks().any(|network| network.bridge() == Some(name));
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

/// The gateway is the first address, unless the request gives one.
fn network_subnet(SubnetSpec { subnet, gateway, range }: SubnetSpec) -> NetworkSubnet {
    NetworkSubnet { subnet, gateway: gateway.unwrap_or_else(|| subnet.first_usable()), range }
}

/// Checks that a network can be removed.
pub(crate) fn remove_network(state: &State, text: &str) -> Result<Arc<Network>, Refusal> {
    let network = super::find_network(state, text)?;
    let desired = &state.desired;
    let containers: Vec<String> =
        desired.endpoints_of(&network.name).map(|endpoint| endpoint.container.name.to_string()).collect();
    let reservations: Vec<_> = desired.reservations_of(&network.name).map(|reserved| reserved.id.clone()).collect();
    let defined = desired.services_of(&network.name).filter(|service| service.is_defined());
    let services: Vec<_> = defined.map(|service| service.name.clone()).collect();
    if containers.is_empty() && reservations.is_empty() && services.is_empty() {
        return Ok(network);
    }
    Err(Refusal::NetworkInUse { network: network.name.clone(), containers, reservations, services })
}
