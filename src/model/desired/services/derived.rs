//! Services that follow from the labels of containers.

use std::collections::BTreeMap;

use crate::model::endpoint::Endpoint;
use crate::model::ids::ServiceId;
use crate::model::names::ServiceName;
use crate::model::request::ServiceSpec;
use crate::model::service::{
    Affinity, COMPOSE_ONE_OFF, COMPOSE_PROJECT, COMPOSE_SERVICE, HealthCheck, HealthKind, Mode, Origin, PODMAN_PROJECT,
    PODMAN_SERVICE, Service, ServiceNetwork, WhenNoneReady,
};

/// The service that the labels of a container describe: `PROJECT_SERVICE`, with the alias `SERVICE`.
pub(super) fn derived(labels: &BTreeMap<String, String>, endpoint: &Endpoint) -> Option<Service> {
    let of = |docker: &str, podman: &str| labels.get(docker).or_else(|| labels.get(podman)).cloned();
    let (project, name) = (of(COMPOSE_PROJECT, PODMAN_PROJECT)?, of(COMPOSE_SERVICE, PODMAN_SERVICE)?);
    if labels.get(COMPOSE_ONE_OFF).is_some_and(|one_off| one_off.eq_ignore_ascii_case("true")) {
        return None;
    }
    let is_docker = labels.contains_key(COMPOSE_SERVICE);
    let keys = if is_docker { [COMPOSE_PROJECT, COMPOSE_SERVICE] } else { [PODMAN_PROJECT, PODMAN_SERVICE] };
    let mut select: BTreeMap<String, String> =
        keys.into_iter().zip([&project, &name]).map(|(key, value)| (key.to_owned(), value.clone())).collect();
    if let Some(one_off) = labels.get(COMPOSE_ONE_OFF) {
        select.insert(COMPOSE_ONE_OFF.to_owned(), one_off.clone());
    }
    let alias = name.parse().ok();
    let on = ServiceNetwork {
        network: endpoint.network.clone(),
        aliases: alias.into_iter().collect(),
        addresses: Vec::new(),
    };
    let name: ServiceName = format!("{project}_{name}").parse().ok()?;
    Some(Service {
        id: ServiceId::from_name(name.as_str()),
        name,
        networks: vec![on],
        select,
        members: Vec::new(),
        mode: Mode::Dns,
        publications: Vec::new(),
        target: None,
        affinity: Affinity::None,
        grace: ServiceSpec::GRACE,
        health: HealthCheck::of(HealthKind::Engine),
        when_none_ready: WhenNoneReady::Empty,
        tasks: None,
        previous: None,
        labels: BTreeMap::new(),
        created: 0,
        updated: 0,
        version: 0,
        origin: Origin::Labels,
    })
}
