//! A route that a container gets besides those that follow from its networks.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address::Subnet;

/// A route over an endpoint's interface, as CNI describes it (spec 1.1.0, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub destination: Subnet,
    /// Next hop; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Largest packet towards there, bytes.
    pub mtu: Option<u32>,
    /// Largest TCP segment announced towards there, bytes.
    pub advmss: Option<u32>,
    /// Metric: of two routes to the same place the lower one is taken.
    pub priority: Option<u32>,
    /// Routing table; `None`: main.
    pub table: Option<u32>,
    /// `RT_SCOPE_*` (linux/rtnetlink.h); `None`: what fits the gateway.
    pub scope: Option<u8>,
}

impl Route {
    /// To a destination by a gateway, with everything else left to the kernel.
    pub fn via(destination: Subnet, gateway: Option<IpAddr>) -> Self {
        Self { destination, gateway, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}
