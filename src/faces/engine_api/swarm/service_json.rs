//! Services as the Engine API shows them.

use serde_json::{Value, json};

use super::ports;
use crate::engine::Snapshot;
use crate::faces::engine_api::podman_networks::NetworkIds;
use crate::faces::engine_api::swarm_state::Course;
use crate::model::service::Service;

/// The service.
pub(super) fn shown(service: &Service, snapshot: &Snapshot, ids: &NetworkIds, course: Option<&Course>) -> Value {
    let mut shown = json!({
        "ID": service.id.as_str(),
        "Version": {"Index": service.version},
        "CreatedAt": at(service.created * 1000),
        "UpdatedAt": at(service.updated * 1000),
        "Spec": spec(service, snapshot, ids),
    });
    if let Some(previous) = service.previous.as_ref().filter(|previous| previous.tasks.is_some()) {
        shown["PreviousSpec"] = spec(previous, snapshot, ids);
    }
    shown["Endpoint"] = endpoint(service, snapshot, ids);
    if let Some(course) = course {
        shown["UpdateStatus"] = update_status(course);
    }
    shown
}

/// Milliseconds since the Unix epoch as RFC 3339.
pub(super) fn at(millis: u64) -> String {
    humantime::format_rfc3339_nanos(std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis)).to_string()
}

fn update_status(course: &Course) -> Value {
    let mut status = json!({"State": course.stage.as_str(), "StartedAt": at(course.started)});
    if let Some(completed) = course.completed {
        status["CompletedAt"] = at(completed).into();
    }
    status["Message"] = course.message.as_str().into();
    status
}

/// `ServiceSpec`: what was asked for, or what would make a service that was asked for in another way.
pub(super) fn spec(service: &Service, snapshot: &Snapshot, ids: &NetworkIds) -> Value {
    let tasks = service.tasks.as_ref();
    let mut template = tasks.map_or_else(|| json!({}), |tasks| tasks.template.clone());
    // Docker's command line expects it in any case.
    if !template["ContainerSpec"].is_object() {
        template["ContainerSpec"] = json!({});
    }
    if template["ForceUpdate"].is_null() {
        template["ForceUpdate"] = 0.into();
    }
    template["Networks"] = service
        .networks
        .iter()
        .map(|on| {
            let id = snapshot.desired.network(&on.network).map_or(on.network.as_str(), |network| ids.of(network));
            let aliases: Vec<&str> = on.aliases.iter().map(AsRef::as_ref).collect();
            if aliases.is_empty() { json!({"Target": id}) } else { json!({"Target": id, "Aliases": aliases}) }
        })
        .collect();
    let members = || snapshot.desired.members(service).count();
    let mode = match tasks.map(|tasks| tasks.replicas) {
        Some(None) => json!({"Global": {}}),
        Some(Some(replicas)) => json!({"Replicated": {"Replicas": replicas}}),
        None => json!({"Replicated": {"Replicas": members()}}),
    };
    let mut spec = json!({
        "Name": service.name.as_str(),
        "Labels": service.labels,
        "TaskTemplate": template,
        "Mode": mode,
    });
    let configs = tasks.map(|tasks| [("UpdateConfig", &tasks.update), ("RollbackConfig", &tasks.rollback)]);
    for (key, config) in configs.into_iter().flatten() {
        if let Some(config) = config {
            spec[key] = config.clone();
        }
    }
    spec["EndpointSpec"] = ports::spec(service);
    spec
}

fn endpoint(service: &Service, snapshot: &Snapshot, ids: &NetworkIds) -> Value {
    let addresses = service.networks.iter().flat_map(|on| on.addresses.iter().map(move |address| (on, address)));
    let addresses = addresses.filter_map(|(on, address)| {
        let network = snapshot.desired.network(&on.network)?;
        let subnet = network.subnets.iter().find(|subnet| subnet.subnet.contains(*address))?;
        Some(json!({"NetworkID": ids.of(network), "Addr": subnet.subnet.interface(*address).to_string()}))
    });
    let (published, addresses): (Vec<Value>, Vec<Value>) = (ports::published(service), addresses.collect());
    let mut endpoint = json!({"Spec": ports::spec(service)});
    if !published.is_empty() {
        endpoint["Ports"] = published.into();
    }
    if !addresses.is_empty() {
        endpoint["VirtualIPs"] = addresses.into();
    }
    endpoint
}
