//! The DNS face: answers containers at their gateways from the snapshot, and forwards what is not ours.
//!
//! There are two ways to a reply. The quick one is for ordinary questions about names of ours: `wire` reads them,
//! `quick` answers them, `encode` writes the reply, `recent` has it at hand when it is asked for again. Everything else
//! goes the slow way: `handler` turns any message into a reply, `reply` builds and encodes it in hickory's types. Where
//! both ways can answer they say the same.
//!
//! `forward` has other names answered: `upstreams` knows whom to ask, `resolv_conf` follows the host's, `upstream` asks
//! them, `flights` bounds how many questions wait and asks each once (`question`), `cache` keeps what they say, `failures` that nobody
//! knew.
//!
//! `server` knows which sockets are served. `udp` is the loop that serves those of all gateways on a thread of its own,
//! `queue` bounds what it hands to the slow way, `overload` says whose questions it leaves when there are too many; `tcp`
//! serves connections, `base::clients` bounds how many there are.
//! `watch` counts and logs what both reply; `forwarding` is the door for other faces.

mod answer;
mod forward;
mod listen;
mod message;
mod telemetry;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod testing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use forward::upstream::Roots;
pub use listen::server::Server;

use crate::base::descriptors::Room;
use crate::engine::Snapshot;
use crate::model::names::DnsName;
use crate::model::upstream::Upstream;

/// Directives for `tracing_subscriber::EnvFilter` that keep hickory from logging a warning for each packet that somebody
/// forges.
pub const LOG_DIRECTIVES: &str = "hickory_net=error,hickory_proto=error,hickory_resolver=error";

/// How the name service behaves. The domain stands in the snapshot.
#[derive(Debug, Clone)]
pub struct Config {
    /// Seconds that an answer of ours may be kept.
    pub ttl: u32,
    /// Where other names are asked for, in this order. Empty: what `resolv_conf` says.
    pub upstreams: Vec<Upstream>,
    /// Where names in these domains are asked for instead; the longest domain wins.
    pub split: BTreeMap<DnsName, Vec<Upstream>>,
    /// Bytes of answers of upstreams that are kept; 0: none.
    pub cache_bytes: u64,
    /// Whose certificates are believed, besides the public ones.
    pub roots: Roots,
    /// The host's resolv.conf (resolv.conf(5)), read again whenever it has changed.
    pub resolv_conf: PathBuf,
    /// How many descriptors connections may take.
    pub room: Room,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl: 5,
            upstreams: Vec::new(),
            split: BTreeMap::new(),
            cache_bytes: 16 << 20,
            roots: Roots::default(),
            resolv_conf: "/etc/resolv.conf".into(),
            room: Room::default(),
        }
    }
}

/// How the face looks at the state: loaded after a query has come, so that a name resolves from the moment on in which its
/// command has been answered.
pub type View = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;
