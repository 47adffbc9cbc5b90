//! `/networks`: list, inspect, remove, prune.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::failure::{Failure, json_reply};
use super::filters::Filters;
use super::network_json::{BRIDGE, HOST, NONE, Predefined, inspected, listed};
use super::version::ApiVersion;
use super::{Asked, EngineApi};
use crate::engine::Snapshot;
use crate::model::desired::Lookup;
use crate::model::network::Network;

const FILTERS: [&str; 8] = ["dangling", "driver", "id", "name", "label", "label!", "scope", "type"];
const FILTERS_PRUNE: [&str; 3] = ["label", "label!", "until"];

/// A network that a request names.
pub(super) enum Named {
    Ours(Arc<Network>),
    Predefined(Predefined),
}

/// The network by whole id, whole name or unique beginning of the id.
pub(super) fn find(snapshot: &Snapshot, text: &str) -> Result<Named, Failure> {
    for predefined in [HOST, NONE] {
        if text == predefined.name || text == predefined.id() {
            return Ok(Named::Predefined(predefined));
        }
    }
    match snapshot.desired.find_network(text) {
        Lookup::One(network) => Ok(Named::Ours(network)),
        Lookup::None => {
            let begins = |predefined: &Predefined| text.len() >= 4 && predefined.id().starts_with(text);
            let found = [HOST, NONE].into_iter().find(begins);
            found.map(Named::Predefined).ok_or_else(|| Failure::no_network(text))
        }
        Lookup::Ambiguous(count) => {
            Err(Failure::bad(format!("network {text} is ambiguous ({count} matches found based on ID prefix)")))
        }
    }
}

impl EngineApi {
    pub(super) fn list_networks(&self, asked: &Asked) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS)?;
        let (dangling, snapshot) = (filters.truth("dangling")?, self.handle.snapshot());
        if let Some(wrong) = filters.get("type").find(|kind| !matches!(*kind, "custom" | "builtin")) {
            return Err(Failure::bad(format!("invalid filter 'type={wrong}'")));
        }
        let in_use = |network: &Network| snapshot.desired.endpoints_of(&network.name).next().is_some();
        let ours = snapshot.desired.networks().filter(|network| {
            let facts = Facts {
                id: network.id.as_str(),
                name: network.name.as_str(),
                driver: network.driver.name(),
                builtin: network.name.as_str() == BRIDGE,
            };
            let dangles = !in_use(network) && !facts.builtin;
            facts.fit(&filters)
                && filters.labels(|key| network.labels.get(key).map(String::as_str))
                && dangling.is_none_or(|wanted| wanted == dangles)
        });
        let mut shown: Vec<Value> = ours.map(|network| listed(network, asked.version)).collect();
        let predefined = [HOST, NONE].into_iter().filter(|predefined| {
            let id = predefined.id();
            let facts = Facts { id: &id, name: predefined.name, driver: predefined.driver, builtin: true };
            facts.fit(&filters) && filters.labels(|_| None) && dangling != Some(true)
        });
        shown.extend(predefined.map(|predefined| {
            let mut shown = predefined.shown(asked.version);
            if asked.version >= ApiVersion::one(28) {
                shown.as_object_mut().map(|fields| fields.remove("Containers"));
            }
            shown
        }));
        Ok(json_reply(StatusCode::OK, &Value::Array(shown)))
    }

    pub(super) fn inspect_network(&self, asked: &Asked, text: &str) -> Result<Response, Failure> {
        let verbose = asked.query("verbose").filter(|verbose| !verbose.is_empty());
        if let Some(wrong) = verbose.filter(|verbose| super::boolean(verbose).is_none()) {
            let why = format!("invalid value for verbose: strconv.ParseBool: parsing {wrong:?}: invalid syntax");
            return Err(Failure::bad(why));
        }
        if asked.query("scope").is_some_and(|scope| !scope.is_empty() && scope != "local") {
            return Err(Failure::no_network(text));
        }
        let snapshot = self.handle.snapshot();
        let shown = match find(&snapshot, text)? {
            Named::Ours(network) => inspected(&network, &snapshot, asked.version),
            Named::Predefined(predefined) => predefined.shown(asked.version),
        };
        Ok(json_reply(StatusCode::OK, &shown))
    }

    pub(super) async fn remove_network(&self, text: &str) -> Result<Response, Failure> {
        let predefined =
            |name: &str| Failure::forbidden(format!("{name} is a pre-defined network and cannot be removed"));
        let network = match find(&self.handle.snapshot(), text)? {
            Named::Predefined(found) => return Err(predefined(found.name)),
            Named::Ours(network) if network.name.as_str() == BRIDGE => return Err(predefined(BRIDGE)),
            Named::Ours(network) => network,
        };
        self.remove(&network).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Removes the network, and what the engine has for it.
    async fn remove(&self, network: &Network) -> Result<(), Failure> {
        let snapshot = self.handle.snapshot();
        let ends: Vec<String> = snapshot.desired.endpoints_of(&network.name).map(active).collect();
        if !ends.is_empty() {
            let why = format!("network {} has active endpoints ({})", network.name, ends.join(", "));
            return Err(Failure::forbidden(format!("error while removing network: {why}")));
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

    pub(super) async fn prune_networks(&self, asked: &Asked) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS_PRUNE)?;
        let until = filters.get("until").map(super::time::parse).last().transpose()?;
        let Ok(_pruning) = self.pruning.try_lock() else {
            return Err(Failure::new(StatusCode::CONFLICT, "a prune operation is already running"));
        };
        let snapshot = self.handle.snapshot();
        let unused = snapshot.desired.networks().filter(|network| {
            network.name.as_str() != BRIDGE
                && snapshot.desired.endpoints_of(&network.name).next().is_none()
                && snapshot.desired.reservations_of(&network.name).next().is_none()
                && filters.labels(|key| network.labels.get(key).map(String::as_str))
                && until.is_none_or(|until| (network.created as f64) < until)
        });
        let mut removed = Vec::new();
        for network in unused {
            // One that has come into use since, or that the engine still needs, stays.
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

/// What filters ask about.
struct Facts<'a> {
    id: &'a str,
    name: &'a str,
    driver: &'a str,
    builtin: bool,
}

impl Facts<'_> {
    fn fit(&self, filters: &Filters) -> bool {
        let kind = if self.builtin { "builtin" } else { "custom" };
        filters.part("id", self.id)
            && filters.part("name", self.name)
            && filters.exact("driver", self.driver)
            && filters.exact("scope", "local")
            && filters.exact("type", kind)
    }
}
