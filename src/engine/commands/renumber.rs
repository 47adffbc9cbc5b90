//! Gives a network other subnets, with everything that is on it.
//!
//! The records change at once. The bridge and the containers' interfaces, which have the former addresses, are then deleted,
//! and a repair makes everything as the records have it. A setting says what moves where until that is done: if the daemon is
//! killed between, also between the two files of the store, the next start goes on.

use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::engine::Error;
use crate::engine::decide::renumber::{self, Renumbered};
use crate::engine::event::Change;
use crate::engine::state::State;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::refusal::Refusal;
use crate::model::address::{Family, Subnet};
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::{ForeignNetwork, HostFacts};
use crate::model::host::step::{Flows, Step};
use crate::model::names::IfName;
use crate::model::network::Network;
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// `given`: the subnets; none: netd chooses for those that overlap with the host's routes and addresses. `foreign`: the
    /// networks of other programs.
    pub(crate) fn renumber_network(
        &mut self,
        text: &str,
        given: &[Subnet],
        foreign: Vec<ForeignNetwork>,
    ) -> Result<Arc<Network>, Error> {
        let network = self.find_network(text)?;
        if self.finish_renumbering().is_some() {
            let why = "interfaces of the last network that was renumbered are still there: see `netd status`".into();
            return Err(Refusal::NotRenumbered { network: network.name.clone(), why }.into());
        }
        let facts = HostFacts { foreign, ..self.facts()? };
        let ipv6 = network.subnets.iter().any(|subnet| subnet.subnet.family() == Family::V6);
        let (pools, ula) = self.pools(ipv6);
        let renumbered = renumber::renumber(&self.state, &network, given, (&pools, &facts))?;
        let before: Vec<Arc<Endpoint>> = self.state.desired.endpoints_of(&network.name).cloned().collect();
        let mut records: Vec<Record> = ula.into_iter().map(State::ula_record).collect();
        records.extend(self.renumber_records(&network, &renumbered));
        self.commit(&records)?;
        self.publish();
        let addresses = before.iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip));
        let services = renumbered.services.iter().flat_map(|(service, _)| service.addresses());
        let flows: Vec<Flows> = addresses.chain(services).map(Flows::Of).collect();
        // What cannot be deleted now is reported by the repair below, which tries again.
        let _ = self.finish_renumbering();
        if let Err(error) = self.kernel.apply(&Step::ForgetFlows(flows)) {
            tracing::warn!(%error, "cannot end the flows of a renumbered network");
        }
        self.forget_gateway(&network.name);
        self.listen();
        self.look_inside = true;
        // What was open for the former addresses is not for those who get them.
        self.ways_out_unsure = true;
        self.reconcile();
        self.adapt_foreign();
        self.publish();
        let network = self.find_network(network.name.as_str())?;
        let subnets: Vec<String> = network.subnets.iter().map(|subnet| subnet.subnet.to_string()).collect();
        tracing::info!(network = %network.name, subnets = subnets.join(", "), "network renumbered");
        self.tell(Change::NetworkChanged(network.clone()));
        Ok(network)
    }

    /// Deletes the interfaces that have the former addresses of a network, now or after a kill, and moves those of its
    /// containers whose records a killed daemon could not write any more. Returns what could not be deleted: the next repair
    /// tries again.
    pub(crate) fn finish_renumbering(&mut self) -> Option<(IfName, KernelError)> {
        let (name, moves) = self.state.renumbering.clone()?;
        let on_it: Vec<Arc<Endpoint>> = self.state.desired.endpoints_of(&name).cloned().collect();
        let reserved: Vec<_> = self.state.desired.reservations_of(&name).cloned().collect();
        let mut records = Vec::new();
        for (before, after) in on_it.iter().map(|before| (before, moves.endpoint(before))) {
            if before.addresses != after.addresses {
                records.extend([Record::DeleteEndpoint(before.key()), Record::PutEndpoint(Box::new(after))]);
            }
        }
        for (before, after) in reserved.iter().map(|before| (before, moves.reservation(before))) {
            if before.addresses != after.addresses {
                let put = Record::PutReservation(Box::new(after));
                records.extend([Record::DeleteReservation(before.id.clone()), put]);
            }
        }
        self.compensate(&records);
        let bridge = self.state.desired.network(&name).and_then(|network| network.bridge().cloned());
        for link in on_it.iter().map(|endpoint| endpoint.host_ifname.clone()).chain(bridge) {
            if let Err(error) = self.kernel.apply(&Step::DeleteStray(link.clone())) {
                return Some((link, error));
            }
        }
        self.compensate(&[State::renumbering_record(None)]);
        None
    }

    fn renumber_records(&self, network: &Network, renumbered: &Renumbered) -> Vec<Record> {
        let sticky = self.state.sticky.named(&network.name);
        let moved = |(address, name)| Record::PutSticky(network.name.clone(), renumbered.moves.address(address), name);
        let sticky: Vec<Record> = sticky.map(moved).collect();
        let released = self.state.ipam.all_released(network).into_iter();
        let mut records = vec![State::renumbering_record(Some((&network.name, &renumbered.moves)))];
        records.extend(renumbered.services.iter().map(|(before, _)| Record::DeleteService(before.name.clone())));
        records.extend(self.state.desired.endpoints_of(&network.name).map(|one| Record::DeleteEndpoint(one.key())));
        records.extend(renumbered.reservations.iter().map(|one| Record::DeleteReservation(one.id.clone())));
        records.extend(released.map(|address| Record::DeleteReleased(network.name.clone(), address)));
        records.push(Record::DeleteNetwork(network.name.clone()));
        records.push(Record::PutNetwork(Box::new(renumbered.network.clone())));
        records.extend(renumbered.reservations.iter().map(|one| Record::PutReservation(Box::new(one.clone()))));
        records.extend(renumbered.endpoints.iter().map(|one| Record::PutEndpoint(Box::new(one.clone()))));
        records.extend(renumbered.services.iter().map(|(_, after)| Record::PutService(Box::new(after.clone()))));
        records.extend(sticky);
        records
    }
}
