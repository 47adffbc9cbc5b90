//! The published ports of a connected container.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use crate::api::v1::{ErrorBody, PublishPort, PublishedPorts, port_change, text};
use crate::faces::shared::server::extract::{Body, Params, Segments};
use crate::faces::shared::server::problem::Problem;
use crate::model::request::{PortAction, PortChange};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(publish_on, unpublish_on)).routes(routes!(publish, unpublish))
}

/// Which port is no longer published.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Unpublish {
    /// The port, as on the command line: `4000:80/tcp`. What is left out means any.
    #[param(value_type = text::PortText, inline)]
    port: String,
    /// Whether existing flows stay; otherwise they end.
    #[serde(default)]
    drain: bool,
}

/// Publishes a port of a connected container. When the reply arrives, the port answers; other flows go on. It leads to
/// the container's address on the network of its default route, and ends with this endpoint.
#[utoipa::path(post, path = "/v1/networks/{name}/endpoints/{container}/ports", tag = "endpoints",
    request_body = PublishPort,
    params(
        ("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id"),
        ("container" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 201, body = PublishedPorts, description = "Published"),
        (status = 400, body = ErrorBody, description = "Invalid request, or a runtime attached the container"),
        (status = 404, body = ErrorBody, description = "No such network, or the container is not on it"),
        (status = 409, body = ErrorBody, description = "The port is taken; the message names its holder")))]
async fn publish_on(
    State(shared): State<Shared>,
    Segments((name, container)): Segments<(String, String)>,
    Body(request): Body<PublishPort>,
) -> Result<(StatusCode, Json<PublishedPorts>), Problem> {
    add(&shared, port_change(&container, Some(&name), request.port.spec()?, PortAction::Publish)?).await
}

/// Stops publishing a port of a connected container. When the reply arrives, the port is free.
#[utoipa::path(delete, path = "/v1/networks/{name}/endpoints/{container}/ports", tag = "endpoints",
    params(
        ("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id"),
        ("container" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id"),
        Unpublish),
    responses(
        (status = 204, description = "No longer published"),
        (status = 400, body = ErrorBody, description = "Invalid or ambiguous port"),
        (status = 404, body = ErrorBody, description = "No such network, or the container does not publish it there")))]
async fn unpublish_on(
    State(shared): State<Shared>,
    Segments((name, container)): Segments<(String, String)>,
    Params(Unpublish { port, drain }): Params<Unpublish>,
) -> Result<StatusCode, Problem> {
    remove(&shared, port_change(&container, Some(&name), port.parse()?, PortAction::Unpublish { drain })?).await
}

/// Publishes a port of a connected container, with its network of the default route.
#[utoipa::path(post, path = "/v1/containers/{name}/ports", tag = "containers", request_body = PublishPort,
    params(("name" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 201, body = PublishedPorts, description = "Published"),
        (status = 400, body = ErrorBody, description = "Invalid request, or a runtime attached the container"),
        (status = 404, body = ErrorBody, description = "No such container"),
        (status = 409, body = ErrorBody, description = "The port is taken; the message names its holder")))]
async fn publish(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
    Body(request): Body<PublishPort>,
) -> Result<(StatusCode, Json<PublishedPorts>), Problem> {
    add(&shared, port_change(&name, None, request.port.spec()?, PortAction::Publish)?).await
}

/// Stops publishing a port of a connected container, whichever network it is published with.
#[utoipa::path(delete, path = "/v1/containers/{name}/ports", tag = "containers",
    params(("name" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id"), Unpublish),
    responses(
        (status = 204, description = "No longer published"),
        (status = 400, body = ErrorBody, description = "Invalid or ambiguous port"),
        (status = 404, body = ErrorBody, description = "No such container, or it does not publish the port")))]
async fn unpublish(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
    Params(Unpublish { port, drain }): Params<Unpublish>,
) -> Result<StatusCode, Problem> {
    remove(&shared, port_change(&name, None, port.parse()?, PortAction::Unpublish { drain })?).await
}

async fn add(shared: &Shared, change: PortChange) -> Result<(StatusCode, Json<PublishedPorts>), Problem> {
    let (endpoint, added) = shared.handle.change_port(change).await?;
    Ok((StatusCode::CREATED, Json(PublishedPorts::of(&endpoint, &added))))
}

async fn remove(shared: &Shared, change: PortChange) -> Result<StatusCode, Problem> {
    shared.handle.change_port(change).await?;
    Ok(StatusCode::NO_CONTENT)
}
