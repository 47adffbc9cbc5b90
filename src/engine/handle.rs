//! The handle of the engine: one method for each command, for the faces.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::command::{Command, Gone, HealthResults, Reply};
use super::error::Error;
use super::event::Event;
use super::report::{Difference, Planned, PoliciesChanged, Request, Restored};
use super::state::problems::Subject;
use super::state::published::Published;
use super::state::snapshot::Snapshot;
use super::stopping::Stopping;
use super::telemetry::Telemetry;
use crate::logic::refusal::Refusal;
use crate::model::address::{Family, Subnet};
use crate::model::backup::Backup;
use crate::model::desired::Attached;
use crate::model::endpoint::Endpoint;
use crate::model::ids::ContainerId;
use crate::model::names::{NetworkName, ReservationId};
use crate::model::network::Network;
use crate::model::publication::Publication;
use crate::model::request::{
    ContainerRef, EndpointSpec, EngineNetworkChange, HandoverChange, MemberChange, NetnsRef, NetworkSpec, PolicyChange,
    PortChange, Requester, ReservationSpec, ServiceSpec, ServiceUpdate,
};
use crate::model::reservation::Reservation;
use crate::model::service::Service;
use crate::model::upstream::Upstream;
use crate::runtimes::Runtimes;

/// A handle to the engine; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) snapshot: Arc<Published>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    pub(super) runtimes: Arc<dyn Runtimes>,
    pub(super) stopping: Stopping,
}

