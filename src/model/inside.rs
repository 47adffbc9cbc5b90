//! The name service within a container: where it is, and what is led to it.

use std::net::{IpAddr, Ipv4Addr};

use super::endpoint::Netns;
use super::ids::ContainerId;

/// Where it listens in the container, as Docker's does.
pub const AT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What must be within a container that has its name service there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// Who asks there.
    pub container: ContainerId,
    /// Where.
    pub netns: Netns,
    /// The container's addresses, each with the gateway beside it: a container that was told to ask there, and does not
    /// get through, is answered by the name service within.
    pub gateways: Vec<(IpAddr, IpAddr)>,
    /// Another resolver answers there (Docker's): it is asked for what netd does not know, and answers alone again when
    /// netd ends.
    pub beside: bool,
}
