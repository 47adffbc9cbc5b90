//! Networks on an interface of the host: which driver a request becomes, and whether an endpoint can join.

use std::net::IpAddr;

use crate::engine::state::State;
use crate::logic::alloc::{interfaces, ipam};
use crate::logic::parent;
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::address::{Mac, address};
use crate::model::host::observed::HostFacts;
use crate::model::host::parent::{Device, Parent};
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{Driver, HostAccess, MacvlanMode, Network, NetworkSubnet, Shim, Stacked, StackedMode};
use crate::model::request::{EndpointSpec, NetworkSpec};

/// The driver for interfaces on top of `parent`, and the parent as it is.
pub(super) fn driver<'a>(
    state: &State,
    (spec, subnets): (&NetworkSpec, &[NetworkSubnet]),
    (parent, mode, host): (&IfName, StackedMode, &[IpAddr]),
    facts: &'a HostFacts,
) -> Result<(Driver, &'a Parent), Refusal> {
    let device = match mode {
        StackedMode::Macvlan(_) => Device::Macvlan,
        StackedMode::Ipvlan(_) => Device::Ipvlan,
    };
    if facts.lacks.contains(&device) {
        return Err(Refusal::KernelLacks(device.to_string()));
    }
    let lacks_vlans = facts.lacks.contains(&Device::Vlan);
    let there = parent::for_stacked(parent, facts.parents.get(parent), lacks_vlans)?;
    shares(state, &spec.name, parent, mode)?;
    let shim = match spec.host_access {
        Some(HostAccess::All) => Some(shim(state, (spec, subnets), (there, mode, host), facts)?),
        Some(HostAccess::Ports) => {
            return Err(
                Invalid::new("host access", "ports", "nothing is published beside the host: use none or all").into()
            );
        }
        None | Some(HostAccess::None) => None,
    };
    Ok((Driver::Stacked(Stacked { parent: parent.clone(), mode, shim }), there))
}

/// Whether the network can share the parent with the other networks on it.
fn shares(state: &State, name: &NetworkName, parent: &IfName, mode: StackedMode) -> Result<(), Refusal> {
    for other in state.desired.networks().filter(|other| other.name != *name) {
        let Some(there) = other.stacked().filter(|there| there.parent == *parent) else { continue };
        let why = if mode.takes_over() || there.mode.takes_over() {
            format!("network {} is on it, and the mode passthru leaves no place for another", other.name)
        } else if mode.driver() != there.mode.driver() {
            format!(
                "network {} is on it with the driver {}, and an interface takes one",
                other.name,
                there.mode.driver()
            )
        } else {
            continue;
        };
        return Err(Refusal::Parent { parent: parent.clone(), why });
    }
    Ok(())
}

/// The host's own interface on the network.
fn shim(
    state: &State,
    (spec, subnets): (&NetworkSpec, &[NetworkSubnet]),
    (parent, mode, host): (&Parent, StackedMode, &[IpAddr]),
    facts: &HostFacts,
) -> Result<Shim, Refusal> {
    if mode != StackedMode::Macvlan(MacvlanMode::Bridge) {
        let why =
            format!("the host gets an interface of its own there in the mode bridge of macvlan only, not with {mode}");
        return Err(Invalid::new("host access", "all", why).into());
    }
    let taken = |name: &IfName| {
        let of_network = |network: &std::sync::Arc<Network>| shim_name(network) == Some(name);
        facts.interfaces.contains(name) || state.desired.networks().any(of_network)
    };
    let name = interfaces::bridge(spec.name.as_str(), taken)
        .ok_or_else(|| Invalid::new("network name", spec.name.as_str(), "no interface name is free for it"))?;
    let mut addresses = Vec::new();
    for subnet in subnets {
        let has = |address: &IpAddr| address.is_ipv4() == subnet.subnet.network().is_ipv4();
        if addresses.iter().any(has) {
            continue;
        }
        let asked = host.iter().copied().find(|address| subnet.subnet.contains(*address));
        addresses.push(match asked {
            Some(asked) => asked,
            None if host.iter().any(has) => continue,
            None => free(subnet, parent).ok_or_else(|| Refusal::NoFreeAddress {
                network: spec.name.clone(),
                subnets: subnet.subnet.to_string(),
            })?,
        });
    }
    if let Some(outside) = host.iter().find(|address| !addresses.contains(address)) {
        let why = "it lies in none of the network's subnets, or is a second one of its family";
        return Err(Invalid::new("host_address", outside.to_string(), why).into());
    }
    Ok(Shim { name, addresses })
}

/// The first address for containers that is neither the gateway nor the host's.
fn free(subnet: &NetworkSubnet, parent: &Parent) -> Option<IpAddr> {
    let (low, high) = ipam::usable(subnet.subnet);
    let (first, last) = subnet.range.unwrap_or(subnet.subnet).bounds();
    let family = subnet.subnet.family();
    let taken = |ip: &IpAddr| subnet.gateway == Some(*ip) || parent.addresses.iter().any(|own| own.ip() == *ip);
    (low.max(first)..=high.min(last)).map(|at| address(at, family)).find(|ip| !taken(ip))
}

fn shim_name(network: &Network) -> Option<&IfName> {
    network.stacked()?.shim.as_ref().map(|shim| &shim.name)
}

/// Checks that the endpoint can be on the network, if that is on an interface of the host; `parent`: that interface.
pub(super) fn check(
    state: &State,
    network: &Network,
    requested: &EndpointSpec,
    parent: Option<&Parent>,
) -> Result<(), Refusal> {
    if requested.bandwidth.is_some() && !network.has_host_ends() {
        let why = format!("network {} has no interface on the host at which traffic could be limited", network.name);
        return Err(Invalid::new("limit", "bandwidth", why).into());
    }
    if let Driver::Unmanaged(unmanaged) = &network.driver {
        return parent::for_ports(&unmanaged.bridge, parent, unmanaged.vlan).map(drop);
    }
    let Some(stacked) = network.stacked() else { return Ok(()) };
    if requested.handover.is_some() {
        let why = "another engine cannot be handed interfaces on top of one of the host's: use netd connect";
        return Err(Refusal::Parent { parent: stacked.parent.clone(), why: why.into() });
    }
    parent::for_stacked(&stacked.parent, parent, false)?;
    if stacked.mode.takes_over() && state.is_used(&network.name) {
        let why = format!("network {} has it in the mode passthru, where it is for one container", network.name);
        return Err(Refusal::Parent { parent: stacked.parent.clone(), why });
    }
    Ok(())
}

/// The interface of an endpoint that gets none: the one that each container has.
pub(super) fn ifname(network: &Network) -> Option<IfName> {
    if network.driver == Driver::Nothing { "lo".parse().ok() } else { None }
}

/// The MAC address of the container's interface, if it has that of the parent.
pub(super) fn mac_of_parent(network: &Network, parent: Option<&Parent>) -> Option<Mac> {
    network.stacked().filter(|stacked| stacked.mode.has_mac_of_parent()).and(parent)?.mac
}
