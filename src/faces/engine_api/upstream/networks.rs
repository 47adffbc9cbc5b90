//! netd's networks in the engine. Docker has each as a network of the driver `netd` that joins netd's, from the first
//! container on that needs it. Podman has the definitions of networks, from which netd makes them with the first container
//! (`netd-netavark`): they are shown as they are, and made, removed and joined through Podman.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{Method, Request, StatusCode};
use bollard::models as wire;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Kind, Upstream};
use crate::base::monotonic;
use crate::engine::Snapshot;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::named::of_podman;
use crate::faces::engine_api::network_json::{BRIDGE, is_on_host};
use crate::faces::shared::client::segment;
use crate::model::address::Family;
use crate::model::network::Network;

/// The label with which the engine's network names netd's, by its id.
const LABEL: &str = "netd.network.id";
/// The option with which Docker's network joins netd's.
const JOIN: &str = "netd.network";

/// For how long Docker may keep an endpoint that its driver has let go of, and how often it is asked again.
const FORGETS: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

/// A network of netd as it is shown: as Podman has it, where Podman defines it.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) network: Arc<Network>,
    pub(super) id: String,
    pub(super) name: String,
}

/// Networks by names and ids.
pub(super) type Names = HashMap<String, Shown>;

/// A network as the engine has it.
pub(super) struct Theirs {
    pub(super) id: String,
    pub(super) name: String,
}

impl Upstream {
    /// The definitions of Podman; none if the engine is Docker, or does not answer now.
    pub(in crate::faces::engine_api) async fn definitions(&self) -> Result<Vec<Value>, Failure> {
        match self.about().await.map(|about| about.kind) {
            Ok(Kind::Podman) => self.networks().await,
            Ok(Kind::Docker) | Err(_) => Ok(Vec::new()),
        }
    }

    /// A definition, as Podman's own API shows it.
    pub(in crate::faces::engine_api) async fn definition(&self, name: &str) -> Result<Value, Failure> {
        let request = Request::builder().uri(format!("/v4.0.0/libpod/networks/{}/json", segment(name)));
        let request = request.header(HOST, "netd").body(Body::empty()).map_err(|error| self.unreachable(error))?;
        self.read(self.send(request).await?).await?.value()
    }

    /// Makes Podman define a network; the reply. `None`: the engine is Docker.
    pub(in crate::faces::engine_api) async fn define_network(
        &self,
        name: &str,
        mut body: Value,
    ) -> Result<Option<Value>, Failure> {
        // Which engine it is decides who makes the network.
        if self.about().await?.kind == Kind::Docker {
            return Ok(None);
        }
        body["CheckDuplicate"] = true.into();
        if !body["Driver"].as_str().is_some_and(is_on_host) {
            body["Driver"] = BRIDGE.into();
        }
        let made = self.ask(Method::POST, "/networks/create", Some(&body)).await?.value().map_err(|failure| {
            let taken = failure.message.contains("already exists") || failure.message.contains("already used");
            match taken && failure.message.contains(name) {
                true => Failure::new(StatusCode::CONFLICT, format!("network with name {name} already exists")),
                false => failure,
            }
        })?;
        Ok(Some(json!({"Id": made["Id"], "Warning": made["Warning"].as_str().unwrap_or_default()})))
    }

    /// Removes a definition of Podman.
    pub(in crate::faces::engine_api) async fn remove_definition(&self, name: &str) -> Result<(), Failure> {
        self.ask(Method::DELETE, &format!("/networks/{}", segment(name)), None).await?.value().map(drop)
    }

    /// Connects a container of Podman to a network that Podman defines. False: Podman has no such container.
    pub(in crate::faces::engine_api) async fn connect_defined(
        &self,
        network: &str,
        container: &str,
        settings: &wire::EndpointSettings,
    ) -> Result<bool, Failure> {
        let body = json!({"Container": container, "EndpointConfig": settings});
        self.change_end(network, container, "connect", &body).await
    }

