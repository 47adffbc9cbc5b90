//! Plans: the steps that bring the kernel from one state to another. Pure functions that neither observe nor apply.

pub mod egress;
pub mod endpoint;
pub mod lease;
pub mod network;
pub mod policy;
pub mod port;
pub mod reservation;
pub mod service;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::target;
use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::host::element::{Element, Published, PublishedRange};
use crate::model::host::step::{Flows, HostPorts, Step};
use crate::model::publication::{PortRange, Protocol};

/// A container's endpoints before and after a change.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The endpoints before the change.
    pub before: &'a [Arc<Endpoint>],
    /// The endpoints after it.
    pub after: &'a [Arc<Endpoint>],
}

/// The content of a named namespace's resolv.conf before and after a change; `None` if the container has no endpoint.
#[derive(Debug, Clone, Default)]
pub struct ResolvConf {
    /// The content before the change.
    pub before: Option<String>,
    /// The content after it.
    pub after: Option<String>,
}

impl ResolvConf {
    /// The step that writes or removes the file of the container; none if it has no named namespace, or if nothing
    /// changes.
    fn step(self, container: Option<&Arc<Endpoint>>) -> Option<Step> {
        let netns = container?.container.netns.name()?.to_owned();
        let Self { before, after } = self;
        (before != after).then_some(Step::Resolv { netns, before, now: after })
    }
}

/// The elements and ports that change with a container's endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Elements of the firewall table to remove.
    pub remove: Vec<Element>,
    /// Elements to add.
    pub add: Vec<Element>,
    /// Ports to release.
    pub release: Vec<HostPorts>,
    /// Ports to hold.
    pub hold: Vec<HostPorts>,
}

/// The state before and after a change.
#[derive(Debug, Clone, Copy)]
pub struct States<'a> {
    /// Before.
    pub before: &'a Desired,
    /// After.
    pub after: &'a Desired,
}

impl Difference {
    /// Compares the targets of both sets of endpoints.
    pub fn of(states: States<'_>, Change { before, after }: Change<'_>) -> Self {
        let old = target::container_elements(states.before, before);
        let new = target::container_elements(states.after, after);
        let (held, needed) = (target::host_ports(before), target::host_ports(after));
        Self {
            remove: old.difference(&new).cloned().collect(),
            add: new.difference(&old).cloned().collect(),
            release: held.difference(&needed).copied().collect(),
            hold: needed.difference(&held).copied().collect(),
        }
    }

    /// Adds what follows for policies.
    fn with_policies(mut self, states: States<'_>) -> Self {
        let (mut old, mut new) = policy::compared(states);
        let (held_before, held_after) = egress::compared(states);
        old.extend(held_before);
        new.extend(held_after);
        let merged = |mine: Vec<Element>, more: BTreeSet<Element>| -> Vec<Element> {
            if more.is_empty() {
                mine
            } else {
                mine.into_iter().chain(more).collect::<BTreeSet<_>>().into_iter().collect()
            }
        };
        self.remove = merged(self.remove, &old - &new);
        self.add = merged(self.add, &new - &old);
        self
    }
}

/// The flows to the ports that these elements publish.
pub fn flows_to(elements: &[Element]) -> Vec<Flows> {
    let every = |to: &IpAddr| match to {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let published = elements.iter().filter_map(|element| match element {
        Element::Publish(Published { host_ip, protocol, port, to, .. }) => {
            Some((host_ip.unwrap_or_else(|| every(to)), *protocol, PortRange::single(*port)?))
        }
        Element::PublishRange(PublishedRange { host_ip, protocol, ports, to }) => {
            Some((host_ip.unwrap_or_else(|| every(to)), *protocol, *ports))
        }
        _ => None,
    });
    published.map(|(address, protocol, ports)| Flows::To(HostPorts { address, protocol, ports })).collect()
}

/// The flows whose entries would keep them from the ports that these elements publish from now on: what arrived before
/// has an entry without translation, or with that of another network. A new TCP connection replaces the entry of an
/// ended one.
pub fn stale_flows(add: &[Element]) -> Vec<Flows> {
    let is_tcp = |flows: &Flows| matches!(flows, Flows::To(HostPorts { protocol: Protocol::Tcp, .. }));
    flows_to(add).into_iter().filter(|flows| !is_tcp(flows)).collect()
}
