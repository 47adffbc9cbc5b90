//! Networks: which network a request describes, and whether one can be removed.

use std::sync::Arc;

use crate::engine::state::State;
use crate::logic::alloc::{interfaces, ipam, subnets};
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::address::{Family, Pool, Subnet};
use crate::model::host::observed::HostFacts;
use crate::model::ids::NetworkId;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{Bridge, Driver, HostAccess, Network, NetworkSubnet};
use crate::model::request::NetworkSpec;

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
            isolated: spec.isolated,
        }),
        subnets,
        internal: spec.internal,
        mtu,
        labels: spec.labels.clone(),
        created: choice.created,
        dns: spec.dns.clone(),
        host_access: host_access(spec),
        sticky: spec.sticky,
    })
}

/// An internal network without an explicit setting is closed towards the host as well.
pub(super) fn host_access(spec: &NetworkSpec) -> HostAccess {
    spec.host_access.unwrap_or(if spec.internal { HostAccess::None } else { HostAccess::All })
}

/// Network names are compared without case, because they are parts of DNS names.
pub(super) fn name_is_free(state: &State, name: &NetworkName) -> Result<(), Refusal> {
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

/// Assigns gateways and ranges to their subnets; each must be within a subnet.
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

/// Checks that a network can be removed.
pub(crate) fn remove_network(state: &State, text: &str) -> Result<Arc<Network>, Refusal> {
    let network = super::find_network(state, text)?;
    let holders: Vec<String> =
        state.desired.endpoints_of(&network.name).map(|endpoint| endpoint.container.name.to_string()).collect();
    if holders.is_empty() {
        return Ok(network);
    }
    Err(Refusal::NetworkInUse { network: network.name.clone(), holders })
}
