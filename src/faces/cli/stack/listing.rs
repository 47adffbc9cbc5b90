//! `netd stack ls`, `ps` and `services`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::compose::{IMAGE, NAMESPACE};
use super::{has_tasks, services_of};
use crate::api::v1::{Member, Service};
use crate::faces::cli::Session;
use crate::faces::cli::args::Format;
use crate::faces::cli::engine::Engine;
use crate::faces::cli::output::{Failure, json};
use crate::faces::cli::table::table;
use crate::faces::shared::client::segment;

/// How much of an id a table shows.
const SHORT: usize = 12;

pub(super) fn stacks(session: &mut Session<'_>, format: Format) -> Result<(), Failure> {
    let services: Vec<Service> =
        session.client.get("/v1/services").map_err(|error| Failure::of("list stacks", error))?;
    let mut stacks = BTreeMap::<&str, usize>::new();
    for stack in services.iter().filter_map(|service| service.labels.get(NAMESPACE)) {
        *stacks.entry(stack).or_default() += 1;
    }
    if format.json {
        let stacks: Vec<Value> = stacks.iter().map(|(name, count)| json!({"name": name, "services": count})).collect();
        return json(session.out, &stacks);
    }
    table(session, ["NAME", "SERVICES"], stacks.iter().map(|(name, count)| [(*name).to_owned(), count.to_string()]))
}

pub(super) fn services(session: &mut Session<'_>, engine: &Engine, stack: &str, format: Format) -> Result<(), Failure> {
    let attempt = format!("list the services of stack {stack}");
    let services = services_of(session, stack).map_err(|error| Failure::of(&attempt, error))?;
    if services.is_empty() {
        // Docker's words, and no failure.
        let _ = writeln!(session.err, "Nothing found in stack: {stack}");
        return Ok(());
    }
    if format.json {
        return json(session.out, &services);
    }
    let filter = json!({"label": [format!("{NAMESPACE}={stack}")]});
    let shown = match services.iter().any(has_tasks) {
        true => engine.get(&format!("/services?status=true&filters={}", segment(&filter.to_string()))),
        false => Ok(Value::Null),
    };
    let shown = shown.map_err(|refused| Failure::of(&attempt, refused))?;
    let row = |service: &Service| {
        let of_tasks = shown.as_array().into_iter().flatten().find(|one| one["ID"] == service.id.as_str());
        let (mode, replicas) = match of_tasks {
            Some(one) if has_tasks(service) => {
                let status = &one["ServiceStatus"];
                let mode = if one["Spec"]["Mode"]["Global"].is_object() { "global" } else { "replicated" };
                (mode.to_owned(), format!("{}/{}", status["RunningTasks"], status["DesiredTasks"]))
            }
            _ => (service.mode.clone(), service.replicas.to_string()),
        };
        let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
        let image = service.labels.get(IMAGE).cloned().unwrap_or_default();
        [service.id.chars().take(SHORT).collect(), service.name.clone(), mode, replicas, image, ports.join(", ")]
    };
    table(session, ["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"], services.iter().map(row))
}

pub(super) fn tasks(session: &mut Session<'_>, engine: &Engine, stack: &str, format: Format) -> Result<(), Failure> {
    let attempt = format!("list the tasks of stack {stack}");
    let failed = |why: &dyn std::fmt::Display| Failure::of(&attempt, why);
    let services = services_of(session, stack).map_err(|error| failed(&error))?;
    if services.is_empty() {
        return Err(failed(&format!("nothing found in stack: {stack}")));
    }
    let ids: Vec<&str> =
        services.iter().filter(|service| has_tasks(service)).map(|service| service.id.as_str()).collect();
    let tasks = if ids.is_empty() { Ok(Vec::new()) } else { engine.list("/tasks", &json!({"service": ids})) };
    let tasks = tasks.map_err(|refused| failed(&refused))?;
    let mut members: Vec<Member> = Vec::new();
    for service in services.iter().filter(|service| !has_tasks(service)) {
        let path = format!("/v1/services/{}/members", segment(&service.id));
        members.extend(session.client.get::<Vec<Member>>(&path).map_err(|error| failed(&error))?);
    }
    if format.json {
        return json(session.out, &json!({"tasks": tasks, "members": members}));
    }
    let name =
        |id: &Value| services.iter().find(|service| *id == service.id.as_str()).map_or("", |service| &service.name);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows: Vec<[String; 6]> = tasks
        .iter()
        .map(|task| {
            let (status, slot) = (&task["Status"], task["Slot"].as_u64().unwrap_or(0));
            let slot = if slot == 0 { text(&task["NodeID"]) } else { slot.to_string() };
            [
                text(&task["ID"]).chars().take(SHORT).collect(),
                format!("{}.{slot}", name(&task["ServiceID"])),
                text(&task["Spec"]["ContainerSpec"]["Image"]),
                text(&task["DesiredState"]),
                text(&status["State"]),
                text(&status["Err"]),
            ]
        })
        .collect();
    rows.sort_by(|one, other| one[1].cmp(&other[1]));
    rows.extend(members.into_iter().map(|member| {
        let id = member.container.id.chars().take(SHORT).collect();
        [
            id,
            format!("{}: {}", member.service, member.container.name),
            String::new(),
            String::new(),
            member.state,
            member.why,
        ]
    }));
    table(session, ["ID", "NAME", "IMAGE", "DESIRED STATE", "CURRENT STATE", "ERROR"], rows)
}
