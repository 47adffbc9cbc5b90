//! `/nodes`: there is one.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::cluster::manager_address;
use super::{empty, grpc, one, out_of_sequence, text, version_of};
use crate::faces::engine_api::failure::{Failure, json_reply};
use crate::faces::engine_api::filters::Filters;
use crate::faces::engine_api::swarm_state::{Availability, NodeSpec, SwarmState, now};
use crate::faces::engine_api::tasks::template::Node;
use crate::faces::engine_api::{Asked, EngineApi, body};

const FILTERS: [&str; 6] = ["name", "id", "label", "role", "membership", "node.label"];
const KEYS: [&str; 4] = ["Name", "Labels", "Role", "Availability"];

impl EngineApi {
    /// This node, as placeholders of tasks name it.
    pub(in crate::faces::engine_api) fn node(&self) -> Node {
        Node {
            id: self.swarm().map(|state| state.node).unwrap_or_default(),
            name: self.facts.name.clone(),
            architecture: machine(self.facts.architecture).to_owned(),
        }
    }

    pub(super) async fn list_nodes(&self, asked: &Asked) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS)?;
        let state = self.in_swarm()?;
        if let Some(role) = filters.get("role").find(|role| !matches!(*role, "manager" | "worker")) {
            return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("Invalid role filter: '{role}'")));
        }
        let fits = filters.begins("id", &[&state.node])
            && filters.begins("name", &[&self.facts.name])
            && filters.exact("role", "manager")
            && filters.exact("membership", "accepted")
            && !filters.has("label")
            && ["node.label"].iter().all(|key| filters.get(key).all(|wanted| has_label(&state.node_spec, wanted)));
        let nodes = if fits { vec![self.shown_node(&state).await] } else { Vec::new() };
        Ok(json_reply(StatusCode::OK, &json!(nodes)))
    }

    pub(super) async fn inspect_node(&self, id: &str) -> Result<Response, Failure> {
        let state = self.found_node(id)?;
        Ok(json_reply(StatusCode::OK, &self.shown_node(&state).await))
    }

    pub(super) async fn update_node(&self, asked: &Asked, id: &str, request: Request) -> Result<Response, Failure> {
        let wanted = body::object(request, &KEYS).await?;
        let version = version_of(asked, "node")?;
        self.found_node(id)?;
        if text(&wanted, "Role").eq_ignore_ascii_case("worker") {
            let why = "attempting to demote the last manager of the swarm";
            return Err(grpc(StatusCode::BAD_REQUEST, "FailedPrecondition", why));
        }
        if !text(&wanted, "Role").eq_ignore_ascii_case("manager") {
            return Err(Failure::bad(format!("invalid Role: {:?}", text(&wanted, "Role"))));
        }
        let labels = wanted["Labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
        let availability = Availability::parse(text(&wanted, "Availability"))?;
        let spec = NodeSpec { name: text(&wanted, "Name").to_owned(), labels: labels.collect(), availability };
        self.change_swarm(|state| {
            if state.node_version != version {
                return Err(out_of_sequence());
            }
            (state.node_spec, state.node_version, state.node_updated) = (spec, version + 1, now());
            Ok(())
        })
        .await?;
        self.tasks.changed();
        Ok(empty())
    }

    pub(super) fn remove_node(&self, id: &str) -> Result<Response, Failure> {
        let state = self.found_node(id)?;
        let why = format!(
            "node {} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal",
            state.node
        );
        Err(grpc(StatusCode::BAD_REQUEST, "FailedPrecondition", why))
    }

    fn found_node(&self, id: &str) -> Result<SwarmState, Failure> {
        let state = self.in_swarm()?;
        one(vec![state], "node", id, |state| [state.node.clone(), self.facts.name.clone()])
    }

    async fn shown_node(&self, state: &SwarmState) -> Value {
        let engine = match &self.engine {
            Some(engine) => engine.engine_version().await,
            None => env!("CARGO_PKG_VERSION").to_owned(),
        };
        let nanos = u64::try_from(self.facts.processors).unwrap_or(u64::MAX).saturating_mul(1_000_000_000);
        let spec = &state.node_spec;
        let mut shown = json!({
            "ID": state.node,
            "Version": {"Index": state.node_version},
            "CreatedAt": state.created,
            "UpdatedAt": state.node_updated,
            "Spec": {"Labels": spec.labels, "Role": "manager", "Availability": spec.availability.as_str()},
            "Description": {
                "Hostname": self.facts.name,
                "Platform": {"Architecture": machine(self.facts.architecture), "OS": "linux"},
                "Resources": {"NanoCPUs": nanos, "MemoryBytes": self.facts.memory},
                "Engine": {"EngineVersion": engine, "Plugins": [
                    {"Type": "Network", "Name": "bridge"}, {"Type": "Network", "Name": "overlay"},
                ]},
                "TLSInfo": {},
            },
            "Status": {"State": "ready", "Addr": state.address},
            "ManagerStatus": {"Leader": true, "Reachability": "reachable", "Addr": manager_address(state)},
        });
        if !spec.name.is_empty() {
            shown["Spec"]["Name"] = spec.name.as_str().into();
        }
        shown
    }
}

/// The architecture as `uname -m` names it, which is how nodes do.
fn machine(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

fn has_label(spec: &NodeSpec, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => spec.labels.get(key).is_some_and(|known| known == value),
        None => spec.labels.contains_key(wanted),
    }
}