    /// The same for a container that Podman has; false: the engine is Docker.
    pub(in crate::faces::engine_api) async fn connect_defined_if_podman(
        &self,
        network: &str,
        container: &str,
        settings: &wire::EndpointSettings,
    ) -> Result<bool, Failure> {
        if self.about().await?.kind == Kind::Docker {
            return Ok(false);
        }
        self.connect_defined(network, container, settings).await
    }

    /// Disconnects it.
    pub(in crate::faces::engine_api) async fn disconnect_defined(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<bool, Failure> {
        self.change_end(network, container, "disconnect", &json!({"Container": container, "Force": force})).await
    }

    async fn change_end(&self, network: &str, container: &str, verb: &str, body: &Value) -> Result<bool, Failure> {
        if !self.has_container(container).await? {
            return Ok(false);
        }
        let path = format!("/networks/{}/{verb}", segment(network));
        self.ask(Method::POST, &path, Some(body)).await?.value().map(|_| true)
    }

    /// The engine's network for netd's; it is made if there is none.
    pub(super) async fn ensure_network(&self, network: &Network) -> Result<Theirs, Failure> {
        let _making = self.making.lock().await;
        if let Some(found) = self.find_network(network).await? {
            return Ok(found);
        }
        if self.about().await?.kind == Kind::Podman {
            let why = "only netd knows it, and Podman has no network of this name: remove it, and make it with `docker network \
                       create` through netd or with `podman network create`";
            return Err(Failure::new(StatusCode::CONFLICT, format!("network {}: {why}", network.name)));
        }
        let name = network.name.as_str();
        let preferred = if name == BRIDGE { format!("netd-{name}") } else { name.to_owned() };
        for name in [preferred, format!("{name}.netd")] {
            let config: Vec<Value> = network
                .subnets
                .iter()
                .map(|subnet| json!({"Subnet": subnet.subnet, "Gateway": subnet.gateway}))
                .collect();
            let body = json!({
                "Name": name, "CheckDuplicate": true, "Driver": "netd", "Internal": network.internal,
                "EnableIPv6": network.has(Family::V6), "Labels": {LABEL: network.id.as_str()},
                "Options": {JOIN: network.name.as_str()}, "IPAM": {"Driver": "netd", "Config": config},
            });
            let answer = self.ask(Method::POST, "/networks/create", Some(&body)).await?;
            if answer.status == StatusCode::CONFLICT {
                continue;
            }
            let made = answer.value().map_err(not_made)?;
            let id = made["Id"].as_str().unwrap_or_default().to_owned();
            return Ok(Theirs { id, name });
        }
        let why = format!("Docker has other networks that are called {name} and {name}.netd: remove one");
        Err(Failure::new(StatusCode::CONFLICT, why))
    }

    /// The engine's network for netd's, if it has one.
    pub(super) async fn find_network(&self, network: &Network) -> Result<Option<Theirs>, Failure> {
        let (kind, theirs) = (self.about().await?.kind, self.networks().await?);
        let is_it = |known: &&Value| own(kind, known, network);
        let found = theirs.iter().find(is_it);
        Ok(found
            .and_then(|found| Some(Theirs { id: found["Id"].as_str()?.into(), name: found["Name"].as_str()?.into() })))
    }

    /// All networks of the engine.
    async fn networks(&self) -> Result<Vec<Value>, Failure> {
        let listed = self.ask(Method::GET, "/networks", None).await?.value()?;
        Ok(listed.as_array().cloned().unwrap_or_default())
    }

    /// netd's networks as they are shown, by the names and ids that the engine has for them.
    pub(super) async fn names(&self, snapshot: &Snapshot) -> Result<Names, Failure> {
        let (kind, mut names) = (self.about().await?.kind, Names::new());
        for theirs in self.networks().await? {
            let Some(network) = snapshot.desired.networks().find(|network| own(kind, &theirs, network)) else {
                continue;
            };
            let text = |key: &str| theirs[key].as_str().unwrap_or_default().to_owned();
            let (id, name) = match kind {
                Kind::Docker => (network.id.to_string(), network.name.to_string()),
                Kind::Podman => (text("Id"), text("Name")),
            };
            let shown = Shown { network: network.clone(), id, name };
            names.extend([text("Id"), text("Name"), network.name.to_string()].map(|key| (key, shown.clone())));
        }
        Ok(names)
    }

    /// Removes what the engine has for the network, on which netd has no container any more. Docker asks its driver to let
    /// go of an endpoint before it forgets that itself.
    pub(in crate::faces::engine_api) async fn forget_network(&self, network: &Network) -> Result<(), Failure> {
        let Some(theirs) = self.find_network(network).await? else { return Ok(()) };
        let until = monotonic::now() + FORGETS;
        loop {
            let gone = self.ask(Method::DELETE, &format!("/networks/{}", theirs.id), None).await?;
            if gone.status == StatusCode::NOT_FOUND {
                return Ok(());
            }
            match gone.value() {
                Err(failure) if failure.message.contains("has active endpoints") && monotonic::now() < until => {
                    sleep(AGAIN).await;
                }
                done => return done.map(drop),
            }
        }
    }

    /// Connects a container of the engine. False: the engine has no such container.
    pub(in crate::faces::engine_api) async fn connect(
        &self,
        network: &Network,
        container: &str,
        settings: &wire::EndpointSettings,
    ) -> Result<bool, Failure> {
        if !self.has_container(container).await? {
            return Ok(false);
        }
        let theirs = self.ensure_network(network).await?;
        let body = json!({"Container": container, "EndpointConfig": settings});
        self.ask(Method::POST, &format!("/networks/{}/connect", theirs.id), Some(&body)).await?.value()?;
        Ok(true)
    }

    /// Disconnects a container of the engine. False: it has not connected such a container there itself.
    pub(in crate::faces::engine_api) async fn disconnect(
        &self,
        network: &Network,
        container: &str,
        force: bool,
    ) -> Result<bool, Failure> {
        if !self.has_container(container).await? {
            return Ok(false);
        }
        let Some(theirs) = self.find_network(network).await? else { return Ok(false) };
        let body = json!({"Container": container, "Force": force});
        let answer = self.ask(Method::POST, &format!("/networks/{}/disconnect", theirs.id), Some(&body)).await?;
        match answer.value() {
            Err(failure) if failure.message.contains("is not connected to") => Ok(false),
            done => done.map(|_| true),
        }
    }

    async fn has_container(&self, container: &str) -> Result<bool, Failure> {
        let answer = self.ask(Method::GET, &format!("/containers/{}/json", segment(container)), None).await?;
        Ok(answer.status.is_success())
    }
}

/// Why Docker has not made a network. "Not found" is the driver, but would tell a client that the image is missing, and it
/// would pull that.
fn not_made(failure: Failure) -> Failure {
    if failure.status != StatusCode::NOT_FOUND {
        return failure;
    }
    let why = format!("Docker has not found netd's driver ({}): see [docker_plugin] in netd.toml(5)", failure.message);
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, why)
}

/// Whether the engine's network is this one of netd. Podman's has the same name; Docker's own bridges are not netd's,
/// whatever they are called.
fn own(kind: Kind, theirs: &Value, network: &Network) -> bool {
    let id = theirs["Id"].as_str().unwrap_or_default();
    match kind {
        Kind::Podman => of_podman(theirs["Name"].as_str().unwrap_or_default()) == network.name.as_str(),
        Kind::Docker => {
            theirs["Driver"].as_str() == Some("netd")
                && (theirs["Labels"][LABEL].as_str() == Some(network.id.as_str())
                    || network.engines.iter().any(|engine| engine.id == id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_no_missing_image() {
        let failure = not_made(Failure::new(StatusCode::NOT_FOUND, "plugin \"netd\" not found"));
        assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(failure.message.contains("plugin \"netd\" not found"), "{}", failure.message);
        assert_eq!(not_made(Failure::bad("wrong")), Failure::bad("wrong"));
    }
}
