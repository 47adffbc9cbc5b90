//! Ring 2: attachments of runtimes over the fake kernel: repeated requests, failures, checks, garbage collection, and
//! names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::net::IpAddr;
use std::sync::Arc;

use netd::api::v1::attachment_key;
use netd::engine;
use netd::engine::{Engine, ErrorKind};
use netd::kernel::fake::Fake;
use netd::kernel::fake::faults::Faults;
use netd::model::address::Mac;
use netd::model::endpoint::Endpoint;
use netd::model::host::element::Element;
use netd::model::host::observed::{HostEnd, ObservedInterface};
use netd::model::question::{Answer, Client, RecordType};
use netd::model::request::{AttachmentKey, CheckSpec};
use netd::runtimes::NoRuntimes;
use netd::store::memory::Memory;
use netd_testing::engine as support;
use netd_testing::request::{Attach, attach, connect, network};

mod adopted;
mod checks;
mod claims;
mod failures;
mod gateways;
mod namespaces;
mod ports;
mod together;

struct World {
    fake: Fake,
    store: Memory,
    engine: Engine,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(namespaces: &[&str]) -> Self {
        let fake = Fake::default();
        namespaces.iter().for_each(|name| fake.add_namespace(name));
        Self::with(fake, Memory::default())
    }

    fn with(fake: Fake, store: Memory) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let engine = engine::start(support::config(24), fake.clone(), store.clone(), Arc::new(NoRuntimes)).unwrap();
        Self { fake, store, engine, runtime }
    }

    /// Kills the daemon (kill -9) and starts it again.
    fn again(self) -> Self {
        let Self { fake, store, engine, runtime } = self;
        runtime.block_on(engine.handle.stop());
        engine.thread.join().unwrap();
        Self::with(fake, store)
    }

    fn detach(&self, key: &AttachmentKey) {
        self.runtime.block_on(self.engine.handle.detach(key.clone())).unwrap();
    }

    fn attach(&self, key: &AttachmentKey, request: Attach) -> Result<Arc<Endpoint>, engine::Error> {
        self.runtime.block_on(self.engine.handle.connect(request.spec(key.clone())))
    }

    fn check(&self, key: &AttachmentKey, netns: &str) -> Result<(), String> {
        self.check_for(key, netns, None, None)
    }

    /// For a runtime that remembers a MAC address or an MTU.
    fn check_for(&self, key: &AttachmentKey, netns: &str, mac: Option<&str>, mtu: Option<u32>) -> Result<(), String> {
        let mac = mac.map(|mac| mac.parse().unwrap());
        let spec = CheckSpec { key: key.clone(), netns: netns.into(), addresses: Vec::new(), mac, mtu };
        self.runtime.block_on(self.engine.handle.check(spec)).map_err(|error| error.to_string())
    }

    fn connect(&self, network: &str, container: &str) -> Arc<Endpoint> {
        self.runtime.block_on(self.engine.handle.connect(connect(network, container).spec())).unwrap()
    }

    /// The addresses that the container `from` gets for a name.
    fn resolve(&self, from: &Endpoint, name: &str) -> Vec<IpAddr> {
        let client = Client::Address(from.addresses[0].ip());
        match self.engine.handle.snapshot().resolve(client, name, RecordType::A) {
            Answer::A(addresses) => addresses.into_iter().map(IpAddr::V4).collect(),
            _ => Vec::new(),
        }
    }

    fn names(&self) -> Vec<String> {
        self.engine.handle.snapshot().desired.containers().map(|c| c.container.name.to_string()).collect()
    }
}

fn key(owner: &str, container: &str, ifname: &str) -> AttachmentKey {
    attachment_key(owner, container, ifname).unwrap()
}

/// A request with a part of every kind that a check looks at.
fn with_everything() -> Attach {
    attach("net1", "c1").publish("4000:80").route_via("10.9.0.0/16", "10.0.0.1").limit_in(8000)
}

fn link(world: &mut netd::kernel::fake::World) -> &mut netd::model::host::step::EndpointLink {
    world.links.values_mut().next().unwrap()
}

/// What the first link has on the host.
fn pair(world: &mut netd::kernel::fake::World) -> &mut netd::model::host::step::VethPair {
    link(world).kind.pair_mut().unwrap()
}

fn elements(world: &mut netd::kernel::fake::World) -> &mut std::collections::BTreeSet<Element> {
    world.elements.as_mut().unwrap()
}

