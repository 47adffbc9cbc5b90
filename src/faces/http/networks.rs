//! `/v1/networks`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, find};
use crate::api::v1::{CreateNetwork, ErrorBody, NameServers, Network, Pruned, Renumber, text};
use crate::faces::shared::server::extract::{Body, Segments};
use crate::faces::shared::server::problem::Problem;
use crate::model::request::NetworkSpec;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    // A network may be named "prune": only POST has another meaning there.
    let called_prune = || Segments("prune".to_owned());
    let of_that_name =
        get(move |state| network(state, called_prune())).delete(move |state| remove_network(state, called_prune()));
    OpenApiRouter::new()
        .routes(routes!(list_networks, create_network))
        .routes(routes!(network, remove_network))
        .routes(routes!(room))
        .routes(routes!(name_servers))
        .routes(routes!(renumber))
        .routes(routes!(prune_networks))
        .route("/v1/networks/prune", of_that_name)
}

/// Every network, by name.
#[utoipa::path(get, path = "/v1/networks", tag = "networks",
    responses((status = 200, body = [Network], description = "Sorted by name")))]
async fn list_networks(State(shared): State<Shared>) -> Json<Vec<Network>> {
    Json(find::networks(&shared.handle.snapshot()))
}

/// Creates a network.
#[utoipa::path(post, path = "/v1/networks", tag = "networks", request_body = CreateNetwork,
    responses(
        (status = 201, body = Network, description = "Created; containers can be connected", links(
            ("network" = (operation_id = "network", parameters(("name" = "$response.body#/name")))),
            ("remove" = (operation_id = "remove_network", parameters(("name" = "$response.body#/name")))),
            ("endpoints" = (operation_id = "network_endpoints", parameters(("name" = "$response.body#/name")))),
            ("connect" = (operation_id = "connect", parameters(("name" = "$response.body#/name")))),
            ("reserve" = (operation_id = "reserve", parameters(("name" = "$response.body#/name")))),
            ("room" = (operation_id = "room", parameters(("name" = "$response.body#/name")))),
            ("renumber" = (operation_id = "renumber", parameters(("name" = "$response.body#/name")))),
            ("name_servers" = (operation_id = "name_servers", parameters(("name" = "$response.body#/name")))))),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 409, body = ErrorBody, description = "Name or subnet is taken, or the pools are exhausted")))]
async fn create_network(
    State(shared): State<Shared>,
    Body(request): Body<CreateNetwork>,
) -> Result<(StatusCode, Json<Network>), Problem> {
    let network = shared.handle.create_network(NetworkSpec::try_from(request)?).await?;
    Ok((StatusCode::CREATED, Json(Network::new(&network, [].into_iter()))))
}

/// One network.
#[utoipa::path(get, path = "/v1/networks/{name}", tag = "networks",
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = Network, description = "The network"),
        (status = 404, body = ErrorBody, description = "No such network")))]
async fn network(State(shared): State<Shared>, Segments(name): Segments<String>) -> Result<Json<Network>, Problem> {
    let snapshot = shared.handle.snapshot();
    let network = find::network(&snapshot, &name)?;
    Ok(Json(find::shown(&snapshot, &network)))
}

/// Checks whether another container can be connected.
#[utoipa::path(get, path = "/v1/networks/{name}/room", tag = "networks",
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 204, description = "A container can be connected"),
        (status = 404, body = ErrorBody, description = "No such network"),
        (status = 409, body = ErrorBody, description = "Code `exhausted`: no address or bridge port is left")))]
async fn room(State(shared): State<Shared>, Segments(name): Segments<String>) -> Result<StatusCode, Problem> {
    shared.handle.capacity(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the name servers that are asked for external names of a network's containers, from the next question on.
#[utoipa::path(put, path = "/v1/networks/{name}/dns", tag = "networks", request_body = NameServers,
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = Network, description = "The network"),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 404, body = ErrorBody, description = "No such network")))]
async fn name_servers(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
    Body(request): Body<NameServers>,
) -> Result<Json<Network>, Problem> {
    let network = shared.handle.set_upstreams(&name, request.upstreams()?).await?;
    Ok(Json(find::shown(&shared.handle.snapshot(), &network)))
}

/// Gives a network other subnets of the same lengths. Every address keeps its place in its subnet; the interfaces of the
/// containers are made anew, so open connections end.
#[utoipa::path(post, path = "/v1/networks/{name}/renumber", tag = "networks", request_body = Renumber,
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = Network, description = "The network"),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 404, body = ErrorBody, description = "No such network"),
        (status = 409, body = ErrorBody, description = "Others keep its addresses, or a subnet overlaps")))]
async fn renumber(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
    Body(request): Body<Renumber>,
) -> Result<Json<Network>, Problem> {
    let network = shared.handle.renumber_network(&name, request.subnets()?).await?;
    Ok(Json(find::shown(&shared.handle.snapshot(), &network)))
}

/// Removes a network without containers and reservations.
#[utoipa::path(delete, path = "/v1/networks/{name}", tag = "networks",
    params(("name" = inline(text::AnyNetwork), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, body = ErrorBody, description = "No such network"),
        (status = 409, body = ErrorBody, description = "Containers are connected, or something is reserved on it")))]
async fn remove_network(State(shared): State<Shared>, Segments(name): Segments<String>) -> Result<StatusCode, Problem> {
    shared.handle.remove_network(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes every network without containers and reservations.
#[utoipa::path(post, path = "/v1/networks/prune", tag = "networks",
    responses((status = 200, body = Pruned, description = "The removed networks")))]
async fn prune_networks(State(shared): State<Shared>) -> Result<Json<Pruned>, Problem> {
    let removed = shared.handle.prune_networks().await?;
    Ok(Json(Pruned { removed: removed.into_iter().map(String::from).collect() }))
}
