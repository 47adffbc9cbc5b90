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
        bridge(&mut network, &used, &options, call)?;
        ipam(&mut network)?;
    }
    let mut taken = parsed(used.subnets.as_deref().unwrap_or_default())?;
    if options.check_used_subnets {
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
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::io;
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::*;
    use crate::faces::netavark::Host;

    struct Links;

    impl Host for Links {
        fn interfaces(&self) -> Vec<String> {
            vec!["lo".into(), "podman1".into()]
        }
        fn ignore_interrupts(&self) {}
        fn is_this_program(&self, _: &Path) -> bool {
            false
        }
        fn find(&self, _: &str, _: &OsStr) -> Option<PathBuf> {
            None
        }
        fn become_program(&self, _: &Path, _: &[OsString]) -> io::Error {
            io::Error::other("none")
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "a literal at each call")]
    fn created(change: Value) -> Result<Value, String> {
        let mut network = json!({"name": "net1", "id": "0a".repeat(32), "driver": "bridge", "dns_enabled": true,
            "internal": false, "ipv6_enabled": false});
        for (key, value) in change.as_object().unwrap() {
            network[key] = value.clone();
        }
        let input = json!({"network": network,
            "used": {"interfaces": ["podman2"], "names": {"podman3": "x", "other": "y"}, "subnets": ["10.89.0.0/24"]},
            "options": {"subnet_pools": [{"base": "10.89.0.0/16", "size": 24}], "default_interface_name": "podman",
                "check_used_subnets": true}});
        let call = Call { socket: "/nonexistent/netd.sock".into(), host: &Links };
        complete(input, &call).map(|network| serde_json::to_value(network).unwrap()).map_err(|Failure(why)| why)
    }

    #[test]
    fn a_definition_is_completed() {
        let network = created(json!({"labels": {"a": "b"}, "later": 7})).unwrap();
        assert_eq!(network["network_interface"], "podman4");
        assert_eq!(network["subnets"], json!([{"subnet": "10.89.1.0/24", "gateway": "10.89.1.1"}]));
        assert_eq!(network["ipam_options"], json!({"driver": "host-local"}));
        assert_eq!((&network["labels"], &network["later"]), (&json!({"a": "b"}), &json!(7)));
        assert!(network["created"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn both_families_are_given_where_ipv6_is_asked_for() {
        let network = created(json!({"ipv6_enabled": true})).unwrap();
        let subnets = network["subnets"].as_array().unwrap();
        assert_eq!(subnets.len(), 2);
        assert!(subnets[1]["subnet"].as_str().unwrap().starts_with("fd"), "{network}");
        let given = created(json!({"subnets": [{"subnet": "fd00:1::/64"}]})).unwrap();
        assert_eq!(given["ipv6_enabled"], true);
        assert_eq!(given["subnets"], json!([{"subnet": "fd00:1::/64", "gateway": "fd00:1::1"}]));
    }

    #[test]
    fn an_internal_network_without_names_has_no_gateway() {
        let network = created(json!({"internal": true, "dns_enabled": false})).unwrap();
        assert_eq!(network["subnets"], json!([{"subnet": "10.89.1.0/24"}]));
    }

    #[test]
    fn options_of_docker_are_those_of_podman() {
        let options = json!({"options": {DOCKER_MTU: "1400", DOCKER_BRIDGE: "br7"}});
        let network = created(options).unwrap();
        assert_eq!((&network["options"], &network["network_interface"]), (&json!({"mtu": "1400"}), &json!("br7")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (change, named) in [
            (json!({"name": "other"}), "already exists other"),
            (json!({"name": "a b"}), "network name \"a b\""),
            (json!({"name": ""}), "network name"),
            (json!({"id": "12"}), "network id"),
            (json!({"network_interface": "podman2"}), "podman2 already in use"),
            (json!({"network_interface": "a/b"}), "interface name"),
            (json!({"driver": "macvlan"}), "driver macvlan"),
            (json!({"driver": "other"}), "driver \"other\""),
            (json!({"ipam_options": {"driver": "dhcp"}}), "ipam driver \"dhcp\""),
            (json!({"options": {"vlan": "7"}}), "option vlan=7"),
            (json!({"options": {"mtu": "many"}}), "option mtu=many"),
            (json!({"subnets": [{"subnet": "10.89.0.128/25"}]}), "overlaps 10.89.0.0/24"),
            (json!({"subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}]}), "10.2.0.1 is not in it"),
            (json!({"subnets": [{"subnet": "10.1.0.0/31"}]}), "no room"),
            (json!({"subnets": [{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/16"}]}), "overlaps"),
            (
                json!({"subnets": [{"subnet": "10.1.0.0/24", "lease_range": {"start_ip": "10.1.0.9", "end_ip": "10.1.0.3"}}]}),
                "lease range begins",
            ),
            (json!({"dns_enabled": false, "network_dns_servers": ["9.9.9.9"]}), "names are disabled"),
            (json!({"routes": [{"destination": "10.5.0.0/16"}]}), "needs a gateway"),
            (json!({"routes": [{"destination": "10.5.0.0/16", "route_type": "blackhole"}]}), "type blackhole"),
            (json!({"dns_enabled": 7}), "failed to load"),
        ] {
            let error = created(change.clone()).unwrap_err();
            assert!(error.contains(named), "{change}: {error}");
        }
    }
}
