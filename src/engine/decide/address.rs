//! Chooses the addresses of an endpoint or a reservation (requested, sticky or next free), their gateways, and the MAC
//! address.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use crate::engine::state::State;
use crate::logic::alloc::ipam;
use crate::logic::alloc::ipam::Ipam;
use crate::logic::refusal::{Refusal, TakenBy};
use crate::model::address::{Family, Mac, number};
use crate::model::names::ContainerName;
use crate::model::network::{Network, NetworkSubnet};
use crate::model::request::{AddressRange, AddressSpec, EndpointSpec, ReservationSpec};

/// The part of a request that concerns addresses.
#[derive(Clone, Copy)]
pub(crate) struct Requested<'a> {
    addresses: &'a [AddressSpec],
    ranges: &'a [AddressRange],
    exact: bool,
    only: Option<Family>,
}

impl<'a> Requested<'a> {
    /// Any address of each family.
    pub(crate) const ANY: Self = Self { addresses: &[], ranges: &[], exact: false, only: None };

    /// These, and any of the families that have none.
    pub(super) fn these(addresses: &'a [AddressSpec]) -> Self {
        Self { addresses, ..Self::ANY }
    }
}

impl<'a> From<&'a EndpointSpec> for Requested<'a> {
    fn from(spec: &'a EndpointSpec) -> Self {
        Self { addresses: &spec.addresses, ranges: &spec.ranges, exact: spec.has_exact_addresses(), only: None }
    }
}

impl<'a> From<&'a ReservationSpec> for Requested<'a> {
    fn from(spec: &'a ReservationSpec) -> Self {
        Self { addresses: &spec.addresses, ranges: &[], exact: false, only: spec.only }
    }
}

/// Chooses one address per address family of the network: the requested one, the sticky one of the container's name, or
/// the next free one in the requested ranges or in the first subnet that has one.
pub(crate) fn choose(
    state: &mut State,
    network: &Network,
    spec: Requested<'_>,
    name: Option<&ContainerName>,
) -> Result<Vec<IpNetwork>, Refusal> {
    let mut addresses = Vec::new();
    for family in [Family::V4, Family::V6].into_iter().filter(|family| spec.only.is_none_or(|only| only == *family)) {
        let asked = spec.addresses.iter().find(|address| Family::of(address.ip) == family);
        let ranges: Vec<&AddressRange> = spec.ranges.iter().filter(|range| range.subnet.family() == family).collect();
        let subnets: Vec<&NetworkSubnet> = network.subnets.iter().filter(|s| s.subnet.family() == family).collect();
        match asked {
            Some(asked) => addresses.push(asked_address(state, network, asked)?),
            None if spec.exact => {}
            None if subnets.is_empty() && ranges.is_empty() => {}
            None => match sticky_addresses(state, network, (family, &ranges), name) {
                Some(address) => addresses.push(address),
                None if ranges.is_empty() => addresses.push(next_free(state, network, &subnets, name)?),
                None => addresses.push(next_in_ranges(state, network, &ranges, name)?),
            },
        }
    }
    Ok(addresses)
}

/// Checks that each address family of the network has a free address; the error names the one that has none.
pub(crate) fn any_left(state: &mut State, network: &Network) -> Result<(), Refusal> {
    choose(state, network, Requested::ANY, None).map(drop)
}

/// The sticky address of the name, if it is free and within the requested ranges.
fn sticky_addresses(
    state: &State,
    network: &Network,
    (family, ranges): (Family, &[&AddressRange]),
    name: Option<&ContainerName>,
) -> Option<IpNetwork> {
    let in_ranges = |ip: IpAddr| ranges.is_empty() || ranges.iter().any(|range| bounds(range).contains(&number(ip)));
    let fits = |ip: &&IpAddr| Family::of(**ip) == family && in_ranges(**ip) && is_free(state, network, **ip).is_ok();
    let address = state.sticky.addresses(&network.name, name?).iter().find(fits)?;
    let subnet = network.subnets.iter().find(|subnet| subnet.subnet.contains(*address))?;
    Some(subnet.subnet.interface(*address))
}

/// The usable addresses of the range, as numbers.
fn bounds(range: &AddressRange) -> RangeInclusive<u128> {
    let (low, high) = ipam::usable(range.subnet);
    range.first.map_or(low, number).max(low)..=range.last.map_or(high, number).min(high)
}

/// Searches first without the sticky addresses of other names, then among all addresses.
fn sparing<T>(
    state: &mut State,
    network: &Network,
    name: Option<&ContainerName>,
    mut find: impl FnMut(&mut Ipam, &dyn Fn(IpAddr) -> bool) -> Option<T>,
) -> Option<T> {
    let State { desired, ipam, sticky, host_addresses, .. } = state;
    let held = |ip: IpAddr| {
        let of_engine = || network.engines.iter().any(|engine| engine.aux.contains(&ip));
        desired.at_address(ip).is_some()
            || desired.at_gateway(ip).is_some()
            || network.is_reserved(ip)
            || host_addresses.contains(&ip)
            || desired.reserved_at(ip).is_some()
            || desired.service_at(ip).is_some()
            || of_engine()
    };
    let spared = |ip: IpAddr| held(ip) || sticky.is_anothers(&network.name, ip, name);
    if network.sticky
        && let Some(found) = find(ipam, &spared)
    {
        return Some(found);
    }
    find(ipam, &held)
}

