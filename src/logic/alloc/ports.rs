//! Host ports: which endpoint or reservation has which port, and which port is free.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::host::observed::HostFacts;
use crate::model::ids::ContainerId;
use crate::model::publication::{PortRange, PortSpec, Protocol, Publication};
use crate::model::reservation::Holder;

/// The ports of one protocol at one host address, or at all of a family or of both: those of different publications are
/// disjoint, because [`PortTable::conflict`] was asked before. By first and last port, each with its publications: several
/// only if a runtime passes a container's ports to each of its networks.
type Ranges = BTreeMap<(u16, u16), Vec<(Publication, Holder)>>;

/// All published and reserved ports with their holders. A check costs a search per host address that is in question, however
/// many ports a publication has.
#[derive(Debug, Clone, Default)]
pub struct PortTable {
    ranges: BTreeMap<(Protocol, Option<IpAddr>), Ranges>,
}

impl PortTable {
    /// Adds a publication.
    pub fn insert(&mut self, publication: &Publication, holder: &Holder) {
        let Publication { host_ip, host, protocol, .. } = *publication;
        let ranges = self.ranges.entry((protocol, host_ip)).or_default();
        ranges.entry((host.first(), host.last())).or_default().push((publication.clone(), holder.clone()));
    }

    /// Removes a publication.
    pub fn remove(&mut self, publication: &Publication, holder: &Holder) {
        let Publication { host_ip, host, protocol, .. } = *publication;
        let (at, ports) = ((protocol, host_ip), (host.first(), host.last()));
        let Some(ranges) = self.ranges.get_mut(&at) else { return };
        if let Some(holders) = ranges.get_mut(&ports) {
            holders.retain(|(held, other)| held != publication || other != holder);
            if holders.is_empty() {
                ranges.remove(&ports);
            }
        }
        if ranges.is_empty() {
            self.ranges.remove(&at);
        }
    }

    /// The first publication that conflicts with this one. If `container` is given, an identical publication of that
    /// container is no conflict: a runtime may pass a container's ports to each of its networks (Podman does).
    pub fn conflict(
        &self,
        publication: &Publication,
        container: Option<&ContainerId>,
    ) -> Option<&(Publication, Holder)> {
        let of_container =
            |holder: &Holder| container.is_some() && holder.endpoint().map(|key| &key.container) == container;
        let same = |held: &Publication, holder: &Holder| held == publication && of_container(holder);
        let mut all = self.at(publication).flat_map(|ranges| overlapping(ranges, publication.host));
        all.find(|(held, holder)| held.conflicts(publication) && !same(held, holder))
    }

    /// The ports of the protocol at each address at which the publication can meet another.
    fn at(&self, publication: &Publication) -> impl Iterator<Item = &Ranges> {
        const EVERY: [Option<IpAddr>; 3] =
            [None, Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED))];
        let protocol = publication.protocol;
        let one = publication.only_on().map(|ip| EVERY.into_iter().chain([Some(ip)]));
        let few = one.into_iter().flatten().filter_map(move |at| self.ranges.get(&(protocol, at)));
        let all = (publication.only_on().is_none()).then(|| self.ranges.range((protocol, None)..));
        let all = all.into_iter().flatten().take_while(move |((other, _), _)| *other == protocol);
        few.chain(all.map(|(_, ranges)| ranges))
    }
}

/// Those of the disjoint ranges that share a port with this one, the last first.
fn overlapping(ranges: &Ranges, ports: PortRange) -> impl Iterator<Item = &(Publication, Holder)> {
    let before = ranges.range(..=(ports.last(), u16::MAX)).rev();
    before.take_while(move |((_, last), _)| *last >= ports.first()).flat_map(|(_, holders)| holders)
}

/// The publications that a spec can become, in the order of trying them: one of each inner list is needed. `start` is
/// random: the position at which the search for free ports begins.
pub fn candidates(spec: &PortSpec, facts: &HostFacts, start: u32) -> Vec<Vec<Publication>> {
    let publication = |host: PortRange, container: PortRange| Publication {
        host_ip: spec.host_ip,
        host,
        container,
        protocol: spec.protocol,
        mode: spec.mode,
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

    /// Compared with a look at each publication.
    #[test]
    fn whatever_shares_a_port_conflicts() {
        let specs =
            ["4000:80", "0.0.0.0:5000-5999:5000-5999", "[::]:5500-5600:1-101", "127.0.0.1:4500:80", "80-90:80-90"];
        let others = ["192.0.2.1:6000-6010:6000-6010", "192.0.2.2:6005-6020:6005-6020", "4000:80/udp", "[::1]:4600:80"];
        let publication = |spec: &str| {
            let spec: PortSpec = spec.parse().unwrap();
            candidates(&spec, &HostFacts::default(), 0)[0][0].clone()
        };
        let held: Vec<Publication> = specs.into_iter().chain(others).map(publication).collect();
        let holder = |index: usize| Holder::Reservation(format!("r{index}").parse().unwrap());
        let mut table = PortTable::default();
        held.iter().enumerate().for_each(|(index, held)| table.insert(held, &holder(index)));
        let addresses = ["", "0.0.0.0:", "[::]:", "127.0.0.1:", "192.0.2.1:", "192.0.2.2:", "[::1]:", "[2001:db8::1]:"];
        for (address, protocol) in addresses.iter().flat_map(|a| [(a, "tcp"), (a, "udp"), (a, "sctp")]) {
            for (first, last) in
                [(3999, 4000), (4000, 4000), (4001, 4499), (1, 65535), (85, 85), (5999, 6000), (6008, 6008)]
            {
                let asked = publication(&format!("{address}{first}-{last}:{first}-{last}/{protocol}"));
                let expected = held.iter().any(|held| held.conflicts(&asked));
                assert_eq!(table.conflict(&asked, None).is_some(), expected, "{asked}");
            }
        }
        held.iter().enumerate().for_each(|(index, held)| table.remove(held, &holder(index)));
        assert!(table.ranges.is_empty());
    }

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
