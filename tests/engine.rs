//! Ring 2: the engine over the fake kernel. Random sequences of commands with failing steps, against a small reference
//! model: after each command no address, port or interface is held twice, or by nobody.
//!
//! The domain is tiny (two networks, four containers, three ports, a subnet of five addresses), so that collisions
//! happen all the time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netd::engine::{self, Config, Engine, ErrorKind};
use netd::kernel::fake::Fake;
use netd::kernel::runtimes::NoRuntimes;
use netd::model::address::Pool;
use netd::model::element::Element;
use netd::model::endpoint::Endpoint;
use netd::model::publication::{PortSpec, Publication};
use netd::model::request::{AttachSpec, AttachmentKey, ConnectSpec, InterfaceSource, NetworkSpec, Target};
use netd::store::memory::Memory;
use proptest::prelude::*;

const NETWORKS: [&str; 2] = ["net1", "net2"];
const CONTAINERS: [&str; 4] = ["web", "db", "cache", "mail"];
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
        port: Option<usize>,
    },
    Detach {
        pod: usize,
        network: usize,
    },
    /// A runtime's network tells that only this container is left.
    Collect {
        keep: usize,
        network: usize,
    },
    /// The container's namespace is deleted and made anew.
    Reborn(usize),
    /// kill -9, and a new start.
    Restart,
    /// Somebody deletes every element and every link.
    Vandal,
}

fn action() -> impl Strategy<Value = Action> {
    let (network, container) = (0..NETWORKS.len(), 0..CONTAINERS.len());
    let port = proptest::option::of(0..PORTS.len());
    let pod = 0..PODS.len();
    let attach = (pod.clone(), network.clone(), port.clone());
    let (detach, collect) = ((pod.clone(), network.clone()), (pod, network.clone()));
    let connect = (container.clone(), network.clone(), port, proptest::option::weighted(0.3, 1u8..7));
    prop_oneof![
        2 => network.clone().prop_map(Action::Create),
        1 => network.clone().prop_map(Action::Remove),
        8 => connect.prop_map(|(container, network, port, ip)| Action::Connect { container, network, port, ip }),
        5 => (container.clone(), network).prop_map(|(container, network)| Action::Disconnect { container, network }),
        4 => attach.prop_map(|(pod, network, port)| Action::Attach { pod, network, port }),
        2 => detach.prop_map(|(pod, network)| Action::Detach { pod, network }),
        1 => collect.prop_map(|(keep, network)| Action::Collect { keep, network }),
        1 => container.prop_map(Action::Reborn),
        1 => Just(Action::Restart),
        1 => Just(Action::Vandal),
    ]
}

/// What must be: networks, and who is on them. What a command may answer follows from it alone.
#[derive(Debug, Default)]
struct Reference {
    networks: BTreeSet<usize>,
    /// (container, network) to (port, static address asked for).
    endpoints: BTreeMap<(usize, usize), (Option<usize>, Option<u8>)>,
    /// (pod, network) to port.
    attachments: BTreeMap<(usize, usize), Option<usize>>,
}

impl Reference {
    /// Whether another container has the port; a pod may say its own again for its other network.
    fn ports_collide(&self, asked: usize, of_pod: Option<usize>) -> bool {
        // 4000:80 and the range share 4000; the range and 127.0.0.1:4001 share 4001.
        let collides = |held: usize| held == asked || held == 1 || asked == 1;
        let same = |pod: usize, port: Option<usize>| Some(pod) == of_pod && port == Some(asked);
        let attached = self.attachments.iter().filter(|((pod, _), port)| !same(*pod, **port)).map(|(_, port)| *port);
        self.endpoints.values().map(|(port, _)| *port).chain(attached).flatten().any(collides)
    }

