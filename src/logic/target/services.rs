//! The target of a service in the kernel: which of its members are used, the elements that lead to them, the host ports
//! that are held for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::ports::{FAMILIES, bound, obey, way_in};
use super::proxied::is_untranslatable;
use crate::logic::slots;
use crate::model::address::Family;
use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::host::element::Element;
use crate::model::host::step::{HostPort, HostPorts};
use crate::model::names::IfName;
use crate::model::publication::{Protocol, Publication, PublishMode};
use crate::model::service::{Affinity, MemberState, Service, WhenNoneReady};

/// What leads to the members of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entrance {
    /// A virtual address, with every port.
    Address(IpAddr),
    /// A published port at the addresses of this family.
    Port(Family, Protocol, u16),
}

/// The members of a service that are used, in the order in which they were connected: the ready ones, or all that are
/// not drained if none is ready and the service is used all the same.
pub fn used<'a>(desired: &'a Desired, service: &'a Service) -> Vec<&'a Arc<Endpoint>> {
    let ready: Vec<_> = desired.members(service).filter(|m| m.standing.is_ready()).map(|m| m.endpoint).collect();
    if !ready.is_empty() || service.when_none_ready == WhenNoneReady::Empty {
        return ready;
    }
    let may_serve = |endpoint: &Endpoint| !endpoint.addresses.is_empty() && !endpoint.has_no_namespace();
    let all = desired.members(service).filter(|m| m.standing.state != MemberState::Draining);
    all.map(|m| m.endpoint).filter(|endpoint| may_serve(endpoint)).collect()
}

/// The entrances of a service, each with the addresses of the members that are used, without repetitions.
pub fn entrances(desired: &Desired, service: &Service) -> BTreeMap<Entrance, Vec<IpAddr>> {
    let mut entrances = BTreeMap::new();
    if !service.is_balanced() {
        return entrances;
    }
    let used = used(desired, service);
    for on in &service.networks {
        for address in &on.addresses {
            let family = Family::of(*address);
            let there = used.iter().filter(|member| member.network == on.network);
            let members = there.filter_map(|member| member.address(family));
            entrances.insert(Entrance::Address(*address), unique(members));
        }
    }
    for family in FAMILIES {
        let members = unique(used.iter().filter_map(|member| reached_at(desired, member, family)));
        for publication in &service.publications {
            if covers(desired, service, family) {
                let port = Entrance::Port(family, publication.protocol, publication.host.first());
                entrances.insert(port, members.clone());
            }
        }
    }
    entrances
}

/// Whether any network of the service has addresses of the family.
fn covers(desired: &Desired, service: &Service, family: Family) -> bool {
    let mut networks = service.networks.iter().filter_map(|on| desired.network(&on.network));
    networks.any(|network| network.has(family))
}

/// The address at which connections to a published port reach the member: on the network of its default route, like the
/// ports that its container publishes itself.
fn reached_at(desired: &Desired, member: &Endpoint, family: Family) -> Option<IpAddr> {
    let attached = desired.container(&member.container.id)?;
    way_in(&attached.endpoints, family).and_then(|endpoint| endpoint.address(family))
}

fn unique(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    addresses.filter(|address| seen.insert(*address)).collect()
}

/// The elements of a service.
pub fn elements(desired: &Desired, service: &Service) -> BTreeSet<Element> {
    let (bridges, affinity) = (bridges(desired, service), service.affinity == Affinity::Client);
    let to_port = |protocol, port| {
        let same = |publication: &&Publication| publication.protocol == protocol && publication.host.first() == port;
        service.publications.iter().find(same).map(|publication| publication.container.first())
    };
    let of = |(entrance, members): (Entrance, Vec<IpAddr>)| match entrance {
        Entrance::Address(address) => bridges
            .get(&address)
            .map(|bridge| slots::vip_elements(address, bridge, affinity, &members))
            .unwrap_or_default(),
        Entrance::Port(family, protocol, port) => to_port(protocol, port)
            .map(|to_port| slots::port_elements((protocol, port), to_port, affinity, &members, family))
            .unwrap_or_default(),
    };
    let mut elements: BTreeSet<Element> = entrances(desired, service).into_iter().flat_map(of).collect();
    if service.is_balanced() {
        elements.extend(service.publications.iter().flat_map(|publication| strict(desired, service, publication)));
    }
    elements
}

/// By which the host's own input rules decide about a published port, if they do.
fn strict(desired: &Desired, service: &Service, publication: &Publication) -> Vec<Element> {
    let networks = service.networks.iter().map(|on| &on.network);
    if desired.publish_mode(networks, publication.mode) == PublishMode::Open {
        return Vec::new();
    }
    let families = FAMILIES.into_iter().filter(|family| covers(desired, service, *family));
    let both = |family| {
        let of_service = Element::StrictService(family, publication.protocol, publication.host.first());
        [obey(publication, family), of_service]
    };
    families.flat_map(both).collect()
}

