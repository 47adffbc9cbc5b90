//! The DNS face: answers containers at their gateways from the snapshot, and forwards questions about other names.
//!
//! A question takes one of two paths. The fast path is for ordinary questions about local names: `message::wire` reads
//! them, `answer::fast_path` answers them, `message::encode` writes the reply, and `answer::packet_cache` caches it.
//! Everything else takes the slow path: `answer::slow_path` turns any message into a reply, and `message::reply` builds
//! and encodes the reply with hickory's types. Where both paths can answer, they give the same answer.
//!
//! `forward` answers questions about other names: `selection` chooses the upstreams, `resolv_conf` follows the host's
//! resolv.conf, `upstream` asks the upstreams, `in_flight` bounds the in-flight questions and asks each only once
//! (`cache_key` identifies a question), `cache` caches the answers, and `failures` caches failures.
//!
//! `listen` serves sockets: `server` opens and closes them. `udp` is the loop that serves the sockets of all gateways
//! on a thread of its own, `admission` bounds what it passes to the slow path (`jobs`), `load_shedding` chooses whose
//! questions it drops under overload, and `quarantine` and `pauses` keep a flood away from other clients. `tcp` serves
//! connections, which `base::connections` bounds. `telemetry` counts and logs the replies.

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

use crate::base::descriptors::Capacity;
use crate::engine::Snapshot;
use crate::model::names::DnsName;
use crate::model::upstream::Upstream;

/// Directives for `tracing_subscriber::EnvFilter`. Without them hickory logs a warning for each forged packet.
pub const LOG_DIRECTIVES: &str = "hickory_net=error,hickory_proto=error,hickory_resolver=error";

/// The configuration of the name service. The domain is in the snapshot.
#[derive(Debug, Clone)]
pub struct Config {
    /// The TTL of local answers, in seconds.
    pub ttl: u32,
    /// The upstreams for other names, in order of preference. If empty, those of `resolv_conf`.
    pub upstreams: Vec<Upstream>,
    /// The upstreams for names in these domains. The longest matching domain wins.
    pub split: BTreeMap<DnsName, Vec<Upstream>>,
    /// The size of the cache of upstream answers, in bytes. 0 disables it.
    pub cache_bytes: u64,
    /// The certificate authorities to trust in addition to the public ones.
    pub roots: Roots,
    /// The host's resolv.conf (resolv.conf(5)). It is read again whenever it has changed.
    pub resolv_conf: PathBuf,
    /// How many descriptors connections may use.
    pub capacity: Capacity,
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
            capacity: Capacity::default(),
        }
    }
}

/// Returns the current state. The face calls it after a query has arrived, so that a name resolves as soon as the
/// command that created it has completed.
pub type View = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;
