//! Floor 3: the only owner of state. Every change goes through [`Handle`]; every reader loads a [`Snapshot`].

mod command;
mod commands;
mod decide;
pub mod dns;
pub mod error;
pub mod event;
mod execute;
pub mod host;
mod lifecycle;
pub mod listener;
mod mailbox;
mod proxied;
pub mod proxy;
mod repair;
mod report;
pub mod state;
mod stopping;
pub mod telemetry;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]
pub(crate) mod testing;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use crate::engine::error::{Error, ErrorKind};
pub use crate::engine::event::Event;
pub use crate::engine::lifecycle::{start, teardown};
pub use crate::engine::report::{Difference, Planned, Request, Restored};
pub use crate::engine::state::snapshot::Snapshot;

use crate::engine::command::{Command, Gone, MAILBOX, Reply};
use crate::engine::listener::ListeningReceiver;
use crate::engine::proxy::ProxyingReceiver;
use crate::engine::state::State;
pub(crate) use crate::engine::state::problems::Subject;
use crate::engine::state::unexplained::Unexplained;
use crate::engine::stopping::Stopping;
use crate::engine::telemetry::Telemetry;
use crate::engine::worker::{Channels, Receivers, Worker};
use crate::kernel::{Kernel, KernelError};
use crate::logic::refusal::Refusal;
use crate::model::address::Pool;
use crate::model::backup::Backup;
use crate::model::endpoint::Endpoint;
use crate::model::host::foreign_firewall::Policy;
use crate::model::host::observed::ForeignNetwork;
use crate::model::host::routing::ForwardingFor;
use crate::model::ids::ContainerId;
use crate::model::names::{IfName, NetworkName, ReservationId};
use crate::model::network::Network;
use crate::model::publication::Publication;
use crate::model::request::{
    AttachmentKey, CheckSpec, ContainerRef, EndpointSpec, InterfaceSource, NetnsRef, NetworkSpec, PortChange,
    Requester, ReservationSpec, RuntimeRequest,
};
use crate::model::reservation::Reservation;
use crate::runtimes::Runtimes;
use crate::store::Store;

/// The configuration of the engine.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pools from which automatic subnets are taken, both address families.
    pub pools: Vec<Pool>,
    /// Whether automatic IPv6 subnets come from a random ULA /48 of this host, drawn once and stored.
    pub ula: bool,
    /// The domain of netd's names.
    pub domain: String,
    /// The port on which the name service listens at gateways if it is free; containers use port 53.
    pub dns_port: u16,
    /// The command if another program's firewall drops traffic that netd's networks need.
    pub foreign: Policy,
    /// For whom the host forwards where netd turned forwarding on.
    pub forwarding: ForwardingFor,
}

/// As the daemon has it, without pools.
impl Default for Config {
    fn default() -> Self {
        Self {
            pools: Vec::new(),
            ula: true,
            domain: "internal".into(),
            dns_port: 53,
            foreign: Policy::default(),
            forwarding: ForwardingFor::default(),
        }
    }
}

/// A running engine.
pub struct Engine {
    /// The handle for sending commands.
    pub handle: Handle,
    /// The addresses on which the name service must answer, from the first gateway on.
    pub listening: ListeningReceiver,
    /// What the proxy must serve, from the first repair on.
    pub proxying: ProxyingReceiver,
    /// Finishes when the engine has stopped.
    pub thread: std::thread::JoinHandle<()>,
    /// Told twice: when the kernel matches the state on the host, and when it does within containers too.
    pub converged: Receiver<()>,
}

