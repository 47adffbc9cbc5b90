//! The definitions of a host: what is backed up, and what is restored.
//!
//! Endpoints and reservations are none: they end with the boot, and who made them makes them again. Neither are adopted
//! networks, which another CNI plugin has and netd learns of with the next attachment.

use std::net::IpAddr;

use super::address::Subnet;
use super::ids::NetworkId;
use super::names::ContainerName;
use super::request::NetworkSpec;

/// All definitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backup {
    /// The host's ULA prefix, if one was drawn.
    pub ula: Option<Subnet>,
    /// By name.
    pub networks: Vec<Definition>,
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
