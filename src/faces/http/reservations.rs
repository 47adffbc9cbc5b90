//! Reservations: `/v1/networks/{name}/reservations` and `/v1/reservations`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, find};
use crate::api::v1::{ErrorBody, Reservation, Reserve, text};
use crate::faces::shared::server::extract::{Body, Segments};
use crate::faces::shared::server::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(network_reservations, reserve))
        .routes(routes!(reservations))
        .routes(routes!(reservation, release_reservation))
}

/// The reservations on one network.
#[utoipa::path(get, path = "/v1/networks/{name}/reservations", tag = "reservations",
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = [Reservation], description = "Sorted by id"),
        (status = 404, body = ErrorBody, description = "No such network")))]
async fn network_reservations(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
) -> Result<Json<Vec<Reservation>>, Problem> {
    let snapshot = shared.handle.snapshot();
    let network = find::network(&snapshot, &name)?;
    let of_network = snapshot.desired.reservations_of(&network.name);
    Ok(Json(of_network.map(|reservation| reservation.as_ref().into()).collect()))
}

/// Reserves addresses, a MAC address and host ports for a container that has no network namespace yet. When the reply
/// arrives, nobody else gets them, and the host ports are held. A reservation ends with the boot.
#[utoipa::path(post, path = "/v1/networks/{name}/reservations", tag = "reservations", request_body = Reserve,
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 201, body = Reservation, description = "Reserved; a container can be connected with it", links(
            ("reservation" = (operation_id = "reservation", parameters(("id" = "$response.body#/id")))),
            ("release" = (operation_id = "release_reservation", parameters(("id" = "$response.body#/id")))))),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 404, body = ErrorBody, description = "No such network"),
        (status = 409, body = ErrorBody, description = "The id, an address or port is taken, or the network is full")))]
async fn reserve(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
    Body(request): Body<Reserve>,
) -> Result<(StatusCode, Json<Reservation>), Problem> {
    let reservation = shared.handle.reserve(request.into_spec(&name)?).await?;
    Ok((StatusCode::CREATED, Json(reservation.as_ref().into())))
}

/// Every reservation.
#[utoipa::path(get, path = "/v1/reservations", tag = "reservations",
    responses((status = 200, body = [Reservation], description = "Sorted by id")))]
async fn reservations(State(shared): State<Shared>) -> Json<Vec<Reservation>> {
    let snapshot = shared.handle.snapshot();
    Json(snapshot.desired.reservations().map(|reservation| reservation.as_ref().into()).collect())
}

/// One reservation.
#[utoipa::path(get, path = "/v1/reservations/{id}", tag = "reservations",
    params(("id" = inline(text::ReservationId), Path, description = "The whole id")),
    responses(
        (status = 200, body = Reservation, description = "The reservation"),
        (status = 404, body = ErrorBody, description = "No such reservation, or a container was connected with it")))]
async fn reservation(
    State(shared): State<Shared>,
    Segments(id): Segments<String>,
) -> Result<Json<Reservation>, Problem> {
    Ok(Json(find::reservation(&shared.handle.snapshot(), &id)?.as_ref().into()))
}

/// Releases a reservation. When the reply arrives, others can have its addresses, MAC address and ports.
#[utoipa::path(delete, path = "/v1/reservations/{id}", tag = "reservations",
    params(("id" = inline(text::ReservationId), Path, description = "The whole id")),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, body = ErrorBody, description = "No such reservation, or a container was connected with it")))]
async fn release_reservation(
    State(shared): State<Shared>,
    Segments(id): Segments<String>,
) -> Result<StatusCode, Problem> {
    shared.handle.release_reservation(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
