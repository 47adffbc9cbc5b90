//! The definitions of a host: what is backed up, and what is restored.
//!
//! Endpoints and reservations are none: they end with the boot, and who made them makes them again. Neither are adopted
//! networks, which another CNI plugin has and netd learns of with the next attachment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::address::Subnet;
use super::ids::{NetworkId, ServiceId};
use super::names::{ContainerName, NetworkName};
use super::policy::Rule;
use super::request::{NetworkSpec, ServiceSpec};
use super::service::Service;

/// All definitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backup {
    /// The host's ULA prefix, if one was drawn.
    pub ula: Option<Subnet>,
    /// By name.
    pub networks: Vec<Definition>,
    /// By name.
    pub services: Vec<ServiceDefinition>,
    /// What the policies say, in the order of their ids; not about networks that are not defined here.
    pub policies: Vec<Rule>,
}

/// A network as it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its id, which it keeps.
    pub id: NetworkId,
    /// The request that creates it as it is.
    pub spec: NetworkSpec,
    /// The addresses that it keeps, and the names of the containers for which it keeps them.
    pub sticky: Vec<(IpAddr, ContainerName)>,
}

/// A service as somebody has defined it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDefinition {
    /// Its id, which it keeps.
    pub id: ServiceId,
    /// The request that creates it as it is, with its host ports.
    pub spec: ServiceSpec,
    /// Its virtual addresses on each network, which it keeps.
    pub addresses: BTreeMap<NetworkName, Vec<IpAddr>>,
}

impl ServiceDefinition {
    /// The definition of a service on those of its networks that are defined; `None` if none of them is.
    pub fn of(service: &Service, is_defined: impl Fn(&NetworkName) -> bool) -> Option<Self> {
        let mut spec = ServiceSpec::from(service);
        let on: Vec<_> = service.networks.iter().filter(|on| is_defined(&on.network)).collect();
        spec.networks = on.iter().map(|on| (on.network.to_string(), on.aliases.clone())).collect();
        let addresses = on.iter().filter(|on| !on.addresses.is_empty());
        let addresses = addresses.map(|on| (on.network.clone(), on.addresses.clone())).collect();
        (service.is_defined() && !on.is_empty()).then(|| Self { id: service.id.clone(), spec, addresses })
    }
}
