//! The state of the daemon itself: status and dump.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, find};
use crate::api::v1::{Dump, Status};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(dump))
}

/// The state of the daemon: readiness, counts, problems.
#[utoipa::path(get, path = "/v1/status", tag = "daemon",
    responses((status = 200, body = Status, description = "Returned even if the daemon is not ready")))]
async fn status(State(shared): State<Shared>) -> Json<Status> {
    let snapshot = shared.handle.snapshot();
    let (networks, containers, endpoints) = snapshot.desired.counts();
    Json(Status {
        ready: shared.is_ready(),
        version: env!("CARGO_PKG_VERSION").into(),
        networks,
        containers,
        endpoints,
        publications: snapshot.desired.containers().map(|attached| attached.publications().count()).sum(),
        reservations: snapshot.desired.reservations().len(),
        services: snapshot.desired.services().len(),
        problems: snapshot.problems.clone(),
        firewall: snapshot.firewall.iter().map(Into::into).collect(),
        kept_apart: snapshot.transit.as_ref().into(),
    })
}

/// Everything, sorted.
#[utoipa::path(get, path = "/v1/dump", tag = "daemon",
    responses((status = 200, body = Dump, description = "One consistent state")))]
async fn dump(State(shared): State<Shared>) -> Json<Dump> {
    let snapshot = shared.handle.snapshot();
    let mut problems = snapshot.problems.clone();
    problems.sort();
    Json(Dump {
        revision: snapshot.revision,
        networks: find::networks(&snapshot),
        containers: find::sorted_containers(&snapshot),
        endpoints: find::sorted_endpoints(&snapshot, snapshot.desired.endpoints()),
        reservations: snapshot.desired.reservations().map(|reservation| reservation.as_ref().into()).collect(),
        services: find::services(&snapshot),
        members: find::members(&snapshot),
        problems,
    })
}
