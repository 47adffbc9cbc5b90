//! `ServiceSpec` in netd's own form.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{constraints, invalid, ports, supported, text};
use crate::faces::engine_api::EngineApi;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::swarm_state::SwarmState;
use crate::faces::engine_api::tasks::task::SERVICE_NAME;
use crate::model::names::{Alias, ServiceName};
use crate::model::request::ServiceSpec;
use crate::model::service::{HealthCheck, HealthKind, Tasks};

/// The most tasks of a service on the one node.
const REPLICAS_MAX: u64 = 1000;

impl EngineApi {
    /// The service that a request defines. Networks that it needs are made.
    pub(super) async fn read_spec(&self, spec: &Value, swarm: &SwarmState) -> Result<ServiceSpec, Failure> {
        let name: ServiceName = name(text(spec, "Name"))?;
        let mut template = spec["TaskTemplate"].clone();
        supported::check(&template)?;
        let node = self.node();
        let placement = &template["Placement"];
        for constraint in placement["Constraints"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            constraints::check(constraint, swarm, &node.name, &node.architecture)?;
        }
        let replicas = replicas(&spec["Mode"])?;
        let most = placement["MaxReplicas"].as_u64().filter(|most| *most > 0);
        if let (Some(most), Some(replicas)) = (most, replicas)
            && u64::from(replicas) > most
        {
            let why = format!("max replicas per node limit exceed: netd's swarm has one node, for {replicas} tasks");
            return Err(Failure::bad(why));
        }
        let networks = self.read_networks(spec, &template).await?;
        let (mode, ports) = ports::read(&spec["EndpointSpec"])?;
        if let Some(fields) = template.as_object_mut() {
            fields.shift_remove("Networks");
        }
        let given = |key: &str| Some(spec[key].clone()).filter(|value| !value.is_null());
        let tasks = Tasks {
            replicas,
            template,
            endpoint: given("EndpointSpec"),
            update: given("UpdateConfig"),
            rollback: given("RollbackConfig"),
        };
        let labels = spec["Labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
        Ok(ServiceSpec {
            networks,
            select: BTreeMap::from([(SERVICE_NAME.to_owned(), name.to_string())]),
            mode,
            ports,
            health: HealthCheck::of(HealthKind::Engine),
            tasks: Some(tasks),
            labels: labels.collect(),
            ..ServiceSpec::named(name)
        })
    }

    /// The service's networks, with its further names there. None is the network `ingress`, as in Docker.
    async fn read_networks(&self, spec: &Value, template: &Value) -> Result<Vec<(String, Vec<Alias>)>, Failure> {
        let given = [&template["Networks"], &spec["Networks"]];
        let given = given.into_iter().find_map(|given| given.as_array().filter(|given| !given.is_empty()));
        let Some(given) = given else {
            let ingress = self.ingress().await?;
            return Ok(vec![(ingress.name.to_string(), Vec::new())]);
        };
        let mut networks = Vec::new();
        for wanted in given {
            let network = self.service_network(text(wanted, "Target")).await?;
            let aliases = wanted["Aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let aliases: Vec<Alias> = aliases.map(str::parse).collect::<Result<_, _>>()?;
            networks.push((network.name.to_string(), aliases));
        }
        Ok(networks)
    }
}

fn name(text: &str) -> Result<ServiceName, Failure> {
    if text.is_empty() {
        // Docker makes one up; the client always sends one.
        return Err(invalid("meta: name must be provided"));
    }
    if text.len() > 63 {
        return Err(invalid("meta: name must be 63 characters or fewer"));
    }
    // One label, which may have underscores (swarmkit, manager/controlapi/common.go): netd's own services may have dots.
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = text.chars().all(is_inner)
        && [text.chars().next(), text.chars().last()].into_iter().flatten().all(|c| c.is_ascii_alphanumeric());
    let wrong = || invalid("name must be valid as a DNS name component");
    if is_label { text.parse().map_err(|_| wrong()) } else { Err(wrong()) }
}

/// How many tasks there are to be; `None`: a global service.
fn replicas(mode: &Value) -> Result<Option<u32>, Failure> {
    for job in ["ReplicatedJob", "GlobalJob"] {
        if !mode[job].is_null() {
            return Err(Failure::bad(format!("netd does not support jobs (Mode.{job}): run a container instead")));
        }
    }
    if !mode["Global"].is_null() {
        return Ok(None);
    }
    let replicas = mode["Replicated"]["Replicas"].as_u64().unwrap_or(1);
    match u32::try_from(replicas) {
        Ok(count) if replicas <= REPLICAS_MAX => Ok(Some(count)),
        _ => Err(Failure::bad(format!("{replicas} tasks are too many for one node: {REPLICAS_MAX} is the most"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn modes_are_numbers_of_tasks() {
        assert_eq!(replicas(&json!({})), Ok(Some(1)));
        assert_eq!(replicas(&json!({"Replicated": {"Replicas": 5}})), Ok(Some(5)));
        assert_eq!(replicas(&json!({"Replicated": {"Replicas": 0}})), Ok(Some(0)));
        assert_eq!(replicas(&json!({"Global": {}})), Ok(None));
        assert!(replicas(&json!({"ReplicatedJob": {}})).is_err() && replicas(&json!({"GlobalJob": {}})).is_err());
        assert!(replicas(&json!({"Replicated": {"Replicas": 5_000_000_000_u64}})).is_err());
    }

    #[test]
    fn names_are_dns_names() {
        assert!(name("getstartedlab_web").is_ok());
        assert!(name("").unwrap_err().message.contains("name must be provided"));
        assert!(name(&"a".repeat(64)).unwrap_err().message.contains("63 characters"));
        for wrong in ["a b", "a.b", "_a", "a-"] {
            assert!(name(wrong).unwrap_err().message.contains("DNS name component"), "{wrong}");
        }
    }
}
