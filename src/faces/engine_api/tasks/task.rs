//! A task: a container that the engine runs for a service, as its labels and its state tell. The engine is the truth;
//! netd keeps no list of tasks.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde_json::Value;

use crate::model::ids::ServiceId;
use crate::model::service::{Service, TASK_DIGEST, TASK_SERVICE};

/// The labels of a task's container (moby, daemon/cluster/executor/container).
pub(in crate::faces::engine_api) const SERVICE_ID: &str = "com.docker.swarm.service.id";
pub(in crate::faces::engine_api) const SERVICE_NAME: &str = TASK_SERVICE;
pub(in crate::faces::engine_api) const TASK: &str = "com.docker.swarm.task";
pub(in crate::faces::engine_api) const TASK_ID: &str = "com.docker.swarm.task.id";
pub(in crate::faces::engine_api) const TASK_NAME: &str = "com.docker.swarm.task.name";
pub(in crate::faces::engine_api) const NODE_ID: &str = "com.docker.swarm.node.id";
/// The digest of what the service said when the task was made ([`super::digest`]). Only netd's tasks have it.
pub(in crate::faces::engine_api) const DIGEST: &str = TASK_DIGEST;
/// How often the slot had been started again before.
pub(in crate::faces::engine_api) const ATTEMPT: &str = "netd.task.attempt";

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::faces::engine_api) enum Phase {
    /// It has not been started.
    Made,
    Running,
    Ended,
}

/// What the engine's health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::faces::engine_api) enum Health {
    /// There is none.
    Unchecked,
    Starting,
    Healthy,
    Unhealthy,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::faces::engine_api) struct Task {
    pub(in crate::faces::engine_api) id: String,
    /// The container's id; empty: it could not be made.
    pub(in crate::faces::engine_api) container: String,
    pub(in crate::faces::engine_api) service: String,
    pub(in crate::faces::engine_api) node: String,
    /// From 1; 0 for the task of a global service.
    pub(in crate::faces::engine_api) slot: u32,
    pub(in crate::faces::engine_api) name: String,
    pub(in crate::faces::engine_api) digest: String,
    pub(in crate::faces::engine_api) attempt: u64,
    pub(in crate::faces::engine_api) phase: Phase,
    /// Milliseconds since the Unix epoch.
    pub(in crate::faces::engine_api) created: u64,
    pub(in crate::faces::engine_api) started: u64,
    pub(in crate::faces::engine_api) ended: u64,
    pub(in crate::faces::engine_api) exit: i64,
    pub(in crate::faces::engine_api) error: String,
    pub(in crate::faces::engine_api) health: Health,
    pub(in crate::faces::engine_api) pid: i64,
    pub(in crate::faces::engine_api) image: String,
    pub(in crate::faces::engine_api) tty: bool,
    pub(in crate::faces::engine_api) labels: BTreeMap<String, String>,
}

impl Task {
    /// The task that a container is, as the engine shows it (`GET /containers/{id}/json`); `None`: it is none of netd's.
    pub(in crate::faces::engine_api) fn of(inspected: &Value) -> Option<Self> {
        let labels: BTreeMap<String, String> = inspected["Config"]["Labels"].as_object()?.iter().map(text).collect();
        let label = |key: &str| labels.get(key).cloned();
        let (id, name, service) = (label(TASK_ID)?, label(TASK_NAME)?, label(SERVICE_ID)?);
        let digest = label(DIGEST)?;
        let node = label(NODE_ID).unwrap_or_default();
        let slot = slot(&name, &label(SERVICE_NAME)?, &node)?;
        let state = &inspected["State"];
        let (started, ended) = (time(&state["StartedAt"]), time(&state["FinishedAt"]));
        let error = state["Error"].as_str().unwrap_or_default().to_owned();
        let phase = match state["Status"].as_str().unwrap_or_default() {
            // One that could not be started stays as it was made.
            "created" | "initialized" | "configured" if error.is_empty() => Phase::Made,
            "running" | "paused" | "restarting" | "stopping" => Phase::Running,
            _ => Phase::Ended,
        };
        let health = state["Health"]["Status"].as_str().or_else(|| state["Healthcheck"]["Status"].as_str());
        let created = time(&inspected["Created"]);
        Some(Self {
            id,
            container: inspected["Id"].as_str()?.to_owned(),
            service,
            node,
            slot,
            name,
            digest,
            attempt: label(ATTEMPT).and_then(|attempt| attempt.parse().ok()).unwrap_or_default(),
            phase,
            created,
            started,
            ended: if phase == Phase::Ended { ended.max(started).max(created) } else { 0 },
            exit: state["ExitCode"].as_i64().unwrap_or_default(),
            error,
            health: match health {
                Some("healthy") => Health::Healthy,
                Some("unhealthy") => Health::Unhealthy,
                Some("starting") => Health::Starting,
                _ => Health::Unchecked,
            },
            pid: state["Pid"].as_i64().unwrap_or_default(),
            image: inspected["Config"]["Image"].as_str().unwrap_or_default().to_owned(),
            tty: inspected["Config"]["Tty"].as_bool().unwrap_or_default(),
            labels,
        })
    }

