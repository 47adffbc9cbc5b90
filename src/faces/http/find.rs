//! Finds objects in a snapshot by what a person typed, and sorts them.

use std::sync::Arc;

use crate::api::v1;
use crate::engine::{ErrorKind, Snapshot};
use crate::faces::shared::server::problem::Problem;
use crate::model::desired::{Attached, Lookup};
use crate::model::endpoint::Endpoint;
use crate::model::names::IfName;
use crate::model::network::Network;
use crate::model::publication::{Publication, PublishMode};
use crate::model::reservation::Reservation;
use crate::model::service::Service;

fn one<T>(found: Lookup<T>, what: &str, text: &str, see: &str) -> Result<T, Problem> {
    match found {
        Lookup::One(thing) => Ok(thing),
        Lookup::None => Err(Problem::new(ErrorKind::NotFound, format!("no {what} {text:?}: see `{see}`"))),
        Lookup::Ambiguous(count) => {
            Err(Problem::invalid(format!("{what} {text:?} is ambiguous: {count} ids begin with it")))
        }
    }
}

pub(super) fn network(snapshot: &Snapshot, text: &str) -> Result<Arc<Network>, Problem> {
    one(snapshot.desired.find_network(text), "network", text, "netd network ls")
}

/// The network as it is shown.
pub(super) fn shown(snapshot: &Snapshot, network: &Network) -> v1::Network {
    v1::Network::new(network, snapshot.desired.reservations_of(&network.name))
}

/// Every network as it is shown, by name.
pub(super) fn networks(snapshot: &Snapshot) -> Vec<v1::Network> {
    snapshot.desired.networks().map(|network| shown(snapshot, network)).collect()
}

pub(super) fn service(snapshot: &Snapshot, text: &str) -> Result<Arc<Service>, Problem> {
    one(snapshot.desired.find_service(text), "service", text, "netd service ls")
}

/// Every service as it is shown, by name.
pub(super) fn services(snapshot: &Snapshot) -> Vec<v1::Service> {
    snapshot.desired.services().map(|service| v1::Service::new(&snapshot.desired, service)).collect()
}

/// The members of every service.
pub(super) fn members(snapshot: &Snapshot) -> Vec<v1::Member> {
    let of = |service: &Arc<Service>| {
        let members = snapshot.desired.members(service).map(|member| v1::Member::new(&service.name, member));
        members.collect::<Vec<_>>()
    };
    snapshot.desired.services().flat_map(of).collect()
}

/// What a container is in each of its services.
pub(super) fn memberships(snapshot: &Snapshot, attached: &Attached) -> Vec<v1::Member> {
    let desired = &snapshot.desired;
    let mut names: Vec<_> =
        attached.endpoints.iter().flat_map(|endpoint| desired.services_with(&endpoint.key())).collect();
    names.sort();
    names.dedup();
    let services = names.into_iter().filter_map(|name| desired.service(name));
    let of = services.flat_map(|service| desired.members(service).map(|member| (&service.name, member)));
    let own = of.filter(|(_, member)| member.endpoint.container.id == attached.container.id);
    own.map(|(service, member)| v1::Member::new(service, member)).collect()
}

/// By id.
pub(super) fn reservation(snapshot: &Snapshot, text: &str) -> Result<Arc<Reservation>, Problem> {
    let found = text.parse().ok().and_then(|id| snapshot.desired.reservation(&id));
    let missing = || Problem::new(ErrorKind::NotFound, format!("no reservation {text:?}: see `netd reservation ls`"));
    found.cloned().ok_or_else(missing)
}

pub(super) fn container(snapshot: &Snapshot, text: &str) -> Result<Arc<Attached>, Problem> {
    one(snapshot.desired.find_container(text), "container", text, "netd ps")
}