    fn used(&self, network: usize) -> usize {
        self.endpoints.keys().chain(self.attachments.keys()).filter(|(_, on)| *on == network).count()
    }
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
        let pool = Pool { base: "10.0.0.0/16".parse().unwrap(), size: 29 };
        let config = Config { pools: vec![pool], ula: true, domain: "internal".into() };
        let started = engine::start(config, self.fake.clone(), self.store.clone(), Arc::new(NoRuntimes));
        self.engine = Some(started.map_err(|error| error.to_string()).unwrap());
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

    /// Does the action with a step failing at `fail_in`; tells whether the engine did it.
    fn act(&mut self, action: &Action, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        let handle = self.handle();
        self.fake.world().fail_in = fail_in;
        match action {
            Action::Create(network) => {
                let spec = NetworkSpec::named(NETWORKS[*network].parse().unwrap());
                let done = self.runtime.block_on(handle.create_network(spec));
                let may = !self.reference.networks.contains(network);
                self.check(done.map(drop), may, fail_in)?;
                if self.last_done() {
                    self.reference.networks.insert(*network);
                }
            }
            Action::Remove(network) => {
                let done = self.runtime.block_on(handle.remove_network(NETWORKS[*network]));
                let may = self.reference.networks.contains(network) && self.reference.used(*network) == 0;
                // A deletion whose kernel step failed is acknowledged by the store all the same.
                let done = done.map(drop);
                let gone = done.is_ok() || done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Failed);
                self.check(done, may, fail_in)?;
                if gone && may {
                    self.reference.networks.remove(network);
                }
            }
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
            Action::Attach { pod, network, port } => self.attach((*pod, *network), *port, fail_in)?,
            Action::Detach { pod, network } => {
                let done = self.runtime.block_on(handle.detach(key(*pod, *network)));
                self.check(done, true, fail_in)?;
                self.reference.attachments.remove(&(*pod, *network));
            }
            Action::Collect { keep, network } => {
                let valid = key(*keep, *network);
                let done = self.runtime.block_on(handle.collect(valid.owner, vec![(valid.container, valid.ifname)]));
                self.check(done.map(drop), true, fail_in)?;
                self.reference.attachments.retain(|(pod, on), _| on != network || pod == keep);
            }
            Action::Reborn(_) | Action::Restart | Action::Vandal => self.disturb(action),
        }
        self.fake.world().fail_in = None;
        self.invariants()
    }

    /// What happens to the daemon rather than what it is asked for.
    fn disturb(&mut self, action: &Action) {
        self.stop();
        match action {
            Action::Reborn(container) => {
                self.fake.delete_namespace(CONTAINERS[*container]);
                self.fake.add_namespace(CONTAINERS[*container]);
                self.reference.endpoints.retain(|(other, _), _| other != container);
            }
            Action::Vandal => {
                let mut world = self.fake.world();
                world.elements = None;
                world.links.clear();
                world.bridges.clear();
                world.routes.clear();
            }
            _ => self.fake.world().held.clear(),
        }
        self.start();
    }

    fn connect(
        &mut self,
        container: usize,
        network: usize,
        (port, ip): (Option<usize>, Option<u8>),
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let handle = self.handle();
        let snapshot = handle.snapshot();
        let subnet = snapshot.desired.network(&NETWORKS[network].parse().unwrap()).map(|n| n.subnets[0].clone());
        let asked = ip.zip(subnet.as_ref()).and_then(|(ip, subnet)| {
            let number = subnet.subnet.bounds().0 + u128::from(ip);
            subnet.subnet.address(number)
        });
        let spec = ConnectSpec {
            network: NETWORKS[network].into(),
            target: Target { container: CONTAINERS[container].into(), place: None, id: None },
            ports: port.iter().map(|port| PORTS[*port].parse::<PortSpec>().unwrap()).collect(),
            ip: asked.and_then(|ip| match ip {
                std::net::IpAddr::V4(ip) => Some(ip),
                std::net::IpAddr::V6(_) => None,
            }),
            ip6: None,
            mac: None,
            aliases: Vec::new(),
            ifname: None,
            exposed: Vec::new(),
            labels: BTreeMap::new(),
        };
        let taken = asked
            .is_some_and(|ip| snapshot.desired.at_address(ip).is_some() || snapshot.desired.at_gateway(ip).is_some());
        let may = self.reference.networks.contains(&network)
            && !self.reference.endpoints.contains_key(&(container, network))
            && !port.is_some_and(|port| self.reference.ports_collide(port, None))
            && self.reference.used(network) < 5
            && !taken;
        let done = self.runtime.block_on(handle.connect(spec)).map(drop);
        self.check(done, may, fail_in)?;
        if self.last_done() {
            self.reference.endpoints.insert((container, network), (port, ip));
        }
        Ok(())
    }

    fn attach(
        &mut self,
        (pod, network): (usize, usize),
        port: Option<usize>,
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let may = match self.reference.attachments.get(&(pod, network)) {
            Some(before) => *before == port,
            None => {
                !port.is_some_and(|port| self.reference.ports_collide(port, Some(pod)))
                    && self.reference.used(network) < 5
            }
        };
        let spec = AttachSpec {
            key: key(pod, network),
            netns: format!("/run/netns/{}", PODS[pod]).into(),
            network: NetworkSpec::named(NETWORKS[network].parse().unwrap()),
            name: None,
            scope: None,
            aliases: Vec::new(),
            interface: InterfaceSource::Made,
            addresses: Vec::new(),
            ranges: Vec::new(),
            routes: Vec::new(),
            mac: None,
            ports: port.iter().map(|port| PORTS[*port].parse::<PortSpec>().unwrap()).collect(),
            exposed: Vec::new(),
            labels: BTreeMap::new(),
            bandwidth: None,
        };
        let done = self.runtime.block_on(self.handle().attach(spec)).map(drop);
        self.check(done, may, fail_in)?;
        if self.last_done() {
            self.reference.networks.insert(network);
            self.reference.attachments.insert((pod, network), port);
        }
        Ok(())
    }

    /// Whether the answer is the one the reference expects; a failing step makes any failure fine.
    fn check(
        &mut self,
        done: Result<(), engine::Error>,
        may: bool,
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        LAST.with(|last| last.set(done.is_ok()));
        match done {
            Ok(()) => prop_assert!(may, "done, but the reference refuses"),
            Err(error) if error.kind() == ErrorKind::Failed => prop_assert!(fail_in.is_some(), "failed: {error}"),
            Err(error) => prop_assert!(!may, "refused, but the reference allows: {error}"),
        }
        Ok(())
    }

    fn last_done(&self) -> bool {
        LAST.with(std::cell::Cell::get)
    }

    /// Nothing is held twice, or by nobody, or missing: in the kernel, in the store, and in what readers see.
    fn invariants(&self) -> Result<(), TestCaseError> {
        let snapshot = self.handle().snapshot();
        let world = self.fake.world().clone();
        let seen: BTreeSet<(String, String)> = snapshot
            .desired
            .endpoints()
            .map(|endpoint| (endpoint.container.name.to_string(), endpoint.network.to_string()))
            .collect();
        let meant: BTreeSet<(String, String)> = self
            .reference
            .endpoints
            .keys()
            .map(|(container, network)| (CONTAINERS[*container].to_owned(), NETWORKS[*network].to_owned()))
            .collect();
        let pods = self.reference.attachments.keys();
        let pods = pods.map(|(pod, network)| (PODS[*pod].to_owned(), NETWORKS[*network].to_owned()));
        let meant: BTreeSet<(String, String)> = meant.into_iter().chain(pods).collect();
        prop_assert_eq!(&seen, &meant, "endpoints");
        let networks: BTreeSet<String> = snapshot.desired.networks().map(|network| network.name.to_string()).collect();
        let meant: BTreeSet<String> = self.reference.networks.iter().map(|n| NETWORKS[*n].to_owned()).collect();
        prop_assert_eq!(networks, meant, "networks");
        let addresses: Vec<_> =
            snapshot.desired.endpoints().flat_map(|e| e.addresses.iter().map(IpNetwork::ip)).collect();
        let distinct: BTreeSet<_> = addresses.iter().collect();
        prop_assert_eq!(addresses.len(), distinct.len(), "an address is held twice");
        let links: BTreeSet<_> = world.links.keys().cloned().collect();
        let wanted: BTreeSet<_> = snapshot.desired.endpoints().map(|e| e.host_ifname.clone()).collect();
        prop_assert_eq!(links, wanted, "interfaces");
        let bridges: BTreeSet<_> = world.bridges.keys().cloned().collect();
        let wanted: BTreeSet<_> = snapshot.desired.networks().filter_map(|n| n.bridge().cloned()).collect();
        prop_assert_eq!(bridges, wanted, "bridges");
        let published: BTreeMap<_, _> = ports_of(&world.elements.clone().unwrap_or_default());
        let held: BTreeSet<_> = world.held.iter().map(|held| (held.address, held.port)).collect();
        // A runtime holds the ports of its containers itself.
        let by_hand = snapshot.desired.endpoints().filter(|e| e.owner.is_none()).flat_map(|e| &e.publications);
        let every = std::net::IpAddr::from([0, 0, 0, 0]);
        let at = |p: &Publication| p.host.ports().map(|port| (p.host_ip.unwrap_or(every), port)).collect::<Vec<_>>();
        let by_hand: BTreeSet<HeldAt> = by_hand.flat_map(at).collect();
        prop_assert!(by_hand.iter().all(|port| published.contains_key(port)), "a port is not published");
        let in_table = by_hand;
        prop_assert_eq!(held, in_table, "held sockets and published elements");
        for to in published.values() {
            prop_assert!(snapshot.desired.at_address(*to).is_some(), "a port leads to nobody: {}", to);
        }
        let stored: BTreeSet<_> = self.store.stored().endpoints.iter().map(Endpoint::key).collect();
        let wanted: BTreeSet<_> = snapshot.desired.endpoints().map(|e| e.key()).collect();
        prop_assert_eq!(stored, wanted, "stored endpoints");
        for routes in world.routes.values() {
            prop_assert!(routes.len() <= 1, "more than one default route: {:?}", routes);
        }
        for attached in snapshot.desired.containers() {
            let inode = attached.container.netns.id.inode;
            prop_assert_eq!(world.routes.get(&inode).map(Vec::len), Some(1), "no default route");
        }
        Ok(())
    }
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

type HeldAt = (std::net::IpAddr, u16);

fn ports_of(elements: &BTreeSet<Element>) -> BTreeMap<HeldAt, std::net::IpAddr> {
    let every = std::net::IpAddr::from([0, 0, 0, 0]);
    let mut ports = BTreeMap::new();
    for element in elements {
        match element {
            Element::Publish(published) => {
                let old = ports.insert((published.host_ip.unwrap_or(every), published.port), published.to);
                assert_eq!(old, None, "a port leads to two places");
            }
            Element::PublishRange(range) => {
                for port in range.ports.ports() {
                    let old = ports.insert((range.host_ip.unwrap_or(every), port), range.to);
                    assert_eq!(old, None, "a port leads to two places");
                }
            }
            _ => {}
        }
    }
    ports
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_held_twice_or_by_nobody(
        actions in proptest::collection::vec((action(), proptest::option::weighted(0.2, 0usize..6)), 1..40)
    ) {
        let mut world = World::new();
        for (action, fail_in) in &actions {
            // Deletions finish by repair, starts are no commands: only commands that build are made to fail.
            let fail_in = fail_in.filter(|_| !matches!(action, Action::Reborn(_) | Action::Restart | Action::Vandal));
            world.act(action, fail_in)?;
        }
    }
}
