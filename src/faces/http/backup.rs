//! `/v1/backup` and `/v1/restore`: the definitions of the host.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use crate::api::v1::{Backup, ErrorBody, PolicyRule, Restored};
use crate::base::clock;
use crate::faces::shared::server::extract::Body;
use crate::faces::shared::server::problem::Problem;

/// Largest backup in bytes: a thousand networks, the sticky addresses of ten, or five thousand services.
const BACKUP_MAX: usize = 4 << 20;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(back_up)).routes(routes!(restore))
}

/// The definitions of the host: networks, the addresses that they keep for names, and services. Containers and reservations
/// end with the boot and are not part of it.
#[utoipa::path(get, path = "/v1/backup", tag = "daemon",
    responses((status = 200, body = Backup, description = "One consistent state, for `POST /v1/restore`")))]
async fn back_up(State(shared): State<Shared>) -> Result<Json<Backup>, Problem> {
    let backup = shared.handle.backup().await?;
    Ok(Json(Backup::new(backup, env!("CARGO_PKG_VERSION"), clock::unix_seconds())))
}

/// Restores definitions: all or none. A network or a service that is there as the backup has it stays as it is.
#[utoipa::path(post, path = "/v1/restore", tag = "daemon", request_body = Backup,
    responses(
        (status = 200, body = Restored, description = "All of the backup is there"),
        (status = 400, body = ErrorBody, description = "Invalid backup; nothing was changed"),
        (status = 404, body = ErrorBody, description = "A service is on a network that is not there; nothing was changed"),
        (status = 409, body = ErrorBody,
            description = "Something is there otherwise, or a subnet, address or port is taken; nothing was changed")))]
async fn restore(
    State(shared): State<Shared>,
    Body(backup): Body<Backup, BACKUP_MAX>,
) -> Result<Json<Restored>, Problem> {
    let restored = shared.handle.restore(backup.try_into()?).await?;
    let names = |names: Vec<_>| names.into_iter().map(String::from).collect();
    let of_services = |names: Vec<_>| names.into_iter().map(String::from).collect();
    Ok(Json(Restored {
        networks: names(restored.networks),
        unchanged: names(restored.unchanged),
        services: of_services(restored.services),
        unchanged_services: of_services(restored.unchanged_services),
        policies: restored.policies.iter().map(PolicyRule::from).collect(),
    }))
}
