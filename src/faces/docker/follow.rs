//! What Docker does not tell its drivers: the names of networks and containers, when an interface is complete in its
//! container, and what Docker has forgotten. Docker is asked, and its answers are never an order to remove what it may
//! still have: what it has lacked for [`EVERY`] is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::driver::provisional;
use super::{ADDRESS, Driver, Failure};
use crate::base::clock::unix_seconds;
use crate::base::monotonic;
use crate::engine::docker::{DockerEndpoint, DockerNetwork};
use crate::model::endpoint::Endpoint;
use crate::model::handover::RESERVATION;
use crate::model::ids::ContainerId;
use crate::model::names::{Alias, ContainerName, NetworkName};
use crate::model::network::Network;
use crate::model::request::{EngineNetworkChange, HandoverAction, HandoverChange};

/// How long a request of Docker waits for Docker's own answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often Docker is asked whether it still has what netd has for it, and how long it must have lacked what is gone:
/// Docker stores an endpoint after its driver has made it.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// The same while Docker has not said who a container is: it starts containers before it answers anybody.
const AGAIN: Duration = Duration::from_millis(250);
/// The pauses between two looks whether an interface is complete: at first, and at most.
const FIRST: Duration = Duration::from_millis(4);
const LAST: Duration = Duration::from_secs(1);
/// Names are asked for so often, with growing pauses: Docker knows a network a moment after it has created it.
const TRIES: u32 = 8;
/// An address that belongs to no endpoint after so many seconds was requested by a Docker that has ended since, or that has
/// not got the reply: it repeats a request for half a minute.
const UNUSED: u64 = 60;

/// Who a container is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) name: String,
}

