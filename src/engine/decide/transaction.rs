//! Transactions: everything that a command changes in the store, the state and the kernel, computed before any of it
//! changes. `engine::execute` carries them out; `--dry-run` shows them.

use std::sync::Arc;

use crate::engine::state::State;
use crate::logic::plan::endpoint::Detached;
use crate::logic::plan::service::States;
use crate::logic::plan::{self, Change, ResolvConf};
use crate::logic::target;
use crate::model::address::Subnet;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::host::step::Step;
use crate::model::ids::ContainerId;
use crate::model::network::Network;
use crate::model::reservation::Reservation;
use crate::model::service::Service;
use crate::store::Record;

/// Everything that a command changes.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// Committed before the kernel changes: the next start finishes or drops what a crash leaves. The state follows
    /// them ([`State::apply`]).
    pub(crate) records: Vec<Record>,
    /// The changes to the kernel, in this order.
    pub(crate) steps: Vec<Step>,
    /// The records that revert `records` when a step has failed and the steps before it have been undone. None for a
    /// removal, which is never reverted: a repair finishes what the kernel refused.
    pub(crate) rollback: Vec<Record>,
}

impl Transaction {
    /// Whether it makes or removes a service, with all that follows from that.
    pub(crate) fn is_of_service(&self) -> bool {
        self.records.iter().any(|record| matches!(record, Record::PutService(_) | Record::DeleteService(_)))
    }

    /// Says which process asks: its runtime may have the ports.
    pub(crate) fn asked_by(&mut self, process: Option<u32>) {
        for step in &mut self.steps {
            if let Step::CheckPortsFree { plugin, .. } = step {
                *plugin = process;
            }
        }
    }
}

/// The content of a named namespace's resolv.conf for these endpoints of its container; `None` without endpoints.
pub(crate) type RenderResolvConf<'a> = &'a dyn Fn(&[Arc<Endpoint>]) -> Option<String>;

/// Creates the network; `ula` is the host's prefix if this network is the first that needs it.
pub(crate) fn create_network(network: &Network, ula: Option<Subnet>) -> Transaction {
    let mut records: Vec<Record> = ula.into_iter().map(State::ula_record).collect();
    records.push(Record::PutNetwork(network.clone()));
    Transaction {
        records,
        steps: plan::network::create(network),
        // No address of the network has been assigned yet.
        rollback: vec![Record::DeleteNetwork(network.name.clone())],
    }
}

/// Makes a service, in the place of the one that there was before.
pub(crate) fn put_service(state: &State, before: Option<&Service>, service: &Service) -> Transaction {
    let (records, rollback) = state.service_records(before, Some(service));
    let mut after = state.desired.clone();
    after.insert_service(service.clone());
    let steps = plan::service::change(States { before: &state.desired, after: &after }, &service.name);
    Transaction { records, steps, rollback }
}

/// Removes a service.
pub(crate) fn remove_service(state: &State, service: &Service) -> Transaction {
    let (records, _) = state.service_records(Some(service), None);
    let mut after = state.desired.clone();
    after.remove_service(&service.name);
    let steps = plan::service::change(States { before: &state.desired, after: &after }, &service.name);
    Transaction { records, steps, rollback: Vec::new() }
}

/// Removes a network without endpoints and reservations.
pub(crate) fn remove_network(network: &Network) -> Transaction {
    let records = vec![Record::DeleteNetwork(network.name.clone())];
    Transaction { records, steps: plan::network::remove(network), rollback: Vec::new() }
}

/// Gives a network without endpoints and reservations another name, and its bridge as well.
pub(crate) fn rename_network(state: &State, before: &Network, after: &Network) -> Transaction {
    let mut records = vec![Record::DeleteNetwork(before.name.clone()), Record::PutNetwork(after.clone())];
    let rollback = vec![Record::DeleteNetwork(after.name.clone()), Record::PutNetwork(before.clone())];
    let released = state.ipam.all_released(before).into_iter();
    records.extend(released.map(|address| Record::DeleteReleased(before.name.clone(), address)));
    let steps = plan::network::remove(before).into_iter().chain(plan::network::create(after)).collect();
    Transaction { records, steps, rollback }
}

/// A reservation that an endpoint consumes.
#[derive(Clone, Copy)]
pub(crate) struct Consumed<'a> {
    pub(crate) reservation: &'a Reservation,
    /// Whether netd holds its ports: another process may have taken one while no daemon ran.
    pub(crate) is_held: bool,
}

/// Attaches a new endpoint, which takes the place of the reservation that it consumes.
pub(crate) fn attach(
    state: &State,
    network: &Network,
    endpoint: &Arc<Endpoint>,
    consumed: Option<Consumed<'_>>,
    render: RenderResolvConf<'_>,
) -> Transaction {
    let held = consumed.filter(|consumed| consumed.is_held).map(|consumed| consumed.reservation);
    let reserved = held.map(|held| target::reserved_ports(network, held)).unwrap_or_default();
    let consumed = consumed.map(|consumed| consumed.reservation);
    put(state, (endpoint, consumed), render, |change, resolv_conf| {
        plan::endpoint::attach(&state.desired, network, endpoint, (change, &reserved), resolv_conf)
    })
}

