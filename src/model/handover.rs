//! An interface that netd makes on the host and another engine takes into its container: Docker's libnetwork moves it into
//! the container's namespace, names it, and assigns the addresses that netd chose (remote driver protocol, `Join`).

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::address::Subnet;
use super::names::{IfName, ReservationId};
use super::netns::Netns;

/// The beginning of the ids of reservations for endpoints of Docker.
pub const RESERVATION: &str = "docker-";

/// How an endpoint's interface gets into its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The engine's id of the endpoint.
    pub endpoint: String,
    /// Where the container's namespace is, once the engine has made it.
    pub sandbox: PathBuf,
    /// The namespace of the host, in which the interface waits.
    pub host: Netns,
    /// Its name there.
    pub staged: IfName,
    /// Whether it is in the container. Until then, and after the engine has given it back, it is on the host, where the
    /// engine may take it at any time.
    pub taken: bool,
    /// Whether the engine leads the container's default route over it, and therefore publishes its ports there.
    pub leads: bool,
}

impl Handover {
    /// The id of the reservation that the endpoint of Docker with this id has before its interface is made, and after its
    /// container has ended, until Docker deletes it. 64 hex digits make it a valid one.
    pub fn reservation(endpoint: &str) -> Result<ReservationId, Invalid> {
        format!("{RESERVATION}{endpoint}").parse()
    }
}

/// A request to hand an interface over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverSpec {
    /// As in [`Handover::endpoint`].
    pub endpoint: String,
    /// As in [`Handover::sandbox`]; absolute.
    pub sandbox: PathBuf,
}

/// A network of another engine that is a network of netd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineNetwork {
    /// The engine's id of the network.
    pub id: String,
    /// The address pools that the engine has for it. They need not be the subnets of netd's network.
    pub pools: Vec<Subnet>,
    /// Addresses in them that no container is given by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aux: Vec<IpAddr>,
    /// Whether netd's network was made for it, and goes with it.
    pub owns: bool,
}
