//! What is probed, as it follows from the snapshot (pure).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::desired::Desired;
use crate::model::endpoint::{Endpoint, Netns};
use crate::model::ids::ContainerId;
use crate::model::names::ServiceName;
use crate::model::publication::Protocol;
use crate::model::service::{HealthKind, Service};

/// A container as a member of a service.
pub(super) type Key = (ContainerId, ServiceName);

/// What is probed of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The container's namespace, in which the connections are made.
    pub(super) netns: Netns,
    /// Its addresses on each of the service's networks that it is on, IPv4 first. At each network one must answer.
    pub(super) at: Vec<Vec<SocketAddr>>,
    pub(super) ask: Ask,
    pub(super) times: Times,
}

/// What is asked once a connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nothing.
    Tcp,
    /// `GET` of the path, of a host with this name.
    Http { path: String, host: String },
}

/// When a member is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
}

impl Target {
    /// Whether what was found out of the other says something of this one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.netns.id == other.netns.id && (&self.at, &self.ask, self.times) == (&other.at, &other.ask, other.times)
    }
}

/// What is probed, and the members that cannot be, with the reason.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) probed: BTreeMap<Key, Target>,
    pub(super) hopeless: BTreeMap<Key, &'static str>,
}

/// A member whose check has no port.
const NO_PORT: &str = "its health check names no port, and its service has neither a TCP target nor a published TCP \
                       port: see --health and --target of `netd service update`";

/// The targets of all services. Members that have no address yet are none.
pub(super) fn targets(desired: &Desired) -> Targets {
    let mut targets = Targets::default();
    for service in desired.services() {
        let (named, path) = match &service.health.kind {
            HealthKind::None | HealthKind::Engine => continue,
            HealthKind::Tcp(port) => (*port, None),
            HealthKind::Http { port, path } => (*port, Some(path)),
        };
        let port = named.or_else(|| port_of(service));
        for member in desired.members(service) {
            let endpoint = member.endpoint;
            if endpoint.addresses.is_empty() || endpoint.has_no_namespace() {
                continue;
            }
            let key = (endpoint.container.id.clone(), service.name.clone());
            let Some(port) = port else {
                targets.hopeless.insert(key, NO_PORT);
                continue;
            };
            let target = targets.probed.entry(key).or_insert_with(|| Target {
                netns: endpoint.container.netns.clone(),
                at: Vec::new(),
                ask: path.map_or(Ask::Tcp, |path| {
                    let host = endpoint.container.name.to_string();
                    Ask::Http { path: path.clone(), host }
                }),
                times: times(service),
            });
            target.at.push(addresses(endpoint, port));
        }
    }
    targets
}

fn port_of(service: &Service) -> Option<u16> {
    let target = service.target.filter(|target| target.protocol == Protocol::Tcp).map(|target| target.port);
    let published = || {
        let first = service.publications.iter().find(|publication| publication.protocol == Protocol::Tcp);
        first.map(|publication| publication.container.first())
    };
    target.or_else(published)
}

fn addresses(endpoint: &Endpoint, port: u16) -> Vec<SocketAddr> {
    let mut addresses: Vec<IpAddr> = endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

fn times(service: &Service) -> Times {
    let health = &service.health;
    let millis = |millis: u32| Duration::from_millis(u64::from(millis.max(1)));
    Times { interval: millis(health.interval), timeout: millis(health.timeout), retries: health.retries.max(1) }
}
