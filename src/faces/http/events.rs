//! `GET /v1/events`: one JSON line per change, from the request until the client closes the connection or the daemon
//! stops.

use std::convert::Infallible;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use futures_util::{StreamExt as _, stream};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use crate::api::v1::{ContainerRef, Endpoint, Event, EventType, Reservation};
use crate::engine;
use crate::engine::event::{Cause, Change};
use crate::faces::shared::server::budget::Stopping;
use crate::faces::shared::server::extract::Stream;
use crate::model::endpoint;
use crate::model::network::Network;
use crate::model::publication::Publication;
use crate::model::service::Service;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Events: one line per change, from now on.
#[utoipa::path(get, path = "/v1/events", tag = "daemon",
    responses((status = 200, body = Event, content_type = "application/x-ndjson",
        description = "One event per line until the client closes or the daemon stops")))]
async fn events(
    State(shared): State<Shared>,
    stopping: Option<Extension<Stopping>>,
    stream: Stream,
) -> impl IntoResponse {
    let events = BroadcastStream::new(shared.handle.events());
    // Without [`Stopping`], which `serve` adds, the stream ends only when its client closes it.
    let stopping = stopping.map(|Extension(stopping)| stopping).unwrap_or_default();
    let stopped = Box::pin(stopping.stopped());
    let lines = stream::unfold((events, stopped, stream), |(mut events, mut stopped, stream)| async move {
        // Send the events from before the stop first.
        let event = tokio::select! {
            biased;
            event = events.next() => event?,
            () = &mut stopped => return None,
        };
        Some((Ok::<_, Infallible>(line(event)), (events, stopped, stream)))
    });
    let body = Body::from_stream(lines);
    ([(CONTENT_TYPE, "application/x-ndjson")], body)
}

fn line(event: Result<std::sync::Arc<engine::Event>, BroadcastStreamRecvError>) -> Bytes {
    let event = match event {
        Ok(event) => publish(&event),
        Err(BroadcastStreamRecvError::Lagged(missed)) => Event {
            time: humantime::format_rfc3339_millis(crate::base::clock::now()).to_string(),
            ..plain(EventType::Problem, format!("this reader was too slow and missed {missed} events"))
        },
    };
    // Plain structs of strings and numbers always serialize.
    let mut line = serde_json::to_vec(&event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// The published form of an event.
fn publish(event: &engine::Event) -> Event {
    Event { time: humantime::format_rfc3339_millis(event.time).to_string(), ..published(&event.change) }
}

/// The event without its time.
fn published(change: &Change) -> Event {
    match change {
        Change::NetworkCreated(network) => {
            let subnets: Vec<String> = network.subnets.iter().map(|subnet| subnet.subnet.to_string()).collect();
            let subnets = if network.dhcp { "addresses of a DHCP server".into() } else { subnets.join(", ") };
            let what = format!("created: {subnets}");
            of_network(EventType::NetworkCreate, network, &what)
        }
        Change::NetworkChanged(network) => network_changed(network),
        Change::NetworkRemoved(network) => of_network(EventType::NetworkRemove, network, "removed"),
        Change::ServiceCreated(service) => of_service(EventType::ServiceCreate, service, "created"),
        Change::ServiceUpdated(service) => {
            of_service(EventType::ServiceUpdate, service, &format!("updated to version {}", service.version))
        }
        Change::ServiceRemoved(service) => of_service(EventType::ServiceRm, service, "removed"),
        Change::PolicyAdded(policy) => {
            plain(EventType::PolicyAdd, format!("policy {} added: {}", policy.id, policy.rule))
        }
        Change::PolicyRemoved(policy) => {
            plain(EventType::PolicyRm, format!("policy {} removed: {}", policy.id, policy.rule))
        }
        Change::Denied(flow) => {
            let by = flow.policy.map(|policy| format!(" by policy {policy}")).unwrap_or_default();
            let (from, to, service, packets) = (&flow.from, &flow.to, &flow.service, flow.packets);
            plain(EventType::PolicyDenied, format!("{from} to {to} ({service}) denied{by}: {packets} packets"))
        }
        Change::Member { service, endpoint, state, why } => {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            let message = format!("{} of service {service} is {}{why}", endpoint.container.name, state.as_str());
            Event { service: Some(service.to_string()), ..of_endpoint(EventType::ServiceMember, endpoint, message) }
        }
        Change::Reserved(reservation) => {
            let message = Reservation::from(reservation.as_ref()).summary();
            Event { network: Some(reservation.network.to_string()), ..plain(EventType::Reserve, message) }
        }
        Change::Released(reservation) => {
            let message = format!("reservation {} on {} released", reservation.id, reservation.network);
            Event { network: Some(reservation.network.to_string()), ..plain(EventType::Release, message) }
        }
        Change::Connected(endpoint) => {
            of_endpoint(EventType::Connect, endpoint, Endpoint::from(endpoint.as_ref()).summary())
        }
        Change::Disconnected { endpoint, cause } => disconnected(endpoint, *cause),
        Change::Published { endpoint, publications } => {
            let message =
                format!("{} on {} published {}", endpoint.container.name, endpoint.network, list(publications));
            of_endpoint(EventType::PortAdd, endpoint, message)
        }
        Change::Unpublished { endpoint, publications } => {
            let (container, network) = (&endpoint.container.name, &endpoint.network);
            let message = format!("{container} on {network} no longer publishes {}", list(publications));
            of_endpoint(EventType::PortRm, endpoint, message)
        }
        Change::Name { endpoint, message } => of_endpoint(EventType::Name, endpoint, message.clone()),
        Change::Lease { endpoint, message } => of_endpoint(EventType::Lease, endpoint, message.clone()),
        Change::Repaired(what) => plain(EventType::Repair, what.clone()),
        Change::Problem(what) => plain(EventType::Problem, what.clone()),
        Change::HostChanged(what) => plain(EventType::Host, what.clone()),
    }
}

fn plain(kind: EventType, message: String) -> Event {
    let time = String::new();
    Event { time, kind, network: None, service: None, container: None, endpoint: None, message }
}

fn network_changed(network: &Network) -> Event {
    let servers: Vec<String> = network.dns.upstreams.iter().map(ToString::to_string).collect();
    let servers = if servers.is_empty() { "those of the daemon".into() } else { servers.join(", ") };
    of_network(EventType::NetworkChange, network, &format!("changed: name servers {servers}"))
}

fn of_network(kind: EventType, network: &Network, what: &str) -> Event {
    let message = format!("network {} {what}", network.name);
    Event { network: Some(network.name.to_string()), ..plain(kind, message) }
}

fn of_service(kind: EventType, service: &Service, what: &str) -> Event {
    let message = format!("service {} {what}", service.name);
    Event { service: Some(service.name.to_string()), ..plain(kind, message) }
}

fn of_endpoint(kind: EventType, endpoint: &endpoint::Endpoint, message: String) -> Event {
    Event {
        network: Some(endpoint.network.to_string()),
        container: Some(ContainerRef::from(&endpoint.container)),
        endpoint: Some(endpoint.into()),
        ..plain(kind, message)
    }
}

fn disconnected(endpoint: &endpoint::Endpoint, cause: Cause) -> Event {
    let why = match cause {
        Cause::Requested => "",
        Cause::Gone => ": its network namespace is gone",
        Cause::Undone => ": another network of the same request failed",
    };
    let message = format!("{} disconnected from {}{why}", endpoint.container.name, endpoint.network);
    of_endpoint(EventType::Disconnect, endpoint, message)
}

fn list(publications: &[Publication]) -> String {
    publications.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
