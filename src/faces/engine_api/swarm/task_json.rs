//! Tasks as the Engine API shows them.

use serde_json::{Value, json};

use super::service_json::at;
use crate::engine::Snapshot;
use crate::faces::engine_api::network_json::SCOPE;
use crate::faces::engine_api::podman_networks::NetworkIds;
use crate::faces::engine_api::swarm_state::SwarmState;
use crate::faces::engine_api::tasks::Preparing;
use crate::faces::engine_api::tasks::digest::{digest, host_ports};
use crate::faces::engine_api::tasks::task::{Health, Phase, Task};
use crate::model::service::Service;

/// A task with what decides whether it is asked for.
pub(super) struct Shown {
    pub(super) value: Value,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) service: String,
    pub(super) desired: &'static str,
    /// Whether it is as its service says.
    pub(super) is_current: bool,
}

/// What a task's state is, in Docker's words.
struct Status {
    state: &'static str,
    message: &'static str,
    error: String,
    since: u64,
}

/// The task of a service; `stopped`: netd stopped it. `newest`: there is no newer one in its slot.
pub(super) fn shown(
    task: &Task,
    service: &Service,
    swarm: &SwarmState,
    (snapshot, ids): (&Snapshot, &NetworkIds),
    facts: Facts,
) -> Shown {
    let is_current = digest(service).as_ref() == Some(&task.digest);
    let replicas = service.tasks.as_ref().map_or(0, |tasks| tasks.replicas.unwrap_or(0));
    let has_slot = task.slot == 0 || task.slot <= replicas;
    let desired = match () {
        () if !has_slot => "remove",
        () if task.is_alive() && is_current && facts.newest => "running",
        () => "shutdown",
    };
    let status = status(task, facts.stopped || (!is_current && task.exit >= 0));
    let mut template = template(service, &task.digest);
    if template.is_null() {
        template = json!({"ContainerSpec": {"Image": task.image}, "ForceUpdate": 0});
    }
    let mut value = basis(&task.id, service, task.slot, swarm, &template);
    (value["CreatedAt"], value["UpdatedAt"]) = (at(task.created).into(), at(status.since).into());
    value["Status"] = json!({
        "Timestamp": at(status.since), "State": status.state, "Message": status.message, "PortStatus": {},
    });
    if !status.error.is_empty() {
        value["Status"]["Err"] = status.error.into();
    }
    if !task.container.is_empty() {
        value["Status"]["ContainerStatus"] =
            json!({"ContainerID": task.container, "PID": task.pid, "ExitCode": task.exit});
    }
    let ports = host_ports(service.tasks.as_ref().and_then(|tasks| tasks.endpoint.as_ref()));
    if !ports.is_empty() && task.phase == Phase::Running {
        value["Status"]["PortStatus"] = json!({"Ports": ports});
    }
    value["DesiredState"] = desired.into();
    let attachments = attachments(task, service, snapshot, ids);
    if !attachments.is_empty() {
        value["NetworksAttachments"] = attachments.into();
    }
    let (id, name, service) = (task.id.clone(), task.name.clone(), task.service.clone());
    Shown { value, id, name, service, desired, is_current }
}

/// What is known of a task besides its container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) stopped: bool,
    pub(super) newest: bool,
}

/// A task whose container is being made.
pub(super) fn preparing(task: &Preparing, service: &Service, swarm: &SwarmState, now: u64) -> Shown {
    let mut value = basis(&task.id, service, task.slot, swarm, &template(service, &task.digest));
    (value["CreatedAt"], value["UpdatedAt"]) = (at(now).into(), at(now).into());
    value["Status"] = json!({"Timestamp": at(now), "State": "preparing", "Message": "preparing", "PortStatus": {}});
    value["DesiredState"] = "running".into();
    let is_current = digest(service).as_ref() == Some(&task.digest);
    let (id, name, service) = (task.id.clone(), task.name.clone(), service.id.to_string());
    Shown { value, id, name, service, desired: "running", is_current }
}

fn basis(id: &str, service: &Service, slot: u32, swarm: &SwarmState, template: &Value) -> Value {
    let mut value = json!({
        "ID": id, "Version": {"Index": service.version}, "CreatedAt": "", "UpdatedAt": "", "Labels": {}, "Spec": template,
        "ServiceID": service.id.as_str(),
    });
    if slot > 0 {
        value["Slot"] = slot.into();
    }
    value["NodeID"] = swarm.node.as_str().into();
    value
}

/// What the service said when it had that digest; null: nobody knows any more.
fn template(service: &Service, wanted: &str) -> Value {
    let before = service.previous.as_deref();
    let found = [Some(service), before].into_iter().flatten().find(|one| digest(one).as_deref() == Some(wanted));
    let mut template = found.and_then(|one| one.tasks.as_ref()).map_or(Value::Null, |tasks| tasks.template.clone());
    if template.is_object() && template["ForceUpdate"].is_null() {
        template["ForceUpdate"] = 0.into();
    }
    template
}

fn status(task: &Task, stopped: bool) -> Status {
    let status = |state, message, since| Status { state, message, error: String::new(), since };
    match task.phase {
        Phase::Made => status("ready", "prepared", task.created),
        Phase::Running if task.health == Health::Starting => status("starting", "starting", task.started),
        Phase::Running => status("running", "started", task.started),
        Phase::Ended if task.container.is_empty() => {
            Status { error: task.error.clone(), ..status("rejected", "preparing", task.ended) }
        }
        Phase::Ended if stopped => status("shutdown", "shutdown", task.ended),
        Phase::Ended if task.has_succeeded() => status("complete", "finished", task.ended),
        Phase::Ended => {
            let error = match (task.health, task.error.is_empty()) {
                (Health::Unhealthy, true) => "task: unhealthy container".to_owned(),
                (_, true) => format!("task: non-zero exit ({})", task.exit),
                (_, false) => task.error.clone(),
            };
            Status { error, ..status("failed", "started", task.ended) }
        }
    }
}

fn attachments(task: &Task, service: &Service, snapshot: &Snapshot, ids: &NetworkIds) -> Vec<Value> {
    let attached = task.container.parse().ok().and_then(|id| snapshot.desired.container(&id).cloned());
    let ends = attached.iter().flat_map(|attached| attached.endpoints.clone());
    let ends = ends.filter(|end| service.on(&end.network).is_some());
    ends.filter_map(|end| {
        let network = snapshot.desired.network(&end.network)?;
        let addresses: Vec<String> = end.addresses.iter().map(ToString::to_string).collect();
        let labels: std::collections::BTreeMap<_, _> = network.labels.iter().filter(|(key, _)| *key != SCOPE).collect();
        let shown = json!({
            "ID": ids.of(network), "Version": {"Index": 1},
            "Spec": {"Name": network.name.as_str(), "Labels": labels, "DriverConfiguration": {"Name": "overlay"}, "Scope": "swarm"},
        });
        Some(json!({"Network": shown, "Addresses": addresses}))
    })
    .collect()
}
