//! The records of changes, computed from the state before them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::State;
use crate::logic::alloc::sticky;
use crate::model::endpoint::Endpoint;
use crate::model::ids::ContainerId;
use crate::model::names::NetworkName;
use crate::model::reservation::Reservation;
use crate::model::service::Service;
use crate::store::{Record, Stored};

impl State {
    /// The deletion of all records of networks that no longer exist: a daemon that was killed while removing a network
    /// leaves them.
    pub(crate) fn stale_records(stored: &Stored) -> Vec<Record> {
        let is_gone = |name: &NetworkName| !stored.networks.iter().any(|network| network.name == *name);
        let endpoints = stored.endpoints.iter().filter(|endpoint| is_gone(&endpoint.network));
        let released = stored.released.iter().filter(|(network, ..)| is_gone(network));
        let released = released.map(|(network, address, _)| Record::DeleteReleased(network.clone(), *address));
        let reservations = stored.reservations.iter().filter(|reservation| is_gone(&reservation.network));
        let reservations = reservations.map(|reservation| Record::DeleteReservation(reservation.id.clone()));
        let endpoints = endpoints.map(|endpoint| Record::DeleteEndpoint(endpoint.key()));
        endpoints.chain(reservations).chain(released).collect()
    }

    /// The records that make an endpoint's addresses sticky for the next container of its name, if the network has the
    /// option. A container whose only name is its id never returns.
    pub(crate) fn sticky_records(&self, endpoint: &Endpoint) -> Vec<Record> {
        let (network, name) = (&endpoint.network, &endpoint.container.name);
        let keeps = self.desired.network(network).is_some_and(|network| network.sticky && network.makes_interfaces());
        if !keeps || name.as_str() == endpoint.container.id.as_str() {
            return Vec::new();
        }
        let mut records = Vec::new();
        let mut count = self.sticky.of_network(network).len();
        let kept = self.sticky.addresses(network, name);
        for address in endpoint.addresses.iter().map(IpNetwork::ip) {
            if !kept.contains(&address) {
                records.push(Record::PutSticky(network.clone(), address, name.clone()));
                count += usize::from(!self.sticky.of_network(network).any(|other| other == address));
            }
            // One of each address family, except where a container has several interfaces on the network.
            let own = |other: &IpAddr| {
                self.desired.at_address(*other).is_some_and(|holder| holder.container.id == endpoint.container.id)
            };
            let old = kept.iter().filter(|other| other.is_ipv4() == address.is_ipv4() && !own(other));
            records.extend(old.map(|old| Record::DeleteSticky(network.clone(), *old)));
        }
        if count > sticky::MOST {
            records.extend(self.longest_free(network).map(|old| Record::DeleteSticky(network.clone(), old)));
        }
        records
    }

    /// The sticky address that has been free for longest.
    fn longest_free(&self, network: &NetworkName) -> Option<IpAddr> {
        let kept = self.sticky.of_network(network);
        let free = kept.filter_map(|address| Some((self.ipam.released(network, address)?, address)));
        free.min().map(|(_, address)| address)
    }

    /// The records that add the endpoint, or replace the one with its key, and those that revert them. An address that
    /// was released before is in use again, and one that the replaced endpoint loses is released. `consumed`: the
    /// reservation that the endpoint takes the place of.
    pub(crate) fn put_records(
        &self,
        endpoint: &Endpoint,
        consumed: Option<&Reservation>,
    ) -> (Vec<Record>, Vec<Record>) {
        let before = self.desired.endpoint(&endpoint.key());
        let network = &endpoint.network;
        let (mut records, mut rollback) = (Vec::new(), Vec::new());
        let mut order = self.ipam.last_release();
        for address in before.iter().flat_map(|before| &before.addresses).filter(|a| !endpoint.addresses.contains(a)) {
            order += 1;
            records.push(Record::PutReleased(network.clone(), address.ip(), order));
            rollback.push(Record::DeleteReleased(network.clone(), address.ip()));
        }
        let had = before.iter().flat_map(|before| &before.addresses);
        let had: Vec<&IpNetwork> = had.chain(consumed.iter().flat_map(|consumed| &consumed.addresses)).collect();
        let new = endpoint.addresses.iter().filter(|address| !had.contains(address));
        self.use_records(network, new, &mut order, (&mut records, &mut rollback));
        records.extend(consumed.map(|consumed| Record::DeleteReservation(consumed.id.clone())));
        records.push(Record::PutEndpoint(Box::new(endpoint.clone())));
        let revert = match before {
            Some(before) => Record::PutEndpoint(Box::new(before.as_ref().clone())),
            None => Record::DeleteEndpoint(endpoint.key()),
        };
        rollback.insert(0, revert);
        rollback.extend(consumed.map(|consumed| Record::PutReservation(Box::new(consumed.clone()))));
        (records, rollback)
    }

