//! Why a request about a service is refused.

use super::RefusalKind;
use crate::model::names::{ContainerName, NetworkName, ServiceName};

/// A request about a service that cannot be carried out as given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceRefusal {
    /// A service with that name exists.
    #[error("service {0} already exists: see `netd service inspect {0}`")]
    Exists(ServiceName),
    /// A service of a backup is there otherwise.
    #[error("service {0} is not as the backup has it: see `netd service inspect {0}`")]
    DefinedOtherwise(ServiceName),
    /// No such service, or no longer.
    #[error("no service {0:?}: see `netd service ls`")]
    NoSuch(String),
    /// The service follows from labels of its containers.
    #[error("service {0} follows from the labels of its containers: create one with that name to change it")]
    OfLabels(ServiceName),
    /// Somebody else has updated the service since the caller read it.
    #[error("service {name} was updated meanwhile: its version is {version}, not {asked}")]
    OutOfSequence {
        /// The service.
        name: ServiceName,
        /// Its version.
        version: u64,
        /// The version of the request.
        asked: u64,
    },
    /// A container is on the network under the name that a service is to have there.
    #[error("service {service} cannot have the name of container {container} on network {network}: choose another")]
    NameTaken {
        /// The service.
        service: ServiceName,
        /// The container.
        container: ContainerName,
        /// The network.
        network: NetworkName,
    },
    /// The network cannot have the service.
    #[error("service {service} cannot be on network {network}: {why}")]
    Network {
        /// The service.
        service: ServiceName,
        /// The network.
        network: NetworkName,
        /// The reason.
        why: &'static str,
    },
}

impl ServiceRefusal {
    /// The class of the refusal.
    pub(super) fn kind(&self) -> RefusalKind {
        match self {
            Self::NoSuch(_) => RefusalKind::NotFound,
            Self::Network { .. } => RefusalKind::Invalid,
            Self::Exists(_)
            | Self::DefinedOtherwise(_)
            | Self::OfLabels(_)
            | Self::OutOfSequence { .. }
            | Self::NameTaken { .. } => RefusalKind::Conflict,
        }
    }
}
