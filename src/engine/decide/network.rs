//! Networks: which network a request describes, and whether one can be removed.

use std::sync::Arc;

use super::stacked;
use crate::engine::state::State;
use crate::logic::alloc::{interfaces, subnets};
use crate::logic::parent;
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::address::{Family, Pool};
use crate::model::host::observed::HostFacts;
use crate::model::host::parent::Parent;
use crate::model::ids::NetworkId;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{Bridge, Driver, HostAccess, Network, NetworkSubnet, Unmanaged};
use crate::model::publication::PublishMode;
use crate::model::request::{DriverSpec, NetworkSpec};
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
    if spec.publish == Some(PublishMode::Strict) && state.hands_nothing_over {
        return Err(Refusal::CannotBeStrict(format!("ports of network {}", spec.name)));
    }
    for given in spec.subnets.as_slice() {
        match &spec.driver {
            DriverSpec::Bridge | DriverSpec::Nothing => subnets::check(given.subnet, desired, choice.facts)?,
            // It is that of the interface, as a rule.
            DriverSpec::Stacked { .. } | DriverSpec::Unmanaged { .. } => {
                subnets::check_networks(given.subnet, desired)?;
            }
        }
    }
    let mut chosen = spec.subnets.as_slice().to_vec();
    let lacks = |chosen: &[SubnetSpec], family| !chosen.iter().any(|chosen| chosen.subnet.family() == family);
    if spec.driver == DriverSpec::Nothing || spec.dhcp {
        chosen.clear();
    } else if chosen.is_empty() {
        chosen.push(subnets::choose(choice.pools, Family::V4, desired, choice.facts)?.into());
    }
    if spec.ipv6 && spec.driver != DriverSpec::Nothing && !spec.dhcp && lacks(&chosen, Family::V6) {
        chosen.push(subnets::choose(choice.pools, Family::V6, desired, choice.facts)?.into());
    }
    let subnets: Vec<NetworkSubnet> = chosen.iter().map(|chosen| network_subnet(*chosen, &spec.driver)).collect();
    let (driver, parent) = driver(state, (spec, &subnets), choice.facts)?;
    let mtu = mtu(spec, parent, choice.facts)?;
    if mtu < MTU_IPV6 && !lacks(&chosen, Family::V6) {
        return Err(Invalid::new("MTU", mtu.to_string(), "IPv6 needs at least 1280 (RFC 8200)").into());
    }
    Ok(Network {
        name: spec.name.clone(),
        id: choice.id,
        driver,
        subnets,
        internal: spec.internal,
        mtu,
        labels: spec.labels.clone(),
        created: choice.created,
        dns: spec.dns.clone(),
        host_access: host_access(spec),
        sticky: spec.sticky,
        trusted: spec.trusted,
        publish: spec.publish,
        engines: spec.engine.clone().into_iter().collect(),
        on_demand: spec.on_demand,
        relay: spec.relay.clone(),
        egress: spec.egress.clone(),
        dhcp: spec.dhcp,
    })
}

/// The driver that the request describes, and the interface of the host that the network is on.
fn driver<'a>(
    state: &State,
    (spec, subnets): (&NetworkSpec, &[NetworkSubnet]),
    facts: &'a HostFacts,
) -> Result<(Driver, Option<&'a Parent>), Refusal> {
    match &spec.driver {
        DriverSpec::Bridge => {
            let bridge = Bridge {
                name: bridge_name(state, spec, facts)?,
                icc: spec.icc,
                masquerade: spec.masquerade,
                isolated: spec.isolated,
                routed: spec.routed,
                unprotected: spec.unprotected,
                source: spec.source.clone(),
            };
            Ok((Driver::Bridge(bridge), None))
        }
        DriverSpec::Stacked { parent, mode, host } => {
            let (driver, there) = stacked::driver(state, (spec, subnets), (parent, *mode, host), facts)?;
            Ok((driver, Some(there)))
        }
        DriverSpec::Unmanaged { bridge, vlan } => {
            if let Some(owner) = state.desired.networks().find(|network| network.guest_bridge() == Some(bridge)) {
                let why = format!("it is the bridge of network {}: connect the containers to that", owner.name);
                return Err(Refusal::Parent { parent: bridge.clone(), why });
            }
            let there = parent::for_ports(bridge, facts.parents.get(bridge), *vlan)?;
            Ok((Driver::Unmanaged(Unmanaged { bridge: bridge.clone(), icc: spec.icc, vlan: *vlan }), Some(there)))
        }
        DriverSpec::Nothing => Ok((Driver::Nothing, None)),
    }
}

/// The given MTU, else that of the interface that the network is on, else that of the host's uplink. A stacked interface
/// cannot have a larger one than its parent.
fn mtu(spec: &NetworkSpec, parent: Option<&Parent>, facts: &HostFacts) -> Result<u32, Refusal> {
    let of_parent = parent.map(|parent| parent.mtu);
    if let (Some(given), Some(most), DriverSpec::Stacked { parent, .. }) = (spec.mtu, of_parent, &spec.driver)
        && given > most
    {
        return Err(Invalid::new("MTU", given.to_string(), format!("that of {parent} is {most}")).into());
    }
    Ok(spec.mtu.or(of_parent).or(facts.uplink_mtu).unwrap_or(MTU))
}

/// Names the first property in which a network on demand is not as its runtime defines it. Name servers are left out: they
/// can be changed.
pub(crate) fn differs(network: &Network, spec: &NetworkSpec) -> Option<&'static str> {
    let has = |(known, asked): (&NetworkSubnet, &SubnetSpec)| {
        known.subnet == asked.subnet
            && asked.gateway.is_none_or(|gateway| Some(gateway) == known.gateway)
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
    } else if bridge.is_some_and(|bridge| (bridge.icc, bridge.masquerade) != (spec.icc, spec.masquerade))
        || network.publish != spec.publish
    {
        Some("firewall")
    } else if bridge.is_some_and(|bridge| is_translated_otherwise(bridge, spec)) {
        Some("address translation")
    } else if network.dhcp != spec.dhcp {
        Some("way to give addresses")
    } else if NetworkSpec::of(network).is_some_and(|known| !known.driver.fits(&spec.driver)) {
        Some("driver")
    } else if network.relay != spec.relay {
        Some("relay")
    } else {
        None
    }
}

fn is_translated_otherwise(bridge: &Bridge, spec: &NetworkSpec) -> bool {
    (bridge.routed, bridge.unprotected, &bridge.source) != (spec.routed, spec.unprotected, &spec.source)
}

/// An internal network without an explicit setting is closed towards the host as well.
pub(super) fn host_access(spec: &NetworkSpec) -> HostAccess {
    let closed = spec.internal || matches!(spec.driver, DriverSpec::Stacked { .. } | DriverSpec::Nothing);
    spec.host_access.unwrap_or(if closed { HostAccess::None } else { HostAccess::All })
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

/// The gateway is the first address, unless the request gives one; on a network of the host's there is none unless it
/// does.
fn network_subnet(SubnetSpec { subnet, gateway, range }: SubnetSpec, driver: &DriverSpec) -> NetworkSubnet {
    let is_own = *driver == DriverSpec::Bridge;
    NetworkSubnet { subnet, gateway: gateway.or_else(|| is_own.then(|| subnet.first_usable())), range }
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
