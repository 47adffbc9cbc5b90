//! One container on one network: its interface, addresses, names and published ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::address::{Family, Mac};
use super::bandwidth::Bandwidth;
use super::exposure::Exposure;
use super::ids::{ContainerId, NetnsId};
use super::names::{Alias, ContainerName, IfName, NetworkName};
use super::publication::Publication;
use super::route::Route;
use super::skipped::Skipped;
use super::upstream::Upstream;

/// A network namespace: who it is, and where it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netns {
    /// A path that led to it (`/run/netns/web`, `/proc/812/ns/net`). It may lead elsewhere by now: compare `id`.
    pub path: PathBuf,
    /// Its identity.
    pub id: NetnsId,
}

impl Netns {
    /// The name under `/run/netns` (`ip netns`), when its path is there.
    pub fn name(&self) -> Option<&str> {
        let parent = self.path.parent()?.to_str()?;
        matches!(parent, "/run/netns" | "/var/run/netns").then(|| self.path.file_name()?.to_str())?
    }
}

/// A container: a network namespace with an id and a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Unique on the host.
    pub id: ContainerId,
    /// Unique on the host.
    pub name: ContainerName,
    /// Where its interfaces are.
    pub netns: Netns,
    /// A namespace of names (a Kubernetes namespace): `name` ends in `.SCOPE`, and containers of the same scope reach it
    /// without that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ContainerName>,
    /// Another engine (Docker, Podman) made it, and gives it interfaces, routes and names of its own, also later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_engine: bool,
}

/// What an endpoint is known by. A container is on a network once, unless a runtime attaches it there with several
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
    /// Order of connecting, host-wide and never used twice: eth0 has a lower one than eth1.
    pub sequence: u64,
    /// The interface in the container.
    pub ifname: IfName,
    /// The interface on the host.
    pub host_ifname: IfName,
    /// At most one per family, with the subnet's prefix.
    pub addresses: Vec<IpNetwork>,
    /// The bridge's address for each of `addresses`; empty on an internal network.
    pub gateways: Vec<IpAddr>,
    /// Of the interface in the container.
    pub mac: Mac,
    /// Further names on this network.
    pub aliases: Vec<Alias>,
    /// Published ports.
    pub publications: Vec<Publication>,
    /// Ports that its runtime asked for and that the network cannot have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// Ports that it serves besides: DNS tells of them, nothing leads there from outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<Exposure>,
    /// The user's own notes; DNS tells them as TXT on its network.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Which of the runtime's networks attached it (CNI: the configuration's `name`); `None`: a person or the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<NetworkName>,
    /// The id by which the runtime attached it, where its namespace is that of a container known by another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_as: Option<ContainerId>,
    /// Routes besides the default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Who is asked for names that are not ours, before the network's; empty: nobody before those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
}

impl Endpoint {
    /// What it is known by.
    pub fn key(&self) -> EndpointKey {
        EndpointKey { network: self.network.clone(), container: self.container.id.clone(), ifname: self.ifname.clone() }
    }

    /// The id of its container as the runtime that attached it knows it.
    pub fn runtime_id(&self) -> &ContainerId {
        self.attached_as.as_ref().unwrap_or(&self.container.id)
    }

    /// Whether another engine made its container, and did not ask for it: it has routes and names there of its own.
    pub fn is_beside_engine(&self) -> bool {
        self.container.of_engine && self.owner.is_none()
    }

    /// Its address of that family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().map(IpNetwork::ip).find(|ip| Family::of(*ip) == family)
    }

    /// Its gateway of that family.
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Every name DNS answers for it on its network, in lower case: container name, short id, aliases (`*.app` among
    /// them); with a scope also those of them that end in it, without that end.
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

    /// What it is called where one name is wanted: its container's name, or the short id when that is no DNS name.
    pub fn main_name(&self) -> &str {
        let container = &self.container;
        if container.name.resolves() { container.name.as_str() } else { container.id.short() }
    }

    /// Whether the name (lower case) is one of its names without leaving out its scope.
    pub fn is_whole_name(&self, name: &str) -> bool {
        self.whole_names().iter().any(|own| own == name)
    }

    /// Whether the name (lower case) is its container's, with or without the scope, or the short id: not an alias.
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
