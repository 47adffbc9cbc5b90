//! Services (RFC 2782): `_http._tcp.web` and `_8080._tcp.web`, from the ports that containers publish or declare to
//! serve.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::Zone;
use super::members::{self, Found};
use super::view::{Holders, View};
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::publication::{PortRange, Protocol};
use crate::model::question::{Answer, Reason, RecordType, Service};

/// The default names of ports (IANA, "Service Name and Transport Protocol Port Number Registry").
const WELL_KNOWN: [(&str, u16, &[Protocol]); 38] = [
    ("ftp", 21, &[Protocol::Tcp]),
    ("ssh", 22, &[Protocol::Tcp]),
    ("smtp", 25, &[Protocol::Tcp]),
    ("domain", 53, &[Protocol::Tcp, Protocol::Udp]),
    ("http", 80, &[Protocol::Tcp]),
    ("kerberos", 88, &[Protocol::Tcp, Protocol::Udp]),
    ("pop3", 110, &[Protocol::Tcp]),
    ("ntp", 123, &[Protocol::Udp]),
    ("imap", 143, &[Protocol::Tcp]),
    ("snmp", 161, &[Protocol::Udp]),
    ("ldap", 389, &[Protocol::Tcp]),
    ("https", 443, &[Protocol::Tcp, Protocol::Udp]),
    ("submissions", 465, &[Protocol::Tcp]),
    ("syslog", 514, &[Protocol::Udp]),
    ("submission", 587, &[Protocol::Tcp]),
    ("ldaps", 636, &[Protocol::Tcp]),
    ("domain-s", 853, &[Protocol::Tcp, Protocol::Udp]),
    ("rsync", 873, &[Protocol::Tcp]),
    ("imaps", 993, &[Protocol::Tcp]),
    ("pop3s", 995, &[Protocol::Tcp]),
    ("ms-sql-s", 1433, &[Protocol::Tcp]),
    ("mqtt", 1883, &[Protocol::Tcp]),
    ("nfs", 2049, &[Protocol::Tcp]),
    ("etcd-client", 2379, &[Protocol::Tcp]),
    ("etcd-server", 2380, &[Protocol::Tcp]),
    ("mysql", 3306, &[Protocol::Tcp]),
    ("stun", 3478, &[Protocol::Tcp, Protocol::Udp]),
    ("sip", 5060, &[Protocol::Tcp, Protocol::Udp]),
    ("xmpp-client", 5222, &[Protocol::Tcp]),
    ("xmpp-server", 5269, &[Protocol::Tcp]),
    ("postgresql", 5432, &[Protocol::Tcp]),
    ("amqps", 5671, &[Protocol::Tcp]),
    ("amqp", 5672, &[Protocol::Tcp]),
    ("redis", 6379, &[Protocol::Tcp]),
    ("http-alt", 8080, &[Protocol::Tcp]),
    ("secure-mqtt", 8883, &[Protocol::Tcp]),
    ("git", 9418, &[Protocol::Tcp]),
    ("mongodb", 27017, &[Protocol::Tcp]),
];

/// `_SERVICE._PROTOCOL.HOST`, or `_PROTOCOL.HOST`, which only has services below it.
struct Asked<'n> {
    /// The service without its underscore.
    service: Option<&'n str>,
    protocol: Protocol,
    host: &'n str,
}

/// Parses a name (lower case).
fn parse(name: &str) -> Option<Asked<'_>> {
    let (first, rest) = name.strip_prefix('_')?.split_once('.')?;
    if let Some((second, host)) = rest.strip_prefix('_').and_then(|rest| rest.split_once('.')) {
        return Some(Asked { service: Some(first), protocol: second.parse().ok()?, host });
    }
    Some(Asked { service: None, protocol: first.parse().ok()?, host: rest })
}

/// The host part of a service name (lower case).
pub(super) fn host(name: &str) -> Option<&str> {
    parse(name).map(|asked| asked.host)
}

fn find<'a>(view: &View<'a>, host: &str) -> Option<Holders<'a>> {
    let balanced = members::find(view, host).map(|found| members::holders(view, &found));
    balanced.or_else(|| view.exact(host)).or_else(|| view.wild(host))
}

/// The endpoints that serve the name; `None` if it is not a service name or no endpoint serves it.
pub(super) fn holders<'a>(view: &View<'a>, name: &str) -> Option<Holders<'a>> {
    let asked = parse(name)?;
    let mut holders = find(view, asked.host)?;
    holders.retain(|endpoint| !ports(view, endpoint, &asked).is_empty());
    (!holders.is_empty()).then_some(holders)
}

/// Where a service is: a container on a network, or a virtual address.
struct Place<'a> {
    name: &'a str,
    network: &'a NetworkName,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