#[test]
fn a_repeated_attach_changes_nothing_and_a_different_one_is_refused() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    let bare = || attach("net1", "c1").alias("www").mac("02:00:00:00:00:07");
    let requested = || bare().publish("4000:80");
    let first = world.attach(&key, requested()).unwrap();
    assert_eq!(world.attach(&key, requested()).unwrap(), first);
    for (changed, what) in [
        (bare().publish("4001:80"), "its ports"),
        (requested().alias("other"), "its aliases"),
        (requested().mac("02:00:00:00:00:08"), "its MAC address"),
        (requested().address("10.0.0.77"), "its addresses"),
        (requested().limit_in(8000), "its limits"),
        (requested().to(network("net2")), "its network"),
    ] {
        let error = world.attach(&key, changed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (1, 1, 1));
}

#[test]
fn a_container_may_be_on_a_network_twice() {
    let world = World::new(&["c1"]);
    let (eth0, eth1) = (key("a", "c1", "eth0"), key("a", "c1", "eth1"));
    let first = world.attach(&eth0, attach("net1", "c1")).unwrap();
    let second = world.attach(&eth1, attach("net1", "c1")).unwrap();
    let both: Vec<IpAddr> = [&first, &second].iter().map(|e| e.addresses[0].ip()).collect();
    assert_eq!(world.resolve(&first, "c1"), both);
    world.runtime.block_on(world.engine.handle.detach(eth0)).unwrap();
    assert_eq!(world.resolve(&second, "c1"), both[1..]);
    assert_eq!(world.fake.world().links.len(), 1);
}

#[test]
fn a_failure_at_any_step_is_undone_completely() {
    for fail_in in 0.. {
        let world = World::new(&["c1"]);
        let before = world.fake.world().elements.clone();
        world.fake.world().faults = Faults::call_of("apply", fail_in);
        let requested = attach("net1", "c1").publish("4000:80").limit_out(8000);
        let attached = world.attach(&key("podman", "c1", "eth0"), requested);
        if attached.is_ok() {
            if !world.fake.world().faults.hits().is_empty() {
                // The elements of the name service are repaired immediately after a failure: both are present.
                let elements = world.fake.world().elements.clone().unwrap();
                let leads = |e: &&Element| matches!(e, Element::AskAt(_) | Element::AnswerFrom(_));
                assert_eq!(elements.iter().filter(leads).count(), 2, "step {fail_in}");
                continue;
            }
            assert!(fail_in > 5, "only {fail_in} steps");
            return;
        }
        let after = world.fake.world().clone();
        assert_eq!(after.elements, before, "step {fail_in}");
        let left = (after.links.len(), after.bridges.len(), after.held.len(), after.shapings.len() + after.ifbs.len());
        assert_eq!(left, (0, 0, 0, 0), "step {fail_in}");
        assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0), "step {fail_in}");
    }
}

#[test]
fn a_container_may_publish_the_same_ports_on_each_of_its_networks() {
    let world = World::new(&["c1", "c2"]);
    let (one, two) = (key("podman", "c1", "eth0"), key("two", "c1", "eth1"));
    let requested = |network, netns| attach(network, netns).publish("4000:80");
    let first = world.attach(&one, requested("net1", "c1")).unwrap();
    let second = world.attach(&two, requested("net2", "c1")).unwrap();
    let other = world.attach(&key("podman", "c2", "eth0"), requested("net1", "c2")).unwrap_err();
    assert!(other.to_string().contains("already published by container c1"), "{other}");
    let leads_to = || {
        let table = world.fake.world().elements.clone().unwrap();
        let published = |element: Element| match element {
            Element::Publish(published) => Some(published.to),
            _ => None,
        };
        table.into_iter().filter_map(published).collect::<Vec<_>>()
    };
    assert_eq!(leads_to(), [first.addresses[0].ip()]);
    world.runtime.block_on(world.engine.handle.detach(one)).unwrap();
    assert_eq!(leads_to(), [second.addresses[0].ip()]);
    world.runtime.block_on(world.engine.handle.detach(two)).unwrap();
    assert_eq!(leads_to(), Vec::<IpAddr>::new());
}

