//! Decides in which subnets a network is renumbered, and what changes with it.

use crate::engine::state::State;
use crate::logic::alloc::subnets;
use crate::logic::refusal::Refusal;
use crate::logic::renumber::Moves;
use crate::model::Invalid;
use crate::model::address::{Pool, Subnet};
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::HostFacts;
use crate::model::network::{Driver, Network};
use crate::model::reservation::Reservation;
use crate::model::service::Service;

/// A network in other subnets, and what is on it.
#[derive(Debug)]
pub(crate) struct Renumbered {
    pub(crate) network: Network,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) reservations: Vec<Reservation>,
    /// As they are, and as they are then.
    pub(crate) services: Vec<(Service, Service)>,
    pub(crate) moves: Moves,
}

/// Refuses what other programs keep a record of.
fn is_ours(state: &State, network: &Network) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::NotRenumbered { network: network.name.clone(), why });
    if !matches!(network.driver, Driver::Bridge(_)) {
        return refuse("its subnets are not netd's to choose".into());
    }
    if let Some(engine) = network.engines.first() {
        return refuse(format!("another engine knows it as {} and keeps its subnets: make it anew there", engine.id));
    }
    if network.on_demand {
        return refuse("a runtime's configuration defines it: change its subnets there".into());
    }
    let runtimes = state.desired.endpoints_of(&network.name);
    let runtimes = runtimes.filter(|endpoint| endpoint.owner.is_some() || endpoint.handover.is_some());
    let names: Vec<String> = runtimes.map(|endpoint| endpoint.container.name.to_string()).collect();
    if !names.is_empty() {
        return refuse(format!("runtimes keep the addresses of {}: stop these containers first", names.join(", ")));
    }
    Ok(())
}

/// The subnet that takes the place of each. Without `given`, netd chooses for those that overlap with the host's routes and
/// addresses.
fn moves(
    state: &State,
    network: &Network,
    given: &[Subnet],
    (pools, facts): (&[Pool], &HostFacts),
) -> Result<Moves, Refusal> {
    let refuse = |why: String| Refusal::NotRenumbered { network: network.name.clone(), why };
    let own = || network.subnets.iter().map(|subnet| subnet.subnet);
    if given.is_empty() {
        let overlapping: Vec<Subnet> =
            own().filter(|subnet| subnets::leads_elsewhere(*subnet, network, facts)).collect();
        if overlapping.is_empty() {
            let why = "no route and no address of the host overlaps with it: say where it is to go (--subnet)";
            return Err(refuse(why.into()));
        }
        let choose = |subnet: Subnet| {
            let fits = |pool: &&Pool| pool.base.prefix() <= subnet.prefix();
            let pools: Vec<Pool> =
                pools.iter().filter(fits).map(|pool| Pool { size: subnet.prefix(), ..pool.clone() }).collect();
            Ok((subnet, subnets::choose(&pools, subnet.family(), &state.desired, facts)?))
        };
        return Ok(Moves::new(overlapping.into_iter().map(choose).collect::<Result<Vec<_>, Refusal>>()?));
    }
    let mut left: Vec<Subnet> = own().collect();
    let mut pairs = Vec::new();
    for to in given {
        subnets::check(*to, &state.desired, facts)?;
        if pairs.iter().any(|(_, other): &(Subnet, Subnet)| other.overlaps(*to)) {
            return Err(Invalid::new("subnet", to.to_string(), "it is given twice").into());
        }
        let fits = |from: &Subnet| from.family() == to.family() && from.prefix() == to.prefix();
        let Some(place) = left.iter().position(fits) else {
            let subnets: Vec<String> = own().map(|subnet| subnet.to_string()).collect();
            let why = format!("every address keeps its place: give subnets as long as {}", subnets.join(", "));
            return Err(refuse(format!("{to} fits none of its subnets; {why}")));
        };
        pairs.push((left.remove(place), *to));
    }
    Ok(Moves::new(pairs))
}

/// What is then on the network.
pub(crate) fn renumber(
    state: &State,
    network: &Network,
    given: &[Subnet],
    choice: (&[Pool], &HostFacts),
) -> Result<Renumbered, Refusal> {
    is_ours(state, network)?;
    let moves = moves(state, network, given, choice)?;
    let endpoints = state.desired.endpoints_of(&network.name).map(|endpoint| moves.endpoint(endpoint)).collect();
    let reservations = state.desired.reservations().filter(|reservation| reservation.network == network.name);
    let services =
        state.desired.services().filter(|service| service.networks.iter().any(|on| on.network == network.name));
    Ok(Renumbered {
        network: moves.network(network),
        endpoints,
        reservations: reservations.map(|reservation| moves.reservation(reservation)).collect(),
        services: services.map(|service| (service.as_ref().clone(), moves.service(service, &network.name))).collect(),
        moves,
    })
}
