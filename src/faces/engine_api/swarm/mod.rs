//! Docker's swarm commands: a swarm of one node, its services and their tasks (moby, daemon/cluster; swarmkit,
//! manager/controlapi). netd answers all of them itself, whichever engine runs the containers.

mod cluster;
mod constraints;
mod logs;
mod networks;
mod nodes;
mod ports;
mod service_json;
mod services;
mod spec;
mod supported;
mod task_json;
mod tasks;

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::failure::{Failure, json_reply};
use super::{Asked, EngineApi};

/// The first segments of the paths.
pub(super) const PATHS: [&str; 6] = ["swarm", "nodes", "services", "tasks", "secrets", "configs"];

/// Answers a request to one of [`PATHS`].
pub(super) async fn dispatch(
    api: &Arc<EngineApi>,
    asked: &Asked,
    request: Request,
    parts: &[&str],
) -> Result<Response, Failure> {
    let method = request.method().clone();
    match (&method, parts) {
        (&Method::GET, ["swarm"]) => api.inspect_swarm(),
        (&Method::POST, ["swarm", "init"]) => api.init_swarm(request).await,
        (&Method::POST, ["swarm", "join"]) => api.join_swarm(request).await,
        (&Method::POST, ["swarm", "leave"]) => api.leave_swarm(asked).await,
        (&Method::POST, ["swarm", "update"]) => api.update_swarm(asked, request).await,
        (&Method::GET, ["swarm", "unlockkey"]) => {
            api.in_swarm()?;
            Ok(json_reply(StatusCode::OK, &json!({"UnlockKey": ""})))
        }
        (&Method::POST, ["swarm", "unlock"]) => {
            api.swarm().ok_or_else(|| Failure::new(StatusCode::SERVICE_UNAVAILABLE, NOT_PART))?;
            Err(Failure::new(StatusCode::CONFLICT, "swarm is not locked"))
        }
        (&Method::GET, ["nodes"]) => api.list_nodes(asked).await,
        (&Method::GET, ["nodes", id]) => api.inspect_node(id).await,
        (&Method::POST, ["nodes", id, "update"]) => api.update_node(asked, id, request).await,
        (&Method::DELETE, ["nodes", id]) => api.remove_node(id),
        (&Method::GET, ["services"]) => api.list_services(asked).await,
        (&Method::POST, ["services", "create"]) => api.create_service(asked, request).await,
        (&Method::GET, ["services", id]) => api.inspect_service(id).await,
        (&Method::POST, ["services", id, "update"]) => api.update_service(asked, id, request).await,
        (&Method::DELETE, ["services", id]) => api.remove_service(id).await,
        (&Method::GET, ["services", id, "logs"]) => api.service_logs(asked, id, request).await,
        (&Method::GET, ["tasks"]) => api.list_tasks(asked).await,
        (&Method::GET, ["tasks", id]) => api.inspect_task(id).await,
        (&Method::GET, ["tasks", id, "logs"]) => api.task_logs(asked, id, request).await,
        (_, [kind @ ("secrets" | "configs"), rest @ ..]) => {
            // Who is answered before all of it is sent may find the connection closed, and no answer.
            let _ = to_bytes(request.into_body(), SECRET_MAX).await;
            secrets(api, &method, kind, rest)
        }
        _ => Err(Failure::no_page()),
    }
}

/// Bytes of a request to make a secret or a config, which Docker limits to 500 and 1,000 KiB, encoded.
const SECRET_MAX: usize = 2 << 20;
/// What Docker says to a node that is in no swarm and is to leave it, or to be unlocked.
const NOT_PART: &str = "This node is not part of a swarm";

/// Secrets and configs: there are none.
fn secrets(api: &EngineApi, method: &Method, kind: &str, rest: &[&str]) -> Result<Response, Failure> {
    api.in_swarm()?;
    let one = kind.trim_end_matches('s');
    match (method, rest) {
        (&Method::GET, []) => Ok(json_reply(StatusCode::OK, &json!([]))),
        (&Method::POST, ["create"]) => {
            Err(Failure::unsupported(format!("{kind}: give the task a file with a bind mount or a volume")))
        }
        (_, [name, ..]) => Err(Failure::new(StatusCode::NOT_FOUND, format!("{one} {name} not found"))),
        _ => Err(Failure::no_page()),
    }
}

/// A failure of swarmkit, as Docker words it.
fn grpc(status: StatusCode, code: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(status, format!("rpc error: code = {code} desc = {why}"))
}

/// An invalid request, as swarmkit words it.
fn invalid(why: impl std::fmt::Display) -> Failure {
    grpc(StatusCode::BAD_REQUEST, "InvalidArgument", why)
}

/// The version in the query of an update.
fn version_of(asked: &Asked, what: &str) -> Result<u64, Failure> {
    let text = asked.query("version").unwrap_or_default();
    let wrong = || {
        Failure::bad(format!("invalid {what} version '{text}': strconv.ParseUint: parsing {text:?}: invalid syntax"))
    };
    text.parse().map_err(|_| wrong())
}

/// Another update came first.
fn out_of_sequence() -> Failure {
    grpc(StatusCode::INTERNAL_SERVER_ERROR, "Unknown", "update out of sequence")
}

fn empty() -> Response {
    StatusCode::OK.into_response()
}

/// The item that a list has for a whole id, a whole name, or the beginning of ids, in this order.
fn one<T>(mut items: Vec<T>, what: &str, text: &str, key: impl Fn(&T) -> [String; 2]) -> Result<T, Failure> {
    let keys: Vec<[String; 2]> = items.iter().map(key).collect();
    let places = |fits: &dyn Fn(&[String; 2]) -> bool| -> Vec<usize> {
        keys.iter().enumerate().filter(|(_, key)| fits(key)).map(|(place, _)| place).collect()
    };
    let by_id = places(&|[id, _]| id == text);
    let by_name = places(&|[_, name]| name == text);
    let begins = places(&|[id, _]| !text.is_empty() && id.starts_with(text));
    let found = [by_id, by_name, begins].into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    match found.as_slice() {
        [] => Err(Failure::new(StatusCode::NOT_FOUND, format!("{what} {text} not found"))),
        [place] => Ok(items.swap_remove(*place)),
        several => Err(Failure::bad(format!("{what} {text} is ambiguous ({} matches found)", several.len()))),
    }
}

/// A text of a JSON object.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
