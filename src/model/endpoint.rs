//! One container on one network: its interface, addresses, names and published ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::address::{Family, Mac};
use super::bandwidth::Bandwidth;
use super::egress::Egress;
use super::exposure::Exposure;
use super::handover::Handover;
use super::ids::ContainerId;
use super::lease::Dhcp;
use super::names::{Alias, ContainerName, IfName, NetworkName};
pub use super::netns::Netns;
use super::publication::skipped::Skipped;
use super::publication::{Opened, Publication};
use super::route::Route;
use super::upstream::Upstream;

/// A container: a network namespace with an id and a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Unique on the host.
    pub id: ContainerId,
    /// Unique on the host.
    pub name: ContainerName,
    /// The namespace of its interfaces.
    pub netns: Netns,
    /// A namespace of names (a Kubernetes namespace): `name` ends in `.SCOPE`, and containers in the same scope can
    /// omit that suffix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ContainerName>,
    /// Another engine (Docker, Podman) made it, and manages interfaces, routes and names of its own in it, possibly
    /// later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_engine: bool,
}

/// The identity of an endpoint. A container is on a network once, unless a runtime attaches it there with several
/// interfaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey {
    /// The network.
    pub network: NetworkName,
    /// The container.
    pub container: ContainerId,
    /// The interface in the container.
    pub ifname: IfName,
}

/// One container on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: NetworkName,
    /// The container.
    pub container: Container,
    /// Position in the order of connecting, host-wide and never reused: eth0 has a lower one than eth1.
    pub sequence: u64,
    /// The interface in the container.
    pub ifname: IfName,
    /// The interface on the host.
    pub host_ifname: IfName,
    /// At most one per address family, with the subnet's prefix.
    pub addresses: Vec<IpNetwork>,
    /// The gateway of each of `addresses` that has one; empty on an internal network.
    pub gateways: Vec<IpAddr>,
    /// MAC address of the interface in the container, as netd made it.
    pub mac: Mac,
    /// The one that a later plugin of the runtime's chain gave it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_mac: Option<Mac>,
    /// Further names on this network.
    pub aliases: Vec<Alias>,
    /// Published ports.
    pub publications: Vec<Publication>,
    /// Ports that are reached at its own addresses, on a network without address translation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened: Vec<Opened>,
    /// Ports that the runtime requested but that the network cannot have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// Further ports that it serves: DNS announces them, but they are not published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<Exposure>,
    /// User-defined labels; DNS publishes them as TXT records on its network.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The runtime's network that attached it (CNI: the configuration's `name`); `None` if it was requested by a user
    /// or through the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<NetworkName>,
    /// The id that the runtime used to attach it, if its namespace belongs to a container with another id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_as: Option<ContainerId>,
    /// Routes other than the default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Bandwidth limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// It may send from addresses that are not its own, as routers and DHCP servers do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
    /// Upstreams for names that are not netd's, tried before those of the network; empty: only the network's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// The container was told to ask within itself, at 127.0.0.11, because a firewall dropped its questions to the
    /// gateway: it is answered there as long as this endpoint exists, whatever the firewall does later, because programs
    /// read their resolv.conf once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_inside: bool,
    /// It is on a network of the host's, beside the host: its gateway is not the host, and nothing that is published leads
    /// there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside_host: bool,
    /// Another engine takes the interface into its container itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
    /// What it may begin to send to the outside and to the host: the stance in the place of the network's, and what is
    /// allowed in addition.
    #[serde(default, skip_serializing_if = "Egress::is_unsaid")]
    pub egress: Egress,
    /// What it has of the DHCP server of its network, if that gives it its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
}

impl Endpoint {
    /// The endpoint's key.
    pub fn key(&self) -> EndpointKey {
        EndpointKey { network: self.network.clone(), container: self.container.id.clone(), ifname: self.ifname.clone() }
    }

    /// The id of its container that the attaching runtime uses.
    pub fn runtime_id(&self) -> &ContainerId {
        self.attached_as.as_ref().unwrap_or(&self.container.id)
    }

    /// Whether another engine made its container without requesting this endpoint, and therefore has routes and names
    /// of its own in it.
    pub fn is_beside_engine(&self) -> bool {
        self.container.of_engine && self.owner.is_none() && self.handover.is_none()
    }

    /// Whether it has not had an address of its network's DHCP server yet: the container is being connected.
    pub fn awaits_lease(&self) -> bool {
        self.dhcp.as_ref().is_some_and(|dhcp| dhcp.lease.is_none())
    }

    /// Whether it has counted as connected: it has addresses, or had one of its network's DHCP server.
    pub fn is_announced(&self) -> bool {
        !self.addresses.is_empty() || self.dhcp.as_ref().is_some_and(|dhcp| dhcp.lease.is_some())
    }

    /// Whether its interface waits on the host for another engine to take it into the container.
    pub fn is_waiting(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| !handover.taken)
    }

    /// Whether the container's own namespace is not known as yet: its interface waits for an engine that has not made
    /// the namespace.
    pub fn has_no_namespace(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| self.container.netns.id == handover.host.id)
    }

    /// Its address in that family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().map(IpNetwork::ip).find(|ip| Family::of(*ip) == family)
    }

    /// Its gateway in that family.
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// All its DNS names on its network, in lower case: container name, short id and aliases (including `*.app`); with
    /// a scope also those that end in it, without that suffix.
    pub fn dns_names(&self) -> Vec<String> {
        let mut names = self.whole_names();
        if let Some(scope) = &self.container.scope {
            let end = format!(".{}", scope.as_str().to_ascii_lowercase());
            let bare: Vec<String> = names.iter().filter_map(|name| Some(name.strip_suffix(&end)?.to_owned())).collect();
            names.extend(bare);
        }
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// The name to use where one name is needed: its container's name, or the short id if that is not a DNS name.
    pub fn main_name(&self) -> &str {
        let container = &self.container;
        if container.name.resolves() { container.name.as_str() } else { container.id.short() }
    }

    /// Whether the name (lower case) is one of its names with the scope included.
    pub fn is_whole_name(&self, name: &str) -> bool {
        self.whole_names().iter().any(|own| own == name)
    }

    /// Whether the name (lower case) is its container's, with or without the scope, or the short id, and not an alias.
    pub fn is_own_name(&self, name: &str) -> bool {
        let Container { id, name: own, scope, .. } = &self.container;
        let own = own.as_str();
        let bare = || {
            let (bare, end) = own.split_at_checked(own.len().checked_sub(scope.as_ref()?.as_str().len())?)?;
            bare.strip_suffix('.')
                .filter(|_| scope.as_ref().is_some_and(|scope| end.eq_ignore_ascii_case(scope.as_str())))
        };
        own.eq_ignore_ascii_case(name)
            || id.short().eq_ignore_ascii_case(name)
            || bare().is_some_and(|bare| bare.eq_ignore_ascii_case(name))
    }

    /// The names for which [`Endpoint::is_own_name`] holds, in lower case.
    pub fn own_names(&self) -> Vec<String> {
        self.dns_names().into_iter().filter(|name| self.is_own_name(name)).collect()
    }

    fn whole_names(&self) -> Vec<String> {
        let name = Some(self.container.name.as_str()).filter(|_| self.container.name.resolves());
        let own = name.into_iter().chain([self.container.id.short()]).map(str::to_ascii_lowercase);
        own.chain(self.aliases.iter().map(Alias::key)).collect()
    }
}
