//! The filters of `netd events`.

use super::{BadFilter, Filter, Key, all, exact, has, parse};
use crate::api::v1::{Event, EventType, Network, Service};
use crate::faces::cli::Session;
use crate::faces::shared::client::ClientError;

const KEYS: &[Key] = &[
    ("container", exact),
    ("event", exact),
    ("network", exact),
    ("service", exact),
    ("type", |text| TYPES.contains(&text).then(|| exact(text)).flatten()),
];

/// What an event may be about.
const TYPES: &[&str] = &["container", "daemon", "network", "reservation", "service"];

/// Reads one filter.
pub(in crate::faces::cli) fn event(text: &str) -> Result<Filter, BadFilter> {
    parse(text, KEYS)
}

/// Tells whether all filters hold for an event. A network or a service can be meant by its id if it is there already.
pub(in crate::faces::cli) fn events(
    session: &Session<'_>,
    filters: Vec<Filter>,
) -> Result<impl Fn(&Event) -> bool + use<>, ClientError> {
    let networks: Vec<Network> = match has(&filters, "network") {
        true => session.client.get("/v1/networks")?,
        false => Vec::new(),
    };
    let services: Vec<Service> = match has(&filters, "service") {
        true => session.client.get("/v1/services")?,
        false => Vec::new(),
    };
    Ok(move |event: &Event| all(&filters, |filter| holds(filter, event, (&networks, &services))))
}

fn holds(Filter { key, value }: &Filter, event: &Event, (networks, services): (&[Network], &[Service])) -> bool {
    match *key {
        "container" => {
            let container = event.container.as_ref();
            container.is_some_and(|container| value.begins(&container.name) || value.begins(&container.id))
        }
        "event" => {
            let name = event.kind.as_str();
            // `network.create` is `create` as well, and Docker's networks are destroyed.
            let last = name.rsplit('.').next().unwrap_or(name);
            value.is(name) || value.is(last) || (last == "remove" && value.is("destroy"))
        }
        "network" => event.network.as_ref().is_some_and(|name| {
            let id = networks.iter().find(|network| network.name == *name).map(|network| &network.id);
            value.begins(name) || id.is_some_and(|id| value.begins(id))
        }),
        "service" => event.service.as_ref().is_some_and(|name| {
            let id = services.iter().find(|service| service.name == *name).map(|service| &service.id);
            value.begins(name) || id.is_some_and(|id| value.begins(id))
        }),
        "type" => about(event.kind).iter().any(|what| value.is(what)),
        _ => false,
    }
}

/// What an event is about: of connections, both a network and a container.
fn about(kind: EventType) -> &'static [&'static str] {
    match kind {
        EventType::NetworkCreate | EventType::NetworkChange | EventType::NetworkRemove => &["network"],
        EventType::ServiceCreate | EventType::ServiceUpdate | EventType::ServiceRm => &["service"],
        EventType::PolicyAdd | EventType::PolicyRm | EventType::PolicyDenied => &["policy"],
        EventType::ServiceMember => &["service", "container"],
        EventType::Connect | EventType::Disconnect => &["network", "container"],
        EventType::PortAdd | EventType::PortRm | EventType::Name | EventType::Lease => &["container"],
        EventType::Reserve | EventType::Release => &["reservation"],
        EventType::Repair | EventType::Problem | EventType::Host => &["daemon"],
    }
}
