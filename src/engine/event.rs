//! Events: one per change, in the order of the changes.

use std::sync::Arc;
use std::time::SystemTime;

use crate::model::endpoint::Endpoint;
use crate::model::network::Network;

/// A change, and when it was done.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// What.
    pub change: Change,
}

/// What changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// A network was created.
    NetworkCreated(Arc<Network>),
    /// A network was removed.
    NetworkRemoved(Arc<Network>),
    /// A container was connected.
    Connected(Arc<Endpoint>),
    /// A container was disconnected. `asked`: by somebody, or because its namespace is gone.
    Disconnected {
        /// What it was.
        endpoint: Arc<Endpoint>,
        /// Whether somebody asked for it.
        asked: bool,
    },
    /// A name that was asked for does not mean the container that asked for it.
    Name {
        /// Who asked for it.
        endpoint: Arc<Endpoint>,
        /// What the name means instead.
        message: String,
    },
    /// Something that was not as it must be was put right ("table inet netd was missing", "bridge nd-net1 was gone").
    Repaired(String),
    /// Something is not as it must be and netd cannot put it right; also in `netd status`.
    Problem(String),
    /// A host setting was changed ("net.ipv4.ip_forward set to 1: network net1 forwards").
    HostChanged(String),
}
