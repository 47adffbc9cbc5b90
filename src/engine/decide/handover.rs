//! Decides about endpoints whose interface another engine takes into its container.

use std::net::IpAddr;
use std::sync::Arc;

use super::endpoint::{Choice, publish, unpublishable};
use super::port::Changed;
use crate::engine::state::State;
use crate::logic::refusal::Refusal;
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::{HostFacts, ObservedInterface};
use crate::model::publication::{Opened, PortSpec};
use crate::model::route::Route;

/// The endpoint that the engine knows by this id.
pub(crate) fn find(state: &State, id: &str) -> Result<Arc<Endpoint>, Refusal> {
    let is_it = |endpoint: &&Arc<Endpoint>| endpoint.handover.as_ref().is_some_and(|handover| handover.endpoint == id);
    let unknown = || Refusal::NoSuchHandover(id.to_owned());
    state.desired.endpoints().find(is_it).cloned().ok_or_else(unknown)
}

/// Whether the engine has configured the interface completely: from now on, what is missing is lost. The default routes come
/// last, one by one, and the container does not start if netd has set one before the engine.
pub(crate) fn is_complete(endpoint: &Endpoint, seen: &ObservedInterface) -> bool {
    let leads = endpoint.handover.as_ref().is_some_and(|handover| handover.leads);
    let is_default = |route: &Route, gateway| route.destination.prefix() == 0 && route.gateway == Some(gateway);
    let has_default = |gateway: &IpAddr| seen.routes.iter().any(|route| is_default(route, *gateway));
    seen.up
        && endpoint.addresses.iter().all(|address| seen.addresses.contains(address))
        && (!leads || endpoint.gateways.iter().all(has_default))
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
    if network.is_routed() && !network.internal {
        leading.opened = ports.iter().map(Opened::from).collect();
        return Ok(Changed { endpoint: Arc::new(leading), publications: Vec::new() });
    }
    for port in ports {
        if let Some(why) = unpublishable(state, &network, &leading, port) {
            let (ports, network, why) = (port.to_string(), network.name.clone(), why.to_string());
            return Err(Refusal::CannotPublish { ports, network, why });
        }
        super::can_obey(state, &network, port)?;
        publish(state, None, port, &mut leading.publications, choice)?;
    }
    let publications = leading.publications.clone();
    Ok(Changed { endpoint: Arc::new(leading), publications })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::address::Subnet;
    use crate::model::handover::Handover;

    #[test]
    fn the_interface_with_the_default_routes_is_complete_with_the_last_of_them() {
        let network = samples::network("net1", &["10.77.0.0/24", "fd00:77::/64"]);
        let mut endpoint = samples::endpoint(&network, "web", 1, &["10.77.0.2", "fd00:77::2"], &[]);
        let via = |gateway: &IpAddr| Route::via(Subnet::containing(*gateway, 0).unwrap(), Some(*gateway));
        let mut seen = ObservedInterface {
            mac: Some(endpoint.mac),
            up: true,
            loopback_up: true,
            link_local: true,
            mtu: 1500,
            addresses: endpoint.addresses.clone(),
            routes: endpoint.gateways.iter().take(1).map(via).collect(),
            unrouted: Vec::new(),
            default_elsewhere: Vec::new(),
            host_end: None,
        };
        endpoint.handover = Some(Handover {
            endpoint: "e".into(),
            sandbox: "/run/docker/netns/web".into(),
            host: endpoint.container.netns.clone(),
            staged: "nds-web".parse().unwrap(),
            taken: false,
            leads: false,
        });
        assert!(is_complete(&endpoint, &seen), "another one has the default routes");
        endpoint.handover.as_mut().unwrap().leads = true;
        assert!(!is_complete(&endpoint, &seen), "the engine is about to set the second");
        seen.routes = endpoint.gateways.iter().map(via).collect();
        assert!(is_complete(&endpoint, &seen));
        seen.up = false;
        assert!(!is_complete(&endpoint, &seen));
    }
}
