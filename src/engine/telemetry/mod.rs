//! What is seen of the name service: counts and query logs. The name service writes them, other faces read them, and
//! the engine takes away what belongs to a container that has gone.
//!
//! Writers never wait: counts are atomics, and the list of who is logged is swapped whole.

pub mod log;
pub mod meter;

use std::net::SocketAddr;

pub use log::{Entry, Logged, QueryLog};
pub use meter::{Meter, NetworkCounts};

/// The one place where it is kept; made with the engine.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Counts.
    pub meter: Meter,
    /// Who is logged, and what was logged of them.
    pub log: QueryLog,
}

/// Where a reply comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the state of networks and containers.
    Local,
    /// From what an upstream said before, within its time to live.
    Cache,
    /// The same, after that time: no upstream answers now (RFC 8767).
    Stale,
    /// From this upstream.
    Upstream(SocketAddr),
    /// Nobody could be asked, or nobody said anything: the reply is an error of ours.
    Nobody,
}

impl Origin {
    /// Every word of [`Self::as_str`].
    pub const WORDS: [&str; 5] = ["local", "cache", "stale", "upstream", "none"];

    /// As in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self.index()]
    }

    /// Its place in [`Self::WORDS`].
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
