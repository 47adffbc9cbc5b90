//! `netavark create`: completes and checks the definition of a new network, which Podman then stores (netavark 2,
//! docs/netavark-create-input.md). Nothing changes on the host, and the daemon need not run.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::call::Call;
use super::failure::Failure;
use super::input::{LeaseRange, Network, Subnet};
use super::plugin;
use super::request::{self, DRIVER};
use crate::api::v1::rfc3339;
use crate::model::address::{self, Family};
use crate::model::ids::NetworkId;
use crate::model::names::IfName;

/// Docker's options, and Podman's for the same.
const DOCKER_MTU: &str = "com.docker.network.driver.mtu";
const DOCKER_BRIDGE: &str = "com.docker.network.bridge.name";
/// How many numbers are tried for the name of a bridge.
const NUMBERS: u32 = 100_000;
/// How many random IPv6 subnets are tried.
const TRIES: usize = 1000;

/// What Podman knows already.
#[derive(Debug, Deserialize)]
struct Used {
    interfaces: Option<Vec<String>>,
    names: Option<BTreeMap<String, String>>,
    subnets: Option<Vec<String>>,
}

/// How subnets and interfaces are chosen.
#[derive(Debug, Deserialize)]
struct Choices {
    subnet_pools: Option<Vec<Pool>>,
    default_interface_name: Option<String>,
    #[serde(default)]
    check_used_subnets: bool,
}

