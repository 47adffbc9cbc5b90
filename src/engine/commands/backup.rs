//! Backs up the definitions of the host, and restores them: all or none, and nothing that is there is changed.

use std::sync::Arc;

use crate::engine::decide;
use crate::engine::decide::network::{NetworkChoice, create_network};
use crate::engine::decide::transaction::{self, Transaction};
use crate::engine::event::Change;
use crate::engine::state::State;
use crate::engine::worker::Worker;
use crate::engine::{Error, Restored};
use crate::kernel::Kernel;
use crate::logic::alloc::sticky;
use crate::logic::refusal::{Refusal, ServiceRefusal};
use crate::logic::target;
use crate::model::Invalid;
use crate::model::address::Families;
use crate::model::backup::{Backup, Definition, ServiceDefinition};
use crate::model::host::observed::{ForeignNetwork, HostFacts};
use crate::model::names::{NetworkName, ServiceName};
use crate::model::network::Network;
use crate::model::policy::{Policy, Subject};
use crate::model::request::{NetworkSpec, PolicyChange};
use crate::model::service::Service;
use crate::store::{Record, Store};

/// What becomes of a backup.
struct Decided {
    transaction: Transaction,
    /// The networks that the transaction creates.
    created: Vec<Arc<Network>>,
    /// Those that are there already.
    unchanged: Vec<NetworkName>,
    /// The services that the transaction creates.
    services: Vec<Arc<Service>>,
    /// Those that are there already.
    unchanged_services: Vec<ServiceName>,
    /// The policies that it adds.
    policies: Vec<Arc<Policy>>,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// The definitions.
    pub(crate) fn backup(&self) -> Backup {
        // The runtime has the definition of a network on demand.
        let definition = |network: &Arc<Network>| {
            if network.on_demand {
                return None;
            }
            let spec = NetworkSpec::of(network)?;
            Some(Definition { id: network.id.clone(), spec, sticky: self.state.sticky.named(&network.name).collect() })
        };
        let networks: Vec<Definition> = self.state.desired.networks().filter_map(definition).collect();
        let is_defined = |name: &NetworkName| networks.iter().any(|network| network.spec.name == *name);
        let services = self.state.desired.services();
        let services = services.filter_map(|service| ServiceDefinition::of(service, is_defined)).collect();
        let defined = |subject: &Subject| match subject {
            Subject::Network(name) => is_defined(name),
            _ => true,
        };
        let rules = self.state.desired.policies().map(|policy| policy.rule.clone());
        let policies = rules.filter(|rule| defined(&rule.from) && defined(&rule.to)).collect();
        Backup { ula: self.state.ula, networks, services, policies }
    }

    /// Restores the definitions in one transaction. A network or a service that is there as the backup has it stays as it
    /// is; one that is there otherwise, or whose name, subnet, address or port is taken, is a refusal.
    pub(crate) fn restore(&mut self, backup: &Backup, foreign: Vec<ForeignNetwork>) -> Result<Restored, Error> {
        let facts = self.facts_about(foreign, backup.networks.iter().map(|definition| &definition.spec))?;
        let Decided { transaction, created, unchanged, services, unchanged_services, policies } =
            self.decide_restore(backup, &facts)?;
        let needed = created.iter().map(|network| target::forwarding_of(network));
        self.before_forwarding(needed.fold(Families::default(), Families::with))?;
        if let Err(error) = self.execute(&transaction) {
            self.follow_forwarding();
            return Err(error);
        }
        for network in &created {
            self.state.release_kept(&network.name);
            self.forwarding_changed(network, &facts);
            tracing::info!(network = %network.name, "network restored");
            self.tell(Change::NetworkCreated(network.clone()));
        }
        for service in &services {
            tracing::info!(service = %service.name, "service restored");
            self.tell(Change::ServiceCreated(service.clone()));
        }
        for policy in &policies {
            tracing::info!(policy = policy.id, "policy restored: {}", policy.rule);
            self.tell(Change::PolicyAdded(policy.clone()));
        }
        self.search.clone_from(&facts.search);
        self.listen();
        self.adapt_foreign();
        self.explain();
        let networks = created.iter().map(|network| network.name.clone()).collect();
        let services = services.iter().map(|service| service.name.clone()).collect();
        let policies = policies.iter().map(|policy| policy.rule.clone()).collect();
        Ok(Restored { networks, unchanged, services, unchanged_services, policies })
    }

