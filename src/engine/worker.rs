//! The worker: the only thread that owns the state, the kernel and the store. It carries out one command at a time.
//!
//! For each command: decide (pure), commit the intent, apply it to the kernel, replace the snapshot, reply. Waiting
//! disconnects are carried out together: the kernel deletes two hundred interfaces at once in the time of four single
//! ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};

use super::channels::Channels;
use super::event::{Change, Event};
use super::listener::{Listening, ListeningSender};
use super::mailbox::{Mailbox, Next};
use super::proxy::{Draining, Proxied, ProxiedServices, ProxyingSender, Shared};
use super::state::State;
use super::state::agenda::Agenda;
use super::state::denied::Policing;
use super::state::foreign_tables::ForeignTables;
use super::state::problems::{Problems, Subject};
use super::state::published::Published;
use super::state::snapshot::{TakenPorts, Unproxied};
use super::state::unexplained::Unexplained;
use super::state::ways::Ways;
use super::stopping::Stopping;
use super::telemetry::Telemetry;
use super::waiting::Waiting;
use super::{Command, Config, Error, Snapshot, decide};
use crate::base::deadline::Deadline;
use crate::kernel::Kernel;
use crate::logic::refusal::Refusal;
use crate::model::desired::Desired;
use crate::model::endpoint::{Endpoint, Netns};
use crate::model::host::element::Element;
use crate::model::host::observed::HostFacts;
use crate::model::host::routing::Routing;
use crate::model::host::step::Flows;
use crate::model::ids::ContainerId;
use crate::model::inside::Inside;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::Network;
use crate::store::{Record, Store};

/// What the engine's thread owns.
pub(crate) struct Worker<K, S> {
    pub(super) kernel: K,
    pub(super) store: S,
    pub(super) state: State,
    pub(super) config: Config,
    pub(super) snapshot: Arc<Published>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    pub(super) listening: ListeningSender,
    pub(super) proxying: ProxyingSender,
    pub(super) proxied: Proxied,
    pub(super) proxied_services: ProxiedServices,
    pub(super) draining: Draining,
    pub(super) shared: Shared,
    /// Those of `shared` that others have.
    pub(super) unproxied: Unproxied,
    /// Gateways at which the name service has sockets, and their port.
    pub(super) dns_listeners: BTreeMap<IpAddr, u16>,
    /// Containers within which the name service has sockets, and their port.
    pub(super) in_container: BTreeMap<ContainerId, (Inside, u16)>,
    /// Containers whose questions may still be redirected to sockets that are closed, with their namespaces.
    pub(super) redirected: BTreeMap<ContainerId, Netns>,
    /// Containers in which another resolver was found at 127.0.0.11; engines do not remove theirs.
    pub(super) resolvers: BTreeSet<ContainerId>,
    /// From which networks questions reach the name service at the gateway.
    pub(super) ways: Ways,
    /// What other programs' firewall tables do, and what was done about it.
    pub(super) foreign: ForeignTables,
    /// The state whose services the kernel follows.
    pub(super) served: Desired,
    pub(super) policing: Policing,
    /// Forwarding on the host, as netd saw it last.
    pub(super) routing: Routing,
    /// The elements that keep the host's interfaces apart, as the table has them.
    pub(super) transit: Arc<BTreeSet<Element>>,
    /// Records of changes that were made although the store refused them: the end of a few commands, and of each container
    /// at most; at the start those of networks that no longer exist. They are written before any other.
    pub(super) owed: Vec<Record>,
    /// Flows to ports that a repair published again, whose connection tracking entries could not be deleted yet.
    pub(super) stale_flows: BTreeSet<Flows>,
    /// Links of netd that belong to nothing because records were lost.
    pub(super) unexplained: Unexplained,
    /// Ports that the last repair could not hold, because other processes have them.
    pub(super) taken_ports: Arc<TakenPorts>,
    /// Networks that lost an endpoint during this command: those on demand that nothing uses now are removed after it.
    pub(super) emptied: BTreeSet<NetworkName>,
    /// Packets that containers sent from addresses that are not theirs, by host end.
    pub(super) refused: Arc<BTreeMap<IfName, u64>>,
    /// What cannot be put right at the moment.
    pub(super) problems: Problems,
    /// What must be looked at, and when.
    pub(super) agenda: Agenda,
    /// True during the first reconcile, before the daemon is ready: it leaves out what is within containers.
    pub(super) adopting: bool,
    /// True until the second reconcile is done: netd was not notified of what disappeared while no daemon ran.
    pub(super) initial_sync: bool,
    /// Whether interfaces may lack something within their containers: the next reconcile looks into all of them. True
    /// at the start, and after a step there failed.
    pub(super) look_inside: bool,
    /// True while a command is planned and not carried out.
    pub(super) planning: bool,
    /// Whether what is open for containers may not be what is known to be.
    pub(super) ways_out_unsure: bool,
    /// Set when no further command must be carried out.
    pub(super) stopping: Stopping,
    /// Requests whose endpoints have no address of their DHCP server yet.
    pub(super) waiting: Vec<Waiting>,
    /// Those of which an endpoint was removed during this command, and what to tell their callers.
    pub(super) ended: Vec<(Waiting, Error)>,
    pub(super) search: Vec<String>,
    pub(super) revision: u64,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// A worker that has not looked at the kernel yet.
    pub(crate) fn new(kernel: K, store: S, state: State, config: Config, channels: Channels) -> Self {
        let Channels { snapshot, telemetry, events, listening, proxying, stopping } = channels;
        Self {
            kernel,
            store,
            state,
            config,
            snapshot,
            telemetry,
            events,
            listening,
            proxying,
            proxied: Default::default(),
            proxied_services: Default::default(),
            draining: Default::default(),
            shared: Default::default(),
            unproxied: Default::default(),
            dns_listeners: Default::default(),
            in_container: Default::default(),
            redirected: Default::default(),
            resolvers: Default::default(),
            ways: Default::default(),
            foreign: Default::default(),
            served: Desired::default(),
            policing: Policing::default(),
            routing: Default::default(),
            transit: Default::default(),
            owed: Default::default(),
            stale_flows: Default::default(),
            unexplained: Unexplained::Nothing,
            taken_ports: Default::default(),
            emptied: Default::default(),
            refused: Default::default(),
            problems: Default::default(),
            agenda: Default::default(),
            adopting: true,
            initial_sync: true,
            planning: false,
            look_inside: false,
            ways_out_unsure: false,
            stopping,
            waiting: Vec::new(),
            ended: Vec::new(),
            search: Vec::new(),
            revision: 0,
        }
    }

