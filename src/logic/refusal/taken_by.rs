//! Who has what a refused request asked for.

use std::fmt;

use crate::model::names::{ReservationId, ServiceName};
use crate::model::publication::Publication;

/// Who has what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenBy {
    /// The network itself.
    Gateway,
    /// The host, on the interface that the network is on.
    Host,
    /// The container with that name.
    Container(String),
    /// The reservation.
    Reservation(ReservationId),
    /// The service.
    Service(ServiceName),
}

impl TakenBy {
    /// The container's name, if it is one.
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Container(name) => Some(name),
            Self::Gateway | Self::Host | Self::Reservation(_) | Self::Service(_) => None,
        }
    }
}

impl fmt::Display for TakenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("the gateway"),
            Self::Host => f.write_str("the host"),
            Self::Container(name) => write!(f, "container {name}"),
            Self::Reservation(id) => write!(f, "reservation {id}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// Who has a port.
pub(super) fn taken(held: &Publication, owner: &TakenBy) -> String {
    match owner {
        TakenBy::Container(name) => format!("published by {owner} ({held}): see `netd port {name}`"),
        TakenBy::Service(name) => format!("published by {owner} ({held}): see `netd service inspect {name}`"),
        TakenBy::Reservation(_) | TakenBy::Gateway | TakenBy::Host => {
            format!("held by {owner} ({held}): see `netd reservation ls`")
        }
    }
}
