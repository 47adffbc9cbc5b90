//! The host ports that netd must hold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netd::model::host::step::{HostPort, HostPorts};
use netd::model::publication::{BOUND_MAX, PortRange, Protocol, Publication};

/// The ports with which netd holds a publication that leads to that address. What comes over the other family is
/// proxied, except for SCTP and long ranges.
pub(super) fn add(publication: &Publication, to: IpAddr, held: &mut BTreeSet<HostPorts>) {
    let protocol = publication.protocol;
    let proxied = protocol != Protocol::Sctp && publication.host.count() <= BOUND_MAX;
    for everywhere in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
        let other = everywhere.is_ipv4() != to.is_ipv4();
        if publication.host_ip.is_some_and(|ip| ip.is_ipv4() != everywhere.is_ipv4()) || (other && !proxied) {
            continue;
        }
        let address = publication.host_ip.filter(|ip| !ip.is_unspecified()).unwrap_or(everywhere);
        // A socket each, or one range that is watched.
        if publication.host.count() > BOUND_MAX {
            held.insert(HostPorts { address, protocol, ports: publication.host });
            continue;
        }
        let single = |port| HostPorts { address, protocol, ports: PortRange::single(port).unwrap() };
        held.extend(publication.host.ports().map(single));
    }
}

/// The ports that netd holds for a runtime that wants them at every address: those over IPv6, which no runtime binds after
/// it has called netd. `unproxied`: those that netd says somebody else has.
pub(super) fn add_shared(
    publication: &Publication,
    unproxied: Option<&BTreeSet<HostPort>>,
    held: &mut BTreeSet<HostPorts>,
) {
    let mut all = BTreeSet::new();
    add(publication, IpAddr::from([0; 4]), &mut all);
    let is_proxied = publication.protocol != Protocol::Sctp;
    let is_free = |port: HostPort| unproxied.is_none_or(|unproxied| !unproxied.contains(&port));
    let is_held = |ports: &HostPorts| is_proxied && ports.address.is_ipv6() && ports.single().is_some_and(is_free);
    held.extend(all.into_iter().filter(is_held));
}