    /// Adds the records that take addresses into use, and those that release them.
    fn use_records<'a>(
        &self,
        network: &NetworkName,
        addresses: impl Iterator<Item = &'a IpNetwork>,
        order: &mut u64,
        (records, rollback): (&mut Vec<Record>, &mut Vec<Record>),
    ) {
        for address in addresses.map(IpNetwork::ip) {
            if self.ipam.released(network, address).is_some() {
                records.push(Record::DeleteReleased(network.clone(), address));
            }
            // A failed attempt counts as a use: the address goes to the end of the queue.
            *order += 1;
            rollback.push(Record::PutReleased(network.clone(), address, *order));
        }
    }

    /// The records that add the reservation, and those that revert them. `instead`: the reservations that it takes the
    /// place of.
    pub(crate) fn reserve_records(
        &self,
        reservation: &Reservation,
        instead: &[Arc<Reservation>],
    ) -> (Vec<Record>, Vec<Record>) {
        let (mut records, mut rollback) = (Vec::new(), vec![Record::DeleteReservation(reservation.id.clone())]);
        let mut order = self.ipam.last_release();
        let had = |address: &&IpNetwork| instead.iter().any(|other| other.addresses.contains(address));
        let lost = instead.iter().flat_map(|other| other.addresses.iter().map(|address| (&other.network, address)));
        records.extend(instead.iter().map(|other| Record::DeleteReservation(other.id.clone())));
        records.extend(self.released_records(lost.filter(|(_, address)| !reservation.addresses.contains(address))));
        rollback.extend(instead.iter().map(|other| Record::PutReservation(Box::new(other.as_ref().clone()))));
        let addresses = reservation.addresses.iter().filter(|address| !had(address));
        self.use_records(&reservation.network, addresses, &mut order, (&mut records, &mut rollback));
        records.push(Record::PutReservation(Box::new(reservation.clone())));
        (records, rollback)
    }

    /// The records that forget what is known of containers that lose all their endpoints.
    fn forget_records(&self, gone: &[Arc<Endpoint>]) -> Vec<Record> {
        let mut ids: Vec<&ContainerId> = gone.iter().map(|endpoint| &endpoint.container.id).collect();
        ids.sort();
        ids.dedup();
        let is_last = |id: &&ContainerId| {
            let stays = |other: &Arc<Endpoint>| !gone.iter().any(|endpoint| endpoint.key() == other.key());
            self.desired.condition(id).is_some() && !self.endpoints_of(id).iter().any(stays)
        };
        ids.into_iter().filter(is_last).map(|id| Record::DeleteCondition(id.clone())).collect()
    }

    /// The records that remove the endpoints and release their addresses, except those that reservations keep.
    pub(crate) fn release_records(&self, endpoints: &[Arc<Endpoint>], kept: &[&Reservation]) -> Vec<Record> {
        let records = endpoints.iter().map(|gone| Record::DeleteEndpoint(gone.key()));
        let addresses = endpoints.iter().flat_map(|gone| gone.addresses.iter().map(|address| (&gone.network, address)));
        let is_kept =
            |(_, address): &(&NetworkName, &IpNetwork)| kept.iter().any(|kept| kept.addresses.contains(address));
        let released = self.released_records(addresses.filter(|address| !is_kept(address)));
        let kept = kept.iter().map(|kept| Record::PutReservation(Box::new((*kept).clone())));
        records.chain(released).chain(kept).chain(self.forget_records(endpoints)).collect()
    }

    /// The records that put `after` in the place of `before`, and those that revert them.
    pub(crate) fn service_records(
        &self,
        before: Option<&Service>,
        after: Option<&Service>,
    ) -> (Vec<Record>, Vec<Record>) {
        let of = |service: Option<&Service>| -> Vec<(NetworkName, IpNetwork)> {
            let networks = service.into_iter().flat_map(|service| &service.networks);
            networks.flat_map(|on| on.addresses.iter().map(|at| (on.network.clone(), IpNetwork::from(*at)))).collect()
        };
        let (had, has) = (of(before), of(after));
        let (mut records, mut rollback) = (Vec::new(), Vec::new());
        let lost = || had.iter().filter(|one| !has.contains(one)).map(|(network, address)| (network, address));
        records.extend(self.released_records(lost()));
        rollback.extend(lost().map(|(network, address)| Record::DeleteReleased(network.clone(), address.ip())));
        let mut order = self.ipam.last_release() + u64::try_from(had.len()).unwrap_or_default();
        for (network, address) in has.iter().filter(|one| !had.contains(one)) {
            self.use_records(network, std::iter::once(address), &mut order, (&mut records, &mut rollback));
        }
        let put = |service: &Service| Record::PutService(Box::new(service.clone()));
        let delete = |service: &Service| Record::DeleteService(service.name.clone());
        records.extend(after.map_or_else(|| before.map(delete), |after| Some(put(after))));
        rollback.extend(before.map_or_else(|| after.map(delete), |before| Some(put(before))));
        (records, rollback)
    }

    /// The records that remove the reservation and release its addresses.
    pub(crate) fn unreserve_records(&self, reservation: &Reservation) -> Vec<Record> {
        let record = Record::DeleteReservation(reservation.id.clone());
        let addresses = reservation.addresses.iter().map(|address| (&reservation.network, address));
        std::iter::once(record).chain(self.released_records(addresses)).collect()
    }

    fn released_records<'a>(
        &self,
        addresses: impl Iterator<Item = (&'a NetworkName, &'a IpNetwork)>,
    ) -> impl Iterator<Item = Record> {
        let first = self.ipam.last_release() + 1;
        (first..)
            .zip(addresses)
            .map(|(order, (network, address))| Record::PutReleased(network.clone(), address.ip(), order))
    }
}
