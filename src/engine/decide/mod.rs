//! Decisions: compute the outcome of a request from the state, and check all of it before anything changes. Pure
//! functions; random numbers and the time are arguments.

pub(super) mod address;
pub(super) mod attachment;
pub(super) mod dhcp;
pub(super) mod egress;
pub(super) mod endpoint;
pub(super) mod handover;
pub(super) mod names;
pub(super) mod network;
pub(super) mod policy;
pub(super) mod port;
pub(super) mod renumber;
pub(super) mod reservation;
pub(super) mod service;
mod stacked;
pub(super) mod transaction;

use std::sync::Arc;

use super::state::State;
use crate::logic::refusal::{Refusal, ServiceRefusal, TakenBy};
use crate::model::desired::Lookup;
use crate::model::endpoint::EndpointKey;
use crate::model::names::{NetworkName, ReservationId};
use crate::model::network::{Driver, Network};
use crate::model::publication::{PortSpec, PublishMode};
use crate::model::reservation::{Holder, Reservation};
use crate::model::service::Service;

/// Returns the endpoints of a container on a network, at least one; otherwise the reason why there is none.
pub(crate) fn find_endpoints(
    state: &State,
    network: &NetworkName,
    container: &str,
) -> Result<Vec<EndpointKey>, Refusal> {
    let not_connected = || Refusal::NotConnected { container: container.to_owned(), network: network.clone() };
    match state.desired.find_container(container) {
        Lookup::One(attached) => {
            let on_it = attached.endpoints.iter().filter(|endpoint| endpoint.network == *network);
            let keys: Vec<EndpointKey> = on_it.map(|endpoint| endpoint.key()).collect();
            if keys.is_empty() { Err(not_connected()) } else { Ok(keys) }
        }
        Lookup::None => Err(not_connected()),
        Lookup::Ambiguous(count) => Err(Refusal::Ambiguous { what: "container", text: container.to_owned(), count }),
    }
}

/// Checks that endpoints are made on the network when somebody asks.
fn takes_endpoints(network: &Network) -> Result<(), Refusal> {
    match &network.driver {
        Driver::Bridge(_) | Driver::Stacked(_) | Driver::Unmanaged(_) | Driver::Nothing => Ok(()),
        Driver::Adopted(_) => Err(Refusal::Adopted(network.name.clone())),
    }
}

/// Returns the network with this name or id.
pub(crate) fn find_network(state: &State, text: &str) -> Result<Arc<Network>, Refusal> {
    match state.desired.find_network(text) {
        Lookup::One(network) => Ok(network),
        Lookup::None => Err(Refusal::NoSuchNetwork(text.to_owned())),
        Lookup::Ambiguous(count) => Err(Refusal::Ambiguous { what: "network", text: text.to_owned(), count }),
    }
}

/// Returns the reservation with this id.
pub(crate) fn find_reservation(state: &State, text: &str) -> Result<Arc<Reservation>, Refusal> {
    let found = text.parse().ok().and_then(|id| state.desired.reservation(&id));
    found.cloned().ok_or_else(|| Refusal::NoSuchReservation(text.to_owned()))
}

/// Refuses a port that cannot be published as it is meant with this network.
fn can_obey(state: &State, network: &Network, port: &PortSpec) -> Result<(), Refusal> {
    let is_strict = state.desired.publish_mode([&network.name], port.mode) == PublishMode::Strict;
    if is_strict && state.hands_nothing_over {
        return Err(Refusal::CannotBeStrict(format!("port {port}")));
    }
    Ok(())
}

/// Returns the reservation, which must be on the network.
fn reserved_on(state: &State, network: &Network, id: &ReservationId) -> Result<Arc<Reservation>, Refusal> {
    let found = find_reservation(state, id.as_str())?;
    if found.network != network.name {
        let (on, network) = (found.network.clone(), network.name.clone());
        return Err(Refusal::ReservedElsewhere { id: id.clone(), on, network });
    }
    Ok(found)
}

/// Returns the service with this name or id.
pub(crate) fn find_service(state: &State, text: &str) -> Result<Arc<Service>, Refusal> {
    match state.desired.find_service(text) {
        Lookup::One(service) => Ok(service),
        Lookup::None => Err(ServiceRefusal::NoSuch(text.to_owned()).into()),
        Lookup::Ambiguous(count) => Err(Refusal::Ambiguous { what: "service", text: text.to_owned(), count }),
    }
}

/// The name of the container that has the endpoint.
fn owner_name(state: &State, key: &EndpointKey) -> String {
    let holder = state.desired.endpoint(key);
    holder.map_or_else(|| key.container.short().to_owned(), |endpoint| endpoint.container.name.to_string())
}

/// The holder, for a refusal.
fn taken_by(state: &State, holder: &Holder) -> TakenBy {
    match holder {
        Holder::Endpoint(key) => TakenBy::Container(owner_name(state, key)),
        Holder::Reservation(id) => TakenBy::Reservation(id.clone()),
        Holder::Service(name) => TakenBy::Service(name.clone()),
    }
}