    /// A task whose container could not be made.
    pub(super) fn rejected(service: &Service, made: Made, why: String, now: u64) -> Self {
        Self {
            container: String::new(),
            service: service.id.to_string(),
            node: made.node,
            slot: made.slot,
            name: made.name,
            id: made.id,
            digest: made.digest,
            attempt: made.attempt,
            phase: Phase::Ended,
            created: now,
            started: 0,
            ended: now,
            exit: -1,
            error: why,
            health: Health::Unchecked,
            pid: 0,
            image: String::new(),
            tty: false,
            labels: BTreeMap::new(),
        }
    }

    pub(in crate::faces::engine_api) fn is_alive(&self) -> bool {
        self.phase != Phase::Ended
    }

    /// Whether it ended as it should.
    pub(in crate::faces::engine_api) fn has_succeeded(&self) -> bool {
        self.phase == Phase::Ended && self.exit == 0 && self.error.is_empty()
    }
}

/// What is decided of a task before its container is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) node: String,
    pub(super) slot: u32,
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) attempt: u64,
}

impl Made {
    /// The next task of a slot.
    pub(super) fn new(service: &Service, node: &str, slot: u32, digest: String, attempt: u64) -> Self {
        let id = crate::faces::engine_api::swarm_state::new_id();
        let middle = if slot == 0 { node.to_owned() } else { slot.to_string() };
        Self { name: format!("{}.{middle}.{id}", service.name), id, node: node.to_owned(), slot, digest, attempt }
    }
}

fn text((key, value): (&String, &Value)) -> (String, String) {
    (key.clone(), value.as_str().unwrap_or_default().to_owned())
}

/// The slot in `web.3.ID`; that of a global service's task, `web.NODE.ID`, is 0.
fn slot(name: &str, service: &str, node: &str) -> Option<u32> {
    let middle = name.strip_prefix(service)?.strip_prefix('.')?.split('.').next()?;
    if middle == node { Some(0) } else { middle.parse().ok().filter(|slot| *slot > 0) }
}

/// The service whose task a container with this name is: `web` of `web.3.ID` and `web.NODE.ID`.
pub(in crate::faces::engine_api) fn service_of(container: &str) -> Option<&str> {
    let mut parts = container.rsplitn(3, '.');
    let (id, middle, service) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = |text: &str| ServiceId::try_from(text.to_owned()).is_ok();
    (is_id(id) && (is_id(middle) || middle.parse::<u32>().is_ok())).then_some(service)
}

/// Milliseconds since the Unix epoch; 0: never.
pub(super) fn time(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default();
    let Ok(seconds) = crate::faces::engine_api::time::parse(text) else { return 0 };
    if text.is_empty() || seconds <= 0.0 {
        return 0;
    }
    std::time::Duration::try_from_secs_f64(seconds).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// The same of a point in time.
pub(in crate::faces::engine_api) fn millis(time: std::time::SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the tests write it in place")]
    fn inspected(state: Value) -> Value {
        json!({
            "Id": "c1", "Created": "2026-01-02T03:04:05.5Z", "State": state,
            "Config": {"Image": "lab", "Labels": {
                SERVICE_ID: "s", SERVICE_NAME: "web", TASK_ID: "t", TASK_NAME: "web.3.t", NODE_ID: "n", DIGEST: "d",
            }},
        })
    }

    #[test]
    fn a_container_with_the_labels_is_a_task() {
        let task =
            Task::of(&inspected(json!({"Status": "running", "StartedAt": "2026-01-02T03:04:06Z", "Pid": 7}))).unwrap();
        assert_eq!((task.slot, task.phase, task.health, task.pid), (3, Phase::Running, Health::Unchecked, 7));
        assert_eq!(task.started - task.created, 500);
        assert_eq!(task.ended, 0);
        let mut swarm = inspected(json!({"Status": "running"}));
        swarm["Config"]["Labels"].as_object_mut().unwrap().remove(DIGEST);
        assert_eq!(Task::of(&swarm), None, "a task of Docker's own swarm is not netd's");
    }

    #[test]
    fn a_container_that_could_not_be_started_has_ended() {
        let task =
            Task::of(&inspected(json!({"Status": "created", "Error": "no such file", "ExitCode": 127}))).unwrap();
        assert!(!task.is_alive() && !task.has_succeeded());
        let made = Task::of(&inspected(json!({"Status": "created", "Error": "", "StartedAt": "0001-01-01T00:00:00Z"})));
        assert_eq!(made.map(|task| (task.phase, task.started)), Some((Phase::Made, 0)));
    }

    #[test]
    fn the_service_is_in_the_name() {
        let id = crate::faces::engine_api::swarm_state::new_id();
        assert_eq!(service_of(&format!("shop_web.12.{id}")), Some("shop_web"));
        assert_eq!(service_of(&format!("web.{id}.{id}")), Some("web"));
        for other in ["web", "web.1", "web.1.x", &format!("1.{id}"), &format!("web.x.{id}")] {
            assert_eq!(service_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_slot_is_in_the_name() {
        assert_eq!(slot("web.3.t", "web", "n"), Some(3));
        assert_eq!(slot("my.web.12.t", "my.web", "n"), Some(12));
        assert_eq!(slot("web.n.t", "web", "n"), Some(0));
        assert_eq!(
            (slot("web.x.t", "web", "n"), slot("web.0.t", "web", "n"), slot("x", "web", "n")),
            (None, None, None)
        );
    }
}
