//! Transactions: everything that a command changes in the store, the state and the kernel, computed before any of it
//! changes. `engine::execute` carries them out; `--dry-run` shows them.

use std::sync::Arc;

use crate::engine::report::PoliciesChanged;
use crate::engine::state::State;
use crate::logic::plan::endpoint::Detached;
use crate::logic::plan::{self, Change, ResolvConf, States};
use crate::logic::target;
use crate::model::address::Subnet;
use crate::model::desired::Desired;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::host::step::Step;
use crate::model::ids::ContainerId;
use crate::model::network::Network;
use crate::model::policy::Policy;
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

/// The desired state after a change, as far as plans depend on it: policies and egress do. `holds`: what changes has a
/// stance about egress.
fn changed(state: &State, holds: bool, change: impl FnOnce(&mut Desired)) -> Desired {
    let mut after = state.desired.clone();
    if holds || after.has_stances() || after.policies().len() > 0 {
        change(&mut after);
    }
    after
}

/// The content of a named namespace's resolv.conf for these endpoints of its container; `None` without endpoints.
pub(crate) type RenderResolvConf<'a> = &'a dyn Fn(&[Arc<Endpoint>]) -> Option<String>;

/// Creates the network; `ula` is the host's prefix if this network is the first that needs it.
pub(crate) fn create_network(state: &State, network: &Network, ula: Option<Subnet>) -> Transaction {
    let mut records: Vec<Record> = ula.into_iter().map(State::ula_record).collect();
    records.push(Record::PutNetwork(Box::new(network.clone())));
    Transaction {
        records,
        steps: plan::network::create(
            &changed(state, false, |after| drop(after.insert_network(network.clone()))),
            network,
        ),
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

/// Adds and removes policies.
pub(crate) fn change_policies(state: &State, changed: &PoliciesChanged) -> Transaction {
    let put = |policy: &Arc<Policy>| Record::PutPolicy(policy.as_ref().clone());
    let delete = |policy: &Arc<Policy>| Record::DeletePolicy(policy.id);
    let last = changed.added.last().map(|policy| State::policy_record(policy.id));
    let records = changed.removed.iter().map(delete).chain(changed.added.iter().map(put)).chain(last).collect();
    let rollback = changed.added.iter().map(delete).chain(changed.removed.iter().map(put)).collect();
    let mut after = state.desired.clone();
    changed.removed.iter().for_each(|policy| after.remove_policy(policy.id));
    changed.added.iter().for_each(|policy| after.insert_policy(policy.as_ref().clone()));
    let steps = plan::policy::follow(States { before: &state.desired, after: &after });
    Transaction { records, steps, rollback }
}

/// Removes a network without endpoints and reservations.
pub(crate) fn remove_network(state: &State, network: &Network) -> Transaction {
    let records = vec![Record::DeleteNetwork(network.name.clone())];
    Transaction { records, steps: plan::network::remove(&state.desired, network), rollback: Vec::new() }
}

/// Gives a network without endpoints and reservations another name, and its bridge as well.
pub(crate) fn rename_network(state: &State, before: &Network, after: &Network) -> Transaction {
    let mut records = vec![Record::DeleteNetwork(before.name.clone()), Record::PutNetwork(Box::new(after.clone()))];
    let rollback = vec![Record::DeleteNetwork(after.name.clone()), Record::PutNetwork(Box::new(before.clone()))];
    let released = state.ipam.all_released(before).into_iter();
    records.extend(released.map(|address| Record::DeleteReleased(before.name.clone(), address)));
    let renamed = changed(state, false, |desired| {
        desired.remove_network(&before.name);
        desired.insert_network(after.clone());
    });
    let remove = plan::network::remove(&state.desired, before);
    let steps = remove.into_iter().chain(plan::network::create(&renamed, after)).collect();
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
    put(state, (endpoint, consumed), render, |states, change, resolv_conf| {
        plan::endpoint::attach(states, network, endpoint, (change, &reserved), resolv_conf)
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
    put(state, (endpoint, None), render, |states, change, resolv_conf| {
        plan::endpoint::address(states, network, endpoint, change, resolv_conf)
    })
}

/// Gives an endpoint another address of its DHCP server, or takes it away.
pub(crate) fn change_lease(
    state: &State,
    network: &Network,
    (before, after): (&Arc<Endpoint>, &Arc<Endpoint>),
    render: RenderResolvConf<'_>,
) -> Transaction {
    put(state, (after, None), render, |states, change, resolv_conf| {
        plan::lease::change(states, network, (before, after), change, resolv_conf)
    })
}

/// Publishes further ports of an endpoint that exists.
pub(crate) fn publish(state: &State, endpoint: &Arc<Endpoint>) -> Transaction {
    put(state, (endpoint, None), &|_| None, |states, change, _| plan::port::publish(states, change))
}

/// Stops publishing ports of an endpoint. `drain`: existing flows stay.
pub(crate) fn unpublish(state: &State, endpoint: &Arc<Endpoint>, drain: bool) -> Transaction {
    let stop = |states: States<'_>, change: Change<'_>, _| plan::port::unpublish(states, change, drain);
    Transaction { rollback: Vec::new(), ..put(state, (endpoint, None), &|_| None, stop) }
}

fn put(
    state: &State,
    (endpoint, consumed): (&Arc<Endpoint>, Option<&Reservation>),
    render: RenderResolvConf<'_>,
    plan: impl FnOnce(States<'_>, Change<'_>, ResolvConf) -> Vec<Step>,
) -> Transaction {
    let before = state.endpoints_of(&endpoint.container.id);
    let key = endpoint.key();
    let mut after: Vec<Arc<Endpoint>> = before.iter().filter(|other| other.key() != key).cloned().collect();
    let place = after.partition_point(|other| other.sequence < endpoint.sequence);
    after.insert(place, endpoint.clone());
    let (records, rollback) = state.put_records(endpoint, consumed);
    let network = state.desired.network(&endpoint.network);
    let holds = !endpoint.egress.is_unsaid() || network.is_some_and(|network| !network.egress.is_unsaid());
    let changed = changed(state, holds, |desired| drop(desired.insert_endpoint(endpoint.as_ref().clone())));
    let states = States { before: &state.desired, after: &changed };
    let steps = plan(states, Change { before: &before, after: &after }, resolv_confs(&before, &after, render));
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
    let changed = changed(state, false, |desired| keys.iter().for_each(|key| drop(desired.remove_endpoint(key))));
    let states = States { before: &state.desired, after: &changed };
    let steps = plan::endpoint::detach(states, containers, &endpoints, &reserved);
    Transaction { records: state.release_records(&endpoints, kept), steps, rollback: Vec::new() }
}
