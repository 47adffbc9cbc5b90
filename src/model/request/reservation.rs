//! The request to reserve.

use super::AddressSpec;
use crate::model::address::{Family, Mac};
use crate::model::names::ReservationId;
use crate::model::publication::PortSpec;

/// What to reserve on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationSpec {
    /// Name or id of the network.
    pub network: String,
    /// The id of the reservation.
    pub id: ReservationId,
    /// Requested addresses, at most one per address family; a family without one gets the next free one, unless `only`
    /// is another.
    pub addresses: Vec<AddressSpec>,
    /// Reserve an address of this family only.
    pub only: Option<Family>,
    /// Reservations that it takes the place of.
    pub instead: Vec<ReservationId>,
    /// The MAC address; `None`: derived from the IP address.
    pub mac: Option<Mac>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
}
