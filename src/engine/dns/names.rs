//! An interface to the name service for other faces, which may not import it: it queries upstreams as it would for a
//! container, and reports their health.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::engine::telemetry::Origin;

/// The name service as other faces see it.
pub trait Names: Send + Sync + 'static {
    /// What the container with this address would get for a name outside netd's zone (without the final dot; `kind` is
    /// the name of a record type, such as "MX"). `None`: what the host would get.
    fn ask<'a>(&'a self, container: Option<IpAddr>, name: &'a str, kind: &'a str) -> BoxFuture<'a, Asked>;

    /// Whether the container with this stand-in address ([`ContainerId::own_address`]) has a second resolver, which is
    /// queried for names in netd's zone that no container has.
    ///
    /// [`ContainerId::own_address`]: crate::model::ids::ContainerId::own_address
    fn has_beside(&self, container: IpAddr) -> bool;

    /// The upstreams that other names are forwarded to.
    fn upstreams(&self) -> Vec<UpstreamHealth>;

    /// Counters of the answer cache; `None` if caching is off.
    fn cache(&self) -> Option<CacheCounts>;

    /// The approximate memory, in bytes, of questions in flight and of replies that have not been collected.
    fn waiting(&self) -> u64;
}

/// A reply and how it was produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The response code ("NOERROR", "NXDOMAIN", …).
    pub code: String,
    /// The data of the answer records.
    pub answers: Vec<String>,
    /// The origin of the reply.
    pub origin: Origin,
    /// How many seconds the reply may be cached; `None` if it may not be cached.
    pub ttl: Option<u32>,
    /// Further remarks, one line each: which upstreams would be asked and why, or why none was.
    pub notes: Vec<String>,
}

/// The health of an upstream since its first question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// The server as written in the configuration.
    pub server: String,
    /// Questions sent to it.
    pub asked: u64,
    /// Questions that it answered, "no such name" included.
    pub answered: u64,
    /// Questions that it refused or failed to answer.
    pub failed: u64,
    /// Questions that timed out.
    pub silent: u64,
    /// Its smoothed round-trip time; `None` until its first answer.
    pub rtt: Option<Duration>,
    /// Whether it takes its regular turn. An unhealthy upstream did not respond recently and is asked after the others.
    pub healthy: bool,
}

/// Counters of the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Cached answers.
    pub entries: u64,
    /// The approximate memory of the cached answers.
    pub bytes: u64,
    /// Cache hits.
    pub hits: u64,
    /// Cache misses.
    pub misses: u64,
}
