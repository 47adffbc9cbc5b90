//! The HTTP face: the native API under `/v1`, its description, and the metrics.
//!
//! Read requests load the snapshot and never wait; each request for a change becomes one engine command. Dropping a
//! request (the client has disconnected) is safe: the engine still carries out a command that it has accepted, except
//! an attachment whose caller had ended before the engine began with it.

mod attachments;
mod backup;
mod egress;
mod endpoints;
mod events;
mod explain;
mod find;
mod metrics;
mod networks;
mod plan;
mod policies;
mod ports;
mod querylog;
mod reservations;
mod resolve;
mod services;
mod state;
mod teardown;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::OpenApi as _;
use utoipa::openapi::{Content, OpenApi, Ref, Response};
use utoipa_axum::router::OpenApiRouter;

use crate::engine::Handle;
use crate::engine::dns::names::Names;
use crate::faces::shared::server::problem;

/// The state of all handlers.
#[derive(Clone)]
struct Shared {
    handle: Handle,
    names: Arc<dyn Names>,
    ready: Arc<AtomicBool>,
}

impl Shared {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "netd",
    description = "Container networking and service discovery: networks, endpoints, published ports, names."
))]
struct Description;

fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(networks::routes())
        .merge(endpoints::routes())
        .merge(ports::routes())
        .merge(attachments::routes())
        .merge(reservations::routes())
        .merge(services::routes())
        .merge(policies::routes())
        .merge(egress::routes())
        .merge(plan::routes())
        .merge(state::routes())
        .merge(backup::routes())
        .merge(teardown::routes())
        .merge(events::routes())
        .merge(querylog::routes())
        .merge(resolve::routes())
        .merge(metrics::routes())
}

/// The description of the API that `GET /openapi.json` serves.
pub fn description() -> OpenApi {
    complete(routes().into_openapi())
}

/// Adds the common part to each operation: every failure has the same body, and what is given can be invalid.
fn complete(mut description: OpenApi) -> OpenApi {
    let failure = |what: &str| {
        let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
        Response::builder().description(what).content("application/json", body).build()
    };
    for item in description.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            if operation.parameters.is_some() || operation.request_body.is_some() {
                responses.entry("400".into()).or_insert_with(|| failure("Invalid path, query or body").into());
            }
            responses.insert("default".into(), failure("Refused or failed").into());
        }
    }
    description
}

/// The whole API. `ready` becomes true when the daemon has converged.
pub fn router(handle: Handle, names: Arc<dyn Names>, ready: Arc<AtomicBool>) -> Router {
    let (router, description) = routes().split_for_parts();
    // The document consists of strings and numbers only, which always serialize.
    let document: Arc<str> = serde_json::to_string(&complete(description)).unwrap_or_default().into();
    let openapi = move || {
        let document = document.to_string();
        async move { ([(CONTENT_TYPE, "application/json")], document) }
    };
    finish(router.route("/openapi.json", get(openapi)), Shared { handle, names, ready })
}

/// Only `GET /metrics`, for an address that is not limited to administrators.
pub fn metrics_router(handle: Handle, names: Arc<dyn Names>, ready: Arc<AtomicBool>) -> Router {
    finish(metrics::routes().into(), Shared { handle, names, ready })
}

fn finish(router: Router<Shared>, shared: Shared) -> Router {
    router.fallback(problem::no_route).method_not_allowed_fallback(problem::no_method).with_state(shared)
}

#[cfg(test)]
mod tests;