/// The bridge of each of the service's networks that has one.
fn bridges<'a>(desired: &'a Desired, service: &'a Service) -> BTreeMap<IpAddr, &'a IfName> {
    let on = service.networks.iter().filter_map(|on| Some((on, desired.network(&on.network)?.guest_bridge()?)));
    on.flat_map(|(on, bridge)| on.addresses.iter().map(move |address| (*address, bridge))).collect()
}

/// The host ports that are held for a service.
pub fn held(desired: &Desired, service: &Service) -> BTreeSet<HostPorts> {
    let of = |publication: &Publication| bound(publication, &|family| covers(desired, service, family));
    service.publications.iter().flat_map(of).collect()
}

/// Those of them at which netd receives what the kernel does not translate.
pub fn proxied(desired: &Desired, service: &Service) -> BTreeSet<HostPort> {
    let passed_on = service.publications.iter().filter(|publication| publication.is_proxied());
    let held = passed_on.flat_map(|publication| bound(publication, &|family| covers(desired, service, family)));
    let translated =
        |port: &HostPort| covers(desired, service, Family::of(port.address)) && !is_untranslatable(port.address);
    held.filter_map(HostPorts::single).filter(|port| !translated(port)).collect()
}

/// The address of the host at which the kernel translates what the host itself sends to the service's ports; `None` while
/// no member is used.
pub fn way(desired: &Desired, service: &Service) -> Option<IpAddr> {
    let used = used(desired, service);
    let leads = |family| {
        covers(desired, service, family) && used.iter().any(|member| reached_at(desired, member, family).is_some())
    };
    if leads(Family::V4) {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    if !leads(Family::V6) {
        return None;
    }
    // The kernel does not translate `::1`.
    let networks = service.networks.iter().filter_map(|on| desired.network(&on.network));
    let mut gateways = networks.flat_map(|network| network.host_gateways());
    gateways.find(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::publication::PortSpec;

    fn shown(networks: &[&[&str]], members: &[&[&str]]) -> String {
        let mut desired = Desired::default();
        let names = ["net1", "net2"];
        let networks: Vec<_> =
            names.iter().zip(networks).map(|(name, subnets)| samples::network(name, subnets)).collect();
        networks.iter().for_each(|network| drop(desired.insert_network(network.clone())));
        for ((network, addresses), (name, sequence)) in networks.iter().zip(members).zip([("w1", 1), ("w2", 2)]) {
            if !addresses.is_empty() {
                desired.insert_endpoint(samples::endpoint(network, name, sequence, addresses, &[]));
            }
        }
        let on: Vec<(&str, &[&str])> = names.into_iter().take(networks.len()).map(|name| (name, &[][..])).collect();
        let mut service = samples::service("front", &on, &["w1", "w2"]);
        let publication = |text: &str| {
            let spec: PortSpec = text.parse().unwrap();
            let (host_ip, protocol) = (spec.host_ip, spec.protocol);
            Publication { host_ip, host: spec.host.unwrap(), container: spec.container, protocol, mode: None }
        };
        service.publications = ["4000:80/tcp", "4000:80/sctp"].map(publication).into();
        let service = desired.insert_service(service);
        let ports: Vec<_> = proxied(&desired, &service).iter().map(ToString::to_string).collect();
        let way = way(&desired, &service).map_or("nowhere".to_owned(), |way| way.to_string());
        format!("{} by {way}", ports.join(", "))
    }

    #[test]
    fn what_the_kernel_does_not_translate_is_led_to_where_it_does() {
        let (v4, v6, both) = (&["10.0.0.0/24"][..], &["fd00::/64"][..], &["10.0.0.0/24", "fd00::/64"][..]);
        for (networks, members, expected) in [
            (&[v4][..], &[&["10.0.0.2"][..]][..], "[::]:4000/tcp by 127.0.0.1"),
            (&[v6], &[&["fd00::2"]], "0.0.0.0:4000/tcp, [::]:4000/tcp by fd00::1"),
            (&[both], &[&["10.0.0.2", "fd00::2"]], "[::]:4000/tcp by 127.0.0.1"),
            (&[v4, v6], &[&[], &["fd00::2"]], "[::]:4000/tcp by fd00::1"),
            (&[v4], &[], "[::]:4000/tcp by nowhere"),
        ] {
            assert_eq!(shown(networks, members), expected);
        }
    }
}
