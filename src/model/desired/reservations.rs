//! The reservations, by id, by network and by address.

use std::net::IpAddr;
use std::sync::Arc;

use rpds::{HashTrieMapSync as Index, RedBlackTreeMapSync as Map};

use super::{Desired, Version};
use crate::model::names::{NetworkName, ReservationId};
use crate::model::reservation::Reservation;

/// Invariant: each reservation is in `all`, under its network, and under each of its addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Reservations {
    all: Map<ReservationId, Arc<Reservation>>,
    of_networks: Map<NetworkName, Map<ReservationId, Arc<Reservation>>>,
    addresses: Index<IpAddr, Arc<Reservation>>,
}

impl Desired {
    /// Every reservation, by id.
    pub fn reservations(&self) -> impl ExactSizeIterator<Item = &Arc<Reservation>> {
        self.reservations.all.values()
    }

    /// The reservation with that id.
    pub fn reservation(&self, id: &ReservationId) -> Option<&Arc<Reservation>> {
        self.reservations.all.get(id)
    }

    /// The reservations on one network, by id.
    pub fn reservations_of(&self, network: &NetworkName) -> impl Iterator<Item = &Arc<Reservation>> {
        self.reservations.of_networks.get(network).into_iter().flat_map(Map::values)
    }

    /// The reservation that has the address.
    pub fn reserved_at(&self, address: IpAddr) -> Option<&Arc<Reservation>> {
        self.reservations.addresses.get(&address)
    }

    /// Adds the reservation, or replaces the one with the same id.
    pub fn insert_reservation(&mut self, reservation: Reservation) -> Arc<Reservation> {
        self.remove_reservation(&reservation.id);
        self.version = Version::default();
        let reservation = Arc::new(reservation);
        let Reservations { all, of_networks, addresses } = &mut self.reservations;
        for address in &reservation.addresses {
            addresses.insert_mut(address.ip(), reservation.clone());
        }
        let mut of_network = of_networks.get(&reservation.network).cloned().unwrap_or_default();
        of_network.insert_mut(reservation.id.clone(), reservation.clone());
        of_networks.insert_mut(reservation.network.clone(), of_network);
        all.insert_mut(reservation.id.clone(), reservation.clone());
        reservation
    }

    /// Removes the reservation.
    pub fn remove_reservation(&mut self, id: &ReservationId) -> Option<Arc<Reservation>> {
        let Reservations { all, of_networks, addresses } = &mut self.reservations;
        let reservation = all.get(id)?.clone();
        all.remove_mut(id);
        self.version = Version::default();
        for address in &reservation.addresses {
            addresses.remove_mut(&address.ip());
        }
        let mut of_network = of_networks.get(&reservation.network).cloned().unwrap_or_default();
        of_network.remove_mut(id);
        if of_network.is_empty() {
            of_networks.remove_mut(&reservation.network);
        } else {
            of_networks.insert_mut(reservation.network.clone(), of_network);
        }
        Some(reservation)
    }
}
