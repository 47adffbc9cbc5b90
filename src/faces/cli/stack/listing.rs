//! `netd stack ls`, `ps` and `services`: what they list.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::compose::{IMAGE, NAMESPACE};
use super::{has_tasks, services_of};
use crate::api::v1::{Member, Service};
use crate::faces::cli::Session;
use crate::faces::cli::args::{Listed, Output};
use crate::faces::cli::engine::{Engine, Refused};
use crate::faces::cli::filter::{self, Filter};
use crate::faces::cli::listing;
use crate::faces::cli::output::Failure;
use crate::faces::cli::stacked::{Source, StackService, StackTask};
use crate::faces::shared::client::segment;

pub(super) fn stacks(session: &mut Session<'_>, output: &Output) -> Result<(), Failure> {
    let services: Vec<Service> =
        session.client.get("/v1/services").map_err(|error| Failure::of("list stacks", error))?;
    let mut stacks = BTreeMap::<String, usize>::new();
    for stack in services.iter().filter_map(|service| service.labels.get(NAMESPACE)) {
        *stacks.entry(stack.clone()).or_default() += 1;
    }
    listing::stacks(session, &stacks, output)
}

pub(super) fn services(
    session: &mut Session<'_>,
    engine: &Engine,
    stack: &str,
    filters: &[Filter],
    listed: &Listed,
) -> Result<(), Failure> {
    let attempt = format!("list the services of stack {stack}");
    let services = services_of(session, stack).map_err(|error| Failure::of(&attempt, error))?;
    if services.is_empty() {
        // Docker's words, and no failure.
        let _ = writeln!(session.err, "Nothing found in stack: {stack}");
        return Ok(());
    }
    let filter = json!({"label": [format!("{NAMESPACE}={stack}")]});
    let shown = match services.iter().any(has_tasks) {
        true => engine.get(&format!("/services?status=true&filters={}", segment(&filter.to_string()))),
        false => Ok(Value::Null),
    };
    let shown = shown.map_err(|refused| Failure::of(&attempt, refused))?;
    let mut services: Vec<StackService> = services.into_iter().map(|service| of_stack(service, &shown)).collect();
    filter::stack_services(&mut services, filters);
    listing::stack_services(session, services, listed)
}

/// A service as a stack shows it. `shown`: those that the Engine API knows.
fn of_stack(service: Service, shown: &Value) -> StackService {
    let with_tasks = has_tasks(&service)
        .then(|| shown.as_array().into_iter().flatten().find(|one| one["ID"] == service.id.as_str()));
    let (mode, replicas) = match with_tasks.flatten() {
        Some(one) => {
            let status = &one["ServiceStatus"];
            let mode = if one["Spec"]["Mode"]["Global"].is_object() { "global" } else { "replicated" };
            (mode.to_owned(), format!("{}/{}", status["RunningTasks"], status["DesiredTasks"]))
        }
        None => (service.mode.clone(), service.replicas.to_string()),
    };
    let image = with_tasks.flatten().and_then(|one| one["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str());
    let image = image.map(|image| without_digest(image).to_owned()).or_else(|| service.labels.get(IMAGE).cloned());
    StackService { mode, replicas, image: image.unwrap_or_default(), service }
}

pub(super) fn tasks(
    session: &mut Session<'_>,
    engine: &Engine,
    stack: &str,
    filters: &[Filter],
    listed: &Listed,
) -> Result<(), Failure> {
    let attempt = format!("list the tasks of stack {stack}");
    let failed = |why: &dyn std::fmt::Display| Failure::of(&attempt, why);
    let services = services_of(session, stack).map_err(|error| failed(&error))?;
    if services.is_empty() {
        return Err(failed(&format!("nothing found in stack: {stack}")));
    }
    let mut all = made(engine, &services, listed.no_trunc).map_err(|refused| failed(&refused))?;
    for service in services.iter().filter(|service| !has_tasks(service)) {
        let path = format!("/v1/services/{}/members", segment(&service.id));
        all.extend(session.client.get::<Vec<Member>>(&path).map_err(|error| failed(&error))?.into_iter().map(member));
    }
    filter::stack_tasks(&mut all, filters);
    listing::stack_tasks(session, all, listed)
}

/// The tasks of the services that have any, by name, the newest first.
fn made(engine: &Engine, services: &[Service], whole: bool) -> Result<Vec<StackTask>, Refused> {
    let ids: Vec<&str> =
        services.iter().filter(|service| has_tasks(service)).map(|service| service.id.as_str()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let tasks = engine.list("/tasks", &json!({"service": ids}))?;
    let nodes = engine.list("/nodes", &json!({}))?;
    let node = |id: &Value| {
        let node = nodes.iter().find(|node| node["ID"] == *id);
        node.map_or_else(|| text(id), |node| text(&node["Description"]["Hostname"]))
    };
    let name =
        |id: &Value| services.iter().find(|service| *id == service.id.as_str()).map_or("", |service| &service.name);
    let mut all: Vec<(String, u64, StackTask)> = Vec::new();
    for task in tasks {
        let (service, slot) = (name(&task["ServiceID"]).to_owned(), task["Slot"].as_u64().unwrap_or(0));
        let shown_slot = if slot == 0 { text(&task["NodeID"]) } else { slot.to_string() };
        let status = &task["Status"];
        let image = text(&task["Spec"]["ContainerSpec"]["Image"]);
        let one = StackTask {
            id: text(&task["ID"]),
            name: format!("{service}.{shown_slot}"),
            image: if whole { image } else { without_digest(&image).to_owned() },
            node: node(&task["NodeID"]),
            desired: title(&text(&task["DesiredState"])),
            current: title(&text(&status["State"])),
            since: text(&status["Timestamp"]),
            error: text(&status["Err"]),
            ports: ports(&status["PortStatus"]["Ports"]),
            source: Source::Task(task),
        };
        all.push((service, slot, one));
    }
    all.sort_by(|(one, slot, _), (other, other_slot, _)| one.cmp(other).then(slot.cmp(other_slot)));
    Ok(all.into_iter().map(|(_, _, task)| task).collect())
}

fn member(member: Member) -> StackTask {
    StackTask {
        id: member.container.id.clone(),
        name: format!("{}: {}", member.service, member.container.name),
        image: String::new(),
        node: String::new(),
        desired: String::new(),
        current: member.state.clone(),
        since: member.since.clone().unwrap_or_default(),
        error: member.why.clone(),
        ports: String::new(),
        source: Source::Member(Box::new(member)),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An image without the digest to which its name was resolved.
fn without_digest(image: &str) -> &str {
    image.split_once('@').map_or(image, |(name, _)| name)
}

/// As Docker's command line writes states.
fn title(state: &str) -> String {
    let mut letters = state.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The ports that a task publishes itself: `*:4000->80/tcp`.
fn ports(ports: &Value) -> String {
    let one = |port: &Value| {
        let protocol = port["Protocol"].as_str().unwrap_or("tcp");
        format!("*:{}->{}/{protocol}", port["PublishedPort"], port["TargetPort"])
    };
    ports.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(",")
}