pub(super) fn endpoint(snapshot: &Snapshot, on: &str, text: &str) -> Result<Arc<Endpoint>, Problem> {
    let network = network(snapshot, on)?;
    let container = container(snapshot, text)?;
    let found = container.endpoints.iter().find(|endpoint| endpoint.network == network.name);
    found.cloned().ok_or_else(|| {
        let message = format!("container {text:?} is not connected to network {}: see `netd ps`", network.name);
        Problem::new(ErrorKind::NotFound, message)
    })
}

/// Sorted by network and container name.
pub(super) fn sorted_endpoints<'a>(
    snapshot: &Snapshot,
    endpoints: impl Iterator<Item = &'a Arc<Endpoint>>,
) -> Vec<v1::Endpoint> {
    let mut endpoints: Vec<&Arc<Endpoint>> = endpoints.collect();
    endpoints.sort_by_key(|endpoint| (&endpoint.network, &endpoint.container.name));
    endpoints.into_iter().map(|endpoint| counted(snapshot, endpoint.as_ref().into())).collect()
}

/// With the packets that were refused.
fn counted(snapshot: &Snapshot, endpoint: v1::Endpoint) -> v1::Endpoint {
    let refused = endpoint.host_ifname.parse().ok().and_then(|end: IfName| snapshot.refused.get(&end).copied());
    v1::Endpoint { refused_packets: refused.unwrap_or_default(), ..endpoint }
}

/// Sorted by name.
pub(super) fn sorted_containers(snapshot: &Snapshot) -> Vec<v1::Container> {
    let mut containers: Vec<&Arc<Attached>> = snapshot.desired.containers().collect();
    containers.sort_by_key(|attached| &attached.container.name);
    containers.into_iter().map(|attached| listed_container(snapshot, attached)).collect()
}

/// The container as it is shown alone: with who reaches its strict ports.
pub(super) fn shown_container(snapshot: &Snapshot, attached: &Attached) -> v1::Container {
    let mut container = listed_container(snapshot, attached);
    for (_, publication, port) in strict(snapshot, attached, &mut container) {
        port.reach = snapshot.reach(attached, publication).into_iter().map(v1::PortReach::from).collect();
    }
    container
}

/// The strict ports of the container as it is shown.
fn strict<'a>(
    snapshot: &'a Snapshot,
    attached: &'a Attached,
    container: &'a mut v1::Container,
) -> impl Iterator<Item = (&'a Arc<Endpoint>, &'a Publication, &'a mut v1::Port)> {
    let shown = attached.endpoints.iter().zip(&mut container.endpoints).flat_map(|(endpoint, shown)| {
        let own = attached.publications().filter(|(on, _)| Arc::ptr_eq(on, endpoint));
        own.zip(&mut shown.ports).map(|((endpoint, publication), port)| (endpoint, publication, port))
    });
    shown.filter(|(endpoint, publication, _)| {
        snapshot.desired.publish_mode([&endpoint.network], publication.mode) == PublishMode::Strict
    })
}

/// The container as it is shown in a list.
fn listed_container(snapshot: &Snapshot, attached: &Attached) -> v1::Container {
    let mut container = v1::Container::from(attached);
    for (_, _, port) in strict(snapshot, attached, &mut container) {
        port.publish = Some(PublishMode::Strict.to_string());
    }
    container.endpoints = container.endpoints.into_iter().map(|endpoint| counted(snapshot, endpoint)).collect();
    if let Some((taken, process)) = snapshot.taken_ports.get(&attached.container.id) {
        for port in container.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.ports) {
            if port.has(taken) {
                port.taken_by = Some(format!("port {}: {process}", taken.port));
            }
        }
    }
    if let Some(ports) = snapshot.unproxied.get(&attached.container.id) {
        for endpoint in container.endpoints.iter_mut().filter(|endpoint| endpoint.owner.is_some()) {
            for port in &mut endpoint.ports {
                port.unproxied = ports.iter().any(|other| port.has(other));
            }
        }
    }
    container
}