#[test]
fn a_port_of_an_attachment_is_checked_and_held_only_where_its_runtime_does_not_bind_it() {
    let world = World::new(&["c1"]);
    let port = |address: [u8; 4], port| netd::model::host::step::HostPort {
        address: address.into(),
        protocol: netd::model::publication::Protocol::Tcp,
        port,
    };
    world.fake.world().foreign_ports.insert(port([0; 4], 4000));
    let key = key("podman", "c1", "eth0");
    let error = world.attach(&key, attach("net1", "c1").publish("4000:80")).unwrap_err();
    assert!(error.to_string().contains("in use by sshd"), "{error}");
    world.attach(&key, attach("net1", "c1").publish("4001:80")).unwrap();
    let every = netd::model::host::step::HostPort { address: [0u16; 8].into(), ..port([0; 4], 4001) };
    let held = || world.fake.world().held.iter().copied().collect::<Vec<_>>();
    assert_eq!(held(), [every.alone().unwrap()]);
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
    world.runtime.block_on(world.engine.handle.detach(key.clone())).unwrap();
    assert_eq!(held(), []);
    // Another process has it there, and later does not: that is no error, and it is not tried again.
    world.fake.world().foreign_ports.insert(every);
    world.attach(&key, attach("net1", "c1").publish("4001:80")).unwrap();
    let unproxied = || world.engine.handle.snapshot().unproxied.values().flatten().copied().collect::<Vec<_>>();
    assert_eq!((held(), unproxied()), (vec![], vec![every]));
    world.fake.world().foreign_ports.remove(&every);
    world.attach(&key, attach("net1", "c1").publish("4001:80")).unwrap();
    assert_eq!((held(), unproxied()), (vec![], vec![every]));
}

#[test]
fn a_foreign_interface_is_an_error_that_changes_nothing() {
    let world = World::new(&["c1"]);
    let inode = world.fake.world().last_inode;
    world.fake.world().foreign_ifnames.insert((inode, "eth0".parse().unwrap()));
    let error = world.attach(&key("podman", "c1", "eth0"), attach("net1", "c1")).unwrap_err();
    assert!(error.to_string().contains("eth0 already exists"), "{error}");
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0));
}

type Vandal = fn(&mut netd::kernel::fake::World);

#[test]
fn a_repeated_attach_restores_missing_parts() {
    let key = key("podman", "c1", "eth0");
    let vandals: [Vandal; 10] = [
        |world| world.links.clear(),
        |world| link(world).addresses.clear(),
        |world| world.routes.clear(),
        |world| link(world).routes.clear(),
        |world| link(world).mac = "02:00:00:00:00:99".parse().unwrap(),
        |world| link(world).mtu = 1300,
        |world| pair(world).bridge = "br0".parse().unwrap(),
        |world| world.bridges.clear(),
        |world| world.elements = None,
        |world| world.shapings.clear(),
    ];
    for (number, vandal) in vandals.into_iter().enumerate() {
        let world = World::new(&["c1"]);
        let first = world.attach(&key, with_everything()).unwrap();
        let before = world.fake.world().clone();
        vandal(&mut world.fake.world());
        assert_eq!(world.attach(&key, with_everything()).unwrap(), first);
        let after = world.fake.world().clone();
        let kept = |world: &netd::kernel::fake::World| {
            (world.links.clone(), world.bridges.clone(), world.elements.clone(), world.shapings.clone())
        };
        assert_eq!(kept(&after), kept(&before), "vandal {number}");
    }
}

#[test]
fn an_attach_is_cancelled_if_its_caller_disconnected() {
    let world = World::new(&["c1"]);
    let spec = attach("net1", "c1").spec(key("podman", "c1", "eth0"));
    world.runtime.block_on(world.engine.handle.connect_unless(spec, || true)).unwrap_err();
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0));
    assert!(world.fake.world().links.is_empty());
}

#[test]
fn a_recreated_namespace_is_attached_again() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    world.attach(&key, attach("net1", "c1").publish("4000:80")).unwrap();
    world.fake.delete_namespace("c1");
    world.fake.add_namespace("c1");
    let again = world.attach(&key, attach("net1", "c1").publish("4000:81")).unwrap();
    assert_eq!(again.container.netns.id.inode, world.fake.world().last_inode);
    assert_eq!(world.fake.world().links.len(), 1);
}

#[test]
fn names_have_scopes() {
    let world = World::new(&["a", "b", "c", "d"]);
    let pod = |id: &str, name: &str, scope: &str| {
        world.attach(&key("k8s", id, "eth0"), attach("net1", id).name(name).scope(scope)).unwrap()
    };
    let (web_prod, web_test, db_prod) = (pod("a", "web", "prod"), pod("b", "web", "test"), pod("c", "db", "prod"));
    let address = |endpoint: &Endpoint| vec![endpoint.addresses[0].ip()];
    assert_eq!(world.resolve(&db_prod, "web"), address(&web_prod));
    assert_eq!(world.resolve(&db_prod, "web.net1.internal"), address(&web_prod));
    assert_eq!(world.resolve(&db_prod, "web.test"), address(&web_test));
    assert_eq!(world.resolve(&web_test, "web"), address(&web_test));
    assert_eq!(world.resolve(&web_test, "db"), Vec::<IpAddr>::new(), "another scope");
    assert_eq!(world.resolve(&web_test, "db.prod"), address(&db_prod));
    let outsider = world.connect("net1", "d");
    assert_eq!(world.resolve(&outsider, "db"), address(&db_prod), "a client without a scope finds it");
    assert_eq!(world.resolve(&outsider, "web").len(), 2);
}

