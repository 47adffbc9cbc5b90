//! The door to the name service for other faces, which do not know it: it asks upstreams as it would for a container, and
//! tells how it fares with them.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::engine::telemetry::Origin;

/// The name service as other faces see it.
pub trait Names: Send + Sync + 'static {
    /// What the container with this address would be told of a name that is not ours (without the final dot; `kind` is a
    /// type's name, "MX"). `None`: what the host would be told.
    fn ask<'a>(&'a self, container: Option<IpAddr>, name: &'a str, kind: &'a str) -> BoxFuture<'a, Asked>;

    /// Whether the container for which this address stands ([`ContainerId::own_address`]) has another resolver besides,
    /// which is asked for names that would be ours and that nobody has.
    ///
    /// [`ContainerId::own_address`]: crate::model::ids::ContainerId::own_address
    fn has_beside(&self, container: IpAddr) -> bool;

    /// The name servers that other names are asked of.
    fn upstreams(&self) -> Vec<UpstreamHealth>;

    /// What is remembered of their answers; `None`: nothing ever is.
    fn cache(&self) -> Option<CacheCounts>;

    /// About how many bytes questions take that wait for an answer, and replies that wait to be taken.
    fn waiting(&self) -> u64;
}

/// A reply, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// "NOERROR", "NXDOMAIN", …
    pub code: String,
    /// The data of the answers.
    pub answers: Vec<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Seconds that it may be kept; `None` for what may not.
    pub ttl: Option<u32>,
    /// What else there is to say, one line each: who would be asked and why, why nobody was.
    pub notes: Vec<String>,
}

/// How an upstream does since it was asked first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// The server as it is written in the configuration.
    pub server: String,
    /// Questions it was asked.
    pub asked: u64,
    /// Those that it answered, "no such name" included.
    pub answered: u64,
    /// Those that it refused or failed at.
    pub failed: u64,
    /// Those on which nothing came.
    pub silent: u64,
    /// Its smoothed round trip; `None`: it has not answered yet.
    pub rtt: Option<Duration>,
    /// Whether it is asked in its turn; if not, it was silent lately and is asked after the others.
    pub healthy: bool,
}

/// The cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Answers in it.
    pub entries: u64,
    /// About how much memory they take.
    pub bytes: u64,
    /// Questions that it answered.
    pub hits: u64,
    /// Questions that it did not.
    pub misses: u64,
}
