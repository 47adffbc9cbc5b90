//! Services: one name, and if wanted one virtual address and published ports, for several containers.
//!
//! What people define is a [`Service`]. Its members follow from labels and names of the endpoints on its networks
//! (`desired`), and whether a member is used follows from its [`Condition`].

mod condition;
mod health;
mod tasks;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::address::Family;
use super::ids::ServiceId;
use super::names::{Alias, NetworkName, ServiceName};
use super::publication::{Protocol, Publication};
pub use condition::{Condition, Health, MemberState, Said, Standing};
pub use health::{HealthCheck, HealthKind};
pub use tasks::Tasks;

/// The label of a container's project (docker/compose, pkg/api/labels.go).
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// The label of a container's service in its project.
pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// Whether the container was started by `compose run` ("True"): it does not belong to the service.
pub const COMPOSE_ONE_OFF: &str = "com.docker.compose.oneoff";
/// The same of podman-compose.
pub const PODMAN_PROJECT: &str = "io.podman.compose.project";
/// The label of a task's container that names its service (moby, daemon/cluster/executor/container).
pub const TASK_SERVICE: &str = "com.docker.swarm.service.name";
/// The label of a container that netd has an engine run for a service: who runs it tells whether it is healthy.
pub const TASK_DIGEST: &str = "netd.task.digest";
/// The same of podman-compose.
pub const PODMAN_SERVICE: &str = "io.podman.compose.service";

/// The name of several containers on one or more networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its id, which stays the same while it is updated.
    pub id: ServiceId,
    /// Unique on the host, compared without case.
    pub name: ServiceName,
    /// At least one.
    pub networks: Vec<ServiceNetwork>,
    /// Which endpoints on these networks are members: those with all of these labels. Empty: none is by its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub select: BTreeMap<String, String>,
    /// Further members, by name (without case) or id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// What its name resolves to.
    pub mode: Mode,
    /// Published ports, one port each, at every address of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publications: Vec<Publication>,
    /// The port that its members serve: what SRV records name and what health checks ask, unless they have another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Which member gets a connection.
    #[serde(default)]
    pub affinity: Affinity,
    /// For how many seconds the connections of a drained member stay.
    pub grace: u32,
    /// When a member is ready.
    #[serde(default)]
    pub health: HealthCheck,
    /// What the name resolves to while no member is ready.
    #[serde(default)]
    pub when_none_ready: WhenNoneReady,
    /// What an engine runs for it; `None`: others make its members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Tasks>,
    /// The request that made it before its last update, so that this can be taken back. It has none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Self>>,
    /// User-defined labels of the service itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was created, in seconds since the Unix epoch.
    pub created: u64,
    /// When it was last updated.
    pub updated: u64,
    /// Counts the updates.
    pub version: u64,
    /// Who defined it.
    #[serde(default, skip)]
    pub origin: Origin,
}

/// A service on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceNetwork {
    /// The network's name.
    pub network: NetworkName,
    /// Further names there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
    /// Its virtual addresses there, at most one per address family; none in mode [`Mode::Dns`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// What the name of a service resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The addresses of its ready members.
    #[default]
    Dns,
    /// A virtual address, from which the kernel passes connections on to the ready members.
    Vip,
}

/// Which member gets a connection to a virtual address or a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Any, all alike.
    #[default]
    None,
    /// The same for all connections of one client's address, as long as the members stay the same.
    Client,
}

/// What a service without ready members resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenNoneReady {
    /// Nothing: connections are refused at once.
    #[default]
    Empty,
    /// All members, as if they were ready.
    All,
}

/// Who defined a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// A person, or a program through the API: it is stored.
    #[default]
    Defined,
    /// The labels of its containers: it exists as long as they do.
    Labels,
}

/// A port that the members of a service serve: `PORT[/tcp|udp|sctp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// Never 0.
    pub port: u16,
    /// tcp if not given.
    pub protocol: Protocol,
}

/// A word for each value, in both directions.
macro_rules! words {
    ($type:ident, $what:literal, $($variant:ident = $word:literal),+) => {
        impl $type {
            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Invalid::new($what, text, concat!("use ", words!(@list $($word),+)))),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
    (@list $first:literal $(, $more:literal)*) => { concat!($first $(, " or ", $more)*) };
}

words!(Mode, "mode", Dns = "dns", Vip = "vip");
words!(Affinity, "affinity", None = "none", Client = "client");
words!(WhenNoneReady, "choice when no member is ready", Empty = "empty", All = "all");

impl Service {
    /// The service on that network.
    pub fn on(&self, network: &NetworkName) -> Option<&ServiceNetwork> {
        self.networks.iter().find(|on| on.network == *network)
    }

    /// Its virtual addresses on all networks.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.networks.iter().flat_map(|on| on.addresses.iter().copied())
    }

    /// Whether connections reach its members through the kernel's tables: it has a virtual address or published ports.
    pub fn is_balanced(&self) -> bool {
        !self.publications.is_empty() || self.addresses().next().is_some()
    }

    /// Whether anybody defined it.
    pub fn is_defined(&self) -> bool {
        self.origin == Origin::Defined
    }
}

impl ServiceNetwork {
    /// Its virtual address in that family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }
}

impl FromStr for Target {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || Invalid::new("target", text, "use PORT[/tcp|udp|sctp], as in 80 or 53/udp");
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => (port, protocol.parse().map_err(|_| bad())?),
            None => (text, Protocol::Tcp),
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0).ok_or_else(bad)?;
        Ok(Self { port, protocol })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

impl TryFrom<String> for Target {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}
