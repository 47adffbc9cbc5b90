//! Decisions: compute the outcome of a request from the state, and check all of it before anything changes. Pure
//! functions; random numbers and the time are arguments.

pub(super) mod address;
pub(super) mod attachment;
pub(super) mod endpoint;
pub(super) mod names;
pub(super) mod network;
pub(super) mod transaction;

use std::sync::Arc;

use super::state::State;
use crate::logic::refusal::Refusal;
use crate::model::desired::Lookup;
use crate::model::endpoint::EndpointKey;
use crate::model::names::NetworkName;
use crate::model::network::Network;

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

/// Returns the network with this name or id.
pub(crate) fn find_network(state: &State, text: &str) -> Result<Arc<Network>, Refusal> {
    match state.desired.find_network(text) {
        Lookup::One(network) => Ok(network),
        Lookup::None => Err(Refusal::NoSuchNetwork(text.to_owned())),
        Lookup::Ambiguous(count) => Err(Refusal::Ambiguous { what: "network", text: text.to_owned(), count }),
    }
}
