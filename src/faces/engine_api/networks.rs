//! `/networks`: list, inspect, remove, prune.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::failure::{Failure, json_reply};
use super::filters::Filters;
use super::named::{Named, ambiguous, find, of_podman};
use super::network_json::{BRIDGE, HOST, NONE, PODMAN, inspected};
use super::podman_networks::show_scope;
use super::version::ApiVersion;
use super::{Asked, EngineApi};
use crate::api::v1::boolean;
use crate::base::monotonic;
use crate::engine::Snapshot;
use crate::model::names::NetworkName;
use crate::model::network::Network;

const FILTERS: [&str; 8] = ["dangling", "driver", "id", "name", "label", "label!", "scope", "type"];
const FILTERS_PRUNE: [&str; 3] = ["label", "label!", "until"];

/// What Podman says of a network on which it still has a container, and netd of one that has endpoints.
const USED: &str = "network is being used";
const ACTIVE: &str = "has active endpoints";
/// For how long that may be the last of a task, and how often Podman is asked again.
const FORGETS: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

/// A text of a network as it is shown.
fn text<'a>(network: &'a Value, key: &str) -> &'a str {
    network[key].as_str().unwrap_or_default()
}

impl EngineApi {
    /// The networks that Podman defines, with the containers that netd knows on them; none without Podman.
    async fn of_podman(&self, snapshot: &Snapshot, version: ApiVersion) -> Result<Vec<Value>, Failure> {
        let Some(engine) = &self.engine else { return Ok(Vec::new()) };
        let mut defined = engine.definitions().await?;
        for network in &mut defined {
            let name = of_podman(text(network, "Name")).parse().ok();
            let ours = name.and_then(|name| snapshot.desired.network(&name));
            if let Some(ours) = ours {
                network["Containers"] = inspected(ours, snapshot, version)["Containers"].take();
            }
            show_scope(network);
        }
        Ok(defined)
    }

    /// The network that a request names, Podman's definitions included.
    pub(super) async fn named(&self, name: &str, version: ApiVersion) -> Result<Named, Failure> {
        let snapshot = self.handle.snapshot();
        let mut defined = self.of_podman(&snapshot, version).await?;
        let exact =
            |network: &Value| of_podman(text(network, "Name")) == of_podman(name) || text(network, "Id") == name;
        if let Some(found) = defined.iter().position(exact) {
            return Ok(Named::Podman(defined.swap_remove(found)));
        }
        let found = find(&snapshot, name);
        defined.retain(|network| !name.is_empty() && text(network, "Id").starts_with(name));
        match (found, defined.len()) {
            (Err(_), 1) => Ok(Named::Podman(defined.swap_remove(0))),
            (Ok(Named::Ours(_)), 1..) | (Err(_), 2..) => Err(ambiguous(name, defined.len() + 1)),
            (found, _) => found,
        }
    }

