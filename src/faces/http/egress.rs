//! Egress: what containers have asked and been denied.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, find};
use crate::api::v1::{EgressLine, ErrorBody, rfc3339, text};
use crate::engine::telemetry::egress::{Line, What};
use crate::faces::shared::server::extract::Segments;
use crate::faces::shared::server::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(log))
}

/// What a container with a stance about egress has asked and been denied since it was connected or the daemon started, the
/// most recent last: at most 500 lines. Denied packets are counted every 10 s.
#[utoipa::path(get, path = "/v1/egress/{container}/log", operation_id = "show_egress_log", tag = "egress",
    params(("container" = inline(text::AnyContainer), Path, description = "Name, id or beginning of the id")),
    responses(
        (status = 200, body = Vec<EgressLine>, description = "Empty for a container without a stance"),
        (status = 404, body = ErrorBody, description = "No such container")))]
async fn log(State(shared): State<Shared>, Segments(text): Segments<String>) -> Result<Json<Vec<EgressLine>>, Problem> {
    let attached = find::container(&shared.handle.snapshot(), &text)?;
    let lines = shared.handle.telemetry().egress.log(&attached.container.id);
    Ok(Json(lines.into_iter().map(publish).collect()))
}

fn publish(line: Line) -> EgressLine {
    let time = |time: SystemTime| rfc3339(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let Line { what, count, first, last } = line;
    let (verdict, name, kind, to, service) = match what {
        What::Asked { name, kind, verdict } => (verdict.as_str(), Some(name), Some(kind), None, None),
        What::Sent { to, service, name } => ("denied", name, None, Some(to.to_string()), Some(service)),
    };
    EgressLine { verdict: verdict.into(), name, kind, to, service, count, first: time(first), last: time(last) }
}
