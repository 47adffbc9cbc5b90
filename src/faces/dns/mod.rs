//! The DNS face: answers containers at their gateways from the snapshot, and forwards what is not ours.
//!
//! A question takes one of two paths. The fast path is for ordinary questions about names of ours: `message::wire` reads
//! them, `answer::fast_path` answers them, `message::encode` writes the reply, `answer::packet_cache` keeps it for the next
//! time. Everything else takes the slow path: `answer::slow_path` turns any message into a reply, `message::reply` builds
//! and encodes it in hickory's types. Where both paths can answer they say the same.
//!
//! `forward` answers other names: `selection` knows whom to ask, `resolv_conf` follows the host's, `upstream` asks them,
//! `in_flight` bounds how many questions wait and asks each once (`cache_key`), `cache` keeps the answers, `failures` keeps
//! what nobody could answer.
//!
//! `listen` serves sockets: `server` knows which. `udp` is the loop that serves the sockets of all gateways on a thread of
//! its own, `admission` bounds what it hands to the slow path (`jobs`), `load_shedding` decides whose questions it drops when
//! there are too many, `quarantine` and `pauses` keep a flood away from other clients. `tcp` serves connections, which
//! `base::connections` bounds. `telemetry` counts and logs the replies.

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
