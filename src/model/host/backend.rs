//! Where netd's proxy passes on what arrives at a published port.

use std::net::SocketAddr;

use crate::model::names::IfName;

/// A container's address and port, and the interface in the container that has the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The address and port.
    pub at: SocketAddr,
    /// The interface.
    pub ifname: IfName,
}
