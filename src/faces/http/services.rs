//! `/v1/services` and `/v1/members`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, find};
use crate::api::v1::{ChangeMember, CreateService, ErrorBody, Member, Service, UpdateService, text};
use crate::faces::shared::server::extract::{Body, Segments};
use crate::faces::shared::server::problem::Problem;
use crate::model::request::ServiceSpec;

/// How often an update is made anew because another one came in between.
const TRIES: usize = 8;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_services, create_service))
        .routes(routes!(service, update_service, remove_service))
        .routes(routes!(members))
        .routes(routes!(change_member))
}

/// Every service, by name: those that were created, and those that follow from the labels of containers.
#[utoipa::path(get, path = "/v1/services", tag = "services",
    responses((status = 200, body = [Service], description = "Sorted by name")))]
async fn list_services(State(shared): State<Shared>) -> Json<Vec<Service>> {
    Json(find::services(&shared.handle.snapshot()))
}

/// Creates a service. When the reply arrives, its name resolves, and its virtual addresses and ports answer.
#[utoipa::path(post, path = "/v1/services", tag = "services", request_body = CreateService,
    responses(
        (status = 201, body = Service, description = "Created", links(
            ("service" = (operation_id = "service", parameters(("name" = "$response.body#/name")))),
            ("update_service" = (operation_id = "update_service", parameters(("name" = "$response.body#/name")))),
            ("members" = (operation_id = "members", parameters(("name" = "$response.body#/name")))),
            ("remove_service" = (operation_id = "remove_service", parameters(("name" = "$response.body#/name")))))),
        (status = 400, body = ErrorBody, description = "Invalid request, or a network cannot have the service"),
        (status = 404, body = ErrorBody, description = "No such network"),
        (status = 409, body = ErrorBody, description = "The name or a port is taken, or no address is left")))]
async fn create_service(
    State(shared): State<Shared>,
    Body(request): Body<CreateService>,
) -> Result<(StatusCode, Json<Service>), Problem> {
    let service = shared.handle.create_service(ServiceSpec::try_from(request)?).await?;
    Ok((StatusCode::CREATED, Json(Service::new(&shared.handle.snapshot().desired, &service))))
}

/// One service.
#[utoipa::path(get, path = "/v1/services/{name}", tag = "services",
    params(("name" = inline(text::AnyService), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = Service, description = "The service"),
        (status = 404, body = ErrorBody, description = "No such service")))]
async fn service(State(shared): State<Shared>, Segments(name): Segments<String>) -> Result<Json<Service>, Problem> {
    let snapshot = shared.handle.snapshot();
    Ok(Json(Service::new(&snapshot.desired, find::service(&snapshot, &name)?.as_ref())))
}

/// Updates a service: what is given changes, all or nothing. When the reply arrives, names, addresses and ports follow.
#[utoipa::path(patch, path = "/v1/services/{name}", tag = "services", request_body = UpdateService,
    params(("name" = inline(text::AnyService), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = Service, description = "The service as it is now"),
        (status = 400, body = ErrorBody, description = "Invalid request, or a network cannot have the service"),
        (status = 404, body = ErrorBody, description = "No such service or network"),
        (status = 409, body = ErrorBody,
            description = "Another version than the given one, a port is taken, or the service follows from labels")))]
async fn update_service(
    State(shared): State<Shared>,
    Segments(name): Segments<String>,
    Body(request): Body<UpdateService>,
) -> Result<Json<Service>, Problem> {
    let mut tries = if request.version.is_some() { 1 } else { TRIES };
    loop {
        let seen = find::service(&shared.handle.snapshot(), &name)?;
        tries -= 1;
        match shared.handle.update_service(request.clone().of(&seen)?).await {
            Err(error) if error.is_out_of_sequence() && tries > 0 => {}
            updated => return Ok(Json(Service::new(&shared.handle.snapshot().desired, updated?.as_ref()))),
        }
    }
}

/// Removes a service. Its members stay connected.
#[utoipa::path(delete, path = "/v1/services/{name}", tag = "services",
    params(("name" = inline(text::AnyService), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, body = ErrorBody, description = "No such service"),
        (status = 409, body = ErrorBody, description = "It follows from the labels of its containers")))]
async fn remove_service(State(shared): State<Shared>, Segments(name): Segments<String>) -> Result<StatusCode, Problem> {
    shared.handle.remove_service(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The members of a service, with their states.
#[utoipa::path(get, path = "/v1/services/{name}/members", tag = "services",
    params(("name" = inline(text::AnyService), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = [Member], description = "In the order in which they were connected"),
        (status = 404, body = ErrorBody, description = "No such service")))]
async fn members(State(shared): State<Shared>, Segments(name): Segments<String>) -> Result<Json<Vec<Member>>, Problem> {
    let snapshot = shared.handle.snapshot();
    let service = find::service(&snapshot, &name)?;
    let members = snapshot.desired.members(&service);
    Ok(Json(members.map(|member| Member::new(&service.name, member)).collect()))
}

/// Says of a container, as a member of all its services, that it is drained, ready or not. When the reply arrives, names
/// and connections follow. What is said ends with the container.
#[utoipa::path(post, path = "/v1/members/{container}", tag = "services", request_body = ChangeMember,
    params(("container" = inline(text::AnyContainer), Path, description = "Name, id or unique beginning of the id")),
    responses(
        (status = 200, body = [Member], description = "What it is in each of its services now"),
        (status = 400, body = ErrorBody, description = "Invalid request, or it is a member of no service"),
        (status = 404, body = ErrorBody, description = "No such container")))]
async fn change_member(
    State(shared): State<Shared>,
    Segments(container): Segments<String>,
    Body(request): Body<ChangeMember>,
) -> Result<Json<Vec<Member>>, Problem> {
    let attached = shared.handle.change_member(request.of(&container)?).await?;
    Ok(Json(find::memberships(&shared.handle.snapshot(), &attached)))
}