impl Driver {
    /// The container to which the endpoint belongs. If Docker does not say, it is named by its sandbox.
    pub(super) async fn identify(&self, network: &str, endpoint: &str, sandbox: &Path) -> Identity {
        match timeout(PATIENCE, self.ask(network, endpoint)).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(why)) => unnamed(endpoint, sandbox, &why),
            Err(_) => unnamed(endpoint, sandbox, "Docker does not answer"),
        }
    }

    async fn ask(&self, network: &str, endpoint: &str) -> Result<Identity, String> {
        let found = self.docker.network(network).await?.ok_or("Docker does not know the network")?;
        let known = found.endpoints.into_iter().find(|known| known.id == endpoint);
        let known = known.ok_or("Docker does not know the endpoint")?;
        let id = match known.container {
            Some(id) => id,
            None => self.docker.container(&known.name).await?.ok_or("Docker does not know the container")?,
        };
        Ok(Identity { id, name: known.name })
    }

    /// Gives a new network Docker's name for it, as soon as Docker tells.
    pub(super) async fn name_when_known(&self, id: &str) {
        let mut pause = FIRST;
        for _ in 0..TRIES {
            sleep(pause).await;
            pause *= 2;
            if let Ok(Some(found)) = self.docker.network(id).await {
                return self.name_network(id, &found).await;
            }
        }
    }

    /// netd's network for Docker's, under Docker's name if it can be had: with its first address it keeps the name that it
    /// has.
    pub(super) async fn named(&self, id: &str) -> Result<Arc<Network>, Failure> {
        let network = self.network(id)?;
        if network.name.as_str() != provisional(id) {
            return Ok(network);
        }
        if let Ok(Ok(Some(found))) = timeout(PATIENCE, self.docker.network(id)).await {
            self.name_network(id, &found).await;
        }
        self.network(id)
    }

    async fn name_network(&self, id: &str, found: &DockerNetwork) {
        let Ok(name) = found.name.parse::<NetworkName>() else { return };
        if self.network(id).is_ok_and(|network| network.name == name) {
            return;
        }
        let change = EngineNetworkChange::Name { id: id.to_owned(), name };
        if let Err(error) = self.handle.change_engine_network(change).await {
            tracing::warn!("cannot name Docker's network {}: {error}", found.name);
        }
    }

    /// Follows a container that is starting: its interface, and its further names, which Docker tells once it has started.
    pub(super) fn follow_container(self: &Arc<Self>, network: &str, endpoint: &str, identity: &Identity) {
        self.wake.notify_one();
        let (driver, network, endpoint) = (self.clone(), network.to_owned(), endpoint.to_owned());
        let id = identity.id.clone();
        tokio::spawn(async move {
            if let Ok(aliases) = driver.docker.aliases(&id, &network).await {
                driver.identified(&endpoint, None, Some(&aliases)).await;
            }
        });
    }

    /// Takes over what Docker knows the container by. Returns whether it is a container that was not known before.
    async fn identified(&self, endpoint: &str, identity: Option<&Identity>, aliases: Option<&[String]>) -> bool {
        let Some(known) = self.find(endpoint) else { return false };
        let is_own = |alias: &Alias| known.is_own_name(alias.as_str());
        let parsed = |aliases: &[String]| {
            let aliases = aliases.iter().filter_map(|alias| alias.parse().ok());
            aliases.filter(|alias| !is_own(alias)).collect::<Vec<Alias>>()
        };
        let aliases = aliases.map(parsed).filter(|aliases| *aliases != known.aliases);
        let id: Option<ContainerId> = identity.and_then(|identity| identity.id.parse().ok());
        let id = id.filter(|id| *id != known.container.id);
        let name: Option<ContainerName> = identity.and_then(|identity| identity.name.parse().ok());
        let name = name.filter(|name| *name != known.container.name);
        if aliases.is_none() && id.is_none() && name.is_none() {
            return false;
        }
        let is_new = id.is_some();
        let action = HandoverAction::Identify { id, name, aliases };
        match self.handle.change_handover(HandoverChange { endpoint: endpoint.to_owned(), action }).await {
            Ok(_) => is_new,
            Err(error) => {
                tracing::debug!(endpoint, "cannot take over its names: {error}");
                false
            }
        }
    }

    /// Runs until `stop` is cancelled.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut missing = Missing::default();
        let (mut pause, mut next) = (FIRST, monotonic::now());
        while !stop.is_cancelled() {
            if monotonic::now() >= next {
                self.compare(&mut missing, monotonic::now()).await;
                next = monotonic::now() + EVERY;
            }
            if !self.handed_over(is_unnamed).is_empty() {
                next = next.min(monotonic::now() + AGAIN);
            }
            let due = if self.settle().await { monotonic::now() + pause } else { next };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => pause = FIRST,
                () = sleep_until(due.min(next).into()) => pause = (pause * 2).min(LAST),
            }
        }
    }

    /// Looks at every interface that Docker may have taken. Returns whether one still waits.
    async fn settle(&self) -> bool {
        let waiting: Vec<String> = self.handed_over(Endpoint::is_waiting);
        for endpoint in &waiting {
            let change = HandoverChange { endpoint: endpoint.clone(), action: HandoverAction::Settle };
            // It may be gone by now.
            let _ = self.handle.change_handover(change).await;
        }
        !self.handed_over(Endpoint::is_waiting).is_empty()
    }

    /// The ids of endpoints whose interface is handed over.
    fn handed_over(&self, which: impl Fn(&Endpoint) -> bool) -> Vec<String> {
        let snapshot = self.handle.snapshot();
        let chosen = snapshot.desired.endpoints().filter(|endpoint| which(endpoint));
        chosen.filter_map(|endpoint| Some(endpoint.handover.as_ref()?.endpoint.clone())).collect()
    }

    /// Compares what netd has for Docker with what Docker has, `at` now.
    pub(super) async fn compare(self: &Arc<Self>, missing: &mut Missing, at: Instant) {
        let networks: Vec<Arc<Network>> = self.handle.snapshot().desired.networks().cloned().collect();
        let mut lacking = BTreeSet::new();
        for network in networks.iter().filter(|network| !network.engines.is_empty()) {
            let mut theirs = BTreeMap::new();
            for engine in &network.engines {
                // As long as one answer is missing, nothing is known to be gone.
                let Ok(found) = self.docker.network(&engine.id).await else { return };
                match found {
                    Some(found) => {
                        self.name_network(&engine.id, &found).await;
                        let of = |endpoint: DockerEndpoint| (endpoint.id.clone(), (engine.id.clone(), endpoint));
                        theirs.extend(found.endpoints.into_iter().map(of));
                    }
                    None => drop(lacking.insert((Kind::Network, engine.id.clone()))),
                }
            }
            for (id, (network, endpoint)) in &theirs {
                let Some(container) = &endpoint.container else { continue };
                let identity = Identity { id: container.clone(), name: endpoint.name.clone() };
                if self.identified(id, Some(&identity), None).await {
                    self.follow_container(network, id, &identity);
                }
            }
            let forgotten = self.of_network(network).into_iter().filter(|id| !theirs.contains_key(id));
            lacking.extend(forgotten.map(|id| (Kind::Endpoint, id)));
        }
        missing.note(lacking, at);
        for (kind, id) in missing.gone(at) {
            self.remove(kind, &id).await;
        }
        self.release_unused().await;
    }

    /// Removes what Docker has forgotten.
    async fn remove(&self, kind: Kind, id: &str) {
        match kind {
            Kind::Endpoint => {
                tracing::warn!(endpoint = id, "Docker has forgotten an endpoint: it is released");
                if let Err(failure) = self.forget(id).await {
                    tracing::warn!(endpoint = id, "cannot release it: {}", failure.0);
                }
            }
            Kind::Network => {
                tracing::warn!(network = id, "Docker has forgotten a network: it is removed");
                let change = EngineNetworkChange::Leave { id: id.to_owned() };
                if let Err(error) = self.handle.change_engine_network(change).await {
                    tracing::warn!(network = id, "cannot remove it: {error}");
                }
            }
        }
    }

    /// The ids of the endpoints that netd has for Docker on the network, and those of reservations for some.
    fn of_network(&self, network: &Network) -> BTreeSet<String> {
        let snapshot = self.handle.snapshot();
        let endpoints = snapshot.desired.endpoints_of(&network.name);
        let endpoints = endpoints.filter_map(|endpoint| Some(endpoint.handover.as_ref()?.endpoint.clone()));
        let reserved = snapshot.desired.reservations_of(&network.name).filter_map(|reserved| {
            let id = reserved.id.as_str();
            id.strip_prefix(RESERVATION).filter(|_| !id.starts_with(ADDRESS)).map(str::to_owned)
        });
        endpoints.chain(reserved).collect()
    }

    async fn release_unused(&self) {
        let snapshot = self.handle.snapshot();
        let is_old = |created: u64| unix_seconds().saturating_sub(created) > UNUSED;
        let unused = snapshot.desired.reservations().filter(|held| held.id.as_str().starts_with(ADDRESS));
        let unused: Vec<String> = unused.filter(|held| is_old(held.created)).map(|held| held.id.to_string()).collect();
        for id in unused {
            let _ = self.handle.release_reservation(&id).await;
        }
    }
}

