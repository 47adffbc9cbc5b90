//! What the engine's thread shares with others, and what it tells its faces.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};

use super::event::Event;
use super::listener::{ListeningReceiver, ListeningSender};
use super::proxy::{ProxyingReceiver, ProxyingSender};
use super::state::published::Published;
use super::stopping::Stopping;
use super::telemetry::Telemetry;

/// How many events a slow receiver may lag behind before it loses some.
const EVENTS: usize = 1024;

/// What the worker shares with others.
#[derive(Clone)]
pub(crate) struct Channels {
    pub(super) snapshot: Arc<Published>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    pub(super) listening: ListeningSender,
    pub(super) proxying: ProxyingSender,
    pub(super) stopping: Stopping,
}

/// What the engine tells its faces.
pub(crate) struct Receivers {
    pub(super) listening: ListeningReceiver,
    pub(super) proxying: ProxyingReceiver,
}

impl Channels {
    /// New ones, and the other ends.
    pub(super) fn new() -> (Self, Receivers) {
        let (to_listener, listening) = mpsc::unbounded_channel();
        let (to_proxy, proxying) = mpsc::unbounded_channel();
        let channels = Self {
            snapshot: Arc::default(),
            telemetry: Arc::default(),
            events: broadcast::channel(EVENTS).0,
            listening: to_listener,
            proxying: to_proxy,
            stopping: Stopping::default(),
        };
        (channels, Receivers { listening, proxying })
    }
}
