//! The DNS face: answers containers at their gateways from the snapshot, and forwards what is not ours.
//!
//! `server` owns the sockets, `handler` turns a query into a reply, `reply` builds and encodes replies,
//! `forward` asks the host's resolvers, `upstreams` knows which those are, `flights` bounds how many are asked at
//! once.

mod flights;
mod forward;
mod handler;
mod reply;
mod server;
mod upstreams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub use server::Server;

use crate::engine::Snapshot;

/// Directives for `tracing_subscriber::EnvFilter` that keep hickory from logging two lines at level info for each query
/// and a warning for each packet that somebody forges.
pub const LOG_DIRECTIVES: &str = "hickory_server=warn,hickory_net=error,hickory_proto=error,hickory_resolver=error";

/// How the name service behaves. The domain stands in the snapshot.
#[derive(Debug, Clone)]
pub struct Config {
    /// Seconds that an answer of ours may be kept.
    pub ttl: u32,
    /// Where other names are asked for, in this order. Empty: what `resolv_conf` says.
    pub upstreams: Vec<SocketAddr>,
    /// The host's resolv.conf (resolv.conf(5)), read again whenever it has changed.
    pub resolv_conf: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { ttl: 5, upstreams: Vec::new(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// How the face looks at the state: loaded once for each query, so that a name resolves from the moment on in which its
/// command has been answered.
pub type View = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;
