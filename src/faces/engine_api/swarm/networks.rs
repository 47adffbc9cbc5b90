//! The networks of services: any of netd's. Those that were made with the driver `overlay` are shown as such.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::base::monotonic;
use crate::faces::engine_api::tasks::task::service_of;

use super::text;
use crate::engine::ErrorKind;
use crate::faces::engine_api::EngineApi;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::named::{Named, find};
use crate::faces::engine_api::network_json::{SCOPE, SWARM};
use crate::faces::engine_api::podman_networks::show_scope;
use crate::faces::engine_api::version::NEWEST;
use crate::model::handover::RESERVATION;
use crate::model::network::Network;
use crate::model::request::NetworkSpec;

/// The network of services for which none is given.
const INGRESS: &str = "ingress";

/// How long the tasks of a service that is gone may take to end, and how often they are looked at.
const ENDS: Duration = Duration::from_secs(60);
/// For how long the engine may keep what an endpoint had, after its container.
const LEAVES: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

impl EngineApi {
    /// The network that a service names.
    pub(super) async fn service_network(&self, text: &str) -> Result<Arc<Network>, Failure> {
        match self.named(text, NEWEST).await? {
            Named::Ours(network) => Ok(network),
            Named::Predefined(predefined) => Err(Failure::forbidden(format!(
                "The network {} cannot be used with services: a service needs a network of its own names",
                predefined.name
            ))),
            Named::Podman(defined) => self.network_of_podman(&defined).await,
        }
    }

    /// The network of services for which none is given; it is made if there is none.
    pub(super) async fn ingress(&self) -> Result<Arc<Network>, Failure> {
        match self.service_network(INGRESS).await {
            Err(failure) if failure.status == axum::http::StatusCode::NOT_FOUND => {}
            found => return found,
        }
        let labels = [(SCOPE.to_owned(), SWARM.to_owned())];
        let body = serde_json::json!({"Name": INGRESS, "Labels": {SCOPE: SWARM}});
        if let Some(engine) = &self.engine
            && engine.define_network(INGRESS, self.with_range(body).await?).await?.is_some()
        {
            return self.service_network(INGRESS).await;
        }
        let spec = NetworkSpec { labels: labels.into(), ..NetworkSpec::named(INGRESS.parse()?) };
        match self.handle.create_network(spec).await {
            Ok(network) => Ok(network),
            // Another request has made it in between.
            Err(error) => match find(&self.handle.snapshot(), INGRESS) {
                Ok(Named::Ours(network)) => Ok(network),
                _ => Err(error.into()),
            },
        }
    }

    /// Removes the network of services for which none is given, if there is no such service.
    pub(in crate::faces::engine_api) async fn settle_networks(&self) {
        let name = INGRESS.parse().ok();
        let snapshot = self.handle.snapshot();
        let is_used = name.as_ref().is_some_and(|name| {
            snapshot.desired.services_of(name).next().is_some() || snapshot.desired.endpoints_of(name).next().is_some()
        });
        if is_used {
            return;
        }
        let removed = match self.named(INGRESS, NEWEST).await {
            Ok(network) => self.remove_if_of_swarm(&network).await,
            Err(_) => return,
        };
        if let Err(failure) = removed {
            tracing::debug!("the network {INGRESS} stays: {}", failure.message);
        }
    }

    /// Waits until no task of a service that is gone is on the network: a stack is removed at once with its networks. The
    /// engine removes a container before it gives back its endpoint and its address, so netd is asked, not the engine.
    pub(in crate::faces::engine_api) async fn tasks_gone(&self, network: &str) {
        let Ok(network) = network.parse() else { return };
        let until = monotonic::now() + ENDS;
        let mut given_back = monotonic::now() + LEAVES;
        while self.swarm().is_some() && monotonic::now() < until {
            let snapshot = self.handle.snapshot();
            let services = self.services();
            let is_left = |container: &str| {
                service_of(container).is_some_and(|name| services.iter().all(|service| service.name.as_str() != name))
            };
            let mut ends = snapshot.desired.endpoints_of(&network);
            if ends.any(|end| is_left(end.container.name.as_str())) {
                given_back = monotonic::now() + LEAVES;
            } else {
                let mut held = snapshot.desired.reservations_of(&network);
                if monotonic::now() >= given_back || !held.any(|held| held.id.as_str().starts_with(RESERVATION)) {
                    return;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Removes the networks of the swarm, when the node leaves it. One that is in use stays.
    pub(super) async fn remove_swarm_networks(&self) -> Result<(), Failure> {
        let defined = match &self.engine {
            Some(engine) => engine.definitions().await?,
            None => Vec::new(),
        };
        let ours = self.handle.snapshot().desired.networks().cloned().map(Named::Ours).collect::<Vec<_>>();
        let defined = defined.into_iter().map(|mut network| {
            show_scope(&mut network);
            Named::Podman(network)
        });
        for network in defined.chain(ours) {
            if let Err(failure) = self.remove_if_of_swarm(&network).await {
                tracing::warn!("a network of the swarm stays: {}", failure.message);
            }
        }
        Ok(())
    }

    async fn remove_if_of_swarm(&self, network: &Named) -> Result<(), Failure> {
        match (network, &self.engine) {
            (Named::Ours(network), _) if network.labels.get(SCOPE).map(String::as_str) == Some(SWARM) => {
                self.remove_for_good(network).await
            }
            (Named::Podman(network), Some(engine)) if network["Scope"] == SWARM => {
                engine.remove_definition(text(network, "Name")).await
            }
            _ => Ok(()),
        }
    }

    /// Removes the network, and what the engine has for it.
    async fn remove_for_good(&self, network: &Network) -> Result<(), Failure> {
        if let Some(engine) = &self.engine {
            engine.forget_network(network).await?;
        }
        match self.handle.remove_network(network.id.as_str()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map(drop).map_err(Failure::from),
        }
    }
}
