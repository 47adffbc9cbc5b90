//! One container on one network: its interface, addresses, names and published ports.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::address::{Family, Mac};
use super::ids::{ContainerId, NetnsId};
use super::names::{ContainerName, DnsName, IfName, NetworkName};
use super::publication::Publication;

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
}

/// What an endpoint is known by: a container is at most once on a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey {
    /// The network.
    pub network: NetworkName,
    /// The container.
    pub container: ContainerId,
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
    pub aliases: Vec<DnsName>,
    /// Published ports.
    pub publications: Vec<Publication>,
}

impl Endpoint {
    /// What it is known by.
    pub fn key(&self) -> EndpointKey {
        EndpointKey { network: self.network.clone(), container: self.container.id.clone() }
    }

    /// Its address of that family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().map(IpNetwork::ip).find(|ip| Family::of(*ip) == family)
    }

    /// Its gateway of that family.
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Every name DNS answers for it on its network, in lower case: container name, short id, aliases.
    pub fn dns_names(&self) -> Vec<String> {
        let own = [self.container.name.as_str().to_ascii_lowercase(), self.container.id.short().to_ascii_lowercase()];
        let mut names: Vec<String> = own.into_iter().chain(self.aliases.iter().map(DnsName::key)).collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}
