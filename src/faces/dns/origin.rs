//! Where replies come from.

use std::net::SocketAddr;

/// Where a reply came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the state: names of ours, and refusals.
    Local,
    /// An upstream's answer that is kept, within its time to live.
    Cache,
    /// One beyond its time to live, because nobody gave a newer one (RFC 8767).
    Stale,
    /// This upstream, just now.
    Upstream(SocketAddr),
    /// No upstream could be asked, or none knew an answer.
    Nobody,
}
