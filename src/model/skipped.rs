//! Ports that a network cannot have, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::publication::PortSpec;

/// A port that a runtime asked for on a network that cannot have it. Runtimes say a container's ports for each of its
/// networks (Podman does): another one has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// What was asked for.
    pub port: PortSpec,
    /// Why it is not published there.
    pub why: Unpublishable,
}

/// Why a port cannot be published on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpublishable {
    /// The network is internal.
    Internal,
    /// The container has no IPv4 address with a way in.
    NoIpv4,
    /// The container has no IPv6 address with a way in.
    NoIpv6,
}

/// A clause about the network.
impl fmt::Display for Unpublishable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Internal => "it is internal and has no way in; publish on another network",
            Self::NoIpv4 => "the container has no IPv4 address there; create the network with such a subnet",
            Self::NoIpv6 => "the container has no IPv6 address there; create the network with such a subnet",
        })
    }
}
