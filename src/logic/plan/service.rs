//! Plans for services: their definition, and what follows from changes of their members.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::States;
use crate::logic::target::services::{Entrance, elements, entrances, held};
use crate::model::address::Family;
use crate::model::desired::Desired;
use crate::model::host::element::Element;
use crate::model::host::step::{Flows, HostPorts, Step, Through};
use crate::model::names::{IfName, NetworkName, ServiceName};
use crate::model::publication::{PortRange, Protocol};
use crate::model::service::Service;

/// Makes what the service has after the change and not before, and removes the rest: held ports, virtual addresses,
/// elements. Both are `None` where there is no such service.
pub fn change(states: States<'_>, name: &ServiceName) -> Vec<Step> {
    let (old, new) = (states.before.service(name), states.after.service(name));
    let ports = |desired: &Desired, service: Option<&Arc<Service>>| -> BTreeSet<HostPorts> {
        service.map(|service| held(desired, service)).unwrap_or_default()
    };
    let (before, after) = (ports(states.before, old), ports(states.after, new));
    let mut steps = vec![Step::Hold(after.difference(&before).copied().collect())];
    let (add, remove) = addresses(states, old, new);
    steps.extend(add);
    steps.extend(follow(states, std::iter::once(name)));
    steps.extend(remove);
    steps.push(Step::Release(before.difference(&after).copied().collect()));
    steps.retain(|step| !step.is_noop());
    steps
}

/// The steps that add and that remove virtual addresses.
fn addresses(states: States<'_>, old: Option<&Arc<Service>>, new: Option<&Arc<Service>>) -> (Vec<Step>, Vec<Step>) {
    let of = |service: Option<&Arc<Service>>| -> BTreeMap<NetworkName, BTreeSet<IpAddr>> {
        let networks = service.into_iter().flat_map(|service| &service.networks);
        networks.map(|on| (on.network.clone(), on.addresses.iter().copied().collect())).collect()
    };
    let step = |desired: &Desired, network: &NetworkName, remove: BTreeSet<IpAddr>, add: BTreeSet<IpAddr>| {
        let bridge: IfName = desired.network(network)?.own_bridge()?.name.clone();
        Some(Step::VirtualAddresses { bridge, remove, add })
    };
    let none = BTreeSet::new();
    let (old, new) = (of(old), of(new));
    let add = new.iter().filter_map(|(network, wanted)| {
        let missing = wanted - old.get(network).unwrap_or(&none);
        step(states.after, network, BTreeSet::new(), missing)
    });
    let remove = old.iter().filter_map(|(network, had)| {
        let excess = had - new.get(network).unwrap_or(&none);
        step(states.before, network, excess, BTreeSet::new())
    });
    (add.collect(), remove.collect())
}

/// The elements that change with the members of these services, and the flows that must not go on as they are.
pub fn follow<'a>(states: States<'_>, names: impl IntoIterator<Item = &'a ServiceName>) -> Vec<Step> {
    let (mut remove, mut add, mut flows) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let (old, new) = (states.before.service(name), states.after.service(name));
        let all = |desired: &Desired, service: Option<&Arc<Service>>| -> BTreeSet<Element> {
            service.map(|service| elements(desired, service)).unwrap_or_default()
        };
        let (before, after) = (all(states.before, old), all(states.after, new));
        remove.extend(before.difference(&after).cloned());
        add.extend(after.difference(&before).cloned());
        let led = |desired: &Desired, service: Option<&Arc<Service>>| {
            service.map(|service| entrances(desired, service)).unwrap_or_default()
        };
        flows.extend(stale_flows(&led(states.before, old), &led(states.after, new)));
    }
    let steps = [Step::Elements { remove, add }, Step::ForgetFlows(flows)];
    steps.into_iter().filter(|step| !step.is_noop()).collect()
}

/// The flows through an entrance that is gone; and those of datagrams to members that are no longer used, which would
/// go on for as long as the client sends. Connections end with their member, or by themselves.
fn stale_flows(before: &BTreeMap<Entrance, Vec<IpAddr>>, after: &BTreeMap<Entrance, Vec<IpAddr>>) -> Vec<Flows> {
    let mut flows = begun(before, after);
    for (entrance, members) in before {
        let through = match *entrance {
            Entrance::Address(address) => Through {
                family: Family::of(address),
                address: Some(address),
                protocol: None,
                port: None,
                member: None,
            },
            Entrance::Port(family, protocol, port) => {
                Through { family, address: None, protocol: Some(protocol), port: Some(port), member: None }
            }
        };
        let Some(now) = after.get(entrance) else {
            flows.extend(match entrance {
                Entrance::Address(_) => vec![Flows::Through(through)],
                // A filter for a port alone would find the flows of others as well.
                Entrance::Port(..) => {
                    members.iter().map(|member| Flows::Through(Through { member: Some(*member), ..through })).collect()
                }
            });
            continue;
        };
        if through.protocol.is_some_and(|protocol| protocol != Protocol::Udp) {
            continue;
        }
        let gone = members.iter().filter(|member| !now.contains(member));
        let of = |member: &IpAddr| Through { protocol: Some(Protocol::Udp), member: Some(*member), ..through };
        flows.extend(gone.map(|member| Flows::Through(of(member))));
    }
    flows
}

/// The datagrams that the host itself sent to ports without members: the kernel tracks them before they are refused, and a
/// client that goes on would be refused for good.
fn begun(before: &BTreeMap<Entrance, Vec<IpAddr>>, after: &BTreeMap<Entrance, Vec<IpAddr>>) -> Vec<Flows> {
    let is_served = |entrances: &BTreeMap<Entrance, Vec<IpAddr>>, entrance: &Entrance| {
        entrances.get(entrance).is_some_and(|members| !members.is_empty())
    };
    let begun = after.keys().filter(|entrance| is_served(after, entrance) && !is_served(before, entrance));
    let refused = begun.filter_map(|entrance| match *entrance {
        Entrance::Port(family, Protocol::Udp, port) => {
            let address = match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            Some(Flows::To(HostPorts { address, protocol: Protocol::Udp, ports: PortRange::single(port)? }))
        }
        Entrance::Address(address) => Some(Flows::Through(Through {
            family: Family::of(address),
            address: Some(address),
            protocol: Some(Protocol::Udp),
            port: None,
            member: None,
        })),
        Entrance::Port(..) => None,
    });
    refused.collect()
}
