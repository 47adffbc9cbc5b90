//! Plans a command without carrying it out (`--dry-run`).

use std::sync::Arc;

use crate::engine::decide::endpoint::Choice;
use crate::engine::decide::{self, transaction};
use crate::engine::worker::Worker;
use crate::engine::{Error, Planned, Request};
use crate::kernel::Kernel;
use crate::logic::refusal::Refusal;
use crate::logic::target;
use crate::model::Invalid;
use crate::model::host::observed::ForeignNetwork;
use crate::model::host::step::Step;
use crate::model::names::ReservationId;
use crate::model::network::Network;
use crate::model::request::{EndpointSpec, Requester, ReservationSpec};
use crate::model::reservation::Reservation;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Decides the request and returns its steps, or why it is refused. Changes nothing: what a decision releases because
    /// its container has ended is released in a copy of the state only.
    pub(crate) fn plan(&mut self, request: &Request, foreign: Vec<ForeignNetwork>) -> Result<Vec<Planned>, Error> {
        let state = self.state.clone();
        self.planning = true;
        let planned = self.planned(request, foreign);
        self.planning = false;
        self.state = state;
        planned
    }

    fn planned(&mut self, request: &Request, foreign: Vec<ForeignNetwork>) -> Result<Vec<Planned>, Error> {
        let steps = match request {
            Request::CreateNetwork(spec) => {
                let facts = self.facts_about(foreign, std::iter::once(spec.as_ref()))?;
                let (network, ula) = self.decide_network(spec, &facts)?;
                let mut planned = planned(&transaction::create_network(&self.state, &network, ula).steps);
                planned.extend(name_servers(&network));
                return Ok(planned);
            }
            Request::RemoveNetwork(network) => {
                let network = decide::network::remove_network(&self.state, network)?;
                let steps = transaction::remove_network(&self.state, &network).steps;
                steps.into_iter().chain(self.stop_forwarding_without(&[network])?).collect()
            }
            Request::PruneNetworks => {
                let unused = self.unused_networks();
                let steps = unused.iter().flat_map(|network| transaction::remove_network(&self.state, network).steps);
                let steps: Vec<Step> = steps.collect();
                steps.into_iter().chain(self.stop_forwarding_without(&unused)?).collect()
            }
            Request::Connect(spec) => self.plan_connect(spec)?,
            Request::Disconnect { network, container, keep } => {
                return self.plan_disconnect(network, container, keep.as_ref());
            }
            Request::ChangePort(change) => self.plan_port(change)?,
            Request::Reserve(spec) => return self.plan_reserve(spec),
            Request::ReleaseReservation(id) => return self.plan_release(id),
            Request::CreateService(spec) => return self.plan_create_service(spec),
            Request::UpdateService(update) => return self.plan_update_service(update),
            Request::RemoveService(service) => return self.plan_remove_service(service),
            Request::ChangeMember(change) => return self.plan_member(change),
            Request::ChangePolicies(change) => return self.plan_policies(change),
        };
        Ok(planned(&steps))
    }

    fn plan_connect(&mut self, requested: &EndpointSpec) -> Result<Vec<Step>, Error> {
        let request = match &requested.requester {
            Requester::Person(request) => request,
            Requester::Runtime(request) => {
                let why = "only what people request can be planned";
                return Err(Refusal::from(Invalid::new("dry run of", request.key.owner.as_str(), why)).into());
            }
        };
        let network = self.find_network(&request.network)?;
        let facts = self.facts_for(&requested.ports)?;
        let choice = Choice { random: rand::random(), parent: self.parent_of(&network)?, ..Choice::default() };
        let mut container = self.container(&request.container)?;
        if self.state.desired.container(&container.id).is_some() && !self.is_alive(&container.netns) {
            self.release_container(&container.id);
            container = self.container(&request.container)?;
        }
        let endpoint = Arc::new(self.decide_endpoint(&network, &container.into(), requested, (&choice, &facts))?);
        let consumed = self.consumed(requested.reservation());
        Ok(transaction::attach(&self.state, &network, &endpoint, consumed, &|all| self.resolv_conf(all)).steps)
    }

    fn plan_disconnect(
        &self,
        network: &str,
        container: &str,
        keep: Option<&ReservationId>,
    ) -> Result<Vec<Planned>, Error> {
        let network = self.find_network(network)?;
        let keys = decide::find_endpoints(&self.state, &network.name, container)?;
        let created = crate::base::clock::unix_seconds();
        let kept = keep.map(|id| decide::reservation::keep(&self.state, &keys, id, created)).transpose()?;
        let all: Vec<&Reservation> = kept.iter().collect();
        let steps = transaction::detach(&self.state, &keys, &all, &|all| self.resolv_conf(all)).steps;
        Ok(kept.iter().map(reserve).chain(planned(&steps)).collect())
    }

    fn plan_reserve(&mut self, requested: &ReservationSpec) -> Result<Vec<Planned>, Error> {
        let network = self.find_network(&requested.network)?;
        let facts = self.facts_for(&requested.ports)?;
        let choice = Choice { random: rand::random(), parent: self.parent_of(&network)?, ..Choice::default() };
        let reservation = self.decide_reservation(&network, requested, (&choice, &facts))?;
        let steps = transaction::reserve(&self.state, &network, &reservation, &[]).steps;
        Ok([reserve(&reservation)].into_iter().chain(planned(&steps)).collect())
    }

    fn plan_release(&self, id: &str) -> Result<Vec<Planned>, Error> {
        let reservation = decide::find_reservation(&self.state, id)?;
        let network = self.find_network(reservation.network.as_str())?;
        let steps = transaction::unreserve(&self.state, &network, &reservation).steps;
        let text = format!("release {reservation}");
        Ok([Planned { action: "release-reservation", text }].into_iter().chain(planned(&steps)).collect())
    }
}

pub(super) fn planned(steps: &[Step]) -> Vec<Planned> {
    steps.iter().map(|step| Planned { action: step.action(), text: step.to_string() }).collect()
}

fn reserve(reservation: &Reservation) -> Planned {
    Planned { action: "reserve", text: format!("reserve {reservation}") }
}

/// The name service opens its sockets outside of transactions.
fn name_servers(network: &Network) -> impl Iterator<Item = Planned> {
    let gateways = target::gateways_of(network);
    gateways.into_iter().map(|gateway| Planned { action: "open-dns-sockets", text: format!("answer DNS at {gateway}") })
}
