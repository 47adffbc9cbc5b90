//! Which interfaces relay what to which others (pure).
//!
//! Each network relays between its bridge and its outer interfaces, never from one outer interface to another. What the relay
//! sends to a bridge is not relayed from there again, so networks in a row make no path.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::relay::Looked;
use crate::engine::telemetry::relay::Direction;
use crate::model::desired::Desired;
use crate::model::names::{IfName, NetworkName};
use crate::model::relay::Protocol;

/// A network that relays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) network: NetworkName,
    bridge: IfName,
    protocols: BTreeSet<Protocol>,
    /// Empty: the interfaces of the default routes.
    outer: BTreeSet<Outer>,
}

/// An interface that a network names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outer {
    /// By its name, or as the bridge of another network.
    Is(IfName),
    /// It is no name of an interface, and there is no network with this name.
    Unknown(String),
}

/// A way from one interface to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) to: IfName,
    pub(super) network: NetworkName,
    pub(super) direction: Direction,
}

/// The ways of each protocol from each interface.
pub(super) type Ways = BTreeMap<(Protocol, IfName), Vec<Way>>;

/// The networks that relay.
pub(super) fn wanted(desired: &Desired) -> Vec<Wanted> {
    let outer = |name: &String| {
        let network = desired.networks().find(|network| network.name.as_str() == name);
        match network.and_then(|network| network.bridge().cloned()).or_else(|| name.parse().ok()) {
            Some(ifname) => Outer::Is(ifname),
            None => Outer::Unknown(name.clone()),
        }
    };
    let wanted = desired.networks().filter_map(|network| {
        let relay = network.relay.as_ref()?;
        Some(Wanted {
            network: network.name.clone(),
            bridge: network.bridge()?.clone(),
            protocols: relay.protocols.clone(),
            outer: relay.interfaces.iter().map(outer).collect(),
        })
    });
    wanted.collect()
}

/// The interfaces to look at.
pub(super) fn interfaces(wanted: &[Wanted]) -> BTreeSet<IfName> {
    wanted.iter().flat_map(|one| one.named().chain([&one.bridge])).cloned().collect()
}

impl Wanted {
    /// The outer interfaces that it names.
    fn named(&self) -> impl Iterator<Item = &IfName> {
        self.outer.iter().filter_map(|outer| match outer {
            Outer::Is(name) => Some(name),
            Outer::Unknown(_) => None,
        })
    }

    /// Why it does not relay all that it should.
    pub(super) fn problem(&self, looked: &Looked) -> Option<String> {
        let missing = self.outer.iter().filter_map(|outer| match outer {
            Outer::Is(name) => looked.missing.contains(name).then(|| name.to_string()),
            Outer::Unknown(name) => Some(name.clone()),
        });
        let missing: Vec<String> = missing.collect();
        let why = if !missing.is_empty() {
            format!("there is no interface and no network {}: see `ip link`", missing.join(", "))
        } else if self.outer.is_empty() && looked.default.is_empty() {
            "the host has no default route, and the network names no interfaces (-o relay_interfaces=)".to_owned()
        } else {
            return None;
        };
        Some(format!("network {}: discovery is not relayed as configured: {why}", self.network))
    }
}

/// The ways between these networks and what was found. Of two networks that name each other, the first has them.
pub(super) fn ways(wanted: &[Wanted], looked: &Looked) -> Ways {
    let mut ways = Ways::new();
    for one in wanted {
        let outer: BTreeSet<&IfName> =
            if one.outer.is_empty() { looked.default.iter().collect() } else { one.named().collect() };
        for (protocol, outer) in
            one.protocols.iter().flat_map(|protocol| outer.iter().map(move |outer| (*protocol, *outer)))
        {
            if *outer == one.bridge {
                continue;
            }
            for (from, to, direction) in [(&one.bridge, outer, Direction::Out), (outer, &one.bridge, Direction::In)] {
                let from = ways.entry((protocol, from.clone())).or_default();
                if from.iter().all(|way| way.to != *to) {
                    from.push(Way { to: to.clone(), network: one.network.clone(), direction });
                }
            }
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::network::Network;
    use crate::model::relay::Relay;

    fn network(name: &str, number: u8, relay: &str, interfaces: Option<&str>) -> Network {
        let relay = Relay::parse(Some(relay), interfaces).unwrap();
        Network { relay, ..samples::network(name, &[&format!("10.0.{number}.0/24")]) }
    }

    fn ways_of(networks: Vec<Network>, default: &[&str]) -> Vec<String> {
        let mut desired = Desired::default();
        networks.into_iter().for_each(|network| _ = desired.insert_network(network));
        let default = default.iter().map(|name| name.parse().unwrap()).collect();
        let ways = ways(&wanted(&desired), &Looked { default, ..Looked::default() });
        let text = |((protocol, from), ways): (&(Protocol, IfName), &Vec<Way>)| {
            let to: Vec<String> = ways.iter().map(|way| format!("{}({})", way.to, way.network)).collect();
            format!("{} {from} -> {}", protocol.as_str(), to.join(" "))
        };
        ways.iter().map(text).collect()
    }

    #[test]
    fn a_network_relays_to_the_default_routes_or_to_what_it_names() {
        let networks = vec![network("a", 1, "mdns", None), network("b", 2, "mdns,ssdp", Some("lan0,wlan0"))];
        let expected = [
            "mdns eth0 -> nd-a(a)",
            "mdns lan0 -> nd-b(b)",
            "mdns nd-a -> eth0(a)",
            "mdns nd-b -> lan0(b) wlan0(b)",
            "mdns wlan0 -> nd-b(b)",
            "ssdp lan0 -> nd-b(b)",
            "ssdp nd-b -> lan0(b) wlan0(b)",
            "ssdp wlan0 -> nd-b(b)",
        ];
        assert_eq!(ways_of(networks, &["eth0"]), expected);
    }

    #[test]
    fn networks_that_name_each_other_have_one_way_each() {
        let networks = vec![network("a", 1, "mdns", Some("b")), network("b", 2, "mdns", Some("a,nd-a"))];
        assert_eq!(ways_of(networks, &["eth0"]), ["mdns nd-a -> nd-b(a)", "mdns nd-b -> nd-a(a)"]);
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut desired = Desired::default();
        let long = "a-name-that-is-too-long-for-an-interface";
        desired.insert_network(network("a", 1, "mdns", Some(&format!("eth0,eth7,{long}"))));
        desired.insert_network(network("b", 2, "mdns", None));
        let [a, b] = &wanted(&desired)[..] else { panic!("two networks relay") };
        let mut looked = Looked { missing: BTreeSet::from(["eth7".parse().unwrap()]), ..Looked::default() };
        let problem = a.problem(&looked).unwrap();
        assert!(problem.contains("network a: ") && problem.contains(&format!(" eth7, {long}: ")), "{problem}");
        assert!(b.problem(&looked).unwrap().contains("no default route"));
        looked.default.insert("eth0".parse().unwrap());
        assert_eq!(b.problem(&looked), None);
    }
}
