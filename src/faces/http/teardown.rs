//! `/v1/teardown`.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use crate::api::v1::{ErrorBody, PlannedStep, Teardown};
use crate::engine::Planned;
use crate::faces::shared::server::extract::Body;
use crate::faces::shared::server::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(teardown))
}

/// Removes everything that netd made: endpoints, networks, the firewall table, rules in other programs' tables, files and
/// the store. Afterwards the daemon ends.
#[utoipa::path(post, path = "/v1/teardown", tag = "daemon", request_body = Teardown,
    responses(
        (status = 200, body = [PlannedStep], description = "What was removed, or would be"),
        (status = 500, body = ErrorBody, description = "Something still stands; the request can be repeated")))]
async fn teardown(
    State(shared): State<Shared>,
    Body(request): Body<Teardown>,
) -> Result<Json<Vec<PlannedStep>>, Problem> {
    let removed = shared.handle.teardown(request.dry_run).await?.into_iter();
    Ok(Json(removed.map(|Planned { action, text }| PlannedStep { action: action.into(), text }).collect()))
}