    /// Makes the kernel match the state, first on the host and then within containers, and tells `converged` after each.
    /// Then takes commands until it gets a stop command or every handle is dropped, and repairs what is due in between.
    /// The thread has the clock of the runtime (`base::monotonic`).
    pub(crate) fn run(mut self, mailbox: mpsc::Receiver<Command>, runtime: Option<&Handle>, converged: &Sender<()>) {
        let _clock = runtime.map(Handle::enter);
        let mut mailbox = Mailbox::new(mailbox);
        self.converge(converged);
        let mut waiting: VecDeque<Command> = VecDeque::new();
        loop {
            if !self.stopping.is_set() {
                self.repair_what_is_due();
                self.remove_emptied();
            }
            if waiting.is_empty() {
                match mailbox.next(self.next_due()) {
                    Next::Command(command) => waiting.push_back(command),
                    Next::Due if self.ways.are_left() => {
                        self.probe_next();
                        continue;
                    }
                    Next::Due => continue,
                    Next::Closed => return,
                }
            }
            waiting.extend(std::iter::from_fn(|| mailbox.try_next()));
            let Some(command) = waiting.pop_front() else { continue };
            match command {
                Command::Stop(done) => {
                    let _ = done.send(());
                    return;
                }
                // Its caller learns from the dropped reply that the daemon is stopping.
                _ if self.stopping.is_set() => {}
                Command::Open(first) => self.open_all(first, &mut waiting),
                Command::Alive(tell) => drop(self.listening.send(Listening::Alive(tell))),
                command if command.disconnects() => {
                    let mut group = vec![command];
                    while waiting.front().is_some_and(Command::disconnects) {
                        group.extend(waiting.pop_front());
                    }
                    self.disconnect_group(group);
                }
                Command::Kernel(event) => self.hear(event, &mut waiting),
                command => self.one(command),
            }
            self.after_command();
        }
    }

    /// The first repairs, and the first questions to the gateways.
    fn converge(&mut self, converged: &Sender<()>) {
        self.reconcile();
        self.adopting = false;
        // Nobody may wait for it.
        let _ = converged.send(());
        if !self.stopping.is_set() {
            self.look_inside = true;
            self.reconcile();
            self.drop_unleased();
            self.remove_all_emptied();
        }
        let _ = converged.send(());
        self.probe_all();
    }

    /// When there is something to do even without a command.
    fn next_due(&self) -> Option<Deadline> {
        let due = if self.ways.are_left() { Some(Deadline::after(Duration::ZERO)) } else { self.agenda.next() };
        due.filter(|_| !self.stopping.is_set())
    }

