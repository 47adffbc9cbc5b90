//! Services and their members as they are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::endpoint::{ContainerRef, Port};
use super::time::rfc3339;
use crate::model::desired::{self, Desired};
use crate::model::names::ServiceName;
use crate::model::service;

mod request;
mod seconds;
mod update;

pub use request::{ChangeMember, CreateService, HealthRequest, ServiceNetworkObject, ServiceNetworkRequest};
pub use seconds::Seconds;
pub use update::UpdateService;

/// One name for several containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Unique on the host.
    pub name: String,
    /// 25 digits and lower-case letters, given once.
    pub id: String,
    /// Its networks, with its names and addresses there.
    pub networks: Vec<ServiceNetwork>,
    /// `dns`: its name resolves to the addresses of its ready members; `vip`: to its virtual addresses.
    pub mode: String,
    /// The labels that make a container on its networks a member; empty: none is by its labels.
    pub select: BTreeMap<String, String>,
    /// Further members, by name or id, as they were given.
    pub members: Vec<String>,
    /// Published ports, which lead to its ready members.
    pub ports: Vec<Port>,
    /// The port that its members serve, as in `80/tcp`; `null`: not said.
    pub target: Option<String>,
    /// `none`: any ready member gets a connection; `client`: the same for all connections of a client's address.
    pub affinity: String,
    /// For how many seconds the connections of a drained member stay.
    pub grace: u32,
    /// When a member is ready.
    pub health: ServiceHealth,
    /// What its name resolves to while no member is ready: `empty` or `all`.
    pub when_none_ready: String,
    /// The user's labels of the service itself.
    pub labels: BTreeMap<String, String>,
    /// RFC 3339, UTC, to the second; `null` if it follows from labels.
    #[schema(format = DateTime)]
    pub created: Option<String>,
    /// When it was last updated; `null` if it follows from labels.
    #[schema(format = DateTime)]
    pub updated: Option<String>,
    /// Counts its updates; 0 if it follows from labels.
    pub version: u64,
    /// `defined`: somebody has created it; `labels`: it follows from the labels of its containers, and ends with them.
    pub origin: String,
    /// How many of its members are ready.
    pub replicas: Replicas,
}

/// A service on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceNetwork {
    /// The network's name.
    pub network: String,
    /// Its virtual addresses, one per family of the network; none in mode `dns`.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Its further names there.
    pub aliases: Vec<String>,
}

/// When a member is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceHealth {
    /// `none`, `engine`, `tcp[:PORT]` or `http[:PORT]/PATH`.
    pub kind: String,
    /// Seconds between two probes of a member.
    #[schema(value_type = f64)]
    pub interval: Seconds,
    /// Seconds after which a probe has failed.
    #[schema(value_type = f64)]
    pub timeout: Seconds,
    /// After how many failed probes in a row a ready member is unhealthy.
    pub retries: u32,
}

/// The number of containers that are members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replicas {
    /// Those that are used.
    pub ready: usize,
    /// All of them.
    pub all: usize,
}

/// A container as a member of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The service's name.
    pub service: String,
    /// The container.
    pub container: ContainerRef,
    /// The network's name.
    pub network: String,
    /// Its addresses there, with prefix length.
    pub addresses: Vec<String>,
    /// `starting`, `ready`, `unhealthy` or `draining`. A ready member is used.
    pub state: String,
    /// Since when, in RFC 3339, UTC, to the second; `null`: since it was connected.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// Why it is not used; empty if it is.
    pub why: String,
}

impl Service {
    /// The service as it is in this state.
    pub fn new(desired: &Desired, service: &service::Service) -> Self {
        let time = |seconds| service.is_defined().then(|| rfc3339(seconds));
        Self {
            name: service.name.to_string(),
            id: service.id.as_str().to_owned(),
            networks: service.networks.iter().map(ServiceNetwork::from).collect(),
            mode: service.mode.to_string(),
            select: service.select.clone(),
            members: service.members.clone(),
            ports: service.publications.iter().map(Port::from).collect(),
            target: service.target.map(|target| target.to_string()),
            affinity: service.affinity.to_string(),
            grace: service.grace,
            health: (&service.health).into(),
            when_none_ready: service.when_none_ready.to_string(),
            labels: service.labels.clone(),
            created: time(service.created),
            updated: time(service.updated),
            version: service.version,
            origin: if service.is_defined() { "defined" } else { "labels" }.into(),
            replicas: Replicas::of(desired, service),
        }
    }

    /// In one line for people: `web on net1: 10.77.0.9, *:4000->80/tcp`.
    pub fn summary(&self) -> String {
        let networks: Vec<&str> = self.networks.iter().map(|on| on.network.as_str()).collect();
        let addresses = self.networks.iter().flat_map(|on| &on.addresses).map(ToString::to_string);
        let has: Vec<String> = addresses.chain(self.ports.iter().map(ToString::to_string)).collect();
        let colon = if has.is_empty() { "" } else { ": " };
        format!("{} on {}{colon}{}", self.name, networks.join(", "), has.join(", "))
    }
}

impl Replicas {
    /// A container that is on several of the service's networks counts once.
    fn of(desired: &Desired, service: &service::Service) -> Self {
        let (mut all, mut ready) = (BTreeSet::new(), BTreeSet::new());
        for member in desired.members(service) {
            all.insert(&member.endpoint.container.id);
            if member.standing.is_ready() {
                ready.insert(&member.endpoint.container.id);
            }
        }
        Self { ready: ready.len(), all: all.len() }
    }
}

impl std::fmt::Display for Replicas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ready, self.all)
    }
}

impl Member {
    /// A member of the service.
    pub fn new(service: &ServiceName, member: desired::Member<'_>) -> Self {
        let desired::Member { endpoint, standing } = member;
        Self {
            service: service.to_string(),
            container: (&endpoint.container).into(),
            network: endpoint.network.to_string(),
            addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
            state: standing.state.as_str().into(),
            since: standing.since.map(rfc3339),
            why: standing.why,
        }
    }

    /// In one line for people: `web1 of web on net1 is draining: …`.
    pub fn summary(&self) -> String {
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        format!("{} of {} on {} is {}{why}", self.container.name, self.service, self.network, self.state)
    }
}

impl From<&service::ServiceNetwork> for ServiceNetwork {
    fn from(on: &service::ServiceNetwork) -> Self {
        Self {
            network: on.network.to_string(),
            addresses: on.addresses.clone(),
            aliases: on.aliases.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&service::HealthCheck> for ServiceHealth {
    fn from(check: &service::HealthCheck) -> Self {
        Self {
            kind: check.kind.to_string(),
            interval: Seconds::from_millis(check.interval),
            timeout: Seconds::from_millis(check.timeout),
            retries: check.retries,
        }
    }
}

#[cfg(test)]
mod tests;
