//! Telemetry: the counters and query logs of the name service, and the number of repairs. The name service writes them, other faces read them, and the
//! engine removes those of containers that no longer exist.
//!
//! Writers never wait: counters are atomics, and the list of logged containers is replaced as a whole.

pub mod egress;
pub mod log;
pub mod meter;
pub mod relay;
pub mod repairs;

use std::net::SocketAddr;

pub use egress::Egress;
pub use log::{Entry, Logged, QueryLog};
pub use meter::{Meter, NetworkCounts};
pub use relay::Relays;
pub use repairs::Repairs;

/// The only owner of telemetry; created with the engine.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// The counters.
    pub meter: Meter,
    /// The logged containers and their entries.
    pub log: QueryLog,
    /// What the engine has repaired.
    pub repairs: Repairs,
    /// What was relayed between networks and other interfaces.
    pub relays: Relays,
    /// What is open for containers whose egress is denied, and what containers have asked.
    pub egress: Egress,
}

/// The origin of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The state of networks and containers.
    Local,
    /// The cache of upstream answers, within their time to live.
    Cache,
    /// The cache after that time, because no upstream answers now (RFC 8767).
    Stale,
    /// This upstream.
    Upstream(SocketAddr),
    /// No upstream could be asked, or none answered: the reply is netd's own error.
    Nobody,
}

impl Origin {
    /// Every value of [`Self::as_str`].
    pub const WORDS: [&str; 5] = ["local", "cache", "stale", "upstream", "none"];

    /// The label in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self.index()]
    }

    /// The index in [`Self::WORDS`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Local => 0,
            Self::Cache => 1,
            Self::Stale => 2,
            Self::Upstream(_) => 3,
            Self::Nobody => 4,
        }
    }
}