    fn one(&mut self, command: Command) {
        // A caller that has disconnected does not need its reply.
        match command {
            Command::CreateNetwork(spec, foreign, reply) => drop(reply.send(self.create_network(&spec, foreign))),
            Command::RemoveNetwork(network, reply) => drop(reply.send(self.remove_network(&network))),
            Command::RenumberNetwork(network, to, foreign, reply) => {
                drop(reply.send(self.renumber_network(&network, &to, foreign)));
            }
            Command::SetUpstreams(network, to, reply) => drop(reply.send(self.set_upstreams(&network, &to))),
            Command::CreateService(spec, reply) => drop(reply.send(self.create_service(&spec))),
            Command::UpdateService(update, reply) => drop(reply.send(self.update_service(&update))),
            Command::RemoveService(service, reply) => drop(reply.send(self.remove_service(&service))),
            Command::ChangeMember(change, reply) => drop(reply.send(self.change_member(&change))),
            Command::ChangePolicies(change, reply) => drop(reply.send(self.change_policies(&change))),
            Command::NoteHealth(results) => self.note_health(results),
            Command::NoteLabels(container, labels) => self.note_labels(&container, labels),
            Command::Keep(key, value, reply) => drop(reply.send(self.keep(&key, value))),
            Command::PruneNetworks(reply) => drop(reply.send(self.prune_networks())),
            Command::Reserve(spec, reply) => drop(reply.send(self.reserve(&spec))),
            Command::ReleaseReservation(id, reply) => drop(reply.send(self.release_reservation(&id))),
            Command::ChangeHandover(change, reply) => drop(reply.send(self.change_handover(&change))),
            Command::ChangeEngineNetwork(change, reply) => drop(reply.send(self.change_engine_network(&change))),
            Command::ChooseSubnet { family, wanted, avoid, foreign, reply } => {
                drop(reply.send(self.choose_subnet(family, wanted, avoid, foreign)));
            }
            Command::ChangePort(change, reply) => drop(reply.send(self.change_port(&change))),
            Command::Connect { gone, .. } | Command::ConnectTogether { gone, .. } if gone.is_gone() => {
                tracing::info!("request cancelled: the caller disconnected");
            }
            Command::Connect { spec, foreign, gone, reply } => self.connect(&spec, foreign, (gone, reply)),
            Command::ConnectTogether { specs, foreign, gone, reply } => {
                self.connect_together(&specs, &foreign, (gone, reply));
            }
            Command::NoteLease(news, verdict) => drop(verdict.send(self.note_lease(*news))),
            Command::Check(spec, reply) => drop(reply.send(self.check(&spec))),
            Command::Gc { owner, valid, reply } => drop(reply.send(self.gc(&owner, &valid))),
            Command::Capacity(network, reply) => drop(reply.send(self.capacity(&network))),
            Command::Teardown { dry_run, reply } => drop(reply.send(self.teardown(dry_run))),
            Command::Diff(reply) => drop(reply.send(self.diff())),
            Command::Backup(reply) => drop(reply.send(Ok(self.backup()))),
            Command::Restore(backup, foreign, reply) => drop(reply.send(self.restore(&backup, foreign))),
            Command::Plan(request, foreign, reply) => drop(reply.send(self.plan(&request, foreign))),
            Command::Report { subject, problem } => self.report(subject, problem),
            Command::Disconnect { .. }
            | Command::Detach(..)
            | Command::Kernel(_)
            | Command::Open(_)
            | Command::Alive(_)
            | Command::Stop(_) => {}
        }
    }

    /// The facts of the host, or the error of the command.
    pub(super) fn facts(&mut self) -> Result<HostFacts, Error> {
        Ok(self.kernel.facts()?)
    }

    /// Stores the addresses of endpoints as sticky. If the store refuses, they are stored with the next change.
    pub(super) fn keep_addresses(&mut self, endpoints: &[Arc<Endpoint>]) {
        for endpoint in endpoints {
            let records = self.state.sticky_records(endpoint);
            if !records.is_empty() {
                self.compensate(&records);
            }
        }
    }

    /// Replaces the snapshot, if something changed: from now on every reader sees the current state.
    pub(super) fn publish(&mut self) {
        let mut snapshot = Snapshot {
            desired: self.state.desired.clone(),
            revision: self.revision + 1,
            zone_revision: self.revision + 1,
            problems: self.problems.messages(),
            taken_ports: self.taken_ports.clone(),
            unproxied: self.unproxied.clone(),
            refused: self.refused.clone(),
            domain: self.config.domain.clone(),
            search: self.search.clone(),
            gateway_blocked: self.state.gateway_blocked.clone(),
            firewall: self.foreign.notes.clone(),
            denied: self.policing.denied(),
            tables: self.foreign.last.clone(),
            transit: self.transit.clone(),
            kept: self.state.kept.clone(),
        };
        let before = self.snapshot.load();
        if snapshot.answers_like(&before) {
            if self.revision > 0 && snapshot.is_like(&before) {
                return;
            }
            snapshot.zone_revision = before.zone_revision;
        }
        self.revision += 1;
        self.snapshot.store(Arc::new(snapshot));
        self.telemetry.log.keep(&self.state.desired);
        self.telemetry.egress.logs().keep(&self.state.desired);
    }

    /// Records a problem, and sends an event if it is new.
    pub(super) fn problem(&mut self, subject: Subject, message: String) {
        if self.problems.add(subject, &message) {
            tracing::error!("{message}");
            self.tell(Change::Problem(message));
        }
    }

    /// Records or clears a problem that another thread reported.
    pub(super) fn report(&mut self, subject: Subject, problem: Option<String>) {
        match problem {
            Some(message) => self.problem(subject, message),
            None => self.problems.clear(&subject),
        }
        self.publish();
    }

    /// Sends an event to all receivers; having none is no error.
    pub(super) fn tell(&self, change: Change) {
        let _ = self.events.send(Arc::new(Event { time: crate::base::clock::now(), change }));
    }

    pub(super) fn find_network(&self, text: &str) -> Result<Arc<Network>, Refusal> {
        decide::find_network(&self.state, text)
    }
}
