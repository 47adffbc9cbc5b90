//! Host ports: which endpoint or reservation has which port, and which port is free.

use std::collections::HashMap;

use crate::model::host::observed::HostFacts;
use crate::model::ids::ContainerId;
use crate::model::publication::{PortRange, PortSpec, Protocol, Publication};
use crate::model::reservation::Holder;

/// All published and reserved ports with their holders; a check costs one lookup per port.
#[derive(Debug, Clone, Default)]
pub struct PortTable {
    ports: HashMap<(Protocol, u16), Vec<(Publication, Holder)>>,
}

impl PortTable {
    /// Adds a publication.
    pub fn insert(&mut self, publication: &Publication, holder: &Holder) {
        for port in publication.host.ports() {
            let holders = self.ports.entry((publication.protocol, port)).or_default();
            holders.push((publication.clone(), holder.clone()));
        }
    }

    /// Removes a publication.
    pub fn remove(&mut self, publication: &Publication, holder: &Holder) {
        for port in publication.host.ports() {
            if let Some(holders) = self.ports.get_mut(&(publication.protocol, port)) {
                holders.retain(|(held, other)| held != publication || other != holder);
                if holders.is_empty() {
                    self.ports.remove(&(publication.protocol, port));
                }
            }
        }
    }

    /// The first publication that conflicts with this one. If `container` is given, an identical publication of that
    /// container is no conflict: a runtime may pass a container's ports to each of its networks (Podman does).
    pub fn conflict(
        &self,
        publication: &Publication,
        container: Option<&ContainerId>,
    ) -> Option<&(Publication, Holder)> {
        let holders = |port| self.ports.get(&(publication.protocol, port));
        let of_container =
            |holder: &Holder| container.is_some() && holder.endpoint().map(|key| &key.container) == container;
        let same = |held: &Publication, holder: &Holder| held == publication && of_container(holder);
        let mut all = publication.host.ports().filter_map(holders).flatten();
        all.find(|(held, holder)| held.conflicts(publication) && !same(held, holder))
    }

    /// The number of ports with their holders.
    pub fn len(&self) -> usize {
        self.ports.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }
}

/// The publications that a spec can become, in the order of trying them: one of each inner list is needed. `start` is
/// random: the position at which the search for free ports begins.
pub fn candidates(spec: &PortSpec, facts: &HostFacts, start: u32) -> Vec<Vec<Publication>> {
    let publication = |host: PortRange, container: PortRange| Publication {
        host_ip: spec.host_ip,
        host,
        container,
        protocol: spec.protocol,
    };
    match spec.host {
        Some(host) if host.count() == spec.container.count() => vec![vec![publication(host, spec.container)]],
        Some(host) => {
            let each = host.ports().filter_map(PortRange::single);
            vec![each.map(|port| publication(port, spec.container)).collect()]
        }
        None => {
            let containers = spec.container.ports().filter_map(PortRange::single);
            let mut offset = start;
            containers
                .map(|container| {
                    offset = offset.wrapping_add(7919);
                    free_ports(facts, offset).map(|port| publication(port, container)).collect()
                })
                .collect()
        }
    }
}

/// Linux's default range of ephemeral ports (net/ipv4/af_inet.c).
const LOCAL_PORTS: (u16, u16) = (32_768, 60_999);
/// How many free ports are tried before the search fails.
const TRIES: u32 = 200;

fn free_ports(facts: &HostFacts, start: u32) -> impl Iterator<Item = PortRange> {
    let default = PortRange::new(LOCAL_PORTS.0, LOCAL_PORTS.1);
    let range = facts.local_ports.or(default).into_iter();
    range
        .flat_map(move |range| {
            (0..range.count()).map(move |step| {
                let port = u32::from(range.first()) + (start.wrapping_add(step)) % range.count();
                port as u16 // below 65536: first + (less than count) is at most last
            })
        })
        .filter_map(PortRange::single)
        .filter(|port| !facts.reserved_ports.iter().any(|reserved| reserved.overlaps(*port)))
        .take(TRIES as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_never_a_reserved_one() {
        let facts = HostFacts {
            local_ports: PortRange::new(40_000, 40_005),
            reserved_ports: vec![PortRange::new(40_001, 40_004).unwrap()],
            ..HostFacts::default()
        };
        let spec: PortSpec = "80".parse().unwrap();
        for start in 0..10 {
            let mut ports: Vec<u16> = candidates(&spec, &facts, start)[0].iter().map(|p| p.host.first()).collect();
            ports.sort_unstable();
            assert_eq!(ports, [40_000, 40_005]);
        }
    }

    #[test]
    fn a_host_range_for_one_port_is_tried_in_order() {
        let spec: PortSpec = "8000-8002:80".parse().unwrap();
        let found = candidates(&spec, &HostFacts::default(), 0);
        let tried: Vec<_> = found[0].iter().map(ToString::to_string).collect();
        assert_eq!(tried, ["*:8000->80/tcp", "*:8001->80/tcp", "*:8002->80/tcp"]);
    }
}
