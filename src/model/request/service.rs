//! Requests about services.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::names::{Alias, ServiceName};
use crate::model::publication::{PortSpec, Publication};
use crate::model::service::{Affinity, HealthCheck, Mode, Service, Target, Tasks, WhenNoneReady};

/// A service to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub name: ServiceName,
    /// Names or ids of its networks, at least one, with its further names there.
    pub networks: Vec<(String, Vec<Alias>)>,
    /// Labels of its members; empty: none by labels.
    pub select: BTreeMap<String, String>,
    /// Further members, by name or id; they need not exist.
    pub members: Vec<String>,
    /// What the name resolves to.
    pub mode: Mode,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// The port that members serve.
    pub target: Option<Target>,
    /// Which member gets a connection.
    pub affinity: Affinity,
    /// Seconds for which connections of a drained member stay.
    pub grace: u32,
    /// When a member is ready.
    pub health: HealthCheck,
    /// What the name resolves to while no member is ready.
    pub when_none_ready: WhenNoneReady,
    /// What an engine runs for it.
    pub tasks: Option<Tasks>,
    /// User-defined labels.
    pub labels: BTreeMap<String, String>,
}

impl ServiceSpec {
    /// Seconds for which connections of a drained member stay, unless requested otherwise.
    pub const GRACE: u32 = 10;

    /// A service with this name and all other choices left to netd; it still needs a network.
    pub fn named(name: ServiceName) -> Self {
        Self {
            name,
            networks: Vec::new(),
            select: BTreeMap::new(),
            members: Vec::new(),
            mode: Mode::default(),
            ports: Vec::new(),
            target: None,
            affinity: Affinity::default(),
            grace: Self::GRACE,
            health: HealthCheck::default(),
            when_none_ready: WhenNoneReady::default(),
            tasks: None,
            labels: BTreeMap::new(),
        }
    }
}

impl From<&Service> for ServiceSpec {
    /// The request that makes the service as it is.
    fn from(service: &Service) -> Self {
        let port = |publication: &Publication| {
            let Publication { host_ip, host, container, protocol, mode } = publication.clone();
            PortSpec { host_ip, host: Some(host), container, protocol, mode }
        };
        Self {
            name: service.name.clone(),
            networks: service.networks.iter().map(|on| (on.network.to_string(), on.aliases.clone())).collect(),
            select: service.select.clone(),
            members: service.members.clone(),
            mode: service.mode,
            ports: service.publications.iter().map(port).collect(),
            target: service.target,
            affinity: service.affinity,
            grace: service.grace,
            health: service.health.clone(),
            when_none_ready: service.when_none_ready,
            tasks: service.tasks.clone(),
            labels: service.labels.clone(),
        }
    }
}

/// An update of a service: it becomes as the spec says, all or nothing. Host ports that are published already and that
/// the spec leaves open stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUpdate {
    /// Name or id of the service.
    pub service: String,
    /// The version that the caller has seen; another one is refused. `None`: any.
    pub version: Option<u64>,
    /// As it becomes. The name stays.
    pub spec: ServiceSpec,
}

/// What is said of a container as a member of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// Name or id of the container.
    pub member: String,
    /// What is said.
    pub action: MemberAction,
}

/// What is said of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberAction {
    /// It is about to be stopped: nothing new reaches it from now on.
    Drain,
    /// It is not.
    Undrain,
    /// It is ready, whatever its health checks say.
    Ready,
    /// It is not ready.
    Unready,
    /// Its health checks decide again.
    Checked,
}
