//! Why a container gets no address from the DHCP server of its network.

use std::net::Ipv4Addr;

use super::RefusalKind;
use crate::model::names::{ContainerName, NetworkName};

/// A container that cannot be connected because it gets no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// No server has granted one.
    #[error("no address for {container} on network {network}, which is on {parent}: {why}")]
    None {
        /// The container.
        container: ContainerName,
        /// The network.
        network: NetworkName,
        /// The interface of the host that the network is on.
        parent: String,
        /// What was heard, or not.
        why: String,
    },
    /// The server has granted one that netd has given, or may give, to somebody else.
    #[error("the DHCP server of network {network} gives {address}, which cannot be used: {why}")]
    Unusable {
        /// The network.
        network: NetworkName,
        /// The address.
        address: Ipv4Addr,
        /// Who has it.
        why: String,
    },
    /// The container was disconnected while it waited, or the caller did not wait.
    #[error("{container} was disconnected from network {network} before it had an address")]
    Ended {
        /// The container.
        container: ContainerName,
        /// The network.
        network: NetworkName,
    },
}

impl LeaseRefusal {
    /// The class of the refusal.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::None { .. } => RefusalKind::Exhausted,
            Self::Unusable { .. } | Self::Ended { .. } => RefusalKind::Conflict,
        }
    }
}
