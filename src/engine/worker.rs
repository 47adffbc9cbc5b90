//! The worker: the one thread that owns the state, the kernel and the store, and takes one command at a time.
//!
//! Each command: decide (pure), commit the intent, apply it to the kernel, swap the snapshot, reply. Disconnects that
//! wait together go together: the kernel deletes two hundred interfaces at once in the time of four single ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc};

use super::event::{Change, Event};
use super::listener::ListeningSender;
use super::state::State;
use super::state::foreign_tables::ForeignTables;
use super::telemetry::Telemetry;
use super::{Command, Config, Error, Snapshot, apply, decide};
use crate::kernel::{Kernel, KernelEvent};
use crate::logic::refusal::Refusal;
use crate::logic::target;
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::{ForeignNetwork, HostFacts};
use crate::model::host::step::Step;
use crate::model::ids::{ContainerId, NetworkId};
use crate::model::inside::Inside;
use crate::model::names::NetworkName;
use crate::model::network::Network;
use crate::model::request::NetworkSpec;
use crate::store::{Record, Store};

/// What the engine's thread owns.
pub(crate) struct Worker<K, S> {
    pub(super) kernel: K,
    pub(super) store: S,
    pub(super) state: State,
    pub(super) config: Config,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    pub(super) listening: ListeningSender,
    /// Gateways at which the name service has its sockets, and their port.
    pub(super) dns_listeners: BTreeMap<IpAddr, u16>,
    /// Containers within which it has some, and their port.
    pub(super) in_container: BTreeMap<ContainerId, (Inside, u16)>,
    /// Containers in which another resolver was found at 127.0.0.11; engines do not take theirs away.
    pub(super) resolvers: BTreeSet<ContainerId>,
    /// Networks of which a container got through to the name service at its gateway, since the firewall last changed.
    pub(super) reached: BTreeSet<NetworkName>,
    /// What other programs' firewall tables are known to do, and what was done about it.
    pub(super) foreign: ForeignTables,
    /// What is not as it must be: subject to sentence.
    pub(super) problems: BTreeMap<String, String>,
    /// Problems before the last look at everything: not told again when they are still there.
    pub(super) previous_problems: BTreeMap<String, String>,
    /// Until the first look at everything is done: what went while no daemon watched was told to nobody.
    pub(super) initial_sync: bool,
    pub(super) search: Vec<String>,
    pub(super) revision: u64,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Takes commands until it is told to stop or every handle is gone.
    pub(crate) fn run(mut self, mut mailbox: mpsc::Receiver<Command>) {
        let mut waiting: VecDeque<Command> = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Some(command) = mailbox.blocking_recv() else { return };
                waiting.push_back(command);
            }
            while let Ok(command) = mailbox.try_recv() {
                waiting.push_back(command);
            }
            let Some(command) = waiting.pop_front() else { continue };
            match command {
                Command::Stop(done) => {
                    let _ = done.send(());
                    return;
                }
                command if command.disconnects() => {
                    let mut group = vec![command];
                    while waiting.front().is_some_and(Command::disconnects) {
                        group.extend(waiting.pop_front());
                    }
                    self.disconnect_group(group);
                }
                Command::Kernel(KernelEvent::Changed) => {
                    waiting.retain(|other| !matches!(other, Command::Kernel(KernelEvent::Changed)));
                    self.reconcile();
                }
                Command::Kernel(KernelEvent::LinksChanged) => {
                    waiting.retain(|other| !matches!(other, Command::Kernel(KernelEvent::LinksChanged)));
                    self.serve_beside();
                }
                Command::Kernel(KernelEvent::FirewallChanged) => {
                    waiting.retain(|other| !matches!(other, Command::Kernel(KernelEvent::FirewallChanged)));
                    self.firewall_changed();
                }
                Command::Kernel(KernelEvent::Tick) => self.foreign_tick(),
                command => self.one(command),
            }
        }
    }

    fn one(&mut self, command: Command) {
        // A caller that went away does not need its reply.
        match command {
            Command::CreateNetwork(spec, foreign, reply) => drop(reply.send(self.create_network(&spec, foreign))),
            Command::RemoveNetwork(network, reply) => drop(reply.send(self.remove_network(&network))),
            Command::PruneNetworks(reply) => drop(reply.send(self.prune_networks())),
            Command::Connect(spec, reply) => drop(reply.send(self.connect(&spec))),
            Command::Attach { gone, .. } if (gone.0)() => {
                tracing::info!("an attachment was not made: its caller is gone");
            }
            Command::Attach { spec, foreign, reply, .. } => drop(reply.send(self.attach_for_runtime(&spec, foreign))),
            Command::Check(spec, reply) => drop(reply.send(self.check(&spec))),
            Command::Gc { owner, valid, reply } => drop(reply.send(self.gc(&owner, &valid))),
            Command::Capacity(network, reply) => drop(reply.send(self.capacity(&network))),
            Command::Report { subject, problem } => self.report(subject, problem),
            Command::Disconnect { .. } | Command::Detach(..) | Command::Kernel(_) | Command::Stop(_) => {}
        }
    }

    pub(super) fn create_network(
        &mut self,
        spec: &NetworkSpec,
        foreign: Vec<ForeignNetwork>,
    ) -> Result<Arc<Network>, Error> {
        let facts = HostFacts { foreign, ..self.facts()? };
        let (pools, ula) = self.pools(spec);
        let choice = decide::NetworkChoice {
            facts: &facts,
            pools: &pools,
            id: NetworkId::from_random(rand::random()),
            created: crate::base::clock::unix_seconds(),
        };
        let network = decide::create_network(&self.state, spec, choice)?;
        let ula = ula.map(|prefix| self.state.set_ula(prefix));
        self.add_network(network, ula, &facts)
    }

    /// Commits the network and makes what the kernel needs for it; `before` is committed with it.
    pub(super) fn add_network(
        &mut self,
        network: Network,
        before: Option<Record>,
        facts: &HostFacts,
    ) -> Result<Arc<Network>, Error> {
        let mut records: Vec<Record> = before.into_iter().collect();
        records.push(Record::PutNetwork(network.clone()));
        self.store.commit(&records)?;
        let network = self.state.put_network(network);
        let steps = self.network_steps(&network);
        if let Err(failed) = apply::all_or_nothing(&mut self.kernel, &steps) {
            // No address of it was given as yet.
            self.state.drop_network(&network.name);
            self.compensate(&[Record::DeleteNetwork(network.name.clone())]);
            self.after_undo(&failed.undo);
            return Err(Error::Kernel { error: failed.error, undo: failed.undo });
        }
        self.search.clone_from(&facts.search);
        self.listen();
        self.adapt_foreign();
        self.publish();
        if let Some(Step::Forwarding { v4, v6 }) = steps.first() {
            self.forwarding_event(*v4, *v6, facts, network.name.as_str());
        }
        let bridge = network.bridge().map(ToString::to_string).unwrap_or_default();
        tracing::info!(network = %network.name, bridge, "network created");
        self.tell(Change::NetworkCreated(network.clone()));
        Ok(network)
    }

    fn network_steps(&self, network: &Network) -> Vec<Step> {
        let (v4, v6) = if network.internal {
            (false, false)
        } else {
            use crate::model::address::Family;
            (network.has(Family::V4), network.has(Family::V6))
        };
        let forwarding = (v4 || v6).then_some(Step::Forwarding { v4, v6 });
        let add = target::network_elements(network).into_iter().collect();
        let elements = Step::Elements { remove: Vec::new(), add };
        let bridge = target::bridge_link(network).map(Step::AddBridge);
        forwarding.into_iter().chain(bridge).chain([elements]).collect()
    }

    /// The pools for a new network; draws the host's ULA prefix when it is needed for the first time.
    fn pools(&self, spec: &NetworkSpec) -> (Vec<crate::model::address::Pool>, Option<crate::model::address::Subnet>) {
        use crate::model::address::{Pool, Subnet};
        let mut pools = self.config.pools.clone();
        if !self.config.ula || !spec.ipv6 {
            return (pools, None);
        }
        let drawn = self.state.ula.is_none().then(|| {
            // RFC 4193, section 3.1: fd00::/8 and 40 random bits make the /48.
            let mut bytes = [0u8; 16];
            bytes[0] = 0xfd;
            bytes[1..6].copy_from_slice(&rand::random::<[u8; 5]>());
            Subnet::containing(IpAddr::from(bytes), 48)
        });
        let prefix = self.state.ula.or(drawn.flatten());
        pools.extend(prefix.map(|base| Pool { base, size: 64 }));
        (pools, drawn.flatten())
    }

    pub(super) fn remove_network(&mut self, text: &str) -> Result<Arc<Network>, Error> {
        let network = decide::remove_network(&self.state, text)?;
        self.store.commit(&[Record::DeleteNetwork(network.name.clone())])?;
        let released = self.state.drop_network(&network.name);
        self.compensate(&released);
        self.forget_gateway(&network.name);
        self.publish();
        self.listen();
        let remove = target::network_elements(&network).into_iter().collect();
        let mut steps = vec![Step::Elements { remove, add: Vec::new() }];
        steps.extend(target::bridge_link(&network).map(Step::DeleteBridge));
        let errors = apply::best_effort(&mut self.kernel, &steps);
        self.adapt_foreign();
        self.publish();
        tracing::info!(network = %network.name, "network removed");
        self.tell(Change::NetworkRemoved(network.clone()));
        self.finish(errors).map(|()| network)
    }

    fn prune_networks(&mut self) -> Result<Vec<NetworkName>, Error> {
        let unused = |network: &&Arc<Network>| !self.state.used.contains_key(&network.name);
        let names: Vec<NetworkName> = self.state.desired.networks().filter(unused).map(|n| n.name.clone()).collect();
        for name in &names {
            self.remove_network(name.as_str())?;
        }
        Ok(names)
    }

    /// The host's facts, or the failed command.
    pub(super) fn facts(&mut self) -> Result<HostFacts, Error> {
        Ok(self.kernel.facts()?)
    }

    /// A deletion that the kernel did not carry out whole is repaired at once; where that fails too, the caller hears
    /// what went wrong, and `netd status` keeps saying it.
    pub(super) fn finish(&mut self, mut errors: Vec<crate::kernel::KernelError>) -> Result<(), Error> {
        if errors.is_empty() {
            return Ok(());
        }
        self.reconcile();
        if self.problems.is_empty() {
            return Ok(());
        }
        let undo = errors.split_off(1);
        match errors.pop() {
            None => Ok(()),
            Some(error) => Err(Error::Kernel { error, undo }),
        }
    }

    /// Where undoing failed too, a look at everything puts it right.
    pub(super) fn after_undo(&mut self, undo: &[crate::kernel::KernelError]) {
        if !undo.is_empty() {
            self.reconcile();
        }
    }

    /// Takes back what was committed for a command that failed. A store that refuses this too leaves an intent that
    /// the next start carries out or drops; it is said.
    pub(super) fn compensate(&mut self, records: &[Record]) {
        if let Err(error) = self.store.commit(records) {
            self.problem("store", format!("cannot take back an undone change: {error}"));
        }
    }

    /// Keeps the addresses of endpoints for those who come again under their names. A store that refuses it costs no
    /// more than that.
    pub(super) fn keep_addresses(&mut self, endpoints: &[Arc<Endpoint>]) {
        let records: Vec<Record> = endpoints.iter().flat_map(|e| self.state.keep_addresses(e)).collect();
        if !records.is_empty()
            && let Err(error) = self.store.commit(&records)
        {
            self.problem("store", format!("cannot keep addresses for those who come again: {error}"));
        }
    }

    /// Swaps the snapshot: from now on every reader sees the state as it is.
    pub(super) fn publish(&mut self) {
        self.revision += 1;
        self.snapshot.store(Arc::new(Snapshot {
            desired: self.state.desired.clone(),
            revision: self.revision,
            problems: self.problems.values().cloned().collect(),
            domain: self.config.domain.clone(),
            search: self.search.clone(),
            gateway_blocked: self.state.gateway_blocked.clone(),
            firewall: self.foreign.notes.clone(),
        }));
        self.telemetry.log.keep(&self.state.desired);
    }

    /// Notes something that is not as it must be; said once per subject and sentence.
    pub(super) fn problem(&mut self, subject: &str, sentence: String) {
        let known = self.problems.get(subject).or_else(|| self.previous_problems.get(subject)) == Some(&sentence);
        self.problems.insert(subject.to_owned(), sentence.clone());
        if known {
            return;
        }
        tracing::error!(subject, "{sentence}");
        self.tell(Change::Problem(sentence));
    }

    /// Notes or takes back a face's problem.
    fn report(&mut self, subject: &'static str, problem: Option<String>) {
        match problem {
            Some(sentence) => self.problem(subject, sentence),
            None => {
                self.problems.remove(subject);
                // When it comes again, it is told again.
                self.previous_problems.remove(subject);
            }
        }
        self.publish();
    }

    pub(super) fn forwarding_event(&self, v4: bool, v6: bool, before: &HostFacts, why: &str) {
        let changed = [
            (v4 && !before.forwarding.0, "net.ipv4.ip_forward"),
            (v6 && !before.forwarding.1, "net.ipv6.conf.all.forwarding"),
        ];
        for (_, sysctl) in changed.into_iter().filter(|(changed, _)| *changed) {
            tracing::info!(sysctl, network = why, "forwarding turned on");
            self.tell(Change::HostChanged(format!("{sysctl} set to 1: network {why} forwards")));
        }
    }

    /// Tells everybody who listens; nobody listening is fine.
    pub(super) fn tell(&self, change: Change) {
        let _ = self.events.send(Arc::new(Event { time: crate::base::clock::now(), change }));
    }

    pub(super) fn find_network(&self, text: &str) -> Result<Arc<Network>, Refusal> {
        decide::find_network(&self.state, text)
    }
}
