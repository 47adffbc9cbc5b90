//! The elements that hold containers to what they may send.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::address::{Family, Subnet};
use crate::model::desired::Desired;
use crate::model::desired::egress::Restraint;
use crate::model::egress::{Allowance, To};
use crate::model::endpoint::Endpoint;
use crate::model::host::element::{EgressTo, EgressToPorts, Element, Verdict};
use crate::model::network::{HostAccess, Network};
use crate::model::policy::Ports;
use crate::model::publication::{PortRange, Protocol};
use crate::model::question::HOST_ALIASES;

/// What the network's bridge leads to in the place of this, if a container there is held.
pub(super) fn instead(element: Element) -> Element {
    match element {
        Element::Leaving(bridge, Verdict::FromInternal) => Element::Leaving(bridge, Verdict::FromInternal),
        Element::Leaving(bridge, Verdict::SentInternal) => Element::Leaving(bridge, Verdict::SentInternalEgress),
        Element::Leaving(bridge, _) => Element::Leaving(bridge, Verdict::SentEgress),
        Element::ToHost(bridge, Verdict::Host) => Element::ToHost(bridge, Verdict::HostEgress),
        Element::ToHost(bridge, _) => Element::ToHost(bridge, Verdict::HostClosedEgress),
        other => other,
    }
}

/// What a network has that has no elements for what leaves it or reaches the host otherwise.
pub(super) fn network_elements(network: &Network, elements: Vec<Element>) -> Vec<Element> {
    let Some(bridge) = network.guest_bridge() else { return elements };
    let mut elements: Vec<Element> = elements.into_iter().map(instead).collect();
    if !elements.iter().any(|element| matches!(element, Element::Leaving(..))) {
        elements.push(Element::Leaving(bridge.clone(), Verdict::SentEgress));
    }
    if network.host_access == HostAccess::All && !elements.iter().any(|e| matches!(e, Element::ToHost(..))) {
        elements.push(Element::ToHost(bridge.clone(), Verdict::HostEgress));
    }
    elements
}

/// The elements of a container, from all of its endpoints; none unless its egress is denied.
pub(super) fn elements(desired: &Desired, endpoints: &[Arc<Endpoint>]) -> Vec<Element> {
    let Some(restraint) = Restraint::of(desired, endpoints).filter(Restraint::denies) else { return Vec::new() };
    let macs = endpoints.iter().flat_map(|endpoint| [Some(endpoint.mac), endpoint.learned_mac]).flatten();
    let mut elements: Vec<Element> = macs.map(Element::EgressMac).collect();
    let allowed = by_address(&restraint);
    for from in restraint.addresses() {
        elements.push(Element::Egress(from));
        let is_of_family = |to: &Subnet| to.family() == Family::of(from);
        let whole = allowed.whole.iter().copied().filter(is_of_family);
        elements.extend(whole.map(|to| Element::EgressTo(EgressTo { from, to })));
        for ((protocol, to), ranges) in allowed.ports.iter().filter(|((_, to), _)| is_of_family(to)) {
            let one = |ports| EgressToPorts { from, to: *to, protocol: *protocol, ports };
            elements.extend(ranges.iter().copied().map(one).map(Element::EgressToPorts));
        }
    }
    elements
}

/// What is allowed by address, without overlaps: the kernel refuses intervals that overlap.
#[derive(Debug, Default)]
struct ByAddress {
    whole: BTreeSet<Subnet>,
    ports: BTreeMap<(Protocol, Subnet), Vec<PortRange>>,
}

fn by_address(restraint: &Restraint<'_>) -> ByAddress {
    let mut whole = BTreeSet::new();
    let mut ports: BTreeMap<(Protocol, Subnet), BTreeSet<u16>> = BTreeMap::new();
    for (to, to_ports) in restraint.allowances().flat_map(|allowance| subnets(restraint, allowance)) {
        match to_ports {
            None => _ = whole.insert(to),
            Some(Ports { protocol, range }) => ports.entry((protocol, to)).or_default().extend(range.ports()),
        }
    }
    let is_within = |inner: Subnet, outer: Subnet| {
        outer.family() == inner.family() && outer.prefix() < inner.prefix() && outer.contains(inner.network())
    };
    let least = whole.iter().copied().filter(|to| !whole.iter().any(|outer| is_within(*to, *outer))).collect();
    let without_wider = |(protocol, to): &(Protocol, Subnet), own: &BTreeSet<u16>| {
        let wider = ports.iter().filter(|((of, outer), _)| of == protocol && is_within(*to, *outer));
        let wider: BTreeSet<u16> = wider.flat_map(|(_, ports)| ports).copied().collect();
        ranges(own.difference(&wider).copied())
    };
    ByAddress { whole: least, ports: ports.iter().map(|(key, own)| (*key, without_wider(key, own))).collect() }
}

