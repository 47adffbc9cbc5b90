//! Query logs: switching them on and off, listing them, and reading their entries, once or continuously.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, find};
use crate::api::v1::{ContainerRef, ErrorBody, LoggedContainer, LoggedQuery, text};
use crate::base::clock;
use crate::engine::ErrorKind;
use crate::engine::telemetry::{Entry, Logged, Origin};
use crate::faces::shared::server::budget::Stopping;
use crate::faces::shared::server::extract::{Params, Segments, Stream as Share};
use crate::faces::shared::server::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, switch_on, switch_off))
}

/// The containers whose queries are logged, by name.
#[utoipa::path(get, path = "/v1/dns/log", operation_id = "list_query_logs", tag = "dns",
    responses((status = 200, body = Vec<LoggedContainer>, description = "May be empty")))]
async fn list(State(shared): State<Shared>) -> Json<Vec<LoggedContainer>> {
    let mut logs: Vec<_> = shared.handle.telemetry().log.now().values().map(publish).collect();
    logs.sort_by(|one, other| one.container.name.cmp(&other.container.name));
    Json(logs)
}

/// Logs a container's queries from now on, until logging is switched off, the container is gone, or the daemon stops.
#[utoipa::path(put, path = "/v1/dns/log/{container}", operation_id = "switch_query_log_on", tag = "dns",
    params(("container" = inline(text::AnyContainer), Path, description = "Name, id or beginning of the id")),
    responses(
        (status = 200, body = LoggedContainer, description = "The queries are logged, also if they were before", links(
            ("show" = (operation_id = "show_query_log", parameters(("container" = "$response.body#/container/name")))),
            ("off" = (operation_id = "switch_query_log_off", parameters(("container" = "$response.body#/container/name")))))),
        (status = 404, body = ErrorBody, description = "No such container")))]
async fn switch_on(
    State(shared): State<Shared>,
    Segments(text): Segments<String>,
) -> Result<Json<LoggedContainer>, Problem> {
    let attached = find::container(&shared.handle.snapshot(), &text)?;
    let logged = shared.handle.telemetry().log.switch_on(&attached.container, clock::now());
    Ok(Json(publish(&logged)))
}

/// Stops logging a container's queries, and deletes the entries.
#[utoipa::path(delete, path = "/v1/dns/log/{container}", operation_id = "switch_query_log_off", tag = "dns",
    params(("container" = inline(text::AnyContainer), Path, description = "Name, id or beginning of the id")),
    responses(
        (status = 204, description = "The queries are not logged, also if they were not before"),
        (status = 404, body = ErrorBody, description = "No such container")))]
async fn switch_off(State(shared): State<Shared>, Segments(text): Segments<String>) -> Result<StatusCode, Problem> {
    let attached = find::container(&shared.handle.snapshot(), &text)?;
    shared.handle.telemetry().log.switch_off(&attached.container.id);
    Ok(StatusCode::NO_CONTENT)
}

/// How to show a log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct How {
    /// Continue with every further entry, one JSON line each, until logging is switched off.
    #[serde(default)]
    follow: bool,
}

/// The logged queries of a container, oldest first; only the last entries are kept.
#[utoipa::path(get, path = "/v1/dns/log/{container}", operation_id = "show_query_log", tag = "dns",
    params(("container" = inline(text::AnyContainer), Path, description = "Name, id or beginning of the id"), How),
    responses(
        (status = 200, content(
            (Vec<LoggedQuery> = "application/json"),
            (LoggedQuery = "application/x-ndjson")),
            description = "An array; with `follow` one entry per line"),
        (status = 404, body = ErrorBody, description = "No such container, or its queries are not logged")))]
async fn show(
    State(shared): State<Shared>,
    Segments(text): Segments<String>,
    Params(how): Params<How>,
    stopping: Option<Extension<Stopping>>,
    share: Share,
) -> Result<Response, Problem> {
    let container = &find::container(&shared.handle.snapshot(), &text)?.container;
    let logged = shared.handle.telemetry().log.of(&container.id).ok_or_else(|| {
        let name = &container.name;
        let message = format!("the queries of container {name} are not logged: see `netd dns log on {name}`");
        Problem::new(ErrorKind::NotFound, message)
    })?;
    let name = container.name.to_string();
    if !how.follow {
        let entries: Vec<LoggedQuery> = logged.recent().iter().map(|entry| published(entry, &name)).collect();
        return Ok(Json(entries).into_response());
    }
    // Without [`Stopping`], which `serve` adds, the stream ends only when its client closes it.
    let stopping = stopping.map(|Extension(stopping)| stopping).unwrap_or_default();
    let body = Body::from_stream(follow(&logged, name, stopping).map(move |line| {
        let _open = &share;
        line
    }));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The lines of a log from its first entry on. Holds no reference to the log, so that the stream ends with it.
fn follow(logged: &Logged, name: String, stopping: Stopping) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let (before, live) = logged.follow();
    let before = stream::iter(before).map(Ok);
    // Entries that a slow follower misses are dropped; the next entry reports their number.
    let entries = before.chain(BroadcastStream::new(live)).take_until(Box::pin(stopping.stopped()));
    let lines = entries.scan(0, move |missed, entry| {
        let line = match entry {
            Ok(entry) => {
                let mut query = published(&entry, &name);
                query.dropped_before += std::mem::take(missed);
                Some(Ok(line(&query)))
            }
            Err(BroadcastStreamRecvError::Lagged(entries)) => {
                *missed += entries;
                None
            }
        };
        std::future::ready(Some(line))
    });
    lines.filter_map(std::future::ready)
}

fn line(query: &LoggedQuery) -> Bytes {
    // Plain structs of strings and numbers always serialize.
    let mut line = serde_json::to_vec(query).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn publish(logged: &Arc<Logged>) -> LoggedContainer {
    LoggedContainer {
        container: ContainerRef::from(&logged.container),
        since: humantime::format_rfc3339_seconds(logged.since).to_string(),
        entries: logged.recent().len(),
        dropped: logged.dropped(),
    }
}

/// The published form of an entry.
fn published(entry: &Entry, container: &str) -> LoggedQuery {
    LoggedQuery {
        time: humantime::format_rfc3339_micros(entry.time).to_string(),
        container: container.to_owned(),
        transport: entry.transport.into(),
        name: entry.name.clone(),
        kind: entry.kind.clone(),
        rcode: entry.code.clone(),
        answers: entry.answers.clone(),
        answer_count: entry.answer_count,
        source: entry.origin.as_str().into(),
        server: match entry.origin {
            Origin::Upstream(server) => Some(server.to_string()),
            _ => None,
        },
        duration_us: u64::try_from(entry.duration.as_micros()).unwrap_or(u64::MAX),
        dropped_before: entry.dropped_before,
    }
}
