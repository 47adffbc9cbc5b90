//! The classes of refusals.

use super::Refusal;

/// The class of a refusal; each face maps it once (HTTP status, exit code, CNI code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is invalid.
    Invalid,
    /// The request names an object that does not exist.
    NotFound,
    /// The request conflicts with an existing object.
    Conflict,
    /// A resource is exhausted.
    Exhausted,
    /// The existing object differs from what netd made.
    Changed,
}

impl Refusal {
    /// The class of the refusal.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Service(refusal) => refusal.kind(),
            Self::Lease(refusal) => refusal.kind(),
            Self::Invalid(_)
            | Self::Outside { .. }
            | Self::CannotPublish { .. }
            | Self::CannotBeStrict(_)
            | Self::CannotAdopt { .. }
            | Self::Parent { .. }
            | Self::KernelLacks(_)
            | Self::Adopted(_)
            | Self::PortsOfRuntime { .. }
            | Self::Ambiguous { .. } => RefusalKind::Invalid,
            Self::NoSuchNetwork(_)
            | Self::NoSuchContainer { .. }
            | Self::NoSuchReservation(_)
            | Self::NoSuchPolicy(_)
            | Self::NotConnected { .. }
            | Self::NoSuchHandover(_)
            | Self::NotPublished { .. }
            | Self::NoAttachment { .. } => RefusalKind::NotFound,
            Self::Changed { .. } => RefusalKind::Changed,
            Self::NetworkExists(_)
            | Self::DefinedOtherwise(_)
            | Self::DefinedAnew(..)
            | Self::NetworkInUse { .. }
            | Self::NotRenumbered { .. }
            | Self::SubnetOverlap { .. }
            | Self::AddressTaken { .. }
            | Self::MacTaken { .. }
            | Self::ReservationExists(_)
            | Self::ReservedElsewhere { .. }
            | Self::PortTaken { .. }
            | Self::IfNameTaken { .. }
            | Self::AlreadyConnected { .. }
            | Self::NotAdopted(_)
            | Self::AdoptedOtherwise(_)
            | Self::AttachedOtherwise { .. }
            | Self::NameOfAnother { .. }
            | Self::NetnsTaken { .. }
            | Self::ContainerNameTaken { .. } => RefusalKind::Conflict,
            Self::NoFreeSubnet { .. } | Self::NoFreeAddress { .. } | Self::BridgeFull { .. } | Self::NoFreePort(_) => {
                RefusalKind::Exhausted
            }
        }
    }
}
