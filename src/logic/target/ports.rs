//! Where published ports lead, and which host ports netd holds for them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::model::address::Family;
use crate::model::endpoint::Endpoint;
use crate::model::host::element::{Element, Published, PublishedRange};
use crate::model::host::step::HostPorts;
use crate::model::network::Network;
use crate::model::publication::{BOUND_MAX, PortRange, Publication};
use crate::model::reservation::Reservation;

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The host ports that netd holds for a container's publications. Those of runtimes' attachments are left out: a
/// runtime may hold its containers' ports itself (Podman does), and would find them taken.
pub fn host_ports(endpoints: &[Arc<Endpoint>]) -> BTreeSet<HostPorts> {
    ports_of(endpoints, |endpoint| endpoint.owner.is_none(), bound)
}

/// The host ports of a container's publications that netd does not hold.
pub fn unheld_ports(endpoints: &[Arc<Endpoint>]) -> BTreeSet<HostPorts> {
    ports_of(endpoints, |endpoint| endpoint.owner.is_some(), translated)
}

/// The host ports that netd holds for a reservation: those of the container's publications as long as this is its only
/// network. Another one can only add an address family.
pub fn reserved_ports(network: &Network, reservation: &Reservation) -> BTreeSet<HostPorts> {
    let leads = |family| reservation.has_gateway(network, family);
    reservation.publications.iter().flat_map(|publication| bound(publication, &leads)).collect()
}

fn ports_of(
    endpoints: &[Arc<Endpoint>],
    which: impl Fn(&Endpoint) -> bool,
    needed: impl Fn(&Publication, &dyn Fn(Family) -> bool) -> Vec<HostPorts>,
) -> BTreeSet<HostPorts> {
    let publications = endpoints.iter().filter(|endpoint| which(endpoint)).flat_map(|e| &e.publications);
    let leads = |family| way_in(endpoints, family).is_some_and(|endpoint| endpoint.address(family).is_some());
    publications.flat_map(|publication| needed(publication, &leads)).collect()
}

/// The host ports that a publication needs, where its container can be reached in the families for which `leads`
/// returns true. netd's proxy passes on what comes in the other family, except SCTP and
/// long ranges.
pub(super) fn bound(publication: &Publication, leads: &dyn Fn(Family) -> bool) -> Vec<HostPorts> {
    let proxied = publication.is_proxied() && FAMILIES.into_iter().any(leads);
    of_families(publication, |family| leads(family) || proxied)
}

/// The same, of which the kernel translates at least some packets.
fn translated(publication: &Publication, leads: &dyn Fn(Family) -> bool) -> Vec<HostPorts> {
    of_families(publication, leads)
}

fn of_families(publication: &Publication, which: impl Fn(Family) -> bool) -> Vec<HostPorts> {
    let families = FAMILIES.into_iter().filter(|family| publication.covers(*family) && which(*family));
    let parts: Vec<PortRange> = match publication.host {
        few if few.count() <= BOUND_MAX => few.ports().filter_map(PortRange::single).collect(),
        many => vec![many],
    };
    let at = |family| {
        let every: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let (address, protocol) = (publication.only_on().unwrap_or(every), publication.protocol);
        parts.iter().map(move |ports| HostPorts { address, protocol, ports: *ports })
    };
    families.flat_map(at).collect()
}

/// The endpoint with the container's default route in that family.
pub(super) fn way_out(endpoints: &[Arc<Endpoint>], family: Family) -> Option<&Arc<Endpoint>> {
    let leads = |endpoint: &&Arc<Endpoint>| endpoint.handover.as_ref().is_some_and(|handover| handover.leads);
    let mut ways = endpoints.iter().filter(|endpoint| endpoint.gateway(family).is_some());
    // Another engine chooses among the interfaces that it takes.
    ways.clone().find(leads).or_else(|| ways.find(|endpoint| endpoint.handover.is_none()))
}

/// Whether what is published for the container in that family leads to it: its default route goes through the host.
pub fn is_reached(endpoints: &[Arc<Endpoint>], family: Family) -> bool {
    way_in(endpoints, family).is_some()
}

/// The endpoint to which publications lead in that family: that with the default route, if the host is its gateway. Else
/// replies would not return over the host.
pub(super) fn way_in(endpoints: &[Arc<Endpoint>], family: Family) -> Option<&Arc<Endpoint>> {
    way_out(endpoints, family).filter(|endpoint| !endpoint.beside_host)
}

/// The targets of a publication: per address family that it covers, the container's address on the network of its
/// default route.
pub(super) fn targets(publication: &Publication, endpoints: &[Arc<Endpoint>]) -> impl Iterator<Item = IpAddr> {
    let covered = FAMILIES.into_iter().filter(|family| publication.covers(*family));
    covered.filter_map(|family| way_in(endpoints, family)?.address(family)).collect::<Vec<_>>().into_iter()
}

/// The element by which the host's own input rules decide about the publication in that family.
pub(super) fn obey(publication: &Publication, family: Family) -> Element {
    match publication.only_on() {
        Some(address) => Element::StrictAt(address, publication.protocol, publication.host),
        None => Element::Strict(family, publication.protocol, publication.host),
    }
}

/// Adds the elements that lead the publication to the address.
pub(super) fn publish(publication: &Publication, to: IpAddr, elements: &mut BTreeSet<Element>) {
    let (host_ip, protocol) = (publication.only_on(), publication.protocol);
    if publication.host == publication.container && publication.host.count() > 1 {
        elements.insert(Element::PublishRange(PublishedRange { host_ip, protocol, ports: publication.host, to }));
        return;
    }
    for (port, to_port) in publication.host.ports().zip(publication.container.ports()) {
        elements.insert(Element::Publish(Published { host_ip, protocol, port, to, to_port }));
    }
}
