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
use crate::model::names::ServiceName;
use crate::model::publication::Publication;

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
            kind: EventType::Problem,
            network: None,
            service: None,
            container: None,
            endpoint: None,
            message: format!("this reader was too slow and missed {missed} events"),
        },
    };
    // Plain structs of strings and numbers always serialize.
    let mut line = serde_json::to_vec(&event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// The published form of an event.
fn publish(event: &engine::Event) -> Event {
    let time = humantime::format_rfc3339_millis(event.time).to_string();
    let plain = |kind, message| Event {
        time: time.clone(),
        kind,
        network: None,
        service: None,
        container: None,
        endpoint: None,
        message,
    };
    let service = |kind, name: &ServiceName, message| Event { service: Some(name.to_string()), ..plain(kind, message) };
    let of = |kind, endpoint: &endpoint::Endpoint, message| Event {
        network: Some(endpoint.network.to_string()),
        container: Some(ContainerRef::from(&endpoint.container)),
        endpoint: Some(endpoint.into()),
        ..plain(kind, message)
    };
    match &event.change {
        Change::NetworkCreated(network) => {
            let subnets: Vec<String> = network.subnets.iter().map(|subnet| subnet.subnet.to_string()).collect();
            let message = format!("network {} created: {}", network.name, subnets.join(", "));
            Event { network: Some(network.name.to_string()), ..plain(EventType::NetworkCreate, message) }
        }
        Change::NetworkChanged(network) => {
            let servers: Vec<String> = network.dns.upstreams.iter().map(ToString::to_string).collect();
            let servers = if servers.is_empty() { "those of the daemon".into() } else { servers.join(", ") };
            let message = format!("network {} changed: name servers {servers}", network.name);
            Event { network: Some(network.name.to_string()), ..plain(EventType::NetworkChange, message) }
        }
        Change::NetworkRemoved(network) => {
            let message = format!("network {} removed", network.name);
            Event { network: Some(network.name.to_string()), ..plain(EventType::NetworkRemove, message) }
        }
        Change::ServiceCreated(created) => {
            service(EventType::ServiceCreate, &created.name, format!("service {} created", created.name))
        }
        Change::ServiceUpdated(updated) => {
            let message = format!("service {} updated to version {}", updated.name, updated.version);
            service(EventType::ServiceUpdate, &updated.name, message)
        }
        Change::ServiceRemoved(removed) => {
            service(EventType::ServiceRm, &removed.name, format!("service {} removed", removed.name))
        }
        Change::Member { service, endpoint, state, why } => {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            let message = format!("{} of service {service} is {}{why}", endpoint.container.name, state.as_str());
            Event { service: Some(service.to_string()), ..of(EventType::ServiceMember, endpoint, message) }
        }
        Change::Reserved(reservation) => {
            let message = Reservation::from(reservation.as_ref()).summary();
            Event { network: Some(reservation.network.to_string()), ..plain(EventType::Reserve, message) }
        }
        Change::Released(reservation) => {
            let message = format!("reservation {} on {} released", reservation.id, reservation.network);
            Event { network: Some(reservation.network.to_string()), ..plain(EventType::Release, message) }
        }
        Change::Connected(endpoint) => of(EventType::Connect, endpoint, Endpoint::from(endpoint.as_ref()).summary()),
        Change::Disconnected { endpoint, cause } => {
            let why = match cause {
                Cause::Requested => "",
                Cause::Gone => ": its network namespace is gone",
                Cause::Undone => ": another network of the same request failed",
            };
            let message = format!("{} disconnected from {}{why}", endpoint.container.name, endpoint.network);
            of(EventType::Disconnect, endpoint, message)
        }
        Change::Published { endpoint, publications } => {
            let message =
                format!("{} on {} published {}", endpoint.container.name, endpoint.network, list(publications));
            of(EventType::PortAdd, endpoint, message)
        }
        Change::Unpublished { endpoint, publications } => {
            let (container, network) = (&endpoint.container.name, &endpoint.network);
            let message = format!("{container} on {network} no longer publishes {}", list(publications));
            of(EventType::PortRm, endpoint, message)
        }
        Change::Name { endpoint, message } => of(EventType::Name, endpoint, message.clone()),
        Change::Repaired(what) => plain(EventType::Repair, what.clone()),
        Change::Problem(what) => plain(EventType::Problem, what.clone()),
        Change::HostChanged(what) => plain(EventType::Host, what.clone()),
    }
}

fn list(publications: &[Publication]) -> String {
    publications.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
