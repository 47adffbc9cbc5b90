//! Facts about the host that decisions need, and netd's links on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::interfaces::Interfaces;
use crate::kernel::link::{Link, address, container_route, route, shim, vlan};
use crate::kernel::netlink::socket::Netlink;
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, link};
use crate::model::host::observed::{HostFacts, ObservedBridge, ObservedKind, ObservedLink};
use crate::model::names::IfName;
use crate::model::publication::PortRange;

/// Addresses that only a default route leads to, used to look that route up; nothing is sent there.
pub(super) const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111))];
/// A route with a prefix no longer than this acts as a default route: VPNs set `0.0.0.0/1` and `128.0.0.0/1`.
const DEFAULT_PREFIX_MAX: u8 = 1;

/// Reads the facts of the calling thread's network namespace.
pub fn read(netlink: &mut Netlink, sysctl: &Sysctl) -> Result<HostFacts, KernelError> {
    let links = link::list(netlink)?;
    let names: BTreeMap<u32, IfName> =
        links.iter().filter_map(|link| Some((link.index, link.name.parse().ok()?))).collect();
    let uplink = OUTSIDE.into_iter().find_map(|address| route::interface_towards(netlink, address));
    let routes = route::list(netlink)?.into_iter().filter(|route| {
        let first = route.destination.network();
        route.destination.prefix() > DEFAULT_PREFIX_MAX && !first.is_multicast() && !address::link_local(first)
    });
    let addresses = address::list(netlink, None)?.into_iter();
    Ok(HostFacts {
        routes: routes.map(|route| (route.destination, name_of(&names, route.interface))).collect(),
        addresses: addresses.filter_map(|at| Some((at.address, names.get(&at.index)?.clone()))).collect(),
        uplink_mtu: links.iter().find(|link| Some(link.index) == uplink).map(|link| link.mtu),
        interfaces: names.into_values().collect(),
        local_ports: sysctl.get(&["ipv4", "ip_local_port_range"])?.and_then(|text| range(&text)),
        reserved_ports: sysctl.get(&["ipv4", "ip_local_reserved_ports"])?.map_or_else(Vec::new, |text| ranges(&text)),
        forwarding: sysctl.forwarding()?,
        ipv6: sysctl.has_ipv6(),
        search: search_domains(),
        parents: BTreeMap::new(),
        lacks: BTreeSet::new(),
        foreign: Vec::new(),
    })
}

/// The search domains of the host's resolv.conf.
pub fn search_domains() -> Vec<String> {
    fs::read_to_string("/etc/resolv.conf").map_or_else(|_| Vec::new(), |text| search(&text))
}

fn name_of(names: &BTreeMap<u32, IfName>, index: Option<u32>) -> Option<IfName> {
    names.get(&index?).cloned()
}

/// netd's links and every bridge, by name.
pub fn links(
    netlink: &mut Netlink,
    sysctl: &Sysctl,
    interfaces: Interfaces,
) -> Result<BTreeMap<IfName, ObservedLink>, KernelError> {
    let Interfaces { links, addresses, .. } = interfaces;
    let names: BTreeMap<u32, IfName> =
        links.iter().filter_map(|link| Some((link.index, link.name.parse().ok()?))).collect();
    let filters_vlans = links.iter().any(|link| link.filters_vlans == Some(true));
    let listed: BTreeSet<u32> = links.iter().filter(|link| is_observed(link)).map(|link| link.index).collect();
    let mut observed: BTreeMap<u32, ObservedLink> = links
        .into_iter()
        .filter(|link| listed.contains(&link.index))
        .map(|link| (link.index, observed(link, &names)))
        .collect();
    if let Some(ports) = filters_vlans.then(|| vlan::list(netlink)).transpose()? {
        observed.iter_mut().for_each(|(index, link)| link.vlan = ports.get(index).copied());
    }
    let mut with_link_local = BTreeSet::new();
    for at in addresses {
        if address::link_local(at.address.ip()) {
            with_link_local.insert(at.index);
        } else if let Some(link) = observed.get_mut(&at.index) {
            link.addresses.push(at.address);
        }
    }
    let is_own_bridge = |link: &ObservedLink| link.kind == ObservedKind::Bridge && link.ours;
    if observed.values().any(is_own_bridge) {
        let connected = route::connected(netlink)?;
        for (index, link) in observed.iter_mut().filter(|(_, link)| is_own_bridge(link)) {
            let Some(name) = names.get(index) else { continue };
            let is_connected =
                |address: &&IpNetwork| connected.contains(&(*index, address.network(), address.prefix()));
            link.bridge = Some(ObservedBridge {
                route_localnet: sysctl.is_on(&["ipv4", "conf", name.as_str(), "route_localnet"])?,
                ipv6: !sysctl.is_on(&["ipv6", "conf", name.as_str(), "disable_ipv6"])?,
                accept_ra: sysctl.is_on(&["ipv6", "conf", name.as_str(), "accept_ra"])?,
                accept_dad: sysctl.is_on(&["ipv6", "conf", name.as_str(), "accept_dad"])?,
                link_local: with_link_local.contains(index),
                connected: link.addresses.iter().filter(is_connected).copied().collect(),
            });
        }
    }
    let is_own_shim = |link: &ObservedLink| link.kind == ObservedKind::Macvlan && link.ours;
    if observed.values().any(is_own_shim) {
        let all = route::dump(netlink)?;
        for (index, link) in observed.iter_mut().filter(|(_, link)| is_own_shim(link)) {
            let routes = container_route::of(&all, *index);
            link.routes = shim::single_routes(&routes).into_iter().collect();
        }
    }
    Ok(observed.into_iter().filter_map(|(index, link)| Some((names.get(&index)?.clone(), link))).collect())
}

