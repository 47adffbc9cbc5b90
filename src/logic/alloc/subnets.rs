//! Subnet choice: automatic subnets from the pools, and whether a given one overlaps netd's networks, those that other
//! programs define, or the host's routes and addresses.

use std::collections::BTreeMap;

use crate::logic::refusal::Refusal;
use crate::model::address::{Family, Pool, Subnet};
use crate::model::desired::Desired;
use crate::model::host::observed::HostFacts;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::Network;

/// The first subnet of the pools that overlaps no network of netd or of other programs, no route and no address of the
/// host.
pub fn choose(pools: &[Pool], family: Family, desired: &Desired, facts: &HostFacts) -> Result<Subnet, Refusal> {
    let pools: Vec<&Pool> = pools.iter().filter(|pool| pool.base.family() == family).collect();
    let taken = taken(family, desired, facts);
    let free = |pool: &&&Pool| first_free(pool, &taken);
    pools.iter().find_map(|pool| free(&pool)).ok_or_else(|| Refusal::NoFreeSubnet {
        pools: pools.iter().map(|pool| format!("{} (/{})", pool.base, pool.size)).collect::<Vec<_>>().join(", "),
    })
}

/// Refuses a subnet that overlaps another network, one that another program defines, or a route or an address of the
/// host; the refusal names it.
pub fn check(subnet: Subnet, desired: &Desired, facts: &HostFacts) -> Result<(), Refusal> {
    let refuse = |with: String| Err(Refusal::SubnetOverlap { subnet, with });
    check_networks(subnet, desired)?;
    if let Some((network, other)) = leased(desired).find(|(_, other)| other.overlaps(subnet)) {
        return refuse(format!("the addresses of the DHCP server of network {network} ({other})"));
    }
    for foreign in &facts.foreign {
        if let Some(other) = foreign.subnets.iter().find(|other| other.overlaps(subnet)) {
            return refuse(format!("{} ({other})", foreign.whose));
        }
    }
    if let Some((route, ifname)) = facts.routes.iter().find(|(route, _)| route.overlaps(subnet)) {
        let over = ifname.as_ref().map(|name| format!(" over {name}")).unwrap_or_default();
        return refuse(format!("the host's route {route}{over}"));
    }
    if let Some((address, ifname)) = facts.addresses.iter().find(|(address, _)| subnet.contains(address.ip())) {
        return refuse(format!("the host's address {address} on {ifname}"));
    }
    Ok(())
}

/// Refuses a subnet that overlaps another network of netd.
pub fn check_networks(subnet: Subnet, desired: &Desired) -> Result<(), Refusal> {
    for network in desired.networks() {
        if let Some(other) = network.subnets.iter().find(|other| other.subnet.overlaps(subnet)) {
            let with = format!("network {} ({})", network.name, other.subnet);
            return Err(Refusal::SubnetOverlap { subnet, with });
        }
    }
    Ok(())
}

/// What of the host leads to addresses of networks of netd's own bridges elsewhere than to these bridges: the network,
/// and the interface and the description of the route or address. Each interface once for a network.
pub fn overlaps(desired: &Desired, facts: &HostFacts) -> BTreeMap<(NetworkName, Option<IfName>), String> {
    let mut found = BTreeMap::new();
    for network in desired.networks() {
        // Where the host has no address, it leads nowhere.
        let Some(bridge) = network.own_bridge().filter(|bridge| !bridge.isolated) else { continue };
        for subnet in network.subnets.iter().map(|subnet| subnet.subnet) {
            for (ifname, what) in elsewhere(subnet, &bridge.name, facts) {
                let over = ifname.map(|name| format!(" on {name}")).unwrap_or_default();
                let said = format!("network {} ({subnet}) overlaps with the host's {what}{over}", network.name);
                found.entry((network.name.clone(), ifname.cloned())).or_insert(said);
            }
        }
    }
    found
}

/// The routes and addresses of the host that lead to the subnet elsewhere than to the bridge.
fn elsewhere<'a>(
    subnet: Subnet,
    bridge: &'a IfName,
    facts: &'a HostFacts,
) -> impl Iterator<Item = (Option<&'a IfName>, String)> {
    let routes = facts.routes.iter().filter(move |(route, _)| route.overlaps(subnet));
    let routes = routes.map(|(route, ifname)| (ifname.as_ref(), format!("route {route}")));
    let addresses = facts.addresses.iter().filter(move |(address, _)| subnet.contains(address.ip()));
    let addresses = addresses.map(|(address, ifname)| (Some(ifname), format!("address {address}")));
    addresses.chain(routes).filter(move |(ifname, _)| *ifname != Some(bridge))
}

