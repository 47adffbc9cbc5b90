//! The door to the name service for other faces, which do not know it: it is asked as a container would ask, and tells
//! how it fares with those it asks itself.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::seen::Origin;
use crate::model::question::Asker;

/// The name service as other faces see it.
pub trait Names: Send + Sync + 'static {
    /// The reply to a question, as the asker would get it: `name` without the final dot, `kind` a type's name ("MX").
    fn ask<'a>(&'a self, asker: Asker, name: &'a str, kind: &'a str) -> BoxFuture<'a, Asked>;

    /// The name servers that other names are asked of now.
    fn upstreams(&self) -> Vec<UpstreamHealth>;

    /// What is remembered of their answers; `None`: nothing ever is.
    fn cache(&self) -> Option<CacheCounts>;
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
    /// Seconds that the answers may be kept; `None` without answers.
    pub ttl: Option<u32>,
    /// Why nobody was asked, where that is so.
    pub grounded: Option<&'static str>,
}

/// An upstream since it was asked first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// Where it is.
    pub address: SocketAddr,
    /// Queries sent to it.
    pub asked: u64,
    /// Answers that could be used.
    pub answered: u64,
    /// Answers that could not (SERVFAIL, REFUSED, …), and connections that failed.
    pub failed: u64,
    /// Queries that it left unanswered.
    pub timeouts: u64,
    /// How long it takes to answer, smoothed; `None` before its first answer.
    pub rtt: Option<Duration>,
    /// Whether it is asked first where it stands first.
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