#[derive(Debug, Deserialize)]
struct Pool {
    base: String,
    size: u8,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Input {
    network: Network,
    used: Used,
    options: Choices,
}

/// The definition alone, as a plugin gets it.
pub(super) fn parse(value: Value) -> Result<Network, Failure> {
    serde_json::from_value(value).map_err(|error| Failure(format!("failed to load the network to create: {error}")))
}

/// The completed definition.
pub(super) fn complete(value: Value, call: &Call<'_>) -> Result<Network, Failure> {
    let input = serde_json::from_value(value);
    let Input { mut network, used, options } =
        input.map_err(|error| Failure(format!("failed to load the network to create: {error}")))?;
    names(&network, &used)?;
    if network.driver == DRIVER {
        network = plugin::create(network, call)?;
    } else {
        request::check_driver(&network)?;
        docker_options(&mut network);
        if is_of_host(&network) {
            of_host(&network)?;
        } else {
            bridge(&mut network, &used, &options, call)?;
        }
        ipam(&mut network)?;
    }
    let mut taken = parsed(used.subnets.as_deref().unwrap_or_default())?;
    // On a network of the host's, the subnet is the host's as a rule.
    if options.check_used_subnets && !is_of_host(&network) {
        taken.extend(call.subnets());
    } else {
        taken.clear();
    }
    subnets(&mut network, &options, &taken)?;
    if network.network_dns_servers.as_ref().is_some_and(|servers| !servers.is_empty()) && !network.dns_enabled {
        return Err(Failure::network(&network.name, "it has name servers, but names are disabled (--disable-dns)"));
    }
    request::check(&network)?;
    network.created = Some(rfc3339(crate::base::clock::unix_seconds()));
    Ok(network)
}

fn names(network: &Network, used: &Used) -> Result<(), Failure> {
    let Network { name, id, .. } = network;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(good) {
        let why = "use letters, digits, '_', '.' and '-', beginning with a letter or digit";
        return Err(Failure(format!("network name {name:?}: {why}")));
    }
    if used.names.iter().flatten().any(|(known, _)| known == name) {
        return Err(Failure(format!("network already exists {name}")));
    }
    id.to_ascii_lowercase().parse::<NetworkId>()?;
    Ok(())
}

fn docker_options(network: &mut Network) {
    let Some(options) = &mut network.options else { return };
    if let Some(mtu) = options.remove(DOCKER_MTU) {
        options.insert("mtu".into(), mtu);
    }
    if let Some(bridge) = options.remove(DOCKER_BRIDGE) {
        network.network_interface = Some(bridge);
    }
}

/// Whether its containers are on a network of the host's.
fn is_of_host(network: &Network) -> bool {
    request::is_stacked(&network.driver) || request::is_unmanaged(network)
}

/// The interface that must be there.
fn of_host(network: &Network) -> Result<(), Failure> {
    match network.network_interface.as_deref().unwrap_or_default() {
        "" => Err(Failure::network(&network.name, "mode=unmanaged needs the host's bridge: --interface-name br0")),
        name => {
            name.parse::<IfName>()?;
            Ok(())
        }
    }
}

/// The name of the bridge.
fn bridge(network: &mut Network, used: &Used, options: &Choices, call: &Call<'_>) -> Result<(), Failure> {
    let taken = used.interfaces.as_deref().unwrap_or_default();
    if let Some(given) = network.network_interface.as_ref().filter(|name| !name.is_empty()) {
        given.parse::<IfName>()?.for_new()?;
        if taken.contains(given) {
            return Err(Failure::network(&network.name, format!("bridge name {given} already in use")));
        }
        return Ok(());
    }
    let prefix = options.default_interface_name.as_deref().unwrap_or("podman");
    let links = call.interfaces();
    let is_free = |name: &String| {
        let is_network = used.names.iter().flatten().any(|(known, _)| known == name);
        !taken.contains(name) && !links.contains(name) && !is_network
    };
    let free = (1..NUMBERS).map(|number| format!("{prefix}{number}")).find(is_free);
    network.network_interface = Some(free.ok_or_else(|| Failure(format!("no interface name {prefix}… is free")))?);
    Ok(())
}

fn ipam(network: &mut Network) -> Result<(), Failure> {
    match network.ipam() {
        "" | "host-local" => {
            network.ipam_options.get_or_insert_default().insert("driver".into(), "host-local".into());
            Ok(())
        }
        // Which networks can have a server is checked with the rest.
        "dhcp" if is_of_host(network) && network.subnets.as_ref().is_none_or(Vec::is_empty) => Ok(()),
        other => {
            let why =
                format!("ipam driver {other:?}: a bridge of netd has the addresses that Podman gives: leave it out");
            Err(Failure::network(&network.name, why))
        }
    }
}

/// Chooses the subnets that are missing, and checks all of them.
fn subnets(network: &mut Network, options: &Choices, taken: &[address::Subnet]) -> Result<(), Failure> {
    let mut all = network.subnets.take().unwrap_or_default();
    if network.ipam() == "host-local" || !all.is_empty() {
        let prefixes = all.iter().map(|one| one.subnet.parse()).collect::<Result<Vec<address::Subnet>, _>>()?;
        let has = |family| prefixes.iter().any(|one| one.family() == family);
        let plain = |subnet: address::Subnet| Subnet { subnet: subnet.to_string(), gateway: None, lease_range: None };
        if all.is_empty() || (network.ipv6_enabled && !has(Family::V4)) {
            all.push(plain(choose(options, taken)?));
        }
        if network.ipv6_enabled && !has(Family::V6) {
            all.push(plain(random_v6(taken)?));
        }
    }
    for one in &mut all {
        check_subnet(&network.name, one, !network.internal || network.dns_enabled, taken)?;
        network.ipv6_enabled |= one.subnet.contains(':');
    }
    network.subnets = Some(all).filter(|all| !all.is_empty());
    Ok(())
}

/// The first free subnet of the pools.
fn choose(options: &Choices, taken: &[address::Subnet]) -> Result<address::Subnet, Failure> {
    for Pool { base, size } in options.subnet_pools.iter().flatten() {
        let base: address::Subnet = base.parse()?;
        if base.family() != Family::V4 {
            continue;
        }
        let (mut start, last) = base.bounds();
        while let Some(piece) = base.address(start).and_then(|ip| address::Subnet::containing(ip, *size)) {
            let overlapped = taken.iter().filter(|other| other.overlaps(piece)).map(|other| other.bounds().1).max();
            let Some(behind) = overlapped else { return Ok(piece) };
            start = behind.max(piece.bounds().1) + 1;
            if start > last {
                break;
            }
        }
    }
    Err(Failure::new("no subnet of the pools is free: give one with --subnet"))
}

/// A random unique local subnet (RFC 4193).
fn random_v6(taken: &[address::Subnet]) -> Result<address::Subnet, Failure> {
    let random = || {
        let mut bytes = [0u8; 16];
        bytes[0] = 0xfd;
        bytes[1..8].copy_from_slice(&rand::random::<[u8; 7]>());
        address::Subnet::containing(IpAddr::from(bytes), 64)
    };
    let is_free = |subnet: &address::Subnet| !taken.iter().any(|other| other.overlaps(*subnet));
    let free = std::iter::repeat_with(random).take(TRIES).flatten().find(is_free);
    free.ok_or_else(|| Failure::new("no random IPv6 subnet is free: give one with --subnet"))
}

fn check_subnet(name: &str, one: &mut Subnet, needs_gateway: bool, taken: &[address::Subnet]) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::network(name, format!("subnet {}: {why}", one.subnet)));
    let subnet: address::Subnet = one.subnet.parse()?;
    if let Some(other) = taken.iter().find(|other| other.overlaps(subnet)) {
        return refuse(format!("it overlaps {other}, which is in use on the host or by another network"));
    }
    match one.gateway {
        Some(gateway) if !subnet.contains(gateway) => return refuse(format!("the gateway {gateway} is not in it")),
        None if needs_gateway => {
            let longest = if subnet.family() == Family::V4 { 30 } else { 127 };
            if subnet.prefix() > longest {
                return refuse("it has no room for a gateway and a container".into());
            }
            one.gateway = subnet.address(subnet.bounds().0 + 1);
        }
        _ => {}
    }
    let Some(LeaseRange { start_ip, end_ip }) = &one.lease_range else { return Ok(()) };
    let mut ends = Vec::new();
    for end in [start_ip, end_ip].into_iter().flatten().filter(|end| !end.is_empty()) {
        match end.parse::<IpAddr>() {
            Ok(ip) if subnet.contains(ip) => ends.push(ip),
            _ => return refuse(format!("the end {end} of its lease range is no address in it")),
        }
    }
    if let [start, end] = ends[..]
        && start > end
    {
        return refuse(format!("its lease range begins at {start}, behind its end {end}"));
    }
    Ok(())
}

fn parsed(texts: &[String]) -> Result<Vec<address::Subnet>, Failure> {
    Ok(texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
