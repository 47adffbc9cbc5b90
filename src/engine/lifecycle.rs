//! The start of the engine, its signs of life, and its end.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use tokio::sync::oneshot;

use super::channels::Channels;
use super::state::State;
use super::worker::Worker;
use super::{Command, Config, Engine, Error, Handle, Planned, begin, state};
use crate::kernel::Kernel;
use crate::runtimes::Runtimes;
use crate::store::Store;

/// As [`begin`], but returns when everything that existed before a crash is restored.
pub fn start<K: Kernel, S: Store>(
    config: Config,
    kernel: K,
    store: S,
    runtimes: Arc<dyn Runtimes>,
) -> Result<Engine, Error> {
    let engine = begin(config, kernel, store, runtimes)?;
    // A thread that has ended tells nothing.
    let _ = engine.converged.recv().and_then(|()| engine.converged.recv());
    Ok(engine)
}

/// The command [`Handle::teardown`] without a daemon: nothing is repaired first.
pub fn teardown<K: Kernel, S: Store>(
    config: Config,
    mut kernel: K,
    mut store: S,
    dry_run: bool,
) -> Result<Vec<Planned>, Error> {
    let stored = store.load()?;
    state::instance::sign(&mut kernel, &mut store, &stored);
    let (channels, _receivers) = Channels::new();
    Worker::new(kernel, store, State::from_stored(stored), config, channels).teardown(dry_run)
}

impl Handle {
    /// From now on no command begins: those that wait and those that come get [`Error::Stopped`].
    pub fn refuse(&self) {
        self.stopping.set();
    }

    /// Removes everything that netd made, and returns what it was; with `dry_run`, only returns it.
    pub async fn teardown(&self, dry_run: bool) -> Result<Vec<Planned>, Error> {
        self.ask(|reply| Command::Teardown { dry_run, reply }).await
    }

    /// Completes when everything has been removed, so that the daemon must end.
    pub async fn torn_down(&self) {
        self.stopping.until_torn_down().await;
    }

    /// Stops the engine after the current command. Everything that it made stays as it is.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    /// Whether the engine's thread and the thread of the name service both answer in time.
    pub async fn is_alive(&self, within: Duration) -> bool {
        let (tell, told) = channel();
        let asked = tokio::time::timeout(within, self.commands.send(Command::Alive(tell)));
        matches!(asked.await, Ok(Ok(())))
            && tokio::task::spawn_blocking(move || told.recv_timeout(within).is_ok()).await.unwrap_or(false)
    }
}
