//! Floor 3: the only owner of state. Every change goes through [`Handle`]; every reader loads a [`Snapshot`].

mod attachments;
mod channels;
mod command;
mod commands;
pub mod containers;
mod decide;
pub mod dns;
pub mod error;
pub mod event;
mod execute;
mod handle;
pub mod health;
pub mod host;
pub mod lease;
mod leased;
mod lifecycle;
pub mod listener;
mod mailbox;
mod proxied;
mod proxied_service;
pub mod proxy;
pub mod relay;
mod repair;
mod report;
pub mod state;
mod stopping;
pub mod telemetry;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]
pub(crate) mod testing;
mod waiting;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use tokio::sync::mpsc;

pub use crate::engine::command::HealthResults;
pub use crate::engine::error::{Error, ErrorKind};
pub use crate::engine::event::Event;
pub use crate::engine::handle::Handle;
pub use crate::engine::lifecycle::{start, teardown};
pub use crate::engine::report::{Difference, Planned, PoliciesChanged, Request, Restored};
pub use crate::engine::state::snapshot::{Arrival, Behind, Judgement, Snapshot};
pub use crate::logic::refusal::{Refusal, ServiceRefusal};
pub use crate::runtimes::docker;

use crate::engine::channels::{Channels, Receivers};
use crate::engine::command::{Command, MAILBOX};
use crate::engine::listener::ListeningReceiver;
use crate::engine::proxy::ProxyingReceiver;
use crate::engine::state::State;
pub(crate) use crate::engine::state::problems::Subject;
use crate::engine::state::unexplained::Unexplained;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::model::address::Pool;
use crate::model::endpoint::Endpoint;
use crate::model::host::foreign_firewall::Policy;
use crate::model::host::routing::ForwardingFor;
use crate::model::publication::PublishMode;
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
    /// Who decides which packets reach published ports, unless a network or a port says otherwise.
    pub publish: PublishMode,
    /// How long and how much is open for containers whose egress is denied.
    pub egress: telemetry::egress::Settings,
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
            publish: PublishMode::default(),
            egress: Default::default(),
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
    let instance = state::instance::sign(&mut kernel, &mut store, &stored);
    // The first repair writes them. Until then they are left out.
    let owed = State::stale_records(&stored);
    let unexplained = if stored.incomplete { Unexplained::Unknown } else { Unexplained::Nothing };
    let mut state = State { instance, ..State::from_stored(stored) };
    state.desired = state.desired.published_as(config.publish);
    let (commands, mailbox) = mpsc::channel(MAILBOX);
    let (channels, Receivers { listening, proxying }) = Channels::new();
    let Channels { snapshot, telemetry, events, stopping, .. } = channels.clone();
    telemetry.egress.opened().settings = config.egress;
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
