//! The tables and rows of `netd stack ls`, `netd stack services` and `netd stack ps`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{as_go, ids, pairs, shown};
use crate::api::v1::Service;
use crate::faces::cli::Session;
use crate::faces::cli::args::{Listed, Output};
use crate::faces::cli::format::{Data, Row};
use crate::faces::cli::output::{Failure, json};
use crate::faces::cli::stacked::{Source, StackService, StackTask};
use crate::faces::cli::table::table;

/// Prints names of stacks and the numbers of their services.
pub(in crate::faces::cli) fn stacks(
    session: &mut Session<'_>,
    stacks: &BTreeMap<String, usize>,
    output: &Output,
) -> Result<(), Failure> {
    match output.format.as_ref().filter(|format| !format.is_default()) {
        _ if output.json.json => {
            let listed: Vec<Value> =
                stacks.iter().map(|(name, count)| json!({"name": name, "services": count})).collect();
            json(session.out, &listed)
        }
        Some(format) => {
            let mut data = Data::default();
            for (name, count) in stacks {
                let fields = vec![("Name", "NAME", name.clone()), ("Services", "SERVICES", count.to_string())];
                data.row(Row { kind: "stack", fields, labels: BTreeMap::new() });
            }
            format.print(session.out, "list stacks", data)
        }
        None => {
            table(session, ["NAME", "SERVICES"], stacks.iter().map(|(name, count)| [name.clone(), count.to_string()]))
        }
    }
}

/// Prints the services of a stack.
pub(in crate::faces::cli) fn stack_services(
    session: &mut Session<'_>,
    services: Vec<StackService>,
    listed: &Listed,
) -> Result<(), Failure> {
    let shown = |id: &str| shown(id, listed.no_trunc);
    match listed.output.format.as_ref().filter(|format| !format.is_default()) {
        _ if listed.output.json.json => {
            json(session.out, &services.into_iter().map(|of_stack| of_stack.service).collect::<Vec<_>>())
        }
        Some(format) => {
            let mut data = Data::default();
            services.into_iter().for_each(|one| data.row(service_row(shown(&one.service.id), one)));
            format.print(session.out, "list services", data)
        }
        None if listed.quiet => ids(session, services.iter().map(|one| shown(&one.service.id))),
        None => {
            let row = |one: StackService| {
                let ports = ports(&one.service);
                [shown(&one.service.id), one.service.name, one.mode, one.replicas, one.image, ports]
            };
            table(session, ["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"], services.into_iter().map(row))
        }
    }
}

/// Prints the tasks of a stack, and the members of its services without an image.
pub(in crate::faces::cli) fn stack_tasks(
    session: &mut Session<'_>,
    tasks: Vec<StackTask>,
    listed: &Listed,
) -> Result<(), Failure> {
    let shown = |id: &str| shown(id, listed.no_trunc);
    match listed.output.format.as_ref().filter(|format| !format.is_default()) {
        _ if listed.output.json.json => {
            let (mut found, mut members) = (Vec::new(), Vec::new());
            for one in tasks {
                match one.source {
                    Source::Task(task) => found.push(task),
                    Source::Member(member) => members.push(member),
                }
            }
            json(session.out, &json!({"tasks": found, "members": members}))
        }
        Some(format) => {
            let mut data = Data::default();
            tasks.into_iter().for_each(|one| data.row(task_row(shown(&one.id), one)));
            format.print(session.out, "list tasks", data)
        }
        None if listed.quiet => ids(session, tasks.iter().map(|one| shown(&one.id))),
        None => {
            let header = ["ID", "NAME", "IMAGE", "NODE", "DESIRED STATE", "CURRENT STATE", "ERROR", "PORTS"];
            let row = |one: StackTask| {
                let id = shown(&one.id);
                [id, one.name, one.image, one.node, one.desired, one.current, one.error, one.ports]
            };
            table(session, header, tasks.into_iter().map(row))
        }
    }
}

fn ports(service: &Service) -> String {
    service.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn service_row(id: String, one: StackService) -> Row {
    let fields = vec![
        ("ID", "ID", id),
        ("Image", "IMAGE", one.image),
        ("Labels", "LABELS", pairs(&one.service.labels)),
        ("Mode", "MODE", one.mode),
        ("Ports", "PORTS", ports(&one.service)),
        ("Replicas", "REPLICAS", one.replicas),
        ("Name", "NAME", one.service.name),
    ];
    Row { kind: "service", fields, labels: one.service.labels }
}

fn task_row(id: String, one: StackTask) -> Row {
    let fields = vec![
        ("CurrentState", "CURRENT STATE", one.current),
        ("DesiredState", "DESIRED STATE", one.desired),
        ("Error", "ERROR", one.error),
        ("ID", "ID", id),
        ("Image", "IMAGE", one.image),
        ("Name", "NAME", one.name),
        ("Node", "NODE", one.node),
        ("Ports", "PORTS", one.ports),
        ("Since", "SINCE", as_go(&one.since)),
    ];
    Row { kind: "task", fields, labels: BTreeMap::new() }
}
