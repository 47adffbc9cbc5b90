//! Ring 2: the engine over the fake kernel. Random sequences of commands with failing steps, against a small reference
//! model: after each command no address, port or interface is held twice or leaked. The domain is tiny (two networks,
//! four containers, three ports, a subnet of five addresses), so that collisions are frequent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netd::engine;
use netd::engine::{Engine, ErrorKind};
use netd::kernel::fake::Fake;
use netd::kernel::fake::faults::Faults;
use netd::model::bandwidth::{Bandwidth, Rate};
use netd::model::host::observed::{HostEnd, ObservedInterface};
use netd::model::network::DnsListen;
use netd::model::publication::PortSpec;
use netd::model::request::{
    AddressSpec, AttachmentKey, ContainerRef, EndpointSpec, InterfaceSource, NetworkSpec, PersonRequest, Requester,
    RuntimeRequest,
};
use netd::runtimes::NoRuntimes;
use netd::store::memory::Memory;
use netd_testing::{engine as support, model};
use proptest::prelude::*;
use reference::Reference;

mod commands;
mod drain;
mod dry_run;
mod foreign;
mod invariants;
mod monitors;
mod of_engines;
mod policies;
mod reference;
mod reservations;
mod retries;
mod services;
mod sticky;
mod tampering;
mod teardown;
mod zone;

const NETWORKS: [&str; 2] = ["net1", "net2"];
const CONTAINERS: [&str; 4] = ["web", "db", "cache", "mail"];
/// The first half of the addresses of another program's bridges, cni1 and cni2.
const FOUND: [&str; 2] = ["found1", "found2"];
/// Containers of a runtime, by their ids.
const PODS: [&str; 2] = ["pod-0", "pod-1"];
const PORTS: [&str; 3] = ["4000:80", "4000-4001:4000-4001", "127.0.0.1:4001:81"];

#[derive(Debug, Clone)]
enum Action {
    Create(usize),
    Remove(usize),
    Connect {
        container: usize,
        network: usize,
        port: Option<usize>,
        ip: Option<u8>,
    },
    Disconnect {
        container: usize,
        network: usize,
    },
    Attach {
        pod: usize,
        network: usize,
        requested: AttachChoice,
    },
    Detach {
        pod: usize,
        network: usize,
    },
    /// GC of a runtime's network: only this container is valid.
    Collect {
        keep: usize,
        network: usize,
    },
    Reserve {
        id: usize,
        network: usize,
        port: Option<usize>,
        /// An address, and that from which the requested MAC address is derived.
        ip: Option<u8>,
        mac: Option<u8>,
    },
    Release(usize),
    /// Disconnects a container and keeps a reservation.
    Keep {
        id: usize,
        container: usize,
        network: usize,
    },
    /// Connects a container with a reservation.
    Take {
        id: usize,
        container: usize,
        network: usize,
    },
    OfService(services::Action),
    /// Adds one of the policies, or removes it.
    Policy(usize),
    /// The container's namespace is recreated while no daemon runs.
    Reborn(usize),
    /// A pod's namespace is recreated, and the daemon has no event of it yet.
    Dies(usize),
    /// Kills the daemon (kill -9) and starts it again.
    Restart,
    /// Another program deletes every element and every link.
    Vandal,
    /// Another program changes one object while the daemon runs: which kind of change, and of which object.
    Tamper(usize, usize),
}

/// A runtime's request: the source of its addresses, a port, and bandwidth limits of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AttachChoice {
    how: InterfaceSource,
    port: Option<usize>,
    limits: (bool, bool),
}

impl AttachChoice {
    fn bandwidth(self) -> Option<Bandwidth> {
        let rate = Rate { rate: 8000, burst: 8000 };
        let (ingress, egress) = (self.limits.0.then_some(rate), self.limits.1.then_some(rate));
        (self.limits != (false, false)).then_some(Bandwidth { ingress, egress })
    }

    /// An interface of another program is on that program's bridge.
    fn network(self, network: usize) -> &'static str {
        if self.how == InterfaceSource::Found { FOUND[network] } else { NETWORKS[network] }
    }
}

