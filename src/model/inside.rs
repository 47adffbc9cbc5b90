//! The name service within a container: its address, and what is redirected to it.

use std::net::{IpAddr, Ipv4Addr};

use super::endpoint::Netns;
use super::ids::ContainerId;

/// Its address in the container, the same as that of Docker's resolver.
pub const AT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The target of the name service within a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// The client.
    pub container: ContainerId,
    /// The container's namespace.
    pub netns: Netns,
    /// The container's addresses, each with its gateway: if the container is configured to query the gateway but cannot
    /// reach it, the name service within the container answers.
    pub gateways: Vec<(IpAddr, IpAddr)>,
    /// Another resolver answers there (Docker's): netd queries it for names that it does not know, and it answers alone
    /// again when netd ends.
    pub beside: bool,
}