#[test]
fn a_taken_name_becomes_an_alias() {
    let world = World::new(&["a", "b"]);
    let first = world.attach(&key("x", "a", "eth0"), attach("net1", "a").name("web")).unwrap();
    let second = world.attach(&key("x", "b", "eth0"), attach("net1", "b").name("web")).unwrap();
    assert_eq!((first.container.name.as_str(), second.container.name.as_str()), ("web", "b"));
    assert_eq!(world.resolve(&first, "web").len(), 2);
    world.fake.delete_namespace("a");
    world.fake.add_namespace("c");
    let third = world.attach(&key("x", "c", "eth0"), attach("net1", "c").name("web")).unwrap();
    assert_eq!(third.container.name.as_str(), "web", "a dead container holds no name");
}

#[test]
fn an_id_of_64_digits_is_a_name_that_dns_cannot_resolve() {
    let world = World::new(&["c1"]);
    let id = "4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e";
    let endpoint = world.attach(&key("x", id, "eth0"), attach("net1", "c1")).unwrap();
    assert_eq!(endpoint.container.name.as_str(), id);
    assert_eq!(world.resolve(&endpoint, &id[..12]), [endpoint.addresses[0].ip()]);
}

#[test]
fn ranges_are_tried_in_order_and_refused_outside_of_the_network() {
    let world = World::new(&["a", "b", "c", "d"]);
    let one = |id| attach("net1", id).range("10.0.0.0/24", Some("10.0.0.9"), Some("10.0.0.9"));
    let both = |id| one(id).range("10.0.0.0/24", Some("10.0.0.200"), None);
    let first = |id, request| world.attach(&key("x", id, "eth0"), request).map(|e| e.addresses[0].ip());
    assert_eq!(first("a", both("a")).unwrap(), IpAddr::from([10, 0, 0, 9]));
    assert_eq!(first("b", both("b")).unwrap(), IpAddr::from([10, 0, 0, 200]));
    let full = first("c", one("c")).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Exhausted, "{full}");
    let outside = first("d", attach("net1", "d").range("10.7.0.0/24", None, None)).unwrap_err().to_string();
    assert!(outside.contains("10.7.0.0/24") && outside.contains("none of the subnets"), "{outside}");
    world.runtime.block_on(world.engine.handle.detach(key("x", "a", "eth0"))).unwrap();
    assert_eq!(first("c", one("c")).unwrap(), IpAddr::from([10, 0, 0, 9]), "released");
}

#[test]
fn addresses_may_come_after_the_interface() {
    let world = World::new(&["c1"]);
    let key = key("x", "c1", "eth0");
    let request = || attach("net1", "c1").publish("4000:80");
    let endpoint = world.attach(&key, request().unaddressed()).unwrap();
    assert!(endpoint.addresses.is_empty());
    assert_eq!(world.attach(&key, request().unaddressed()).unwrap(), endpoint);
    let given = || request().given_via("10.0.0.50/24", "10.0.0.254");
    world.fake.world().faults = Faults::call_of("apply", 1);
    world.attach(&key, given()).unwrap_err();
    assert!(world.fake.world().links.values().all(|link| link.addresses.is_empty()), "undone");
    let endpoint = world.attach(&key, given()).unwrap();
    assert_eq!(endpoint.gateways, [IpAddr::from([10, 0, 0, 254])]);
    assert_eq!(world.attach(&key, given()).unwrap(), endpoint);
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
    assert_eq!(world.resolve(&endpoint, "c1"), [IpAddr::from([10, 0, 0, 50])]);
    world.runtime.block_on(world.engine.handle.detach(key)).unwrap();
    assert!(world.fake.world().links.is_empty() && world.fake.world().held.is_empty());
}

#[test]
fn a_full_network_has_no_capacity() {
    let world = World::new(&["c1"]);
    let small = attach("net1", "c1").to(network("net1").subnet("10.1.0.0/30"));
    let room = || world.runtime.block_on(world.engine.handle.capacity("net1"));
    assert_eq!(room().unwrap_err().kind(), ErrorKind::NotFound);
    world.attach(&key("x", "c1", "eth0"), small).unwrap();
    assert_eq!(room().unwrap_err().kind(), ErrorKind::Exhausted);
    world.runtime.block_on(world.engine.handle.detach(key("x", "c1", "eth0"))).unwrap();
    room().unwrap();
}
