//! Floor 3: the one owner of state. Everything that changes goes through [`Handle`]; every reader loads a [`Snapshot`].

pub mod error;
pub mod event;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use error::{Error, ErrorKind};
pub use event::Event;
pub use snapshot::Snapshot;

use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::network::Network;
use crate::model::request::{ConnectSpec, NetworkSpec};

/// The reply to a command, sent when its effects are visible to everybody.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the engine is asked to do: its only door.
#[derive(Debug)]
pub(crate) enum Command {
    CreateNetwork(Box<NetworkSpec>, Reply<Arc<Network>>),
    RemoveNetwork(String, Reply<Arc<Network>>),
    PruneNetworks(Reply<Vec<NetworkName>>),
    Connect(Box<ConnectSpec>, Reply<Arc<Endpoint>>),
    Disconnect { network: String, container: String, reply: Reply<Arc<Endpoint>> },
    Kernel(crate::kernel::KernelEvent),
    Stop(oneshot::Sender<()>),
}

/// How many commands may wait; callers beyond that wait for a place.
pub(crate) const MAILBOX: usize = 1024;

/// The door to the engine, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    events: broadcast::Sender<Arc<Event>>,
}

impl Handle {
    /// Creates a network.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Arc<Network>, Error> {
        self.ask(|reply| Command::CreateNetwork(Box::new(spec), reply)).await
    }

    /// Removes a network without containers, by name or id.
    pub async fn remove_network(&self, network: &str) -> Result<Arc<Network>, Error> {
        self.ask(|reply| Command::RemoveNetwork(network.to_owned(), reply)).await
    }

    /// Removes every network without containers.
    pub async fn prune_networks(&self) -> Result<Vec<NetworkName>, Error> {
        self.ask(Command::PruneNetworks).await
    }

    /// Connects a container to a network. When it returns, the name resolves and the ports answer.
    pub async fn connect(&self, spec: ConnectSpec) -> Result<Arc<Endpoint>, Error> {
        self.ask(|reply| Command::Connect(Box::new(spec), reply)).await
    }

    /// Disconnects a container from a network. When it returns, name, ports, interface and addresses are gone.
    pub async fn disconnect(&self, network: &str, container: &str) -> Result<Arc<Endpoint>, Error> {
        let (network, container) = (network.to_owned(), container.to_owned());
        self.ask(|reply| Command::Disconnect { network, container, reply }).await
    }

    /// The state as of the last reply.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Every change from now on. A reader that lags behind misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}