/// Whether a route or an address of the host leads to the network's subnet elsewhere than to its bridge.
pub fn leads_elsewhere(subnet: Subnet, network: &Network, facts: &HostFacts) -> bool {
    network.own_bridge().is_some_and(|bridge| elsewhere(subnet, &bridge.name, facts).next().is_some())
}

/// The ranges in use, as (first, last), ascending.
fn taken(family: Family, desired: &Desired, facts: &HostFacts) -> Vec<(u128, u128)> {
    let networks = desired.networks().flat_map(|network| network.subnets.iter().map(|subnet| subnet.subnet));
    let routes = facts.routes.iter().map(|(route, _)| *route);
    let own = |address: &ipnetwork::IpNetwork| Subnet::containing(address.ip(), address.prefix());
    let addresses = facts.addresses.iter().filter_map(|(address, _)| own(address));
    let foreign = facts.foreign.iter().flat_map(|foreign| foreign.subnets.iter().copied());
    let all = networks.chain(leased(desired).map(|(_, subnet)| subnet)).chain(foreign).chain(routes).chain(addresses);
    let mut taken: Vec<_> = all.filter(|subnet| subnet.family() == family).map(Subnet::bounds).collect();
    taken.sort_unstable();
    taken
}

/// The subnets of the host's networks on which a DHCP server has given a container its address.
fn leased(desired: &Desired) -> impl Iterator<Item = (&NetworkName, Subnet)> {
    let on = desired.networks().filter(|network| network.dhcp).flat_map(|on| desired.endpoints_of(&on.name));
    on.flat_map(|endpoint| endpoint.addresses.iter().map(move |address| (&endpoint.network, address)))
        .filter_map(|(network, address)| Some((network, Subnet::containing(address.ip(), address.prefix())?)))
}

