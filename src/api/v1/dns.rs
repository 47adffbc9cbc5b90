//! The name service: what it answers and why, and the queries of containers that are logged.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::endpoint::ContainerRef;

/// What the daemon's DNS answers, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolved {
    /// The name that was looked up.
    pub name: String,
    /// The record type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `NOERROR`, `NODATA` (the name exists, but not with this type), `NXDOMAIN`, `REFUSED`, `SERVFAIL`, or another
    /// code of an upstream.
    pub status: String,
    /// Addresses or names.
    pub answers: Vec<String>,
    /// The container that is the client; absent: the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where the answer comes from: `local`, `cache`, `stale` (expired, from the cache, because no upstream answers),
    /// `upstream`, or `none` (there was no upstream to ask, or none answered).
    pub source: String,
    /// The reason of the answer: `name`, `wildcard`, `service`, `search`, `host`, `loopback`, `reverse`, `above`,
    /// `unknown`, `foreign` or `stranger`.
    pub reason: String,
    /// The networks that the client sees, in its order.
    pub networks: Vec<String>,
    /// The containers visible to the client that have the name.
    pub holders: Vec<Holder>,
    /// Networks that the client does not see, on which a container has the name.
    pub hidden: Vec<String>,
    /// The upstream that gave the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The remaining TTL of an upstream's answer, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The same as text, one line each.
    pub explanation: Vec<String>,
}

/// A container that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// The container.
    pub container: ContainerRef,
    /// The network on which the container has the name.
    pub network: String,
    /// Its addresses there.
    pub addresses: Vec<String>,
}

/// A container whose queries are logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoggedContainer {
    /// The container.
    pub container: ContainerRef,
    /// Since when: RFC 3339, UTC.
    #[schema(format = DateTime)]
    pub since: String,
    /// The number of stored entries; only the last ones are stored.
    pub entries: usize,
    /// Entries that were dropped because they came faster than they could be written.
    pub dropped: u64,
}

/// A query of a container, and its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoggedQuery {
    /// When the reply was ready: RFC 3339, UTC, with microseconds.
    #[schema(format = DateTime)]
    pub time: String,
    /// The container's name.
    pub container: String,
    /// `udp` or `tcp`.
    pub transport: String,
    /// The queried name, without the final dot; empty if the message could not be read.
    pub name: String,
    /// The queried type; empty if the message could not be read.
    #[serde(rename = "type")]
    pub kind: String,
    /// The response code, such as `NXDOMAIN`.
    pub rcode: String,
    /// The data of the first answers.
    pub answers: Vec<String>,
    /// The number of all answers.
    pub answer_count: usize,
    /// Where the reply came from: `local`, `cache`, `stale`, `upstream` or `none`.
    pub source: String,
    /// The upstream that gave the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Microseconds from the arrival of the query until its reply was ready.
    pub duration_us: u64,
    /// The number of entries dropped right before this one.
    pub dropped_before: u64,
}
