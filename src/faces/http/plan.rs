//! `/v1/plan`.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use crate::api::v1::{ErrorBody, PlanRequest, PlannedStep};
use crate::engine::{Planned, Request};
use crate::faces::shared::server::extract::Body;
use crate::faces::shared::server::problem::Problem;
use crate::model::request::NetworkSpec;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(plan))
}

/// Plans a request without carrying it out. Addresses, IPv6 prefixes, names and ports that netd chooses may differ when
/// it is carried out later.
#[utoipa::path(post, path = "/v1/plan", tag = "plan", request_body = PlanRequest,
    responses(
        (status = 200, body = [PlannedStep], description = "The changes that the request would make, in order"),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 404, body = ErrorBody, description = "No such network or container"),
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
        PlanRequest::Disconnect { network, container } => Request::Disconnect { network, container },
    };
    let planned = shared.handle.plan(request).await?.into_iter();
    Ok(Json(planned.map(|Planned { action, text }| PlannedStep { action: action.into(), text }).collect()))
}
