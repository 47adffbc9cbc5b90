//! Plans for reservations. Addresses need no step: nobody has them as yet.

use crate::logic::target;
use crate::model::host::step::Step;
use crate::model::network::Network;
use crate::model::reservation::Reservation;

/// The steps that reserve: the host ports are held.
pub fn reserve(network: &Network, reservation: &Reservation) -> Vec<Step> {
    let hold = Step::Hold(target::reserved_ports(network, reservation).into_iter().collect());
    [hold].into_iter().filter(|step| !step.is_noop()).collect()
}

/// The steps that release a reservation.
pub fn release(network: &Network, reservation: &Reservation) -> Vec<Step> {
    let release = Step::Release(target::reserved_ports(network, reservation).into_iter().collect());
    [release].into_iter().filter(|step| !step.is_noop()).collect()
}