fn requested() -> impl Strategy<Value = AttachChoice> {
    use InterfaceSource::{Found, Given, Made, Unaddressed};
    let how = prop_oneof![3 => Just(Made), 2 => Just(Unaddressed), 2 => Just(Given), 1 => Just(Found)];
    let limits = (any::<bool>(), any::<bool>());
    (how, proptest::option::of(0..PORTS.len()), limits).prop_map(|(how, port, limits)| AttachChoice {
        how,
        port,
        limits,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let (network, container) = (0..NETWORKS.len(), 0..CONTAINERS.len());
    let port = proptest::option::of(0..PORTS.len());
    let pod = 0..PODS.len();
    let last = || proptest::option::weighted(0.3, 1u8..7);
    let id = 0..reservations::IDS.len();
    let reserve = (id.clone(), network.clone(), port.clone(), last(), last());
    let take = (id.clone(), container.clone(), network.clone());
    let keep = take.clone();
    let attach = (pod.clone(), network.clone(), requested());
    let (detach, collect) = ((pod.clone(), network.clone()), (pod.clone(), network.clone()));
    let connect = (container.clone(), network.clone(), port, last());
    prop_oneof![
        2 => network.clone().prop_map(Action::Create),
        1 => network.clone().prop_map(Action::Remove),
        8 => connect.prop_map(|(container, network, port, ip)| Action::Connect { container, network, port, ip }),
        5 => (container.clone(), network).prop_map(|(container, network)| Action::Disconnect { container, network }),
        6 => attach.prop_map(|(pod, network, requested)| Action::Attach { pod, network, requested }),
        4 => reserve.prop_map(|(id, network, port, ip, mac)| Action::Reserve { id, network, port, ip, mac }),
        1 => id.prop_map(Action::Release),
        2 => keep.prop_map(|(id, container, network)| Action::Keep { id, container, network }),
        3 => take.prop_map(|(id, container, network)| Action::Take { id, container, network }),
        2 => detach.prop_map(|(pod, network)| Action::Detach { pod, network }),
        1 => collect.prop_map(|(keep, network)| Action::Collect { keep, network }),
        9 => services::action().prop_map(Action::OfService),
        5 => (0..policies::RULES.len()).prop_map(Action::Policy),
        1 => (0..CONTAINERS.len() + PODS.len()).prop_map(Action::Reborn),
        1 => pod.prop_map(Action::Dies),
        1 => Just(Action::Restart),
        1 => Just(Action::Vandal),
        4 => (0..tampering::KINDS, 0..8usize).prop_map(|(kind, which)| Action::Tamper(kind, which)),
    ]
}

struct World {
    fake: Fake,
    store: Memory,
    engine: Option<Engine>,
    runtime: tokio::runtime::Runtime,
    reference: Reference,
}

impl World {
    fn new() -> Self {
        let fake = Fake::default();
        CONTAINERS.iter().chain(&PODS).for_each(|name| fake.add_namespace(name));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut world = Self { fake, store: Memory::default(), engine: None, runtime, reference: Reference::default() };
        world.start();
        world
    }

    fn start(&mut self) {
        // The engine has the clock of this runtime.
        let _runtime = self.runtime.enter();
        let started = engine::start(support::config(29), self.fake.clone(), self.store.clone(), Arc::new(NoRuntimes));
        let mut engine = started.map_err(|error| error.to_string()).unwrap();
        // No name service runs that would report closed sockets.
        engine.listening.close();
        self.engine = Some(engine);
    }

    fn stop(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.runtime.block_on(engine.handle.stop());
            engine.thread.join().unwrap();
        }
    }

    fn handle(&self) -> engine::Handle {
        self.engine.as_ref().unwrap().handle.clone()
    }

    /// Carries out the action with a step failing at `fail_in`, and checks the result.
    fn act(&mut self, action: &Action, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        let handle = self.handle();
        self.fake.world().faults = fail_in.map_or_else(Faults::default, |nth| Faults::call_of("apply", nth));
        match action {
            Action::Create(network) => {
                let done = self.runtime.block_on(handle.create_network(network_spec(NETWORKS[*network])));
                let may = !self.reference.networks.contains(NETWORKS[*network]);
                self.check(done.map(drop), may, fail_in)?;
                if self.last_done() {
                    self.reference.networks.insert(NETWORKS[*network]);
                }
            }
            Action::Remove(network) => self.remove(*network, fail_in)?,
            Action::Connect { container, network, port, ip } => {
                self.connect(*container, *network, (*port, *ip), fail_in)?;
            }
            Action::Disconnect { container, network } => {
                let done = self.runtime.block_on(handle.disconnect(NETWORKS[*network], CONTAINERS[*container]));
                let may = self.reference.endpoints.contains_key(&(*container, *network));
                self.check(done.map(drop), may, fail_in)?;
                if may {
                    self.reference.endpoints.remove(&(*container, *network));
                }
            }
            Action::Attach { pod, network, requested } => self.attach((*pod, *network), *requested, fail_in)?,
            Action::Detach { pod, network } => {
                let done = self.runtime.block_on(handle.detach(key(*pod, *network)));
                self.check(done, true, fail_in)?;
                self.reference.attachments.remove(&(*pod, *network));
                self.remove_adoptable();
            }
            Action::Reserve { id, network, port, ip, mac } => {
                self.reserve((*id, *network), *port, (*ip, *mac), fail_in)?;
            }
            Action::Release(id) => self.release(*id, fail_in)?,
            Action::Keep { id, container, network } => self.keep(*id, (*container, *network), fail_in)?,
            Action::Take { id, container, network } => self.take(*id, (*container, *network), fail_in)?,
            Action::Collect { keep, network } => {
                let valid = key(*keep, *network);
                let done = self.runtime.block_on(handle.gc(valid.owner, vec![(valid.container, valid.ifname)]));
                self.check(done.map(drop), true, fail_in)?;
                self.reference.attachments.retain(|(pod, on), _| on != network || pod == keep);
                self.remove_adoptable();
            }
            Action::OfService(action) => self.act_on_service(action, fail_in)?,
            Action::Policy(nth) => self.toggle_policy(*nth, fail_in)?,
            Action::Dies(pod) => {
                self.fake.delete_namespace(PODS[*pod]);
                self.fake.add_namespace(PODS[*pod]);
                // Its old endpoints are removed when the pod is attached again.
                self.reference.attachments.retain(|(other, _), _| other != pod);
                let requested = AttachChoice { how: InterfaceSource::Made, port: None, limits: (false, false) };
                self.attach((*pod, 0), requested, None)?;
            }
            Action::Reborn(_) | Action::Restart | Action::Vandal => self.disturb(action),
            Action::Tamper(kind, which) => self.tamper(*kind, *which)?,
        }
        self.fake.world().faults = Faults::default();
        self.reference.forget_conditions();
        self.invariants()?;
        self.services_are_right()?;
        self.policies_are_right()
    }

    /// Events outside of the daemon.
    fn disturb(&mut self, action: &Action) {
        self.stop();
        match action {
            Action::Reborn(container) => {
                let name = CONTAINERS.iter().chain(&PODS).nth(*container).unwrap();
                self.fake.delete_namespace(name);
                self.fake.add_namespace(name);
                self.reference.endpoints.retain(|(other, _), _| other != container);
                self.reference.attachments.retain(|(pod, _), _| pod + CONTAINERS.len() != *container);
            }
            Action::Vandal => {
                support::wipe(&mut self.fake.world());
            }
            _ => self.fake.world().held.clear(),
        }
        self.start();
    }
}

fn network_spec(name: &str) -> NetworkSpec {
    let mut spec = NetworkSpec::named(name.parse().unwrap());
    spec.sticky = name == NETWORKS[sticky::STICKY];
    if name == NETWORKS[1] {
        spec.dns.listen = DnsListen::Container;
    }
    spec
}

/// The request of a runtime.
fn attach_spec(
    (pod, network): (usize, usize),
    name: &str,
    requested: AttachChoice,
    address: Option<AddressSpec>,
) -> EndpointSpec {
    let key = key(pod, network);
    let ifname = Some(key.ifname.clone());
    let request = RuntimeRequest {
        key,
        netns: format!("/run/netns/{}", PODS[pod]).into(),
        network: network_spec(name),
        name: None,
        scope: None,
        interface: requested.how,
        process: None,
    };
    EndpointSpec {
        ifname,
        addresses: address.into_iter().collect(),
        ports: requested.port.iter().map(|port| PORTS[*port].parse::<PortSpec>().unwrap()).collect(),
        bandwidth: requested.bandwidth(),
        ..EndpointSpec::of(Requester::Runtime(Box::new(request)))
    }
}

/// What a person asks for.
fn person(network: &str, container: ContainerRef) -> EndpointSpec {
    let index = CONTAINERS.iter().position(|name| *name == container.name);
    let labels = index.map(services::label).unwrap_or_default();
    let request = PersonRequest { network: network.into(), container, reservation: None };
    let egress = index.map(policies::egress).unwrap_or_default();
    EndpointSpec { labels, egress, ..EndpointSpec::of(Requester::Person(request)) }
}

/// How a runtime knows the attachment: its networks have other names than netd's.
fn key(pod: usize, network: usize) -> AttachmentKey {
    AttachmentKey {
        owner: format!("podman-{}", NETWORKS[network]).parse().unwrap(),
        container: PODS[pod].parse().unwrap(),
        ifname: format!("eth{network}").parse().unwrap(),
    }
}

thread_local! {
    static LAST: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn resources_are_never_held_twice_or_leaked(
        actions in proptest::collection::vec((action(), proptest::option::weighted(0.2, 0usize..6)), 1..40)
    ) {
        let mut world = World::new();
        for (action, fail_in) in &actions {
            // Faults are injected into constructive commands only: repair completes deletions, and a start is no
            // command.
            let outside = matches!(
                action,
                Action::Reborn(_) | Action::Dies(_) | Action::Restart | Action::Vandal | Action::Tamper(..)
            );
            let fail_in = fail_in.filter(|_| !outside);
            world.act(action, fail_in)?;
        }
    }
}
