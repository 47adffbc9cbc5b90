//! `--format`, `--quiet` and `--no-trunc` of the verbs that list, and the rows that their templates work on, with the
//! names and titles of Docker's.

mod services;
mod stacks;

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

use super::Session;
use super::args::{Inspected, Listed};
use super::filter::labels;
use super::format::{Data, Row, Spec};
use super::output::{Failure, json, objects};
use super::table::table;
use crate::api::v1::{Container, Network, Subnet};
pub(super) use services::{members, services};
pub(super) use stacks::{stack_services, stack_tasks, stacks};

/// The length of a short id.
const SHORT: usize = 12;

/// Prints networks.
pub(super) fn networks(session: &mut Session<'_>, networks: Vec<Network>, listed: &Listed) -> Result<(), Failure> {
    let shown = |id: &str| shown(id, listed.no_trunc);
    match listed.output.format.as_ref().filter(|format| !format.is_default()) {
        _ if listed.output.json.json => json(session.out, &networks),
        Some(format) => {
            let mut data = Data::default();
            networks.into_iter().for_each(|network| data.row(network_row(shown(&network.id), network)));
            format.print(session.out, "network ls", data)
        }
        None if listed.quiet => ids(session, networks.iter().map(|network| shown(&network.id))),
        None => {
            let row = |network: Network| {
                let subnets = subnets(&network).join(", ");
                [network.name, shown(&network.id), network.driver, network.bridge, subnets]
            };
            table(session, ["NAME", "ID", "DRIVER", "BRIDGE", "SUBNETS"], networks.into_iter().map(row))
        }
    }
}

/// Prints containers. As with Docker, `--quiet` wins over a template here.
pub(super) fn containers(session: &mut Session<'_>, all: Vec<Container>, listed: &Listed) -> Result<(), Failure> {
    let shown = |id: &str| shown(id, listed.no_trunc);
    match listed.output.format.as_ref().filter(|format| !format.is_default()) {
        _ if listed.output.json.json => json(session.out, &all),
        _ if listed.quiet => ids(session, all.iter().map(|container| shown(&container.id))),
        Some(format) => {
            let mut data = Data::default();
            all.iter().for_each(|container| data.row(container_row(shown(&container.id), container)));
            format.print(session.out, "list containers", data)
        }
        None => {
            let row = |container: Container| {
                let [networks, addresses, ports] = columns(&container).map(|cells| cells.join(", "));
                [container.name, shown(&container.id), networks, addresses, ports]
            };
            table(session, ["NAME", "ID", "NETWORKS", "ADDRESSES", "PORTS"], all.into_iter().map(row))
        }
    }
}

/// Prints inspected objects: `data` has them for a template.
pub(super) fn inspected<T: serde::Serialize>(
    session: &mut Session<'_>,
    found: &[T],
    output: &Inspected,
    add: impl Fn(&mut Data, &T) -> Result<(), serde_json::Error>,
) -> Result<(), Failure> {
    match output.format.as_ref().filter(|format| !format.is_default()) {
        _ if output.json.json => json(session.out, &found),
        Some(format) if format.is_json() => {
            let text = serde_json::to_string(found).map_err(|error| Failure::of("print JSON", error))?;
            Ok(writeln!(session.out, "{text}")?)
        }
        Some(format) => {
            let mut data = Data::default();
            for object in found {
                add(&mut data, object).map_err(|error| Failure::of("print", error))?;
            }
            format.print(session.out, "inspect", data)
        }
        None => objects(session.out, found),
    }
}

/// Adds an object as `--json` prints it.
pub(super) fn add<T: serde::Serialize + ToSchema>(data: &mut Data, object: &T) -> Result<(), serde_json::Error> {
    data.object::<T>(&serde_json::to_value(object)?);
    Ok(())
}

/// Prints one object that came alone.
pub(super) fn line<T: ToSchema>(
    session: &mut Session<'_>,
    attempt: &str,
    spec: &Spec,
    object: &Value,
) -> Result<(), Failure> {
    let mut data = Data::default();
    data.object::<T>(object);
    spec.print(session.out, attempt, data)
}

fn ids(session: &mut Session<'_>, mut ids: impl Iterator<Item = String>) -> Result<(), Failure> {
    ids.try_for_each(|id| Ok(writeln!(session.out, "{id}")?))
}

fn shown(id: &str, whole: bool) -> String {
    let short = id.get(..SHORT).filter(|_| !whole);
    short.unwrap_or(id).to_owned()
}

fn subnets(network: &Network) -> Vec<&str> {
    network.subnets.iter().map(|Subnet { subnet, .. }| subnet.as_str()).collect()
}

/// Networks, addresses, ports.
fn columns(container: &Container) -> [Vec<String>; 3] {
    let endpoints = || container.endpoints.iter();
    let published = endpoints().flat_map(|endpoint| &endpoint.ports).map(ToString::to_string);
    let opened = endpoints().flat_map(|endpoint| endpoint.opened_ports.clone());
    [
        endpoints().map(|endpoint| endpoint.network.clone()).collect(),
        endpoints().flat_map(|endpoint| endpoint.addresses.clone()).collect(),
        published.chain(opened).collect(),
    ]
}

fn network_row(id: String, network: Network) -> Row {
    let has = |v6: bool| network.subnets.iter().any(|subnet| subnet.subnet.contains(':') == v6).to_string();
    let fields = vec![
        ("Bridge", "BRIDGE", network.bridge.clone()),
        ("CreatedAt", "CREATED AT", as_go(&network.created)),
        ("Driver", "DRIVER", network.driver.clone()),
        ("ID", "NETWORK ID", id),
        ("IPv4", "IPV4", has(false)),
        ("IPv6", "IPV6", has(true)),
        ("Internal", "INTERNAL", network.internal.to_string()),
        ("Labels", "LABELS", pairs(&network.labels)),
        ("Name", "NAME", network.name.clone()),
        ("Scope", "SCOPE", "local".into()),
        ("Subnets", "SUBNETS", subnets(&network).join(", ")),
    ];
    Row { kind: "network", fields, labels: network.labels }
}

/// What netd cannot know about a container is empty.
fn container_row(id: String, container: &Container) -> Row {
    let labels = labels(container);
    let [networks, addresses, ports] = columns(container);
    let unknown = |name, title| (name, title, String::new());
    let fields = vec![
        ("Addresses", "ADDRESSES", addresses.join(", ")),
        unknown("Command", "COMMAND"),
        unknown("CreatedAt", "CREATED AT"),
        ("ID", "CONTAINER ID", id),
        unknown("Image", "IMAGE"),
        ("Labels", "LABELS", pairs(&labels)),
        unknown("Mounts", "MOUNTS"),
        ("Names", "NAMES", container.name.clone()),
        ("Networks", "NETWORKS", networks.join(",")),
        ("Ports", "PORTS", ports.join(", ")),
        unknown("RunningFor", "CREATED"),
        unknown("Size", "SIZE"),
        ("State", "STATE", "running".into()),
        ("Status", "STATUS", "Up".into()),
    ];
    Row { kind: "container", fields, labels }
}

fn pairs(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// `2026-01-02T03:04:05Z` as Go writes times.
fn as_go(time: &str) -> String {
    match time.strip_suffix('Z').and_then(|time| time.split_once('T')) {
        Some((date, time)) => format!("{date} {time} +0000 UTC"),
        None => time.to_owned(),
    }
}