fn next_free(
    state: &mut State,
    network: &Network,
    subnets: &[&NetworkSubnet],
    name: Option<&ContainerName>,
) -> Result<IpNetwork, Refusal> {
    let found = sparing(state, network, name, |ipam, held| {
        let next = |s: &&NetworkSubnet| ipam.peek(&network.name, s.subnet, held).map(|ip| s.subnet.interface(ip));
        subnets.iter().find_map(next)
    });
    let shown = || {
        let range = |s: &&NetworkSubnet| s.range.unwrap_or(s.subnet).to_string();
        subnets.iter().map(range).collect::<Vec<_>>().join(", ")
    };
    let none = || Refusal::NoFreeAddress { network: network.name.clone(), subnets: shown() };
    found.ok_or_else(none)
}

fn next_in_ranges(
    state: &mut State,
    network: &Network,
    ranges: &[&AddressRange],
    name: Option<&ContainerName>,
) -> Result<IpNetwork, Refusal> {
    if let Some(range) = ranges.iter().find(|range| !network.subnets.iter().any(|s| s.subnet == range.subnet)) {
        return Err(outside("range of addresses in subnet", range.subnet.to_string(), network));
    }
    let found = sparing(state, network, name, |ipam, held| {
        let next = |range: &&AddressRange| {
            let bounds = bounds(range).into_inner();
            ipam.peek_within(&network.name, range.subnet, bounds, held).map(|ip| range.subnet.interface(ip))
        };
        ranges.iter().find_map(next)
    });
    let shown = |range: &&AddressRange| match (range.first, range.last) {
        (None, None) => range.subnet.to_string(),
        (first, last) => {
            let end = |end: Option<IpAddr>| end.map(|ip| ip.to_string()).unwrap_or_default();
            format!("{}-{} of {}", end(first), end(last), range.subnet)
        }
    };
    let none = || Refusal::NoFreeAddress {
        network: network.name.clone(),
        subnets: ranges.iter().map(shown).collect::<Vec<_>>().join(", "),
    };
    found.ok_or_else(none)
}

fn outside(what: &'static str, value: String, network: &Network) -> Refusal {
    let subnets = network.subnets.iter().map(|s| s.subnet.to_string()).collect::<Vec<_>>().join(", ");
    Refusal::Outside { what, value, network: network.name.clone(), subnets }
}

fn asked_address(state: &State, network: &Network, asked: &AddressSpec) -> Result<IpNetwork, Refusal> {
    let usable = |s: &&NetworkSubnet| {
        let (low, high) = ipam::usable(s.subnet);
        (low..=high).contains(&number(asked.ip)) && s.subnet.contains(asked.ip)
    };
    let subnet = network.subnets.iter().find(usable);
    let subnet = subnet.ok_or_else(|| outside("IP address", asked.ip.to_string(), network))?;
    is_free(state, network, asked.ip)?;
    Ok(subnet.subnet.interface(asked.ip))
}

/// Checks that the address is not in use.
pub(super) fn is_free(state: &State, network: &Network, ip: IpAddr) -> Result<(), Refusal> {
    let taken = |holder| Err(Refusal::AddressTaken { address: ip, network: network.name.clone(), holder });
    if network.is_reserved(ip) {
        return taken(TakenBy::Gateway);
    }
    if state.host_addresses.contains(&ip) {
        return taken(TakenBy::Host);
    }
    if let Some(reservation) = state.desired.reserved_at(ip) {
        return taken(TakenBy::Reservation(reservation.id.clone()));
    }
    if let Some(service) = state.desired.service_at(ip) {
        return taken(TakenBy::Service(service.name.clone()));
    }
    match state.desired.at_address(ip) {
        Some(holder) => taken(TakenBy::Container(holder.container.name.to_string())),
        None => Ok(()),
    }
}

/// The gateway of each address: the requested one, else the network's; none on an internal network, or without a default
/// route.
pub(crate) fn gateways(network: &Network, addresses: &[IpNetwork], spec: &EndpointSpec) -> Vec<IpAddr> {
    let gateway = |address: &IpNetwork| {
        let asked = spec.addresses.iter().find(|asked| asked.ip == address.ip()).and_then(|asked| asked.gateway);
        asked.or_else(|| network.gateway_for(address.ip()))
    };
    let leads_out = !network.internal && !spec.no_default_route;
    addresses.iter().filter(|_| leads_out).filter_map(gateway).collect()
}

/// The requested MAC address, else one derived from the first IP address, else a random one. A derived one that somebody
/// requested explicitly is replaced by a random one.
pub(super) fn mac(
    state: &State,
    network: &Network,
    asked: Option<Mac>,
    first: Option<IpAddr>,
    random: u32,
) -> Result<Mac, Refusal> {
    let holder = |mac: Mac| state.macs.get(&(network.name.clone(), mac)).and_then(|holders| holders.first());
    let Some(mac) = asked else {
        let derived = first.map(Mac::for_address).filter(|mac| holder(*mac).is_none());
        return Ok(derived.unwrap_or_else(|| Mac::random(random)));
    };
    match holder(mac) {
        Some(holder) => {
            let holder = super::taken_by(state, holder);
            Err(Refusal::MacTaken { mac, network: network.name.clone(), holder })
        }
        None => Ok(mac),
    }
}
