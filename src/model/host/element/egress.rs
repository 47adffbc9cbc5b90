//! The elements that say what containers may send by address, whatever the name service has answered.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::address::Subnet;
use crate::model::publication::{PortRange, Protocol};

/// What a container may begin to send to ports of a subnet. Those of one container do not overlap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EgressToPorts {
    /// The container's address.
    pub from: IpAddr,
    /// The receivers, of the same family.
    pub to: Subnet,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports of the receivers.
    pub ports: PortRange,
}

/// What a container may begin to send to a subnet: every protocol. Those of one container do not overlap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EgressTo {
    /// The container's address.
    pub from: IpAddr,
    /// The receivers, of the same family.
    pub to: Subnet,
}

impl fmt::Display for EgressToPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, protocol, ports } = self;
        write!(f, "{from} . {to} . {ports}/{protocol}")
    }
}

impl fmt::Display for EgressTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{from} . {to}")
    }
}