/// Loads the state, opens the name service's sockets, and starts the engine's thread, which makes the kernel match the
/// state before it takes the first command. From the start on readers see the state, and the name service can answer.
pub fn begin<K: Kernel, S: Store>(
    config: Config,
    mut kernel: K,
    mut store: S,
    runtimes: Arc<dyn Runtimes>,
) -> Result<Engine, Error> {
    let stored = store.load()?;
    kernel.prepare();
    state::instance::sign(&mut kernel, &mut store, &stored);
    // The first repair writes them. Until then they are left out.
    let owed = State::stale_records(&stored);
    let unexplained = if stored.incomplete { Unexplained::Unknown } else { Unexplained::Nothing };
    let state = State::from_stored(stored);
    let (commands, mailbox) = mpsc::channel(MAILBOX);
    let (channels, Receivers { listening, proxying }) = Channels::new();
    let Channels { snapshot, telemetry, events, stopping, .. } = channels.clone();
    let mut worker = Worker::new(kernel, store, state, config, channels);
    worker.owed = owed;
    worker.unexplained = unexplained;
    worker.search = worker.kernel.search();
    // A killed daemon may have made an endpoint without storing its addresses as sticky.
    let endpoints: Vec<Arc<Endpoint>> = worker.state.desired.endpoints().cloned().collect();
    worker.keep_addresses(&endpoints);
    let doorbell = commands.downgrade();
    worker.kernel.monitor(Box::new(move |event| {
        // A full mailbox loses nothing: a full reconcile follows the commands in it.
        let _ = doorbell.upgrade().map(|commands| commands.blocking_send(Command::Kernel(event)));
    }))?;
    // The questions that arrive from now on wait for their answers, and so do connections to published ports.
    worker.open_and_close();
    worker.hold_at_start();
    worker.publish();
    let (tell, converged) = channel();
    let runtime = tokio::runtime::Handle::try_current().ok();
    let thread = std::thread::Builder::new().name("engine".into());
    let thread = thread.spawn(move || worker.run(mailbox, runtime.as_ref(), &tell));
    let thread = thread.map_err(|source| KernelError::Io {
        attempted: "start",
        on: "the engine's thread".into(),
        source,
        look: "ulimit -u",
    })?;
    let handle = Handle { commands, snapshot, telemetry, events, runtimes, stopping };
    Ok(Engine { handle, listening, proxying, thread, converged })
}

/// A handle to the engine; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    telemetry: Arc<Telemetry>,
    events: broadcast::Sender<Arc<Event>>,
    runtimes: Arc<dyn Runtimes>,
    stopping: Stopping,
}

impl Handle {
    /// Creates a network. The networks of other programs are queried first, outside the engine's thread, because that
    /// may take long.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Arc<Network>, Error> {
        let foreign = self.runtimes.networks().await;
        self.ask(|reply| Command::CreateNetwork(Box::new(spec), foreign, reply)).await
    }

    /// Removes a network without containers and reservations, by name or id.
    pub async fn remove_network(&self, network: &str) -> Result<Arc<Network>, Error> {
        self.ask(|reply| Command::RemoveNetwork(network.to_owned(), reply)).await
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
            Requester::Runtime(request) => self.foreign_for(request).await,
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

    /// Reserves addresses, a MAC address and host ports. From now on nobody else gets them.
    pub async fn reserve(&self, spec: ReservationSpec) -> Result<Arc<Reservation>, Error> {
        self.ask(|reply| Command::Reserve(Box::new(spec), reply)).await
    }

    /// Releases the reservation with this id.
    pub async fn release_reservation(&self, id: &str) -> Result<Arc<Reservation>, Error> {
        self.ask(|reply| Command::ReleaseReservation(id.to_owned(), reply)).await
    }

    /// The networks of other programs, if the attachment creates its network. The runtime's own definition of that
    /// network is left out.
    async fn foreign_for(&self, request: &RuntimeRequest) -> Vec<ForeignNetwork> {
        let is_there = self.snapshot().desired.network(&request.network.name).is_some();
        if is_there || request.interface == InterfaceSource::Found {
            return Vec::new();
        }
        let mut foreign = self.runtimes.networks().await;
        let own = [request.network.name.as_str(), request.key.owner.as_str()];
        foreign.retain(|foreign| !own.contains(&foreign.name.as_str()));
        foreign
    }

    /// Detaches what a runtime attached. An attachment that does not exist is no error.
    pub async fn detach(&self, key: AttachmentKey) -> Result<(), Error> {
        self.ask(|reply| Command::Detach(Box::new(key), reply)).await
    }

    /// Compares an attachment with the kernel; the error names the first part that differs.
    pub async fn check(&self, spec: CheckSpec) -> Result<(), Error> {
        self.ask(|reply| Command::Check(Box::new(spec), reply)).await
    }

    /// Detaches all attachments of the owner except those of these containers and interfaces.
    pub async fn gc(&self, owner: NetworkName, valid: Vec<(ContainerId, IfName)>) -> Result<Vec<Arc<Endpoint>>, Error> {
        self.ask(|reply| Command::Gc { owner, valid, reply }).await
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

    /// The telemetry of the name service.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Subscribes to all changes from now on. A reader that lags behind loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
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
