//! Other programs' firewalls: what netd must have in the IPv4 firewall, and what it has there, as `iptables-save` prints
//! it; and whether questions to gateways are dropped.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netd::engine::Snapshot;
use netd::kernel::fake::World;
use netd::model::address::{Families, Family};
use netd::model::endpoint::Endpoint;
use netd::model::host::element::Element;
use netd::model::names::IfName;
use netd::model::network::{DnsListen, Network};

use super::DNS_PORT;

/// Whether the host has the network's gateways.
pub(super) fn is_at_gateway(network: &Network) -> bool {
    network.stacked().is_none() && network.own_bridge().is_none_or(|bridge| !bridge.isolated)
}

/// Whether the host's firewall drops what the network's containers ask their gateway. This is tried once a container has a
/// gateway.
pub(super) fn is_blocked(snapshot: &Snapshot, world: &World, network: &Network) -> bool {
    let has_gateway = |endpoint: &Arc<Endpoint>| {
        let of_subnet = |address: &IpNetwork| network.subnets.iter().any(|s| s.subnet.contains(address.ip()));
        endpoint.network == network.name && endpoint.addresses.iter().any(of_subnet)
    };
    world.drops_questions && snapshot.desired.endpoints().any(has_gateway)
}

/// The rules with which netd accepts its traffic where a chain drops what no rule accepts.
pub(super) fn target(snapshot: &Snapshot, world: &World) -> BTreeSet<String> {
    let drops = |chain: &str| world.iptables.contains(&format!(":{chain} DROP "));
    let v4 = |network: &Network| network.subnets.iter().any(|subnet| subnet.subnet.network().is_ipv4());
    let all = snapshot.desired.networks().filter(|network| v4(network));
    let networks: Vec<(&IfName, &Network)> = all.filter_map(|network| Some((network.bridge()?, &**network))).collect();
    let mut rules = BTreeSet::new();
    if drops("FORWARD") && networks.iter().any(|(_, network)| !network.internal) {
        let bridges: Vec<&IfName> = networks.iter().map(|(bridge, _)| *bridge).collect();
        forward(&bridges, &world.ways, &mut rules);
    }
    let asked =
        networks.iter().filter(|(_, network)| is_at_gateway(network) && network.dns.listen != DnsListen::Container);
    for (bridge, network) in asked.filter(|_| drops("INPUT")) {
        rules.insert(":NETD-INPUT - [0:0]".to_owned());
        rules.insert(jump("INPUT", "ask for names", "NETD-INPUT"));
        for gateway in network.host_gateways().filter(IpAddr::is_ipv4) {
            rules.extend(["udp", "tcp"].map(|protocol| {
                format!(
                    "-A NETD-INPUT -d {gateway} -i {bridge} -p {protocol} -m {protocol} --dport {DNS_PORT} -j ACCEPT"
                )
            }));
        }
    }
    rules
}

/// Between the bridges, and between them and the ways out of the host.
fn forward(bridges: &[&IfName], ways: &[IfName], rules: &mut BTreeSet<String>) {
    rules.extend(["NETD-FORWARD", "NETD-FORWARD-OUT", "NETD-FORWARD-IN"].map(|chain| format!(":{chain} - [0:0]")));
    rules.insert(jump("FORWARD", "forward", "NETD-FORWARD"));
    for bridge in bridges {
        rules.insert(format!("-A NETD-FORWARD -i {bridge} -j NETD-FORWARD-OUT"));
        rules.insert(format!("-A NETD-FORWARD -o {bridge} -j NETD-FORWARD-IN"));
        rules.insert(format!("-A NETD-FORWARD-OUT -o {bridge} -j ACCEPT"));
    }
    for way in ways {
        rules.insert(format!("-A NETD-FORWARD-OUT -o {way} -j ACCEPT"));
        rules.insert(format!("-A NETD-FORWARD-IN -i {way} -j ACCEPT"));
    }
}

fn jump(from: &str, what: &str, to: &str) -> String {
    format!("-A {from} -m comment --comment \"netd: its bridges {what} []\" -j {to}")
}

/// The rules there, without the digest in their comments.
pub(super) fn found(world: &World) -> BTreeSet<String> {
    let of_netd = world.iptables.lines().filter(|line| line.contains("NETD-"));
    of_netd
        .map(|line| match (line.find(" ["), line.find("]\"")) {
            (Some(begin), Some(end)) if line.starts_with("-A") => format!("{} []{}", &line[..begin], &line[end + 1..]),
            _ => line.to_owned(),
        })
        .collect()
}

/// Only netd turns forwarding on here. The ways out of the host are kept apart, unless somebody asks for forwarding.
pub(super) fn elements_of_ways(world: &World) -> impl Iterator<Item = Element> {
    let apart = world.forwarding.without(world.asked);
    let families = [Family::V4, Family::V6].into_iter().filter(move |family| apart.has(*family));
    families.flat_map(|family| world.ways.iter().map(move |way| Element::Uplink(family, way.clone())))
}

/// What is wrong with forwarding, which only netd turns on here.
pub(super) fn forwarding(snapshot: &Snapshot, world: &World) -> Option<String> {
    let is_routed = |network: &Network| !network.internal && network.stacked().is_none();
    let needs = |family| snapshot.desired.networks().any(|network| is_routed(network) && network.has(family));
    let needed = Families::which(needs);
    if !needed.without(world.forwarding).is_empty() {
        return Some("forwarding is off".into());
    }
    let idle = world.forwarding.without(world.asked).without(needed);
    (!idle.is_empty() && world.engines.is_empty()).then(|| "forwarding is on for nobody".into())
}
