//! Who reaches a port of the host, as the host's own rules about packets to itself have it.

use std::net::IpAddr;

use crate::model::address::Family;
use crate::model::publication::Protocol;

/// A port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPortAsked {
    /// The family of the packets.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The only address at which it is; `None`: every one.
    pub at: Option<IpAddr>,
}

/// Who of the hosts outside reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Each of them.
    Anyone,
    /// Some; what decides.
    Some(Vec<String>),
    /// None; what drops their packets.
    Nobody(Vec<String>),
}