/// Reserves. `instead`: the reservations that it takes the place of, which have no ports.
pub(crate) fn reserve(
    state: &State,
    network: &Network,
    reservation: &Reservation,
    instead: &[Arc<Reservation>],
) -> Transaction {
    let (records, rollback) = state.reserve_records(reservation, instead);
    Transaction { records, steps: plan::reservation::reserve(network, reservation), rollback }
}

/// Releases a reservation.
pub(crate) fn unreserve(state: &State, network: &Network, reservation: &Reservation) -> Transaction {
    let records = state.unreserve_records(reservation);
    Transaction { records, steps: plan::reservation::release(network, reservation), rollback: Vec::new() }
}

/// Assigns addresses to an endpoint that exists without them.
pub(crate) fn address(
    state: &State,
    network: &Network,
    endpoint: &Arc<Endpoint>,
    render: RenderResolvConf<'_>,
) -> Transaction {
    put(state, (endpoint, None), render, |change, resolv_conf| {
        plan::endpoint::address(&state.desired, network, endpoint, change, resolv_conf)
    })
}

/// Publishes further ports of an endpoint that exists.
pub(crate) fn publish(state: &State, endpoint: &Arc<Endpoint>) -> Transaction {
    put(state, (endpoint, None), &|_| None, |change, _| plan::port::publish(&state.desired, change))
}

/// Stops publishing ports of an endpoint. `drain`: existing flows stay.
pub(crate) fn unpublish(state: &State, endpoint: &Arc<Endpoint>, drain: bool) -> Transaction {
    let stop = |change: Change<'_>, _| plan::port::unpublish(&state.desired, change, drain);
    Transaction { rollback: Vec::new(), ..put(state, (endpoint, None), &|_| None, stop) }
}

fn put(
    state: &State,
    (endpoint, consumed): (&Arc<Endpoint>, Option<&Reservation>),
    render: RenderResolvConf<'_>,
    plan: impl FnOnce(Change<'_>, ResolvConf) -> Vec<Step>,
) -> Transaction {
    let before = state.endpoints_of(&endpoint.container.id);
    let key = endpoint.key();
    let mut after: Vec<Arc<Endpoint>> = before.iter().filter(|other| other.key() != key).cloned().collect();
    let place = after.partition_point(|other| other.sequence < endpoint.sequence);
    after.insert(place, endpoint.clone());
    let (records, rollback) = state.put_records(endpoint, consumed);
    let steps = plan(Change { before: &before, after: &after }, resolv_confs(&before, &after, render));
    Transaction { records, steps, rollback }
}

/// Renders nothing for a container without a named namespace, which has no such file.
fn resolv_confs(before: &[Arc<Endpoint>], after: &[Arc<Endpoint>], render: RenderResolvConf<'_>) -> ResolvConf {
    let named = before.first().or(after.first()).is_some_and(|endpoint| endpoint.container.netns.name().is_some());
    let render = |endpoints| if named { render(endpoints) } else { None };
    ResolvConf { before: render(before), after: render(after) }
}

/// Removes endpoints, also of several containers, together. `kept`: the reservations that some of them become.
pub(crate) fn detach(
    state: &State,
    keys: &[EndpointKey],
    kept: &[&Reservation],
    render: RenderResolvConf<'_>,
) -> Transaction {
    let endpoints: Vec<Arc<Endpoint>> = keys.iter().filter_map(|key| state.desired.endpoint(key)).cloned().collect();
    let mut ids: Vec<&ContainerId> = Vec::new();
    for endpoint in &endpoints {
        if !ids.contains(&&endpoint.container.id) {
            ids.push(&endpoint.container.id);
        }
    }
    let detached = |id: &ContainerId| {
        let before = state.endpoints_of(id);
        let stays = |endpoint: &&Arc<Endpoint>| !endpoints.iter().any(|gone| Arc::ptr_eq(gone, endpoint));
        let after: Vec<Arc<Endpoint>> = before.iter().filter(stays).cloned().collect();
        let resolv_conf = resolv_confs(&before, &after, render);
        Detached { before, after, resolv_conf }
    };
    let containers = ids.into_iter().map(detached).collect();
    let held = |kept: &&Reservation| Some(target::reserved_ports(state.desired.network(&kept.network)?, kept));
    let reserved = kept.iter().filter_map(held).flatten().collect();
    let steps = plan::endpoint::detach(&state.desired, containers, &endpoints, &reserved);
    Transaction { records: state.release_records(&endpoints, kept), steps, rollback: Vec::new() }
}