/// The answer if an endpoint serves the name (lower case).
pub(super) fn answer(zone: &Zone<'_>, view: &View<'_>, name: &str, kind: RecordType) -> Option<(Answer, Reason)> {
    let asked = parse(name)?;
    let places = places(view, &asked)?;
    if asked.service.is_none() {
        let any = places.iter().any(|place| !place.ports.is_empty());
        return any.then_some((Answer::NoData, Reason::Above));
    }
    let mut services: Vec<Service> = Vec::new();
    for Place { name, network, addresses, ports } in places {
        let target = format!("{name}.{network}.{}", zone.domain.trim_matches('.'));
        let target = target.trim_end_matches('.').to_owned();
        let order = view.networks().position(|seen| seen.name == *network).unwrap_or_default();
        for port in ports {
            // A runtime may attach a container to one network several times.
            match services.iter_mut().find(|known| known.port == port && known.target == target) {
                Some(known) => known.addresses.extend(&addresses),
                None => services.push(Service {
                    priority: u16::try_from(order).unwrap_or(u16::MAX),
                    port,
                    target: target.clone(),
                    addresses: addresses.clone(),
                }),
            }
        }
    }
    let exists = !services.is_empty();
    let answer = if kind == RecordType::Srv { Answer::Srv(services) } else { Answer::NoData };
    exists.then_some((answer, Reason::Service))
}

/// Where the host of a service name is, with the ports that serve the requested service.
fn places<'a>(view: &View<'a>, asked: &Asked<'_>) -> Option<Vec<Place<'a>>> {
    let of_endpoint = |endpoint: &'a Arc<Endpoint>, further: &[u16]| Place {
        name: endpoint.main_name(),
        network: &endpoint.network,
        addresses: endpoint.addresses.iter().map(IpNetwork::ip).collect(),
        ports: merged(ports(view, endpoint, asked), further),
    };
    let Some(found) = members::find(view, asked.host) else {
        return Some(find(view, asked.host)?.into_iter().map(|endpoint| of_endpoint(endpoint, &[])).collect());
    };
    let of_service = |found: &Found<'a>| {
        let own = ports_of_service(found, asked);
        let holders = found.holders(view);
        if !found.is_virtual() {
            return holders.into_iter().map(|endpoint| of_endpoint(endpoint, &own)).collect();
        }
        let of_members = holders.into_iter().flat_map(|endpoint| ports(view, endpoint, asked)).collect();
        vec![Place {
            name: found.service.name.as_str(),
            network: &found.on.network,
            addresses: found.addresses(),
            ports: merged(of_members, &own),
        }]
    };
    Some(found.iter().flat_map(of_service).collect())
}

fn merged(mut ports: Vec<u16>, further: &[u16]) -> Vec<u16> {
    ports.extend(further);
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The ports of a service that stands for several containers which serve the requested one: its target, and the ports
/// of its members that it publishes.
fn ports_of_service(found: &Found<'_>, asked: &Asked<'_>) -> Vec<u16> {
    let service = found.service;
    let target = service.target.filter(|target| target.protocol == asked.protocol).map(|target| target.port);
    let published = service.publications.iter().filter(|publication| publication.protocol == asked.protocol);
    let all: Vec<u16> = target.into_iter().chain(published.map(|publication| publication.container.first())).collect();
    let wanted = match (asked.service, number(asked)) {
        (None, _) => return all,
        (Some(_), Some(port)) => Some(port),
        (Some(name), None) => well_known(name, asked.protocol),
    };
    all.into_iter().filter(|port| Some(*port) == wanted).collect()
}

/// The ports of the endpoint's container that serve the requested service, without repetitions. A process listens on
/// all of its container's networks, so a port counts on each of them, whichever one it was published or exposed with.
/// Without a service, every port counts.
fn ports(view: &View<'_>, endpoint: &Endpoint, asked: &Asked<'_>) -> Vec<u16> {
    let attached = view.desired.container(&endpoint.container.id);
    let all = || attached.iter().flat_map(|attached| &attached.endpoints);
    let published =
        || all().flat_map(|e| &e.publications).filter(|p| p.protocol == asked.protocol).map(|p| p.container);
    let exposed = || all().flat_map(|e| &e.exposed).filter(|exposure| exposure.protocol == asked.protocol);
    let mut ports: Vec<u16> = match (asked.service, number(asked)) {
        (None, _) => published().map(PortRange::first).chain(exposed().map(|exposure| exposure.port)).collect(),
        (Some(_), Some(port)) => {
            let there =
                published().any(|range| range.contains(port)) || exposed().any(|exposure| exposure.port == port);
            there.then_some(port).into_iter().collect()
        }
        (Some(service), None) => {
            let known = well_known(service, asked.protocol);
            let called = exposed().filter(|exposure| match &exposure.service {
                Some(own) => own.as_str().eq_ignore_ascii_case(service),
                None => Some(exposure.port) == known,
            });
            let usual = known.filter(|port| published().any(|range| range.contains(*port)));
            called.map(|exposure| exposure.port).chain(usual).collect()
        }
    };
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The port, if it is requested by number.
fn number(asked: &Asked<'_>) -> Option<u16> {
    let service = asked.service?;
    let plain = service.bytes().all(|byte| byte.is_ascii_digit()) && !service.starts_with('0');
    service.parse().ok().filter(|_| plain)
}

fn well_known(service: &str, protocol: Protocol) -> Option<u16> {
    let found = WELL_KNOWN.iter().find(|(name, _, protocols)| *name == service && protocols.contains(&protocol));
    found.map(|(_, port, _)| *port)
}