/// netd's links, also those whose link group another program changed, and every bridge.
fn is_observed(link: &Link) -> bool {
    let has_alias = || link.alias.as_ref().is_some_and(|alias| alias.starts_with("netd: "));
    link.ours() || link.kind == ObservedKind::Bridge || has_alias()
}

fn observed(link: Link, names: &BTreeMap<u32, IfName>) -> ObservedLink {
    ObservedLink {
        master: name_of(names, link.master),
        up: link.up,
        mtu: link.mtu,
        isolated: link.isolated,
        vlan: None,
        ipv6: link.ipv6,
        addresses: Vec::new(),
        ours: link.ours(),
        finished: link.group != link::UNFINISHED_GROUP,
        alias: link.alias,
        mac: link.mac,
        routes: Vec::new(),
        bridge: None,
        kind: link.kind,
    }
}

/// "32768\t60999".
fn range(text: &str) -> Option<PortRange> {
    let mut ports = text.split_whitespace().map(str::parse);
    PortRange::new(ports.next()?.ok()?, ports.next()?.ok()?)
}

/// "8080,9148-9150" (Documentation/networking/ip-sysctl.rst, `ip_local_reserved_ports`).
fn ranges(text: &str) -> Vec<PortRange> {
    let range = |text: &str| match text.split_once('-') {
        Some((first, last)) => PortRange::new(first.parse().ok()?, last.parse().ok()?),
        None => PortRange::single(text.parse().ok()?),
    };
    text.split(',').filter_map(|text| range(text.trim())).collect()
}

/// The search list: the last `search` or `domain` line counts (resolv.conf(5)). Domains are listed once, compared
/// without case, and without the final dot; the root is left out.
fn search(text: &str) -> Vec<String> {
    let mut lists = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next()?, "search" | "domain").then(|| words.collect::<Vec<_>>())
    });
    let mut domains: Vec<String> = Vec::new();
    for domain in lists.next_back().unwrap_or_default() {
        let domain = domain.trim_end_matches('.');
        if !domain.is_empty() && !domains.iter().any(|known| known.eq_ignore_ascii_case(domain)) {
            domains.push(domain.to_owned());
        }
    }
    domains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::lab::{in_own_netns, ip};

    #[test]
    fn the_kernels_lists_of_ports_are_read() {
        assert_eq!(range("32768\t60999"), PortRange::new(32768, 60999));
        let expected = [PortRange::single(8080).unwrap(), PortRange::new(9148, 9150).unwrap()];
        assert_eq!(ranges("8080,9148-9150"), expected);
        assert_eq!(ranges(""), []);
    }

    #[test]
    fn the_last_search_list_counts() {
        assert_eq!(
            search("# x\ndomain a.example\nnameserver 1.2.3.4\nsearch b.example c.example\n"),
            ["b.example", "c.example"]
        );
        assert!(search("nameserver 1.2.3.4").is_empty());
        let twice = "search Corp.Example. corp.example lan LAN. . b.example\n";
        assert_eq!(search(twice), ["Corp.Example", "lan", "b.example"], "each once, without the dot");
    }

    #[test]
    fn a_default_route_in_disguise_is_the_uplink_and_no_overlap() {
        in_own_netns(|| {
            for command in [
                "link add up0 mtu 1400 type bridge",
                "link set up0 up",
                "address add 192.0.2.2/24 dev up0",
                "address add 2001:db8::2/64 dev up0 nodad",
                "route add 0.0.0.0/1 via 192.0.2.1",
                "route add 128.0.0.0/1 via 192.0.2.1",
                "route add 10.7.0.0/16 via 192.0.2.1",
                "route add 10.8.0.0/16 via 192.0.2.1 table 100",
                "route add blackhole 10.9.0.0/16",
            ] {
                ip(command);
            }
            let sysctl = Sysctl::open();
            sysctl.set(&["ipv4", "ip_local_reserved_ports"], "40000-40010").unwrap();
            let facts = read(&mut Netlink::open().unwrap(), &sysctl).unwrap();
            assert_eq!(facts.uplink_mtu, Some(1400));
            let routes: Vec<String> = facts.routes.iter().map(|(subnet, _)| subnet.to_string()).collect();
            for there in ["192.0.2.0/24", "192.0.2.2/32", "10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/16", "2001:db8::/64"]
            {
                assert!(routes.iter().any(|route| route == there), "{there} is missing in {routes:?}");
            }
            for absent in ["0.0.0.0/1", "128.0.0.0/1", "fe80::/64", "ff00::/8"] {
                assert!(!routes.iter().any(|route| route == absent), "{absent} is in {routes:?}");
            }
            let up0: IfName = "up0".parse().unwrap();
            assert!(facts.addresses.contains(&("192.0.2.2/24".parse().unwrap(), up0.clone())));
            assert!(facts.interfaces.contains(&up0) && facts.interfaces.contains(&"lo".parse().unwrap()));
            assert_eq!(facts.reserved_ports, [PortRange::new(40000, 40010).unwrap()]);
            assert!(facts.local_ports.is_some() && facts.ipv6);
        });
    }

    #[test]
    fn without_a_default_route_there_is_no_uplink() {
        in_own_netns(|| {
            let facts = read(&mut Netlink::open().unwrap(), &Sysctl::open()).unwrap();
            assert_eq!(facts.uplink_mtu, None);
        });
    }
}
