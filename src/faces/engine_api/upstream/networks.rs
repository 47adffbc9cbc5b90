//! netd's networks in the engine. Docker has each as a network of the driver `netd` that joins netd's, from the first
//! container on that needs it. Podman calls netd with its own definition of the network (`netd-netavark`), so that the
//! definition is made first, and netd's network with the same name and subnets after it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use bollard::models as wire;
use serde_json::{Value, json};

use super::{Kind, Upstream, encoded};
use crate::api::v1::{CreateNetwork, SubnetObject, SubnetRequest};
use crate::engine::{Handle, Snapshot};
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::network_json::BRIDGE;
use crate::model::address::Family;
use crate::model::network::Network;
use crate::model::request::NetworkSpec;

/// The label with which the engine's network names netd's, by its id.
const LABEL: &str = "netd.network.id";
/// The option with which Docker's network joins netd's.
const JOIN: &str = "netd.network";

/// A network as the engine has it.
pub(super) struct Theirs {
    pub(super) id: String,
    pub(super) name: String,
}

impl Upstream {
    /// Makes a network, in netd and where needed in the engine.
    pub(in crate::faces::engine_api) async fn create_network(
        &self,
        handle: &Handle,
        create: CreateNetwork,
    ) -> Result<Arc<Network>, Failure> {
        let create_own = async |create| Ok(handle.create_network(NetworkSpec::try_from(create)?).await?);
        // An engine that does not answer now is asked when the first container needs the network; Podman is needed now.
        match self.about().await.map(|about| about.kind) {
            Ok(Kind::Podman) => {}
            Ok(Kind::Docker) | Err(_) => return create_own(create).await,
        }
        NetworkSpec::try_from(create.clone())?;
        let config: Vec<Value> = create.subnets.iter().map(config).collect();
        let body = json!({
            "Name": create.name, "CheckDuplicate": true, "Driver": "bridge", "Internal": create.internal,
            "EnableIPv6": create.ipv6, "Labels": create.labels, "Options": {},
            "IPAM": {"Driver": "default", "Config": config},
        });
        let made = self.ask(Method::POST, "/networks/create", Some(&body)).await?.value()?;
        let id = made["Id"].as_str().unwrap_or_default().to_owned();
        let name = create.name.clone();
        let made = async {
            let definition = self.ask(Method::GET, &format!("/networks/{}", encoded(&name)), None).await?.value()?;
            create_own(CreateNetwork { subnets: subnets(&definition), ipv6: false, ..create }).await
        };
        match made.await {
            Ok(network) => Ok(network),
            Err(failure) => {
                let undone = self.ask(Method::DELETE, &format!("/networks/{}", encoded(&name)), None).await;
                if let Err(why) = undone.and_then(super::Answer::value) {
                    tracing::warn!(
                        network = name,
                        id,
                        "Podman keeps a network that netd could not make: {}",
                        why.message
                    );
                }
                Err(failure)
            }
        }
    }

    /// The engine's network for netd's; it is made if there is none.
    pub(super) async fn ensure_network(&self, network: &Network) -> Result<Theirs, Failure> {
        let _making = self.making.lock().await;
        if let Some(found) = self.find_network(network).await? {
            return Ok(found);
        }
        if self.about().await?.kind == Kind::Podman {
            let why = "Podman has no network of this name: make it with `docker network create` through netd, or with \
                       `podman network create`, before netd makes it";
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
            let id = answer.value()?["Id"].as_str().unwrap_or_default().to_owned();
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

    /// netd's networks, by the names and ids that the engine has for them.
    pub(super) async fn names(&self, snapshot: &Snapshot) -> Result<HashMap<String, Arc<Network>>, Failure> {
        let (kind, mut names) = (self.about().await?.kind, HashMap::new());
        for theirs in self.networks().await? {
            let Some(network) = snapshot.desired.networks().find(|network| own(kind, &theirs, network)) else {
                continue;
            };
            for key in ["Id", "Name"] {
                names.extend(theirs[key].as_str().map(|key| (key.to_owned(), network.clone())));
            }
        }
        Ok(names)
    }

    /// Removes what the engine has for the network.
    pub(in crate::faces::engine_api) async fn forget_network(&self, network: &Network) -> Result<(), Failure> {
        let Some(theirs) = self.find_network(network).await? else { return Ok(()) };
        let gone = self.ask(Method::DELETE, &format!("/networks/{}", theirs.id), None).await?;
        if gone.status == StatusCode::NOT_FOUND { Ok(()) } else { gone.value().map(drop) }
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
        let answer = self.ask(Method::GET, &format!("/containers/{}/json", encoded(container)), None).await?;
        Ok(answer.status.is_success())
    }
}

/// Whether the engine's network is this one of netd. Podman's has the same name; Docker's own bridges are not netd's,
/// whatever they are called.
fn own(kind: Kind, theirs: &Value, network: &Network) -> bool {
    let id = theirs["Id"].as_str().unwrap_or_default();
    match kind {
        Kind::Podman => theirs["Name"].as_str() == Some(network.name.as_str()),
        Kind::Docker => {
            theirs["Driver"].as_str() == Some("netd")
                && (theirs["Labels"][LABEL].as_str() == Some(network.id.as_str())
                    || network.engines.iter().any(|engine| engine.id == id))
        }
    }
}

fn config(subnet: &SubnetRequest) -> Value {
    match subnet {
        SubnetRequest::Prefix(prefix) => json!({"Subnet": prefix}),
        SubnetRequest::Object(SubnetObject { subnet, gateway, ip_range }) => {
            let mut config = json!({"Subnet": subnet});
            for (key, value) in [("Gateway", gateway), ("IPRange", ip_range)] {
                if let Some(value) = value {
                    config[key] = value.as_str().into();
                }
            }
            config
        }
    }
}

fn subnets(definition: &Value) -> Vec<SubnetRequest> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let subnet = |config: &Value| {
        let subnet = text(&config["Subnet"])?;
        Some(SubnetRequest::Object(SubnetObject { subnet, gateway: text(&config["Gateway"]), ip_range: None }))
    };
    definition["IPAM"]["Config"].as_array().into_iter().flatten().filter_map(subnet).collect()
}