/// What Docker may have forgotten. Endpoints are released before the networks on which they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Endpoint,
    Network,
}

/// What Docker did not have when it was last asked, by id, and since when it has lacked it.
#[derive(Debug, Default)]
pub(super) struct Missing(BTreeMap<(Kind, String), Instant>);

impl Missing {
    fn note(&mut self, lacking: BTreeSet<(Kind, String)>, at: Instant) {
        let since = lacking.into_iter().map(|what| {
            let since = self.0.get(&what).copied().unwrap_or(at);
            (what, since)
        });
        self.0 = since.collect();
    }

    fn gone(&self, at: Instant) -> Vec<(Kind, String)> {
        let gone = self.0.iter().filter(|(_, since)| **since + EVERY <= at);
        gone.map(|(what, _)| what.clone()).collect()
    }
}

/// Whether it is only known by its sandbox.
fn is_unnamed(endpoint: &Endpoint) -> bool {
    let sandbox = endpoint.handover.as_ref().and_then(|handover| handover.sandbox.file_name()?.to_str());
    sandbox == Some(endpoint.container.id.as_str())
}

/// Named by its sandbox, which the endpoints of one container share.
fn unnamed(endpoint: &str, sandbox: &Path, why: &str) -> Identity {
    tracing::warn!(endpoint, "the name of a container of Docker is not known: {why}");
    let name = sandbox.file_name().map_or_else(|| endpoint.to_owned(), |name| name.to_string_lossy().into_owned());
    Identity { id: name.clone(), name }
}