impl Handle {
    /// Creates a network. The networks of other programs are queried first, outside the engine's thread, because that
    /// may take long.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Arc<Network>, Error> {
        let mut foreign = self.runtimes.networks().await;
        // The definition for which one on demand is made.
        foreign.retain(|foreign| !spec.on_demand || foreign.name != spec.name.as_str());
        self.ask(|reply| Command::CreateNetwork(Box::new(spec), foreign, reply)).await
    }

    /// Removes a network without containers and reservations, by name or id.
    pub async fn remove_network(&self, network: &str) -> Result<Arc<Network>, Error> {
        self.ask(|reply| Command::RemoveNetwork(network.to_owned(), reply)).await
    }

    /// Gives a network other subnets of the same lengths, with everything that is on it; none: netd chooses for those that
    /// overlap with the host's routes and addresses.
    pub async fn renumber_network(&self, network: &str, subnets: Vec<Subnet>) -> Result<Arc<Network>, Error> {
        let foreign = self.runtimes.networks().await;
        self.ask(|reply| Command::RenumberNetwork(network.to_owned(), subnets, foreign, reply)).await
    }

    /// Changes the name servers that are asked for a network's containers; none: those of the daemon.
    pub async fn set_upstreams(&self, network: &str, servers: Vec<Upstream>) -> Result<Arc<Network>, Error> {
        self.ask(|reply| Command::SetUpstreams(network.to_owned(), servers, reply)).await
    }

    /// Adds and removes policies. When it returns, new flows follow them, and flows that they deny have ended.
    pub async fn change_policies(&self, change: PolicyChange) -> Result<PoliciesChanged, Error> {
        self.ask(|reply| Command::ChangePolicies(Box::new(change), reply)).await
    }

    /// Removes every network without containers and reservations.
    pub async fn prune_networks(&self) -> Result<Vec<NetworkName>, Error> {
        self.ask(Command::PruneNetworks).await
    }

    /// Connects a container to a network. When it returns, the name resolves and the ports answer. A runtime's repeated
    /// request changes nothing.
    ///
    /// The container that a person means is searched among those that netd knows, then among named network namespaces,
    /// then among those of the runtimes on this host. The last search may take long and therefore runs outside the
    /// engine's thread.
    pub async fn connect(&self, spec: EndpointSpec) -> Result<Arc<Endpoint>, Error> {
        self.connect_unless(spec, || false).await
    }

    /// Like [`Self::connect`], but does nothing if the caller has disconnected before its turn: later commands may have
    /// overtaken this one, and nobody would remove what it makes.
    pub async fn connect_unless(
        &self,
        mut spec: EndpointSpec,
        gone: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Arc<Endpoint>, Error> {
        let gone = Gone::new(gone);
        let command = |spec: &EndpointSpec, foreign, reply| Command::Connect {
            spec: Box::new(spec.clone()),
            foreign,
            gone: gone.clone(),
            reply,
        };
        let foreign = match &spec.requester {
            Requester::Person(_) => Vec::new(),
            Requester::Runtime(request) => self.foreign_for(&[request]).await,
        };
        let first = self.ask(|reply| command(&spec, foreign, reply)).await;
        match (first, &mut spec.requester) {
            (Err(Error::Refused(Refusal::NoSuchContainer { name, searched })), Requester::Person(request)) => {
                request.container = self.of_runtime(name, searched).await?;
                self.ask(|reply| command(&spec, Vec::new(), reply)).await
            }
            (first, _) => first,
        }
    }

    /// Finds a container of the runtimes on this host; the refusal lists what was searched in vain.
    async fn of_runtime(&self, name: String, mut searched: Vec<String>) -> Result<ContainerRef, Refusal> {
        let (found, asked) = self.runtimes.find(&name).await;
        searched.extend(asked);
        let Some(found) = found else { return Err(Refusal::NoSuchContainer { name, searched }) };
        Ok(ContainerRef { name: found.name, netns: Some(NetnsRef::OfEngine(found.pid)), id: Some(found.id) })
    }

    /// Decides a request and returns the changes that it would make, or why it would be refused.
    pub async fn plan(&self, request: Request) -> Result<Vec<Planned>, Error> {
        let foreign = match &request {
            Request::CreateNetwork(_) => self.runtimes.networks().await,
            _ => Vec::new(),
        };
        let first = self.ask(|reply| Command::Plan(Box::new(request.clone()), foreign, reply)).await;
        match (first, request) {
            (Err(Error::Refused(Refusal::NoSuchContainer { name, searched })), Request::Connect(mut spec)) => {
                let Requester::Person(request) = &mut spec.requester else {
                    return Err(Refusal::NoSuchContainer { name, searched }.into());
                };
                request.container = self.of_runtime(name, searched).await?;
                self.ask(|reply| Command::Plan(Box::new(Request::Connect(spec)), Vec::new(), reply)).await
            }
            (first, _) => first,
        }
    }

    /// Every difference between what netd made and what is there.
    pub async fn diff(&self) -> Result<Vec<Difference>, Error> {
        self.ask(Command::Diff).await
    }

    /// The definitions of the host.
    pub async fn backup(&self) -> Result<Backup, Error> {
        self.ask(Command::Backup).await
    }

    /// Restores definitions: all or none.
    pub async fn restore(&self, backup: Backup) -> Result<Restored, Error> {
        let foreign = self.runtimes.networks().await;
        self.ask(|reply| Command::Restore(Box::new(backup), foreign, reply)).await
    }

    /// Disconnects a container from a network. When it returns, name, ports, interface and addresses are removed.
    pub async fn disconnect(&self, network: &str, container: &str) -> Result<Arc<Endpoint>, Error> {
        self.disconnect_keeping(network, container, None).await
    }

    /// Like [`Self::disconnect`], but its addresses, MAC address and ports become a reservation with the id `keep`, if
    /// there is one: nobody else can get them in between.
    pub async fn disconnect_keeping(
        &self,
        network: &str,
        container: &str,
        keep: Option<ReservationId>,
    ) -> Result<Arc<Endpoint>, Error> {
        let (network, container) = (network.to_owned(), container.to_owned());
        self.ask(|reply| Command::Disconnect { network, container, keep, reply }).await
    }

    /// Publishes a port of a connected container, or stops publishing it. Returns the endpoint, and the publications that
    /// were added or removed. When it returns, the port answers, or no longer does.
    pub async fn change_port(&self, change: PortChange) -> Result<(Arc<Endpoint>, Vec<Publication>), Error> {
        self.ask(|reply| Command::ChangePort(Box::new(change), reply)).await
    }

    /// Tells about an endpoint whose interface another engine takes into its container.
    pub async fn change_handover(&self, change: HandoverChange) -> Result<Arc<Endpoint>, Error> {
        self.ask(|reply| Command::ChangeHandover(Box::new(change), reply)).await
    }

    /// Tells about a network of another engine. Returns netd's network as it is now, or as it was; `None` if the engine's
    /// network is not known.
    pub async fn change_engine_network(&self, change: EngineNetworkChange) -> Result<Option<Arc<Network>>, Error> {
        self.ask(|reply| Command::ChangeEngineNetwork(Box::new(change), reply)).await
    }

    /// A subnet for a network to come: `wanted` if it is free, else one of the pools. `avoid`: the subnets of other networks
    /// to come.
    pub async fn choose_subnet(
        &self,
        family: Family,
        wanted: Option<Subnet>,
        avoid: Vec<Subnet>,
    ) -> Result<Subnet, Error> {
        let foreign = self.runtimes.networks().await;
        self.ask(|reply| Command::ChooseSubnet { family, wanted, avoid, foreign, reply }).await
    }

    /// Creates a service. When it returns, its name resolves, and its addresses and ports answer.
    pub async fn create_service(&self, spec: ServiceSpec) -> Result<Arc<Service>, Error> {
        self.ask(|reply| Command::CreateService(Box::new(spec), reply)).await
    }

    /// Updates a service. When it returns, names, addresses and ports follow.
    pub async fn update_service(&self, update: ServiceUpdate) -> Result<Arc<Service>, Error> {
        self.ask(|reply| Command::UpdateService(Box::new(update), reply)).await
    }

    /// Removes a service, by name or id. Its members stay.
    pub async fn remove_service(&self, service: &str) -> Result<Arc<Service>, Error> {
        self.ask(|reply| Command::RemoveService(service.to_owned(), reply)).await
    }

    /// Says that a member of services is drained, or ready, or not. When it returns, names and connections follow.
    pub async fn change_member(&self, change: MemberChange) -> Result<Arc<Attached>, Error> {
        self.ask(|reply| Command::ChangeMember(Box::new(change), reply)).await
    }

    /// Notes the results of health checks.
    pub async fn note_health(&self, results: HealthResults) {
        // An engine that has stopped uses no members.
        let _ = self.commands.send(Command::NoteHealth(results)).await;
    }

    /// Notes the labels that its engine has for a container.
    pub async fn note_labels(&self, container: ContainerId, labels: BTreeMap<String, String>) {
        // As above.
        let _ = self.commands.send(Command::NoteLabels(container, labels)).await;
    }

    /// Keeps a value that a face needs again after a restart; readers find it in [`Snapshot::kept`].
    pub async fn keep(&self, key: &str, value: String) -> Result<(), Error> {
        self.ask(|reply| Command::Keep(key.to_owned(), value, reply)).await
    }

    /// Reserves addresses, a MAC address and host ports. From now on nobody else gets them.
    pub async fn reserve(&self, spec: ReservationSpec) -> Result<Arc<Reservation>, Error> {
        self.ask(|reply| Command::Reserve(Box::new(spec), reply)).await
    }

    /// Releases the reservation with this id.
    pub async fn release_reservation(&self, id: &str) -> Result<Arc<Reservation>, Error> {
        self.ask(|reply| Command::ReleaseReservation(id.to_owned(), reply)).await
    }

    /// Checks whether another container could join the network now; the error names the exhausted resource.
    pub async fn capacity(&self, network: &str) -> Result<(), Error> {
        self.ask(|reply| Command::Capacity(network.to_owned(), reply)).await
    }

    /// Reports a problem that the engine does not detect itself, for `netd status` and an event; `None` clears it.
    pub(crate) async fn report(&self, subject: Subject, problem: Option<String>) {
        // An engine that has stopped needs no status.
        let _ = self.commands.send(Command::Report { subject, problem }).await;
    }

    /// The state as of the last reply.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The revision of the snapshot, for readers that wait for the next one.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.snapshot.revisions()
    }

    /// The telemetry of the name service.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Subscribes to all changes from now on. A reader that lags behind loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        if self.stopping.is_set() {
            return Err(Error::Stopped);
        }
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Error::Stopped)?;
        match answer.await.map_err(|_| Error::Stopped)? {
            Err(error) => Err(error.with_port_owner().await),
            done => done,
        }
    }
}