/// Walks the pool's subnets and the taken intervals in parallel.
fn first_free(pool: &Pool, taken: &[(u128, u128)]) -> Option<Subnet> {
    let (mut start, last) = pool.base.bounds();
    loop {
        let piece = Subnet::containing(pool.base.address(start)?, pool.size)?;
        let (first, end) = piece.bounds();
        match taken.iter().filter(|(low, high)| *low <= end && *high >= first).map(|(_, high)| *high).max() {
            None => return Some(piece),
            Some(high) => {
                // Continues with the first subnet after everything that overlaps this one.
                let behind = Subnet::containing(crate::model::address::address(high, piece.family()), pool.size)?;
                start = behind.bounds().1.max(end).checked_add(1)?;
                if start > last {
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::host::observed::ForeignNetwork;

    fn pool(base: &str, size: u8) -> Pool {
        Pool { base: base.parse().unwrap(), size }
    }

    fn facts(routes: &[&str]) -> HostFacts {
        let routes = routes.iter().map(|route| (route.parse().unwrap(), Some("tun0".parse().unwrap()))).collect();
        HostFacts { routes, ..HostFacts::default() }
    }

    #[test]
    fn automatic_subnets_walk_around_networks_and_routes() {
        let mut desired = Desired::default();
        desired.insert_network(samples::network("net1", &["10.77.0.0/24"]));
        let pools = [pool("10.77.0.0/16", 24), pool("172.30.0.0/15", 24)];
        let choose = |routes: &[&str]| choose(&pools, Family::V4, &desired, &facts(routes)).map(|s| s.to_string());
        assert_eq!(choose(&[]).unwrap(), "10.77.1.0/24");
        assert_eq!(choose(&["10.77.0.0/22"]).unwrap(), "10.77.4.0/24");
        assert_eq!(choose(&["10.0.0.0/8"]).unwrap(), "172.30.0.0/24");
        let error = choose(&["10.0.0.0/8", "172.16.0.0/12"]).unwrap_err().to_string();
        assert!(error.contains("10.77.0.0/16 (/24), 172.30.0.0/15 (/24)"), "{error}");
    }

    #[test]
    fn what_of_the_host_overlaps_is_found_once_for_an_interface() {
        let mut desired = Desired::default();
        desired.insert_network(samples::network("net1", &["10.77.0.0/24"]));
        desired.insert_network(samples::network("net2", &["10.77.1.0/24", "fd00:1::/64"]));
        let said = |facts: &HostFacts| overlaps(&desired, facts).into_values().collect::<Vec<_>>();
        let own = HostFacts {
            routes: vec![("10.77.0.0/24".parse().unwrap(), Some("nd-net1".parse().unwrap()))],
            addresses: vec![("10.77.0.1/24".parse().unwrap(), "nd-net1".parse().unwrap())],
            ..HostFacts::default()
        };
        assert_eq!(said(&own), [""; 0], "its own bridge");
        assert_eq!(said(&facts(&["10.78.0.0/16", "fd00:2::/64"])), [""; 0]);
        assert_eq!(
            said(&facts(&["10.77.0.0/16", "10.77.1.128/25"])),
            [
                "network net1 (10.77.0.0/24) overlaps with the host's route 10.77.0.0/16 on tun0",
                "network net2 (10.77.1.0/24) overlaps with the host's route 10.77.0.0/16 on tun0",
            ]
        );
        let address = HostFacts {
            addresses: vec![("fd00:1::7/128".parse().unwrap(), "wg0".parse().unwrap())],
            routes: vec![("fd00::/16".parse().unwrap(), None)],
            ..HostFacts::default()
        };
        assert_eq!(
            said(&address),
            [
                "network net2 (fd00:1::/64) overlaps with the host's route fd00::/16",
                "network net2 (fd00:1::/64) overlaps with the host's address fd00:1::7/128 on wg0",
            ]
        );
    }

    #[test]
    fn what_other_programs_define_is_avoided_and_named() {
        let whose = "Docker's network app_default".to_owned();
        let subnets = vec!["10.77.0.0/23".parse().unwrap(), "fd00:1::/64".parse().unwrap()];
        let foreign = vec![ForeignNetwork { whose, name: "app_default".into(), subnets }];
        let facts = HostFacts { foreign, ..facts(&["10.77.0.0/24"]) };
        let desired = Desired::default();
        let chosen = choose(&[pool("10.77.0.0/16", 24)], Family::V4, &desired, &facts).unwrap();
        assert_eq!(chosen.to_string(), "10.77.2.0/24");
        for (subnet, with) in [("10.77.0.0/24", "10.77.0.0/23"), ("fd00:1::/80", "fd00:1::/64")] {
            let error = check(subnet.parse().unwrap(), &desired, &facts).unwrap_err().to_string();
            assert!(error.contains(&format!("overlaps with Docker's network app_default ({with})")), "{error}");
        }
        assert!(check("10.78.0.0/24".parse().unwrap(), &desired, &facts).is_ok());
    }

    #[test]
    fn where_a_dhcp_server_gives_addresses_no_network_is_made() {
        let mut desired = Desired::default();
        let mut lan = samples::network("lan", &["10.77.0.0/24"]);
        let leased = samples::endpoint(&lan, "web", 1, &["10.77.0.7"], &[]);
        (lan.dhcp, lan.subnets) = (true, Vec::new());
        desired.insert_network(lan);
        let pools = [pool("10.77.0.0/16", 24)];
        let choose = |desired: &Desired| choose(&pools, Family::V4, desired, &facts(&[])).unwrap().to_string();
        assert_eq!(choose(&desired), "10.77.0.0/24");
        desired.insert_endpoint(leased);
        assert_eq!(choose(&desired), "10.77.1.0/24");
        let error = check("10.77.0.0/16".parse().unwrap(), &desired, &facts(&[])).unwrap_err().to_string();
        assert!(error.contains("the addresses of the DHCP server of network lan (10.77.0.0/24)"), "{error}");
    }

    #[test]
    fn a_pool_at_the_end_of_the_address_space_ends() {
        let pools = [pool("255.255.255.0/24", 26)];
        let mut desired = Desired::default();
        desired.insert_network(samples::network("n", &["255.255.255.0/24"]));
        assert!(choose(&pools, Family::V4, &desired, &facts(&[])).is_err());
    }

    #[test]
    fn a_given_subnet_that_overlaps_is_refused_by_name() {
        let mut desired = Desired::default();
        desired.insert_network(samples::network("net1", &["10.77.0.0/24"]));
        let check = |subnet: &str, routes: &[&str]| check(subnet.parse().unwrap(), &desired, &facts(routes));
        let error = check("10.77.0.128/25", &[]).unwrap_err().to_string();
        assert!(error.contains("network net1 (10.77.0.0/24)"), "{error}");
        let error = check("10.9.0.0/16", &["10.9.3.0/24"]).unwrap_err().to_string();
        assert!(error.contains("route 10.9.3.0/24 over tun0"), "{error}");
        assert!(check("10.90.0.0/24", &["10.9.3.0/24"]).is_ok());
    }
}
