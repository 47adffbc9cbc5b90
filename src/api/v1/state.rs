//! The daemon's own state: status, events, the dump, and errors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::endpoint::{Container, ContainerRef, Endpoint};
use super::network::Network;
use super::reservation::Reservation;
use super::service::{Member, Service};
use crate::model::address::Family;
use crate::model::host::element::Element;
use crate::model::host::foreign_firewall::Note;

/// The state of the daemon: readiness, counts, problems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Whether it has converged since its start.
    pub ready: bool,
    /// The daemon's version.
    pub version: String,
    /// The number of networks.
    pub networks: usize,
    /// The number of containers.
    pub containers: usize,
    /// The number of endpoints.
    pub endpoints: usize,
    /// The number of publications; a range counts once.
    pub publications: usize,
    /// The number of reservations.
    #[serde(default)]
    pub reservations: usize,
    /// The number of services, including those that follow from labels.
    #[serde(default)]
    pub services: usize,
    /// Current problems, one line each.
    pub problems: Vec<String>,
    /// Chains of other programs that drop traffic of netd's networks, or would without netd's accept rule.
    #[serde(default)]
    pub firewall: Vec<ForeignChain>,
    /// The host's interfaces between which nothing is forwarded, because netd turned forwarding on for its networks.
    #[serde(default)]
    pub kept_apart: KeptApart,
}

/// Interfaces between which nothing is forwarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptApart {
    /// For IPv4; empty if somebody else wants the host to forward.
    pub ipv4: Vec<String>,
    /// For IPv6.
    pub ipv6: Vec<String>,
}

impl From<&BTreeSet<Element>> for KeptApart {
    fn from(elements: &BTreeSet<Element>) -> Self {
        let of = |family| {
            let names = elements.iter().filter_map(|element| match element {
                Element::Uplink(of, name) if *of == family => Some(name.to_string()),
                _ => None,
            });
            names.collect()
        };
        Self { ipv4: of(Family::V4), ipv6: of(Family::V6) }
    }
}

/// A base chain of another program that drops traffic of netd's networks, or would without netd's accept rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForeignChain {
    /// `ip`, `ip6`, `inet`.
    pub family: String,
    /// The table.
    pub table: String,
    /// The base chain.
    pub chain: String,
    /// Its hook: `forward`, `input`.
    pub hook: String,
    /// The tool that wrote it: `nft`, `iptables-nft`, `iptables-legacy`.
    pub tool: String,
    /// What drops: `policy drop`, or the rule.
    pub reason: String,
    /// What is dropped: `outbound`, `published`, `within`, `names`.
    pub traffic: Vec<String>,
    /// The affected networks.
    pub networks: Vec<String>,
    /// `adapted`: netd's accept rule accepts it; `reported`: it is dropped.
    pub action: String,
    /// The chain that has netd's accept rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_in: Option<String>,
    /// The same in one line of text.
    pub message: String,
}

impl From<&Note> for ForeignChain {
    fn from(note: &Note) -> Self {
        let place = note.place();
        let message = match &note.accepted_in {
            Some(chain) => format!("adapted: {place} would drop it without netd's accept rule in chain {chain}"),
            None => note.complaint(),
        };
        Self {
            family: note.table.family.as_str().into(),
            table: note.table.name.clone(),
            chain: note.chain.clone(),
            hook: note.hook.as_str().into(),
            tool: note.table.tool.as_str().into(),
            reason: note.reason.clone(),
            traffic: note.traffic.iter().map(|traffic| traffic.as_str().into()).collect(),
            networks: note.networks.iter().map(ToString::to_string).collect(),
            action: if note.accepted_in.is_some() { "adapted" } else { "reported" }.into(),
            accepted_in: note.accepted_in.clone(),
            message,
        }
    }
}

