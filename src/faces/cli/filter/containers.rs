//! The filters of `netd ps`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{BadFilter, Filter, Key, all, exact, has, label, parse, part, ports};
use crate::api::v1::{Container, Network, Port};
use crate::faces::cli::Session;
use crate::faces::shared::client::ClientError;

/// The states of Docker's containers. Those that netd knows are running.
const STATES: &[&str] = &["created", "dead", "exited", "paused", "removing", "restarting", "running"];

const KEYS: &[Key] = &[
    ("expose", ports),
    ("id", part),
    ("label", label),
    ("name", part),
    ("network", exact),
    ("publish", ports),
    ("status", |text| STATES.contains(&text).then(|| exact(text)).flatten()),
];

/// Reads one filter.
pub(in crate::faces::cli) fn container(text: &str) -> Result<Filter, BadFilter> {
    parse(text, KEYS)
}

/// Leaves the containers for which all filters hold. Only where it matters, the daemon is asked for the networks' ids.
pub(in crate::faces::cli) fn containers(
    session: &Session<'_>,
    containers: &mut Vec<Container>,
    filters: &[Filter],
) -> Result<(), ClientError> {
    let networks: Vec<Network> = match has(filters, "network") {
        true => session.client.get("/v1/networks")?,
        false => Vec::new(),
    };
    containers.retain(|container| all(filters, |filter| holds(filter, container, &networks)));
    Ok(())
}

fn holds(Filter { key, value }: &Filter, container: &Container, networks: &[Network]) -> bool {
    let endpoints = || container.endpoints.iter();
    let ports = || endpoints().flat_map(|endpoint| &endpoint.ports);
    match *key {
        "expose" => {
            let published = ports().any(|port| value.has_port(inside(port), &port.protocol));
            published || endpoints().flat_map(|endpoint| &endpoint.expose).any(|exposed| is_exposed(value, exposed))
        }
        "id" => value.is(&container.id),
        "label" => value.is_among(&labels(container)),
        "name" => value.is(&container.name),
        "network" => {
            let id = |name: &str| networks.iter().find(|network| network.name == name).map(|network| &network.id);
            endpoints().any(|on| value.is(&on.network) || id(&on.network).is_some_and(|id| value.begins(id)))
        }
        "publish" => ports().any(|port| value.has_port(outside(port), &port.protocol)),
        "status" => value.is("running"),
        _ => false,
    }
}

/// The labels of a container: those of all its endpoints.
pub(in crate::faces::cli) fn labels(container: &Container) -> BTreeMap<String, String> {
    container.endpoints.iter().rev().flat_map(|endpoint| endpoint.labels.clone()).collect()
}

fn outside(port: &Port) -> RangeInclusive<u16> {
    port.host_port..=port.host_port_end.unwrap_or(port.host_port)
}

fn inside(port: &Port) -> RangeInclusive<u16> {
    port.container_port..=port.container_port_end.unwrap_or(port.container_port)
}

/// `exposed` is as in `8080/tcp=http`.
fn is_exposed(value: &super::Value, exposed: &str) -> bool {
    let port = exposed.split('=').next().unwrap_or_default();
    let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    port.parse().is_ok_and(|port| value.has_port(port..=port, protocol))
}
