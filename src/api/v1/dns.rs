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
    /// `NOERROR`, `NODATA` (the name exists, but not with this type), `NXDOMAIN`, `REFUSED`, `SERVFAIL`, or what else an
    /// upstream said.
    pub status: String,
    /// Addresses or names.
    pub answers: Vec<String>,
    /// The container that would ask; absent: the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where the answer comes from: `local`, `cache`, `stale` (from the cache, beyond its time, because no upstream
    /// answers), `upstream`, or `none` (nobody could be asked, or nobody said anything).
    pub source: String,
    /// Why it is answered so: `name`, `wildcard`, `service`, `search`, `host`, `loopback`, `reverse`, `above`, `unknown`,
    /// `foreign` or `stranger`.
    pub reason: String,
    /// The networks that the client sees, in its order.
    pub networks: Vec<String>,
    /// Who has the name, of those whom the client sees.
    pub holders: Vec<Holder>,
    /// Networks that the client does not see, on which somebody has the name.
    pub hidden: Vec<String>,
    /// The upstream that said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Seconds that what an upstream said may still be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// All of that for people, one line each.
    pub explanation: Vec<String>,
}

/// Who has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// The container.
    pub container: ContainerRef,
    /// The network on which it has it.
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
    pub since: String,
    /// Entries that are kept; only the last are.
    pub entries: usize,
    /// Entries that were lost, because they came faster than they could be written.
    pub dropped: u64,
}

/// A query of a container, and its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoggedQuery {
    /// When the reply was ready: RFC 3339, UTC, with microseconds.
    pub time: String,
    /// The container's name.
    pub container: String,
    /// `udp` or `tcp`.
    pub transport: String,
    /// The name that was asked for, without the final dot; empty where the message could not be read.
    pub name: String,
    /// The type that was asked for; empty where the message could not be read.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code of the reply, `NXDOMAIN` and the like.
    pub rcode: String,
    /// The data of the first answers.
    pub answers: Vec<String>,
    /// How many answers there were in all.
    pub answer_count: usize,
    /// Where the reply came from: `local`, `cache`, `stale`, `upstream` or `none`.
    pub source: String,
    /// The upstream that said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Microseconds from the arrival of the query until its reply was ready.
    pub duration_us: u64,
    /// So many entries right before this one were lost.
    pub dropped_before: u64,
}