/// The subnets that an allowance is about from the start. The names of the host stand for its gateway addresses.
fn subnets(restraint: &Restraint<'_>, allowance: &Allowance) -> Vec<(Subnet, Option<Ports>)> {
    let gateways = || restraint.networks().iter().flat_map(|network| network.host_gateways());
    let host = |address: IpAddr| Subnet::containing(address, if address.is_ipv4() { 32 } else { 128 });
    let found: Vec<Subnet> = match &allowance.to {
        To::Subnet(subnet) => vec![*subnet],
        To::Name(name) if HOST_ALIASES.contains(&name.as_str()) => gateways().filter_map(host).collect(),
        To::Name(_) | To::Below(_) => Vec::new(),
    };
    found.into_iter().map(|subnet| (subnet, allowance.ports)).collect()
}

/// The ranges of ports in order.
fn ranges(ports: impl Iterator<Item = u16>) -> Vec<PortRange> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    ranges.into_iter().filter_map(|(first, last)| PortRange::new(first, last)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::egress::Egress;

    fn container(allow: &[&str]) -> (Desired, Vec<Arc<Endpoint>>) {
        let mut desired = Desired::default();
        let network = samples::network("net1", &["10.0.1.0/24"]);
        let mut endpoint = samples::endpoint(&network, "web", 1, &["10.0.1.2"], &[]);
        let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
        endpoint.egress = Egress::new(None, allow).unwrap();
        desired.insert_network(network);
        let endpoint = desired.insert_endpoint(endpoint);
        (desired, vec![endpoint])
    }

    #[test]
    fn what_is_allowed_by_address_does_not_overlap() {
        let (desired, endpoints) = container(&[
            "192.0.2.0/24:80-82",
            "192.0.2.7:82-83",
            "192.0.2.7:90",
            "192.0.2.7:82/udp",
            "198.51.100.0/24",
            "198.51.100.7",
            "2001:db8::/32",
            "host.docker.internal:22",
            "example.test",
        ]);
        let shown = |element: &Element| match element {
            Element::EgressTo(EgressTo { to, .. }) => Some(to.to_string()),
            Element::EgressToPorts(EgressToPorts { to, protocol, ports, .. }) => {
                Some(format!("{to} {ports}/{protocol}"))
            }
            _ => None,
        };
        let mut found: Vec<String> = elements(&desired, &endpoints).iter().filter_map(shown).collect();
        found.sort();
        let expected = [
            "10.0.1.1/32 22/tcp",
            "192.0.2.0/24 80-82/tcp",
            "192.0.2.7/32 82/udp",
            "192.0.2.7/32 83/tcp",
            "192.0.2.7/32 90/tcp",
            "198.51.100.0/24",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_deny_on_one_network_is_one_for_the_container_and_its_networks() {
        let (mut desired, _) = container(&["example.test"]);
        assert!(desired.has_stances() && desired.holds(&"net1".parse().unwrap()));
        let two = samples::network("net2", &["10.0.2.0/24"]);
        desired.insert_network(two.clone());
        let mut second = samples::endpoint(&two, "web", 2, &["10.0.2.2"], &[]);
        second.ifname = "eth1".parse().unwrap();
        let second = desired.insert_endpoint(second);
        assert!(desired.holds(&two.name));
        let all = desired.container(&second.container.id).unwrap().endpoints.clone();
        let is_held = |address: &str| elements(&desired, &all).contains(&Element::Egress(address.parse().unwrap()));
        assert!(is_held("10.0.1.2") && is_held("10.0.2.2"));
        let first = all[0].key();
        desired.remove_endpoint(&first);
        assert!(!desired.has_stances() && !desired.holds(&two.name) && desired.holding().next().is_none());
    }

    #[test]
    fn the_bridge_leads_to_other_chains_only_while_a_container_is_held() {
        let (mut desired, endpoints) = container(&["example.test"]);
        let network = |desired: &Desired| desired.network(&"net1".parse().unwrap()).unwrap().clone();
        let of = |desired: &Desired| super::super::network_elements(desired, &network(desired));
        let bridge = network(&desired).bridge().unwrap().clone();
        let wanted = [
            Element::Leaving(bridge.clone(), Verdict::SentEgress),
            Element::ToHost(bridge.clone(), Verdict::HostEgress),
        ];
        let with = of(&desired);
        desired.remove_endpoint(&endpoints[0].key());
        let added: Vec<Element> = with.difference(&of(&desired)).cloned().collect();
        assert_eq!(added, wanted);
        assert!(of(&desired).is_subset(&with));
    }
}
