//! Endpoints and containers.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, find};
use crate::api::v1::{Connect, Container, Endpoint, ErrorBody, Files, text};
use crate::faces::shared::server::extract::{Body, Params, Segments};
use crate::faces::shared::server::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(network_endpoints, connect))
        .routes(routes!(endpoint, disconnect))
        .routes(routes!(endpoints))
        .routes(routes!(containers))
        .routes(routes!(container))
        .routes(routes!(container_files))
}

/// The endpoints of one network.
#[utoipa::path(get, path = "/v1/networks/{name}/endpoints", tag = "endpoints",
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = [Endpoint], description = "Sorted by container name"),
        (status = 404, body = ErrorBody, description = "No such network")))]
async fn network_endpoints(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
) -> Result<Json<Vec<Endpoint>>, Problem> {
    let snapshot = shared.handle.snapshot();
    let network = find::network(&snapshot, &name)?;
    Ok(Json(find::sorted_endpoints(&snapshot, snapshot.desired.endpoints_of(&network.name))))
}

/// Connects a container. When the reply arrives, its name resolves and its ports answer.
#[utoipa::path(post, path = "/v1/networks/{name}/endpoints", tag = "endpoints", request_body = Connect,
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 201, body = Endpoint, description = "Connected", links(
            ("endpoint" = (operation_id = "endpoint", parameters(("name" = "$response.body#/network"), ("container" = "$response.body#/container/name")))),
            ("disconnect" = (operation_id = "disconnect", parameters(("name" = "$response.body#/network"), ("container" = "$response.body#/container/name")))),
            ("publish" = (operation_id = "publish_on", parameters(("name" = "$response.body#/network"), ("container" = "$response.body#/container/name")))),
            ("unpublish" = (operation_id = "unpublish_on", parameters(("name" = "$response.body#/network"), ("container" = "$response.body#/container/name")))),
            ("container" = (operation_id = "container", parameters(("name" = "$response.body#/container/id")))),
            ("files" = (operation_id = "container_files", parameters(("name" = "$response.body#/container/name")))),
            ("log" = (operation_id = "switch_query_log_on", parameters(("container" = "$response.body#/container/name")))))),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 404, body = ErrorBody, description = "No such network, container or reservation"),
        (status = 409, body = ErrorBody, description = "An address, port or name is taken, or the network is full")))]
async fn connect(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
    Body(request): Body<Connect>,
) -> Result<(StatusCode, Json<Endpoint>), Problem> {
    let endpoint = shared.handle.connect(request.into_spec(&name)?).await?;
    Ok((StatusCode::CREATED, Json(endpoint.as_ref().into())))
}

/// One container on one network.
#[utoipa::path(get, path = "/v1/networks/{name}/endpoints/{container}", tag = "endpoints",
    params(
        ("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id"),
        ("container" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = Endpoint, description = "The endpoint"),
        (status = 404, body = ErrorBody, description = "No such network, or the container is not on it")))]
async fn endpoint(
    State(shared): State<Shared>,
    Segments((name, container)): Segments<(String, String)>,
) -> Result<Json<Endpoint>, Problem> {
    Ok(Json(find::endpoint(&shared.handle.snapshot(), &name, &container)?.as_ref().into()))
}

/// How a container is disconnected.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Keep {
    /// The id of the reservation that keeps its addresses, MAC address and ports; absent: they are released.
    #[param(value_type = Option<text::ReservationId>, inline)]
    keep: Option<String>,
}

/// Disconnects a container. When the reply arrives, name, ports, interface and addresses are gone; with `keep`, the host
/// ports stay held, and nobody else gets the addresses.
#[utoipa::path(delete, path = "/v1/networks/{name}/endpoints/{container}", tag = "endpoints",
    params(
        ("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id"),
        ("container" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id"),
        Keep),
    responses(
        (status = 204, description = "Gone"),
        (status = 400, body = ErrorBody, description = "A runtime attached the container: it cannot be kept"),
        (status = 404, body = ErrorBody, description = "No such network, or the container is not on it"),
        (status = 409, body = ErrorBody, description = "A reservation with that id exists")))]
async fn disconnect(
    State(shared): State<Shared>,
    Segments((name, container)): Segments<(String, String)>,
    Params(Keep { keep }): Params<Keep>,
) -> Result<StatusCode, Problem> {
    let keep = keep.map(|id| id.parse()).transpose()?;
    shared.handle.disconnect_keeping(&name, &container, keep).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Every endpoint.
#[utoipa::path(get, path = "/v1/endpoints", tag = "endpoints",
    responses((status = 200, body = [Endpoint], description = "Sorted by network and container name")))]
async fn endpoints(State(shared): State<Shared>) -> Json<Vec<Endpoint>> {
    let snapshot = shared.handle.snapshot();
    Json(find::sorted_endpoints(&snapshot, snapshot.desired.endpoints()))
}

/// Every container.
#[utoipa::path(get, path = "/v1/containers", tag = "containers",
    responses((status = 200, body = [Container], description = "Sorted by name")))]
async fn containers(State(shared): State<Shared>) -> Json<Vec<Container>> {
    Json(find::sorted_containers(&shared.handle.snapshot()))
}

/// One container.
#[utoipa::path(get, path = "/v1/containers/{name}", tag = "containers",
    params(("name" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = Container, description = "The container"),
        (status = 404, body = ErrorBody, description = "No such container")))]
async fn container(State(shared): State<Shared>, Segments(name): Segments<String>) -> Result<Json<Container>, Problem> {
    let snapshot = shared.handle.snapshot();
    let attached = find::container(&snapshot, &name)?;
    Ok(Json(find::shown_container(&snapshot, &attached)))
}

/// The files a container needs to use netd's DNS.
#[utoipa::path(get, path = "/v1/containers/{name}/files", tag = "containers",
    params(("name" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = Files, description = "The contents of the files"),
        (status = 404, body = ErrorBody, description = "No such container")))]
async fn container_files(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
) -> Result<Json<Files>, Problem> {
    let snapshot = shared.handle.snapshot();
    let container = find::container(&snapshot, &name)?;
    Ok(Json(Files { resolv_conf: snapshot.resolv_conf(&container), hosts: snapshot.hosts(&container) }))
}
