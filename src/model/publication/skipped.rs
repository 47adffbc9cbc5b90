//! Ports that a network cannot have, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PortSpec;

/// A port that a runtime requested on a network that cannot have it. Runtimes such as Podman pass a container's ports
/// to each of its networks: another network publishes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The requested port.
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
    /// The container has no IPv4 address that can be reached from outside.
    NoIpv4,
    /// The container has no IPv6 address that can be reached from outside.
    NoIpv6,
    /// The network is one of the host's, and its containers are beside the host.
    Beside,
}

/// Formats the reason as a clause about the network.
impl fmt::Display for Unpublishable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Internal => "it is internal, so other hosts cannot reach it; publish on another network",
            Self::NoIpv4 => "the container has no IPv4 address there; create the network with an IPv4 subnet",
            Self::Beside => {
                "its containers are on a network of the host's, where their ports are reached at their own addresses without \
                 the host; leave out -p, or publish on a network of netd's own"
            }
            Self::NoIpv6 => "the container has no IPv6 address there; create the network with an IPv6 subnet",
        })
    }
}
