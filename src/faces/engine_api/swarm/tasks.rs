//! `/tasks`: list and inspect.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::one;
use super::task_json::{Facts, Shown, preparing, shown};
use crate::base::clock;
use crate::faces::engine_api::failure::{Failure, json_reply};
use crate::faces::engine_api::filters::Filters;
use crate::faces::engine_api::tasks::task::{Task, millis};
use crate::faces::engine_api::{Asked, EngineApi};

const FILTERS: [&str; 8] = ["name", "id", "label", "service", "node", "desired-state", "_up-to-date", "runtime"];
const STATES: [&str; 13] = [
    "new",
    "pending",
    "assigned",
    "accepted",
    "preparing",
    "ready",
    "starting",
    "running",
    "complete",
    "shutdown",
    "failed",
    "rejected",
    "remove",
];

impl EngineApi {
    /// The tasks of all services, by slot, the newest first.
    pub(super) async fn shown_tasks(&self) -> Result<Vec<Shown>, Failure> {
        let swarm = self.in_swarm()?;
        let mut tasks: Vec<Task> = self.tasks().await?;
        tasks.sort_by_key(|task| (task.slot, std::cmp::Reverse(task.created)));
        let (snapshot, now, ids) = (self.handle.snapshot(), millis(clock::now()), self.network_ids().await);
        let services: BTreeMap<String, _> =
            self.services().into_iter().map(|service| (service.id.to_string(), service)).collect();
        let mut shown_tasks: Vec<Shown> = Vec::new();
        let mut newest = std::collections::BTreeSet::new();
        for task in &tasks {
            let Some(service) = services.get(&task.service) else { continue };
            let is_newest = newest.insert((task.service.clone(), task.slot));
            let facts = Facts { stopped: self.tasks.has_stopped(&task.container), newest: is_newest };
            shown_tasks.push(shown(task, service, &swarm, (&snapshot, &ids), facts));
        }
        for service in services.values() {
            let coming = self.tasks.preparing(service.id.as_str());
            let has = |id: &str| tasks.iter().any(|task| task.id == id);
            let coming = coming.iter().filter(|task| !has(&task.id));
            shown_tasks.extend(coming.map(|task| preparing(task, service, &swarm, now)));
        }
        Ok(shown_tasks)
    }

    pub(super) async fn list_tasks(&self, asked: &Asked) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS)?;
        let swarm = self.in_swarm()?;
        if let Some(wrong) =
            filters.get("desired-state").find(|state| !STATES.contains(&state.to_ascii_lowercase().as_str()))
        {
            return Err(Failure::bad(format!("Invalid desired-state filter: '{wrong}'")));
        }
        let services =
            filters.get("service").map(|text| self.found_service(text).map(|service| service.id.to_string()));
        let services: Vec<String> = services.collect::<Result<_, _>>()?;
        let node = |wanted: &str| wanted == swarm.node || wanted == self.facts.name || swarm.node.starts_with(wanted);
        let of_node = !filters.has("node") || filters.get("node").any(node);
        let known = self.services();
        let fits = |task: &Shown| {
            // A task has the labels of its service (swarmkit, manager/controlapi/task.go).
            let service = known.iter().find(|service| service.id.as_str() == task.service);
            let labels = |key: &str| service.and_then(|service| service.labels.get(key)).map(String::as_str);
            of_node
                && filters.begins("id", &[&task.id])
                && filters.begins("name", &[&task.name])
                && filters.labels(labels)
                && filters.exact("runtime", "container")
                && (services.is_empty() || services.contains(&task.service))
                && (!filters.has("desired-state")
                    || filters.get("desired-state").any(|state| state.eq_ignore_ascii_case(task.desired)))
                && (!filters.has("_up-to-date") || task.is_current)
        };
        let found = self.shown_tasks().await?.into_iter().filter(fits).map(|task| task.value);
        Ok(json_reply(StatusCode::OK, &Value::Array(found.collect())))
    }

    pub(super) async fn found_task(&self, text: &str) -> Result<Shown, Failure> {
        one(self.shown_tasks().await?, "task", text, |task| [task.id.clone(), task.name.clone()])
    }

    pub(super) async fn inspect_task(&self, id: &str) -> Result<Response, Failure> {
        Ok(json_reply(StatusCode::OK, &self.found_task(id).await?.value))
    }
}