/// The output of `netd version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The version of the command line.
    pub version: String,
    /// The version of the daemon; `null` if it does not answer.
    pub daemon: Option<String>,
    /// The version of the published JSON.
    pub api: String,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    /// A network was created.
    #[serde(rename = "network.create")]
    NetworkCreate,
    /// A network has other name servers.
    #[serde(rename = "network.change")]
    NetworkChange,
    /// A network was removed.
    #[serde(rename = "network.remove")]
    NetworkRemove,
    /// A service was created.
    #[serde(rename = "service.create")]
    ServiceCreate,
    /// A policy was added.
    #[serde(rename = "policy.add")]
    PolicyAdd,
    /// A policy was removed.
    #[serde(rename = "policy.rm")]
    PolicyRm,
    /// A policy denies packets of one to another; told when they have been counted, every 10 s.
    #[serde(rename = "policy.denied")]
    PolicyDenied,
    /// A service was updated.
    #[serde(rename = "service.update")]
    ServiceUpdate,
    /// A service was removed.
    #[serde(rename = "service.rm")]
    ServiceRm,
    /// A member of a service is used from now on, or no longer.
    #[serde(rename = "service.member")]
    ServiceMember,
    /// Something was reserved.
    #[serde(rename = "reserve")]
    Reserve,
    /// A reservation was released. The event of a container that is connected with one is `connect`.
    #[serde(rename = "release")]
    Release,
    /// A container was connected.
    #[serde(rename = "connect")]
    Connect,
    /// A container was disconnected, on request or because its namespace is gone.
    #[serde(rename = "disconnect")]
    Disconnect,
    /// A port of a connected container was published.
    #[serde(rename = "port.add")]
    PortAdd,
    /// A port of a connected container is no longer published.
    #[serde(rename = "port.rm")]
    PortRm,
    /// A name or alias does not resolve to the container that has it, because DNS uses the name otherwise.
    #[serde(rename = "name")]
    Name,
    /// A connected container has another address of its network's DHCP server, or none any more.
    #[serde(rename = "lease")]
    Lease,
    /// netd repaired something.
    #[serde(rename = "repair")]
    Repair,
    /// There is a new problem.
    #[serde(rename = "problem")]
    Problem,
    /// A host setting was changed.
    #[serde(rename = "host")]
    Host,
}

impl EventType {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkCreate => "network.create",
            Self::NetworkChange => "network.change",
            Self::NetworkRemove => "network.remove",
            Self::ServiceCreate => "service.create",
            Self::PolicyAdd => "policy.add",
            Self::PolicyRm => "policy.rm",
            Self::PolicyDenied => "policy.denied",
            Self::ServiceUpdate => "service.update",
            Self::ServiceRm => "service.rm",
            Self::ServiceMember => "service.member",
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::PortAdd => "port.add",
            Self::PortRm => "port.rm",
            Self::Name => "name",
            Self::Lease => "lease",
            Self::Repair => "repair",
            Self::Problem => "problem",
            Self::Host => "host",
        }
    }
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// RFC 3339, UTC, with milliseconds.
    #[schema(format = DateTime)]
    pub time: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The name of the affected network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The name of the affected service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The affected container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerRef>,
    /// The endpoint that was connected or disconnected, or whose ports were changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The event in one line of text.
    pub message: String,
}

/// The files a container needs to use netd's DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Files {
    /// The content of its /etc/resolv.conf.
    pub resolv_conf: String,
    /// The content of its /etc/hosts.
    pub hosts: String,
}

/// The networks removed by a prune.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// Their names.
    pub removed: Vec<String>,
}

/// The whole state, sorted: two dumps of the same state are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dump {
    /// The number of changes since the daemon started.
    pub revision: u64,
    /// By name.
    pub networks: Vec<Network>,
    /// By name.
    pub containers: Vec<Container>,
    /// By network and container name.
    pub endpoints: Vec<Endpoint>,
    /// By id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// By name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// By service, in the order in which they were connected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// Current problems.
    pub problems: Vec<String>,
}

/// The body of every reply that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// The error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// A fixed word: `invalid`, `not_found`, `conflict`, `exhausted`, `unavailable`, `kernel`, `failed`, `changed`,
    /// `method_not_allowed`, `too_large`, `timeout`, `unsupported_media_type`, `misdirected`, `forbidden`.
    pub code: String,
    /// One line of text.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_an_event_type_is_its_name() {
        for kind in [EventType::NetworkCreate, EventType::Reserve, EventType::Release, EventType::Host] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
