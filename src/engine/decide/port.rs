//! Decides about the published ports of a connected container.

use std::sync::Arc;

use super::endpoint::{Choice, publish, unpublishable};
use crate::engine::state::State;
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::address::Family;
use crate::model::desired::{Attached, Lookup};
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::HostFacts;
use crate::model::publication::{Opened, PortSpec, Publication};
use crate::model::request::PortChange;

/// An endpoint with its changed ports.
#[derive(Debug)]
pub(crate) struct Changed {
    /// As it becomes.
    pub(crate) endpoint: Arc<Endpoint>,
    /// What is added or removed.
    pub(crate) publications: Vec<Publication>,
}

/// The container that the change is about.
pub(crate) fn container(state: &State, change: &PortChange) -> Result<Arc<Attached>, Refusal> {
    let name = change.container.clone();
    match state.desired.find_container(&name) {
        Lookup::One(attached) => Ok(attached),
        Lookup::None => {
            let searched = vec!["containers that netd knows (see `netd ps`)".to_owned()];
            Err(Refusal::NoSuchContainer { name, searched })
        }
        Lookup::Ambiguous(count) => Err(Refusal::Ambiguous { what: "container", text: name, count }),
    }
}

/// Publishes the port, also. `facts` is used only to find free ports.
pub(crate) fn add(state: &State, change: &PortChange, choice: (&Choice, &HostFacts)) -> Result<Changed, Refusal> {
    let attached = container(state, change)?;
    let chosen = match &change.network {
        Some(network) => on(state, &attached, network, &change.container)?,
        None => leading(&attached),
    };
    let (endpoint, port) = (of_user(chosen)?, &change.port);
    let network = super::find_network(state, endpoint.network.as_str())?;
    if network.is_routed() && !network.internal {
        let mut endpoint = endpoint.as_ref().clone();
        endpoint.opened.push(Opened::from(port));
        return Ok(Changed { endpoint: Arc::new(endpoint), publications: Vec::new() });
    }
    if let Some(why) = unpublishable(state, &network, endpoint, port) {
        let (ports, network, why) = (port.to_string(), network.name.clone(), why.to_string());
        return Err(Refusal::CannotPublish { ports, network, why });
    }
    super::can_obey(state, &network, port)?;
    let mut added = Vec::new();
    publish(state, None, port, &mut added, choice)?;
    let mut endpoint = endpoint.as_ref().clone();
    endpoint.publications.extend(added.iter().cloned());
    Ok(Changed { endpoint: Arc::new(endpoint), publications: added })
}

/// Stops publishing the port.
pub(crate) fn remove(state: &State, change: &PortChange) -> Result<Changed, Refusal> {
    let attached = container(state, change)?;
    let (candidates, at) = match &change.network {
        Some(network) => {
            let endpoint = on(state, &attached, network, &change.container)?;
            (vec![endpoint], format!("network {}", endpoint.network))
        }
        None => (attached.endpoints.iter().collect(), "any network".to_owned()),
    };
    let opened = Opened::from(&change.port);
    if let Some(endpoint) = candidates.iter().find(|endpoint| endpoint.opened.contains(&opened)) {
        let mut endpoint = of_user(endpoint)?.as_ref().clone();
        endpoint.opened.retain(|other| *other != opened);
        return Ok(Changed { endpoint: Arc::new(endpoint), publications: Vec::new() });
    }
    let meant = |endpoint: &&Arc<Endpoint>| {
        let meant = meant(&change.port, &endpoint.publications);
        (!meant.is_empty()).then(|| (Arc::clone(endpoint), meant))
    };
    let mut found: Vec<_> = candidates.iter().filter_map(meant).collect();
    let exact = |found: &[Publication]| matches!(found, [one] if is_exactly(&change.port, one));
    if found.iter().any(|(_, found)| exact(found)) {
        found.retain(|(_, found)| exact(found));
    }
    let Some((endpoint, publications)) = found.first().cloned() else {
        let all = candidates.iter().flat_map(|endpoint| &endpoint.publications).map(ToString::to_string);
        let all: Vec<String> = all.collect();
        let published = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
        let (container, port) = (attached.container.name.clone(), change.port.to_string());
        return Err(Refusal::NotPublished { container, port, at, published });
    };
    of_user(&endpoint)?;
    let all = || found.iter().flat_map(|(_, publications)| publications);
    if found.len() > 1 || !are_disjoint(&publications) {
        let all: Vec<String> = all().map(ToString::to_string).collect();
        let why = format!("it may mean {}: give its host address and host port", all.join(" or "));
        return Err(Invalid::new("port", change.port.to_string(), why).into());
    }
    let mut endpoint = endpoint.as_ref().clone();
    endpoint.publications.retain(|publication| !publications.contains(publication));
    Ok(Changed { endpoint: Arc::new(endpoint), publications })
}

/// The container's endpoint on the network.
fn on<'a>(state: &State, attached: &'a Attached, network: &str, container: &str) -> Result<&'a Arc<Endpoint>, Refusal> {
    let network = super::find_network(state, network)?.name.clone();
    let found = attached.endpoints.iter().find(|endpoint| endpoint.network == network);
    found.ok_or_else(|| Refusal::NotConnected { container: container.to_owned(), network })
}

/// The endpoint with the default route, among those of users if there are any; ports lead there wherever they are
/// published.
fn leading(attached: &Attached) -> &Arc<Endpoint> {
    let own = || attached.endpoints.iter().filter(|endpoint| endpoint.owner.is_none());
    let leads = |family| own().find(|endpoint| endpoint.gateway(family).is_some());
    let found = leads(Family::V4).or_else(|| leads(Family::V6)).or_else(|| own().next());
    found.unwrap_or(&attached.endpoints[0])
}

/// Refuses an endpoint of a runtime, whose repeated request would differ from what is there.
fn of_user(endpoint: &Arc<Endpoint>) -> Result<&Arc<Endpoint>, Refusal> {
    if endpoint.owner.is_none() {
        return Ok(endpoint);
    }
    let (container, network) = (endpoint.container.name.clone(), endpoint.network.clone());
    Err(Refusal::PortsOfRuntime { container, network })
}

/// The publications that the port means: the one that is exactly it, else those that are a part of it.
fn meant(port: &PortSpec, publications: &[Publication]) -> Vec<Publication> {
    if let Some(exact) = publications.iter().find(|publication| is_exactly(port, publication)) {
        return vec![exact.clone()];
    }
    let is_part = |one: &&Publication| {
        let within = |outer: crate::model::publication::PortRange, inner: crate::model::publication::PortRange| {
            outer.contains(inner.first()) && outer.contains(inner.last())
        };
        one.protocol == port.protocol
            && within(port.container, one.container)
            && port.host_ip.is_none_or(|ip| one.host_ip == Some(ip))
            && port.host.is_none_or(|host| within(host, one.host))
    };
    publications.iter().filter(is_part).cloned().collect()
}

fn is_exactly(port: &PortSpec, publication: &Publication) -> bool {
    let Publication { host_ip, host, container, protocol, .. } = publication;
    (port.host_ip, port.host, port.container, port.protocol) == (*host_ip, Some(*host), *container, *protocol)
}

/// Whether each port of the container is meant once.
fn are_disjoint(publications: &[Publication]) -> bool {
    let mut ranges: Vec<_> = publications.iter().map(|publication| publication.container).collect();
    ranges.sort();
    ranges.windows(2).all(|pair| !pair[0].overlaps(pair[1]))
}
