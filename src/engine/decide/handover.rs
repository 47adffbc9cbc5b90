//! Decides about endpoints whose interface another engine takes into its container.

use std::sync::Arc;

use super::endpoint::{Choice, publish, unpublishable};
use super::port::Changed;
use crate::engine::state::State;
use crate::logic::refusal::Refusal;
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::{HostFacts, ObservedInterface};
use crate::model::publication::PortSpec;

/// The endpoint that the engine knows by this id.
pub(crate) fn find(state: &State, id: &str) -> Result<Arc<Endpoint>, Refusal> {
    let is_it = |endpoint: &&Arc<Endpoint>| endpoint.handover.as_ref().is_some_and(|handover| handover.endpoint == id);
    let unknown = || Refusal::NoSuchHandover(id.to_owned());
    state.desired.endpoints().find(is_it).cloned().ok_or_else(unknown)
}

/// Whether the engine has configured the interface completely: from now on, what is missing is lost.
pub(crate) fn is_complete(endpoint: &Endpoint, seen: &ObservedInterface) -> bool {
    seen.up && endpoint.addresses.iter().all(|address| seen.addresses.contains(address))
}

/// The endpoint as the one with the container's default route, with these ports published.
pub(crate) fn lead(
    state: &State,
    endpoint: &Endpoint,
    ports: &[PortSpec],
    choice: (&Choice, &HostFacts),
) -> Result<Changed, Refusal> {
    let mut leading = endpoint.clone();
    if let Some(handover) = &mut leading.handover {
        handover.leads = true;
    }
    let network = super::find_network(state, endpoint.network.as_str())?;
    for port in ports {
        if let Some(why) = unpublishable(state, &network, &leading, port) {
            let (ports, network, why) = (port.to_string(), network.name.clone(), why.to_string());
            return Err(Refusal::CannotPublish { ports, network, why });
        }
        publish(state, None, port, &mut leading.publications, choice)?;
    }
    let publications = leading.publications.clone();
    Ok(Changed { endpoint: Arc::new(leading), publications })
}
