//! Reserves, and releases reservations.

use std::sync::Arc;

use super::connect::TRIES;
use crate::engine::Error;
use crate::engine::decide::endpoint::Choice;
use crate::engine::decide::transaction::Consumed;
use crate::engine::decide::{self, transaction};
use crate::engine::event::Change;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::refusal::Refusal;
use crate::model::host::observed::HostFacts;
use crate::model::names::ReservationId;
use crate::model::network::Network;
use crate::model::request::ReservationSpec;
use crate::model::reservation::Reservation;
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Reserves what is requested. If a port that netd has chosen turns out to be taken, chooses another.
    pub(crate) fn reserve(&mut self, requested: &ReservationSpec) -> Result<Arc<Reservation>, Error> {
        let network = self.find_network(&requested.network)?;
        let facts = self.facts_for(&requested.ports)?;
        let mut choice = Choice { random: rand::random(), parent: self.parent_of(&network)?, ..Choice::default() };
        let mut last = None;
        for _ in 0..TRIES {
            let reservation = self.decide_reservation(&network, requested, (&choice, &facts))?;
            let instead = self.given_up(requested);
            let transaction = transaction::reserve(&self.state, &network, &reservation, &instead);
            match self.execute(&transaction) {
                Ok(()) => return Ok(self.reserved(reservation)),
                Err(Error::Kernel { error: KernelError::PortTaken { port, owner }, undo })
                    if choice.avoid_port(&port, &requested.ports) =>
                {
                    last = Some(Error::Kernel { error: KernelError::PortTaken { port, owner }, undo });
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::Stopped))
    }

    fn reserved(&mut self, reservation: Reservation) -> Arc<Reservation> {
        let reservation = Arc::new(reservation);
        self.publish();
        tracing::info!(network = %reservation.network, reservation = %reservation.id, "reserved");
        self.tell(Change::Reserved(reservation.clone()));
        reservation
    }

    /// Decides what the requested reservation becomes.
    pub(crate) fn decide_reservation(
        &mut self,
        network: &Network,
        requested: &ReservationSpec,
        choice: (&Choice, &HostFacts),
    ) -> Result<Reservation, Refusal> {
        let created = crate::base::clock::unix_seconds();
        let instead = self.given_up(requested);
        let drop_all: Vec<Record> = instead.iter().map(|other| Record::DeleteReservation(other.id.clone())).collect();
        let keep = |other: &Arc<Reservation>| Record::PutReservation(Box::new(other.as_ref().clone()));
        // What they have is free for this one.
        self.state.apply(&drop_all);
        let decided = self.decided(|state| decide::reservation::reserve(state, network, requested, created, choice));
        self.state.apply(&instead.iter().map(keep).collect::<Vec<_>>());
        decided
    }

    /// The reservations that the requested one takes the place of. One that does not exist is no error.
    fn given_up(&self, requested: &ReservationSpec) -> Vec<Arc<Reservation>> {
        requested.instead.iter().filter_map(|id| self.state.desired.reservation(id)).cloned().collect()
    }

    /// The reservation that an endpoint consumes.
    pub(crate) fn consumed(&self, id: Option<&ReservationId>) -> Option<Consumed<'_>> {
        let reservation = self.state.desired.reservation(id?)?;
        let is_held = !self.problems.has(&Subject::ReservedPorts(reservation.id.clone()));
        Some(Consumed { reservation, is_held })
    }

    /// Releases the reservation: from now on others can have what it had.
    pub(crate) fn release_reservation(&mut self, id: &str) -> Result<Arc<Reservation>, Error> {
        let reservation = decide::find_reservation(&self.state, id)?;
        let network = self.find_network(reservation.network.as_str())?;
        let transaction = transaction::unreserve(&self.state, &network, &reservation);
        self.problems.clear(&Subject::ReservedPorts(reservation.id.clone()));
        let errors = self.remove(&transaction, |_| {})?;
        tracing::info!(network = %network.name, reservation = %reservation.id, "reservation released");
        self.tell(Change::Released(reservation.clone()));
        self.finish(errors).map(|()| reservation)
    }
}