    /// Decides each network in the state that has those before it.
    fn decide_restore(&self, backup: &Backup, facts: &HostFacts) -> Result<Decided, Refusal> {
        let mut state = self.state.clone();
        let mut all = Transaction { records: Vec::new(), steps: Vec::new(), rollback: Vec::new() };
        if let Some(ula) = backup.ula.filter(|_| state.ula.is_none()) {
            all.records.push(State::ula_record(ula));
        }
        let (mut created, mut unchanged) = (Vec::new(), Vec::new());
        for definition in &backup.networks {
            if let Some(there) = state.desired.network(&definition.spec.name) {
                if NetworkSpec::of(there).as_ref() != Some(&definition.spec) {
                    return Err(Refusal::DefinedOtherwise(there.name.clone()));
                }
                unchanged.push(there.name.clone());
                continue;
            }
            let facts = self.unexplained.facts_for(definition.spec.bridge.as_ref(), facts);
            let (network, sticky) = decide(&state, definition, &facts)?;
            let mut one = transaction::create_network(&self.state, &network, None);
            self.unexplained.spare(&mut one.steps);
            one.records.extend(sticky);
            state.apply(&one.records);
            all.records.extend(one.records);
            all.steps.extend(one.steps);
            all.rollback.extend(one.rollback);
            created.push(Arc::new(network));
        }
        let (services, unchanged_services) = decide_services(&mut state, backup, &mut all)?;
        let change = PolicyChange { add: backup.policies.clone(), ..PolicyChange::default() };
        let policies = decide::policy::change(&state, &change, crate::base::clock::unix_seconds())?;
        let one = transaction::change_policies(&state, &policies);
        all.records.extend(one.records);
        all.steps.extend(one.steps);
        all.rollback.splice(0..0, one.rollback);
        Ok(Decided { transaction: all, created, unchanged, services, unchanged_services, policies: policies.added })
    }
}

/// Adds the services of a backup, whose networks are there by now, to the transaction. Returns those that it creates, and
/// those that are there.
fn decide_services(
    state: &mut State,
    backup: &Backup,
    all: &mut Transaction,
) -> Result<(Vec<Arc<Service>>, Vec<ServiceName>), Refusal> {
    let now = crate::base::clock::unix_seconds();
    let (mut created, mut unchanged) = (Vec::new(), Vec::new());
    for definition in &backup.services {
        let there = state.desired.service_called(definition.spec.name.as_str());
        if let Some(there) = there.filter(|there| there.is_defined()).cloned() {
            let is_in_backup =
                |name: &NetworkName| definition.spec.networks.iter().any(|(network, _)| network == name.as_str());
            if ServiceDefinition::of(&there, is_in_backup).as_ref() != Some(definition) {
                return Err(ServiceRefusal::DefinedOtherwise(there.name.clone()).into());
            }
            unchanged.push(there.name.clone());
            continue;
        }
        let service = decide::service::restore(state, definition, now)?;
        let one = transaction::put_service(state, None, &service);
        state.apply(&one.records);
        all.records.extend(one.records);
        all.steps.extend(one.steps);
        // Before its network goes.
        all.rollback.splice(0..0, one.rollback);
        created.push(Arc::new(service));
    }
    Ok((created, unchanged))
}

/// The network that a definition describes, and the records of the addresses that it keeps.
fn decide(state: &State, definition: &Definition, facts: &HostFacts) -> Result<(Network, Vec<Record>), Refusal> {
    let Definition { id, spec, sticky } = definition;
    if spec.subnets.as_slice().is_empty() && !spec.dhcp {
        return Err(Invalid::new("network of the backup", spec.name.as_str(), "it has no subnet").into());
    }
    let id = match state.desired.networks().find(|network| network.id == *id) {
        Some(other) => {
            let why = format!("network {} has that id", other.name);
            return Err(Invalid::new("network of the backup", spec.name.as_str(), why).into());
        }
        None => id.clone(),
    };
    let choice = NetworkChoice { facts, pools: &[], id, created: crate::base::clock::unix_seconds() };
    let network = create_network(state, spec, choice)?;
    if sticky.len() > sticky::MOST || (!network.sticky && !sticky.is_empty()) {
        let why = format!("it keeps addresses for names: with --sticky, at most {}", sticky::MOST);
        return Err(Invalid::new("network of the backup", spec.name.as_str(), why).into());
    }
    if let Some((address, _)) =
        sticky.iter().find(|(address, _)| !network.dhcp && network.subnet_of(*address).is_none())
    {
        let subnets: Vec<String> = network.subnets.iter().map(|subnet| subnet.subnet.to_string()).collect();
        let (value, network) = (address.to_string(), network.name);
        return Err(Refusal::Outside { what: "sticky address", value, network, subnets: subnets.join(", ") });
    }
    let kept = |(address, name): &(_, _)| Record::PutSticky(network.name.clone(), *address, Clone::clone(name));
    let records = sticky.iter().map(kept).collect();
    Ok((network, records))
}