    pub(super) async fn list_networks(&self, asked: &Asked) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS)?;
        let (dangling, snapshot) = (filters.truth("dangling")?, self.handle.snapshot());
        if let Some(wrong) = filters.get("type").find(|kind| !matches!(*kind, "custom" | "builtin")) {
            return Err(Failure::bad(format!("invalid filter 'type={wrong}'")));
        }
        let mut shown = match self.of_podman(&snapshot, asked.version).await {
            // Podman is not there: those that netd has are.
            Err(failure) if failure.status == StatusCode::SERVICE_UNAVAILABLE => Vec::new(),
            defined => defined?,
        };
        let known: Vec<String> = shown.iter().map(|network| of_podman(text(network, "Name")).to_owned()).collect();
        let ours =
            snapshot.desired.networks().filter(|network| !known.iter().any(|name| *name == network.name.as_str()));
        shown.extend(ours.map(|network| inspected(network, &snapshot, asked.version)));
        shown.extend([HOST, NONE].map(|predefined| predefined.shown(asked.version)));
        shown.retain(|network| fits(network, &filters, dangling));
        for network in shown.iter_mut().filter(|_| asked.version >= ApiVersion::one(28)) {
            network.as_object_mut().map(|fields| (fields.shift_remove("Containers"), fields.shift_remove("Status")));
        }
        Ok(json_reply(StatusCode::OK, &Value::Array(shown)))
    }

    /// Whether networks of that scope can be meant. A service may be on any of netd's, so that all are of a swarm's.
    fn is_in_scope(&self, scope: &str) -> bool {
        matches!(scope, "" | "local") || (scope == "swarm" && self.swarm().is_some())
    }

    pub(super) async fn inspect_network(&self, asked: &Asked, name: &str) -> Result<Response, Failure> {
        let verbose = asked.query("verbose").filter(|verbose| !verbose.is_empty());
        if let Some(wrong) = verbose.filter(|verbose| boolean(verbose).is_none()) {
            let why = format!("invalid value for verbose: strconv.ParseBool: parsing {wrong:?}: invalid syntax");
            return Err(Failure::bad(why));
        }
        if asked.query("scope").is_some_and(|scope| !self.is_in_scope(scope)) {
            return Err(Failure::no_network(name));
        }
        let shown = match self.named(name, asked.version).await? {
            Named::Ours(network) => inspected(&network, &self.handle.snapshot(), asked.version),
            Named::Predefined(predefined) => predefined.shown(asked.version),
            Named::Podman(network) => network,
        };
        Ok(json_reply(StatusCode::OK, &shown))
    }

    pub(super) async fn remove_network(&self, asked: &Asked, name: &str) -> Result<Response, Failure> {
        let predefined =
            |name: &str| Failure::forbidden(format!("{name} is a pre-defined network and cannot be removed"));
        match self.named(name, asked.version).await? {
            Named::Predefined(found) => return Err(predefined(found.name)),
            Named::Ours(network) if network.name.as_str() == BRIDGE => return Err(predefined(BRIDGE)),
            Named::Ours(network) => {
                self.tasks_gone(network.name.as_str()).await;
                self.remove(&network).await?;
            }
            Named::Podman(network) if is_builtin(text(&network, "Name")) => return Err(predefined(BRIDGE)),
            Named::Podman(network) => {
                self.tasks_gone(of_podman(text(&network, "Name"))).await;
                let until = monotonic::now() + FORGETS;
                // With the containers that are on it now.
                while let Named::Podman(network) = self.named(name, asked.version).await? {
                    let removed = self.remove_of_podman(&network).await;
                    match removed {
                        Err(failure) if self.may_be_the_last(&failure, &network, until) => sleep(AGAIN).await,
                        done => return done.map(|()| StatusCode::NO_CONTENT.into_response()),
                    }
                }
            }
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Whether what is refused may be the last of a task, which Podman lists for a moment after netd has let go of it.
    fn may_be_the_last(&self, failure: &Failure, network: &Value, until: Instant) -> bool {
        let has_ends = of_podman(text(network, "Name"))
            .parse()
            .is_ok_and(|name| self.handle.snapshot().desired.endpoints_of(&name).next().is_some());
        let is_used = failure.message.contains(USED) || (failure.message.contains(ACTIVE) && !has_ends);
        is_used && self.swarm().is_some() && monotonic::now() < until
    }

    /// Refuses to remove a network on which there are services.
    fn check_services(&self, name: &str) -> Result<(), Failure> {
        let Ok(network) = name.parse::<NetworkName>() else { return Ok(()) };
        let snapshot = self.handle.snapshot();
        let mut services = snapshot.desired.services_of(&network);
        match services.find(|service| service.is_defined()) {
            Some(service) => {
                let why = format!("network {name} is in use by service {}", service.id);
                Err(Failure::bad(format!("rpc error: code = FailedPrecondition desc = {why}")))
            }
            None => Ok(()),
        }
    }

    /// Removes the network, and what the engine has for it.
    async fn remove(&self, network: &Network) -> Result<(), Failure> {
        self.check_services(network.name.as_str())?;
        let snapshot = self.handle.snapshot();
        let ends: Vec<String> = snapshot.desired.endpoints_of(&network.name).map(active).collect();
        if !ends.is_empty() {
            return Err(in_use(network.name.as_str(), &ends));
        }
        if let Some(held) = snapshot.desired.reservations_of(&network.name).next() {
            return Err(in_use(network.name.as_str(), &[format!("reservation:{:?}", held.id.as_str())]));
        }
        if let Some(engine) = &self.engine {
            engine.forget_network(network).await?;
        }
        match self.handle.remove_network(network.id.as_str()).await {
            // It went with the engine's network for which it was made.
            Err(error) if error.kind() == crate::engine::ErrorKind::NotFound => Ok(()),
            done => done.map(drop).map_err(Failure::from),
        }
    }

    async fn remove_of_podman(&self, network: &Value) -> Result<(), Failure> {
        self.check_services(of_podman(text(network, "Name")))?;
        let containers = network["Containers"].as_object().into_iter().flatten();
        let ends: Vec<String> = containers.map(|(_, end)| format!("name:{}", end["Name"])).collect();
        if !ends.is_empty() {
            return Err(in_use(text(network, "Name"), &ends));
        }
        match &self.engine {
            Some(engine) => engine.remove_definition(text(network, "Name")).await,
            None => Ok(()),
        }
    }

    pub(super) async fn prune_networks(&self, asked: &Asked) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS_PRUNE)?;
        let until = filters.get("until").map(super::time::parse).last().transpose()?;
        let Ok(_pruning) = self.pruning.try_lock() else {
            return Err(Failure::new(StatusCode::CONFLICT, "a prune operation is already running"));
        };
        let snapshot = self.handle.snapshot();
        let mut removed = Vec::new();
        for network in self.of_podman(&snapshot, asked.version).await? {
            // One whose age cannot be read stays.
            let created = super::time::parse(text(&network, "Created")).ok();
            let is_old = until.is_none_or(|until| created.is_some_and(|created| created < until));
            let labels = |key: &str| network["Labels"][key].as_str();
            if !is_builtin(text(&network, "Name"))
                && is_old
                && filters.labels(labels)
                && self.remove_of_podman(&network).await.is_ok()
            {
                removed.push(text(&network, "Name").to_owned());
            }
        }
        let unused = snapshot.desired.networks().filter(|network| {
            network.name.as_str() != BRIDGE
                && !network.on_demand
                && snapshot.desired.reservations_of(&network.name).next().is_none()
                && filters.labels(|key| network.labels.get(key).map(String::as_str))
                && until.is_none_or(|until| (network.created as f64) < until)
        });
        for network in unused {
            // One that is in use, or that the engine still needs, stays.
            if self.remove(network).await.is_ok() {
                removed.push(network.name.to_string());
            }
        }
        self.events.pruned();
        let removed = if removed.is_empty() { Value::Null } else { json!(removed) };
        Ok(json_reply(StatusCode::OK, &json!({ "NetworksDeleted": removed })))
    }
}

fn active(endpoint: &Arc<crate::model::endpoint::Endpoint>) -> String {
    format!("name:{:?} id:{:?}", endpoint.container.name.as_str(), &super::network_json::endpoint_id(endpoint)[..12])
}

fn in_use(name: &str, ends: &[String]) -> Failure {
    let why = format!("network {name} {ACTIVE} ({})", ends.join(", "));
    Failure::forbidden(format!("error while removing network: {why}"))
}

fn is_builtin(name: &str) -> bool {
    [BRIDGE, HOST.name, NONE.name, PODMAN].contains(&name)
}

/// Whether the network is asked for.
fn fits(network: &Value, filters: &Filters, dangling: Option<bool>) -> bool {
    let name = text(network, "Name");
    let builtin = is_builtin(name);
    let dangles = !builtin && network["Containers"].as_object().is_none_or(serde_json::Map::is_empty);
    filters.part("id", text(network, "Id"))
        && filters.part("name", name)
        && filters.exact("driver", text(network, "Driver"))
        && filters.exact("scope", text(network, "Scope"))
        && filters.exact("type", if builtin { "builtin" } else { "custom" })
        && filters.labels(|key| network["Labels"][key].as_str())
        && dangling.is_none_or(|wanted| wanted == dangles)
}
