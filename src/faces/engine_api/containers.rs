//! `/containers/json`, `/containers/{id}/json` and `/containers/{id}/stats`: containers of the engine with netd's part, or
//! all of netd's containers where there is no engine.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use bollard::models::PortSummary;
use serde_json::Value;

use super::container_json::{inspected, listed, port_list};
use super::failure::{Failure, json_reply};
use super::filters::Filters;
use super::{Asked, EngineApi};
use crate::engine::Snapshot;
use crate::model::desired::{Attached, Lookup};

const FILTERS: [&str; 18] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "annotation",
    "pod",
];

impl EngineApi {
    /// The containers that netd knows. There are no stopped ones.
    pub(super) fn own_containers(&self, asked: &Asked) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS)?;
        let snapshot = self.handle.snapshot();
        let mut found: Vec<&Arc<Attached>> = Vec::new();
        for attached in snapshot.desired.containers() {
            if fits(attached, &snapshot, &filters)? {
                found.push(attached);
            }
        }
        // The newest first, as in Docker.
        let age = |attached: &&Arc<Attached>| attached.endpoints.iter().map(|endpoint| endpoint.sequence).min();
        found.sort_by_key(|attached| std::cmp::Reverse(age(attached)));
        let limit = asked.query("limit").and_then(|limit| limit.parse::<usize>().ok()).filter(|limit| *limit > 0);
        found.truncate(limit.unwrap_or(usize::MAX));
        let shown = found.into_iter().map(|attached| listed(attached, &snapshot, asked.version)).collect();
        Ok(json_reply(StatusCode::OK, &Value::Array(shown)))
    }

    pub(super) fn own_container(&self, asked: &Asked, text: &str) -> Result<Response, Failure> {
        let snapshot = self.handle.snapshot();
        let attached = find(&snapshot, text)?;
        Ok(json_reply(StatusCode::OK, &inspected(&attached, &snapshot, asked.version)))
    }
}

/// The container by name, id or unique beginning of the id.
pub(super) fn find(snapshot: &Snapshot, text: &str) -> Result<Arc<Attached>, Failure> {
    let name = text.strip_prefix('/').unwrap_or(text);
    match snapshot.desired.find_container(name) {
        Lookup::One(attached) => Ok(attached),
        Lookup::None => Err(Failure::no_container(text)),
        Lookup::Ambiguous(_) => Err(Failure::bad(format!("Multiple IDs found with provided prefix: {text}"))),
    }
}

fn fits(attached: &Attached, snapshot: &Snapshot, filters: &Filters) -> Result<bool, Failure> {
    let container = &attached.container;
    let label = |key: &str| attached.endpoints.iter().find_map(|endpoint| endpoint.labels.get(key).map(String::as_str));
    let id_of = |name| snapshot.desired.network(name).map_or("", |network| network.id.as_str());
    let on = |wanted: &str| {
        attached.endpoints.iter().any(|endpoint| {
            endpoint.network.as_str() == wanted || (wanted.len() >= 12 && id_of(&endpoint.network).starts_with(wanted))
        })
    };
    let known = if filters.has("publish") || filters.has("expose") { port_list(attached) } else { Vec::new() };
    let of = |port: &PortSummary| port.typ.map(|kind| kind.to_string()).unwrap_or_default();
    let published: Vec<_> = known.iter().filter_map(|port| Some((port.public_port?, of(port)))).collect();
    let exposed: Vec<_> = known.iter().map(|port| (port.private_port, of(port))).collect();
    // What netd knows no answer to, no container of netd matches.
    let unknown = ["ancestor", "before", "exited", "health", "isolation", "is-task", "since", "volume"];
    Ok(filters.begins("id", &[container.id.as_str()])
        && (filters.part("name", container.name.as_str()) || filters.part("name", &format!("/{}", container.name)))
        && filters.labels(label)
        && (!filters.has("network") || filters.get("network").any(on))
        && filters.exact("status", "running")
        && filters.ports("publish", &published)?
        && filters.ports("expose", &exposed)?
        && !unknown.iter().any(|key| filters.has(key)))
}
