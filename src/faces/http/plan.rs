//! `/v1/plan` and `/v1/diff`.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, find};
use crate::api::v1::{self, ChangeMember, ErrorBody, PlanRequest, PlannedStep, port_change};
use crate::engine::{Difference, Planned, Request};
use crate::faces::shared::server::extract::Body;
use crate::faces::shared::server::problem::Problem;
use crate::model::request::{NetworkSpec, PortAction, ServiceSpec};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(plan)).routes(routes!(diff))
}

/// Lists the differences between what netd made and what is there. Changes nothing; netd repairs by itself. While it
/// looks into each container, which takes about half a millisecond, other requests wait.
#[utoipa::path(get, path = "/v1/diff", tag = "plan",
    responses((status = 200, body = [v1::Difference], description = "Every difference; empty if there is none")))]
async fn diff(State(shared): State<Shared>) -> Result<Json<Vec<v1::Difference>>, Problem> {
    let found = shared.handle.diff().await?.into_iter();
    let shown = found.map(|Difference { kind, object, text }| v1::Difference { kind: kind.into(), object, text });
    Ok(Json(shown.collect()))
}

/// Plans a request without carrying it out. Addresses, IPv6 prefixes, names and ports that netd chooses may differ when
/// it is carried out later.
#[utoipa::path(post, path = "/v1/plan", tag = "plan", request_body = PlanRequest,
    responses(
        (status = 200, body = [PlannedStep], description = "The changes that the request would make, in order"),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 404, body = ErrorBody, description = "No such network, container, reservation or service"),
        (status = 409, body = ErrorBody, description = "The request would be refused")))]
async fn plan(
    State(shared): State<Shared>,
    Body(request): Body<PlanRequest>,
) -> Result<Json<Vec<PlannedStep>>, Problem> {
    let request = match request {
        PlanRequest::CreateNetwork(network) => Request::CreateNetwork(Box::new(NetworkSpec::try_from(*network)?)),
        PlanRequest::RemoveNetwork(network) => Request::RemoveNetwork(network),
        PlanRequest::PruneNetworks(_) => Request::PruneNetworks,
        PlanRequest::Connect { network, endpoint } => Request::Connect(Box::new(endpoint.into_spec(&network)?)),
        PlanRequest::Disconnect { network, container, keep } => Request::Disconnect { network, container, keep },
        PlanRequest::PublishPort { container, network, port } => {
            let change = port_change(&container, network.as_deref(), port.spec()?, PortAction::Publish)?;
            Request::ChangePort(Box::new(change))
        }
        PlanRequest::UnpublishPort { container, network, port, drain } => {
            let change = port_change(&container, network.as_deref(), port.spec()?, PortAction::Unpublish { drain })?;
            Request::ChangePort(Box::new(change))
        }
        PlanRequest::Reserve { network, reservation } => Request::Reserve(Box::new(reservation.into_spec(&network)?)),
        PlanRequest::ReleaseReservation(id) => Request::ReleaseReservation(id),
        PlanRequest::CreateService(service) => Request::CreateService(Box::new(ServiceSpec::try_from(*service)?)),
        PlanRequest::UpdateService { service, update } => {
            let seen = find::service(&shared.handle.snapshot(), &service)?;
            Request::UpdateService(Box::new(update.of(&seen)?))
        }
        PlanRequest::RemoveService(service) => Request::RemoveService(service),
        PlanRequest::ChangePolicies(change) => Request::ChangePolicies(Box::new(change.into_change()?)),
        PlanRequest::ChangeMember { container, action } => {
            Request::ChangeMember(Box::new(ChangeMember { action }.of(&container)?))
        }
    };
    let planned = shared.handle.plan(request).await?.into_iter();
    Ok(Json(planned.map(|Planned { action, text }| PlannedStep { action: action.into(), text }).collect()))
}
