//! Ring 2: attachments of runtimes over the fake kernel: repeated requests, failures, checks, garbage collection, and
//! names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::net::IpAddr;
use std::sync::Arc;

use netd::api::v1::{Attach, Connect, attachment_key};
use netd::engine;
use netd::engine::{Engine, ErrorKind};
use netd::kernel::fake::Fake;
use netd::kernel::fake::faults::Faults;
use netd::model::address::Mac;
use netd::model::endpoint::Endpoint;
use netd::model::host::element::Element;
use netd::model::host::observed::{HostEnd, ObservedInterface};
use netd::model::question::{Answer, Client, RecordType};
use netd::model::request::{AttachmentKey, CheckSpec, EndpointSpec};
use netd::runtimes::NoRuntimes;
use netd::store::memory::Memory;
use serde_json::{Value, json};

mod claims;
mod failures;
mod namespaces;
mod ports;
#[path = "../support/engine.rs"]
mod support;

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

    fn attach(&self, key: &AttachmentKey, request: Value) -> Result<Arc<Endpoint>, engine::Error> {
        self.runtime.block_on(self.engine.handle.connect(spec(key, request)))
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
        let spec = by_name(network, container);
        self.runtime.block_on(self.engine.handle.connect(spec)).unwrap()
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

/// A person's requested: nothing but the network and the container.
fn by_name(network: &str, container: &str) -> EndpointSpec {
    Connect { container: container.into(), ..Connect::default() }.into_spec(network).unwrap()
}

fn spec(key: &AttachmentKey, request: Value) -> EndpointSpec {
    serde_json::from_value::<Attach>(request).unwrap().into_spec(key.clone()).unwrap()
}

fn on(network: &str, netns: &str, more: Value) -> Value {
    let mut request = json!({"netns": format!("/run/netns/{netns}"), "network": {"name": network}});
    if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
        request.extend(more);
    }
    request
}

#[test]
fn a_repeated_attach_changes_nothing_and_a_different_one_is_refused() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    let requested = json!({"ports": ["4000:80"], "aliases": ["www"], "mac": "02:00:00:00:00:07"});
    let first = world.attach(&key, on("net1", "c1", requested.clone())).unwrap();
    assert_eq!(world.attach(&key, on("net1", "c1", requested.clone())).unwrap(), first);
    for (change, what) in [
        (json!({"ports": ["4001:80"]}), "its ports"),
        (json!({"aliases": ["www", "other"]}), "its aliases"),
        (json!({"mac": "02:00:00:00:00:08"}), "its MAC address"),
        (json!({"addresses": [{"address": "10.0.0.77"}]}), "its addresses"),
        (json!({"bandwidth": {"ingress_rate": 8000, "ingress_burst": 8000}}), "its limits"),
        (json!({"network": {"name": "net2"}}), "its network"),
    ] {
        let mut changed = requested.clone();
        changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = world.attach(&key, on("net1", "c1", changed)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (1, 1, 1));
}

#[test]
fn a_container_may_be_on_a_network_twice() {
    let world = World::new(&["c1"]);
    let (eth0, eth1) = (key("a", "c1", "eth0"), key("a", "c1", "eth1"));
    let first = world.attach(&eth0, on("net1", "c1", json!({}))).unwrap();
    let second = world.attach(&eth1, on("net1", "c1", json!({}))).unwrap();
    let both: Vec<IpAddr> = [&first, &second].iter().map(|e| e.addresses[0].ip()).collect();
    assert_eq!(world.resolve(&first, "c1"), both);
    world.runtime.block_on(world.engine.handle.detach(eth0)).unwrap();
    assert_eq!(world.resolve(&second, "c1"), both[1..]);
    assert_eq!(world.fake.world().links.len(), 1);
}

#[test]
fn a_failure_at_any_step_is_undone_completely() {
    let requested = json!({"ports": ["4000:80"], "bandwidth": {"egress_rate": 8000, "egress_burst": 8000}});
    for fail_in in 0.. {
        let world = World::new(&["c1"]);
        let before = world.fake.world().elements.clone();
        world.fake.world().faults = Faults::call_of("apply", fail_in);
        let attached = world.attach(&key("podman", "c1", "eth0"), on("net1", "c1", requested.clone()));
        if attached.is_ok() {
            if world.fake.world().faults.hit().is_some() {
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
        let left = (after.links.len(), after.bridges.len(), after.held.len(), after.shapings.len());
        assert_eq!(left, (0, 0, 0, 0), "step {fail_in}");
        assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0), "step {fail_in}");
    }
}

#[test]
fn a_container_may_publish_the_same_ports_on_each_of_its_networks() {
    let world = World::new(&["c1", "c2"]);
    let (one, two) = (key("podman", "c1", "eth0"), key("two", "c1", "eth1"));
    let ports = json!({"ports": ["4000:80"]});
    let first = world.attach(&one, on("net1", "c1", ports.clone())).unwrap();
    let second = world.attach(&two, on("net2", "c1", ports.clone())).unwrap();
    let other = world.attach(&key("podman", "c2", "eth0"), on("net1", "c2", ports)).unwrap_err();
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
fn a_port_of_an_attachment_is_checked_but_not_held() {
    let world = World::new(&["c1"]);
    let port = netd::model::host::step::HostPort {
        address: [0, 0, 0, 0].into(),
        protocol: netd::model::publication::Protocol::Tcp,
        port: 4000,
    };
    world.fake.world().foreign_ports.insert(port);
    let key = key("podman", "c1", "eth0");
    let error = world.attach(&key, on("net1", "c1", json!({"ports": ["4000:80"]}))).unwrap_err();
    assert!(error.to_string().contains("in use by sshd"), "{error}");
    world.attach(&key, on("net1", "c1", json!({"ports": ["4001:80"]}))).unwrap();
    assert!(world.fake.world().held.is_empty());
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
}

#[test]
fn a_foreign_interface_is_an_error_that_changes_nothing() {
    let world = World::new(&["c1"]);
    let inode = world.fake.world().last_inode;
    world.fake.world().foreign_ifnames.insert((inode, "eth0".parse().unwrap()));
    let error = world.attach(&key("podman", "c1", "eth0"), on("net1", "c1", json!({}))).unwrap_err();
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
        |world| link(world).bridge = "br0".parse().unwrap(),
        |world| world.bridges.clear(),
        |world| world.elements = None,
        |world| world.shapings.clear(),
    ];
    for (number, vandal) in vandals.into_iter().enumerate() {
        let world = World::new(&["c1"]);
        let requested = json!({"ports": ["4000:80"], "routes": [{"destination": "10.9.0.0/16", "gateway": "10.0.0.1"}],
            "bandwidth": {"ingress_rate": 8000, "ingress_burst": 8000}});
        let first = world.attach(&key, on("net1", "c1", requested.clone())).unwrap();
        let before = world.fake.world().clone();
        vandal(&mut world.fake.world());
        assert_eq!(world.attach(&key, on("net1", "c1", requested)).unwrap(), first);
        let after = world.fake.world().clone();
        let kept = |world: &netd::kernel::fake::World| {
            (world.links.clone(), world.bridges.clone(), world.elements.clone(), world.shapings.clone())
        };
        assert_eq!(kept(&after), kept(&before), "vandal {number}");
    }
}

#[test]
fn a_check_accepts_changes_of_later_plugins() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    world.attach(&key, on("net1", "c1", json!({}))).unwrap();
    let (netns, tuned) = ("/run/netns/c1", "02:00:00:00:00:99");
    link(&mut world.fake.world()).mac = tuned.parse().unwrap();
    link(&mut world.fake.world()).mtu = 1400;
    assert!(world.check(&key, netns).unwrap_err().contains("MAC address"));
    assert_eq!(world.check_for(&key, netns, Some(tuned), None), Ok(()), "no MTU is remembered");
    assert_eq!(world.check_for(&key, netns, Some(tuned), Some(1400)), Ok(()));
    assert!(world.check_for(&key, netns, Some(tuned), Some(1500)).unwrap_err().contains("MTU of eth0 is 1400"));
}

#[test]
fn an_attach_is_cancelled_if_its_caller_disconnected() {
    let world = World::new(&["c1"]);
    let spec = spec(&key("podman", "c1", "eth0"), on("net1", "c1", json!({})));
    world.runtime.block_on(world.engine.handle.connect_unless(spec, || true)).unwrap_err();
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0));
    assert!(world.fake.world().links.is_empty());
}

#[test]
fn a_check_names_the_changed_part() {
    let key = key("podman", "c1", "eth0");
    let cases: [(Vandal, &str); 10] = [
        (|world| world.links.clear(), "interface eth0 is gone"),
        (|world| link(world).addresses.clear(), "address 10.0.0.2/24"),
        (|world| world.routes.clear(), "default route by 10.0.0.1"),
        (|world| link(world).routes.clear(), "route to 10.9.0.0/16"),
        (|world| link(world).mac = "02:00:00:00:00:99".parse().unwrap(), "MAC address"),
        (|world| link(world).bridge = "br0".parse().unwrap(), "bridge port"),
        (|world| world.bridges.clear(), "bridge nd-net1 is gone"),
        (|world| elements(world).retain(|element| !matches!(element, Element::Publish(_))), "nft"),
        (|world| world.elements = None, "nft"),
        (|world| world.shapings.clear(), "limits"),
    ];
    for (vandal, part) in cases {
        let world = World::new(&["c1"]);
        let requested = json!({"ports": ["4000:80"], "routes": [{"destination": "10.9.0.0/16", "gateway": "10.0.0.1"}],
            "bandwidth": {"ingress_rate": 8000, "ingress_burst": 8000}});
        world.attach(&key, on("net1", "c1", requested)).unwrap();
        assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
        vandal(&mut world.fake.world());
        let error = world.check(&key, "/run/netns/c1").unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
}

fn link(world: &mut netd::kernel::fake::World) -> &mut netd::model::host::step::EndpointLink {
    world.links.values_mut().next().unwrap()
}

fn elements(world: &mut netd::kernel::fake::World) -> &mut std::collections::BTreeSet<Element> {
    world.elements.as_mut().unwrap()
}

#[test]
fn an_unknown_attachment_fails_a_check_and_may_be_detached() {
    let world = World::new(&["c1", "c2"]);
    let attached = key("podman", "c1", "eth0");
    world.attach(&attached, on("net1", "c1", json!({}))).unwrap();
    for other in [key("podman", "c2", "eth0"), key("podman", "c1", "eth1"), key("other", "c1", "eth0")] {
        assert!(world.check(&other, "/run/netns/c1").unwrap_err().contains("no attachment"));
        world.runtime.block_on(world.engine.handle.detach(other)).unwrap();
    }
    assert!(world.check(&attached, "/run/netns/c2").unwrap_err().contains("another network namespace"));
    assert_eq!(world.check(&attached, "/run/netns/c1"), Ok(()), "the attachment is unchanged");
}

#[test]
fn gc_removes_exactly_the_other_attachments_of_its_network() {
    let world = World::new(&["c1", "c2", "c3", "hand"]);
    for (owner, container, ifname, netns) in [
        ("podman", "c1", "eth0", "c1"),
        ("podman", "c1", "eth1", "c1"),
        ("podman", "c2", "eth0", "c2"),
        ("other", "c3", "eth0", "c3"),
    ] {
        world.attach(&key(owner, container, ifname), on("net1", netns, json!({}))).unwrap();
    }
    world.connect("net1", "hand");
    let valid = vec![("c1".parse().unwrap(), "eth1".parse().unwrap())];
    let gone = world.runtime.block_on(world.engine.handle.gc("podman".parse().unwrap(), valid)).unwrap();
    let mut gone: Vec<String> = gone.iter().map(|e| format!("{} {}", e.container.id, e.ifname)).collect();
    gone.sort();
    assert_eq!(gone, ["c1 eth0", "c2 eth0"]);
    let gone = world.runtime.block_on(world.engine.handle.gc("podman".parse().unwrap(), Vec::new())).unwrap();
    assert_eq!(gone.len(), 1, "an empty list keeps none");
    let mut left = world.names();
    left.sort();
    assert_eq!(left, ["c3", "hand"]);
}

#[test]
fn a_recreated_namespace_is_attached_again() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    world.attach(&key, on("net1", "c1", json!({"ports": ["4000:80"]}))).unwrap();
    world.fake.delete_namespace("c1");
    world.fake.add_namespace("c1");
    let again = world.attach(&key, on("net1", "c1", json!({"ports": ["4000:81"]}))).unwrap();
    assert_eq!(again.container.netns.id.inode, world.fake.world().last_inode);
    assert_eq!(world.fake.world().links.len(), 1);
}

#[test]
fn names_have_scopes() {
    let world = World::new(&["a", "b", "c", "d"]);
    let pod = |id: &str, name: &str, scope: &str| {
        let requested = json!({"name": name, "scope": scope});
        world.attach(&key("k8s", id, "eth0"), on("net1", id, requested)).unwrap()
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
    let first = world.attach(&key("x", "a", "eth0"), on("net1", "a", json!({"name": "web"}))).unwrap();
    let second = world.attach(&key("x", "b", "eth0"), on("net1", "b", json!({"name": "web"}))).unwrap();
    assert_eq!((first.container.name.as_str(), second.container.name.as_str()), ("web", "b"));
    assert_eq!(world.resolve(&first, "web").len(), 2);
    world.fake.delete_namespace("a");
    world.fake.add_namespace("c");
    let third = world.attach(&key("x", "c", "eth0"), on("net1", "c", json!({"name": "web"}))).unwrap();
    assert_eq!(third.container.name.as_str(), "web", "a dead container holds no name");
}

#[test]
fn an_id_of_64_digits_is_a_name_that_dns_cannot_resolve() {
    let world = World::new(&["c1"]);
    let id = "4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e";
    let endpoint = world.attach(&key("x", id, "eth0"), on("net1", "c1", json!({}))).unwrap();
    assert_eq!(endpoint.container.name.as_str(), id);
    assert_eq!(world.resolve(&endpoint, &id[..12]), [endpoint.addresses[0].ip()]);
}

#[test]
fn ranges_are_tried_in_order_and_refused_outside_of_the_network() {
    let world = World::new(&["a", "b", "c", "d"]);
    let ranges = json!([{"subnet": "10.0.0.0/24", "first": "10.0.0.9", "last": "10.0.0.9"},
        {"subnet": "10.0.0.0/24", "first": "10.0.0.200"}]);
    let attach = |id: &str, ranges: &Value| {
        world.attach(&key("x", id, "eth0"), on("net1", id, json!({ "ranges": ranges }))).map(|e| e.addresses[0].ip())
    };
    assert_eq!(attach("a", &ranges).unwrap(), IpAddr::from([10, 0, 0, 9]));
    assert_eq!(attach("b", &ranges).unwrap(), IpAddr::from([10, 0, 0, 200]));
    let full = attach("c", &json!([ranges[0]])).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Exhausted, "{full}");
    let outside = attach("d", &json!([{"subnet": "10.7.0.0/24"}])).unwrap_err().to_string();
    assert!(outside.contains("10.7.0.0/24") && outside.contains("none of the subnets"), "{outside}");
    world.runtime.block_on(world.engine.handle.detach(key("x", "a", "eth0"))).unwrap();
    assert_eq!(attach("c", &json!([ranges[0]])).unwrap(), IpAddr::from([10, 0, 0, 9]), "released");
}

#[test]
fn addresses_may_come_after_the_interface() {
    let world = World::new(&["c1"]);
    let key = key("x", "c1", "eth0");
    let bare = json!({"interface": "unaddressed", "ports": ["4000:80"]});
    let endpoint = world.attach(&key, on("net1", "c1", bare.clone())).unwrap();
    assert!(endpoint.addresses.is_empty());
    assert_eq!(world.attach(&key, on("net1", "c1", bare)).unwrap(), endpoint);
    let given = json!({"interface": "given", "ports": ["4000:80"],
        "addresses": [{"address": "10.0.0.50/24", "gateway": "10.0.0.254"}]});
    world.fake.world().faults = Faults::call_of("apply", 1);
    world.attach(&key, on("net1", "c1", given.clone())).unwrap_err();
    assert!(world.fake.world().links.values().all(|link| link.addresses.is_empty()), "undone");
    let endpoint = world.attach(&key, on("net1", "c1", given.clone())).unwrap();
    assert_eq!(endpoint.gateways, [IpAddr::from([10, 0, 0, 254])]);
    assert_eq!(world.attach(&key, on("net1", "c1", given)).unwrap(), endpoint);
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
    assert_eq!(world.resolve(&endpoint, "c1"), [IpAddr::from([10, 0, 0, 50])]);
    world.runtime.block_on(world.engine.handle.detach(key)).unwrap();
    assert!(world.fake.world().links.is_empty() && world.fake.world().held.is_empty());
}

/// A veth pair that a bridge plugin made, on cni0 with the gateway 10.22.0.1.
fn found(world: &World, inode: u64, address: &str) {
    let interface = ObservedInterface {
        mac: Some(Mac::for_address([10, 22, 0, 5].into())),
        up: true,
        mtu: 1500,
        addresses: vec![address.parse().unwrap()],
        routes: Vec::new(),
        default_elsewhere: Vec::new(),
        host_end: Some(HostEnd {
            name: format!("veth{inode}").parse().unwrap(),
            bridge: Some("cni0".parse().unwrap()),
            up: true,
            isolated: false,
        }),
    };
    let mut fake = world.fake.world();
    fake.found.insert((inode, "eth0".parse().unwrap()), interface);
    let gateway = ("10.22.0.1/16".parse().unwrap(), "cni0".parse().unwrap());
    fake.facts.addresses.push(gateway);
}

#[test]
fn names_and_ports_are_added_to_an_adopted_interface() {
    let world = World::new(&["c1", "c2"]);
    found(&world, 1, "10.22.0.5/16");
    found(&world, 2, "10.22.0.6/16");
    let requested =
        |ip: &str| json!({"interface": "found", "ports": [], "addresses": [{"address": ip, "gateway": "10.22.0.1"}]});
    let mut with_port = requested("10.22.0.5/16");
    with_port["ports"] = json!(["4000:80"]);
    let (one, two) = (key("chain", "c1", "eth0"), key("chain", "c2", "eth0"));
    let first = world.attach(&one, on("net1", "c1", with_port)).unwrap();
    let second = world.attach(&two, on("net1", "c2", requested("10.22.0.6/16"))).unwrap();
    assert_eq!(world.resolve(&second, "c1"), [first.addresses[0].ip()]);
    let table = world.fake.world().elements.clone().unwrap();
    assert!(table.contains(&Element::Bridge("cni0".parse().unwrap())), "{table:?}");
    assert!(table.iter().any(|element| matches!(element, Element::Publish(to) if to.to == first.addresses[0].ip())));
    assert!(world.fake.world().links.is_empty() && world.fake.world().bridges.is_empty(), "netd made no interface");
    assert_eq!(world.check(&one, "/run/netns/c1"), Ok(()));
    let by_hand = by_name("net1", "c2");
    let error = world.runtime.block_on(world.engine.handle.connect(by_hand)).unwrap_err().to_string();
    assert!(error.contains("another CNI plugin"), "{error}");
    world.runtime.block_on(world.engine.handle.detach(one)).unwrap();
    world.runtime.block_on(world.engine.handle.detach(two)).unwrap();
    world.runtime.block_on(world.engine.handle.remove_network("net1")).unwrap();
    assert_eq!(world.fake.world().elements.as_ref().map(std::collections::BTreeSet::len), Some(0));
}

#[test]
fn a_recreated_veth_pair_is_adopted_again() {
    let world = World::new(&["c1"]);
    found(&world, 1, "10.22.0.5/16");
    let key = key("chain", "c1", "eth0");
    let requested = json!({"interface": "found", "addresses": [{"address": "10.22.0.5/16", "gateway": "10.22.0.1"}]});
    world.attach(&key, on("net1", "c1", requested.clone())).unwrap();
    let new: netd::model::names::IfName = "vethnew".parse().unwrap();
    for interface in world.fake.world().found.values_mut() {
        interface.host_end.as_mut().unwrap().name = new.clone();
    }
    assert_eq!(world.attach(&key, on("net1", "c1", requested)).unwrap().host_ifname, new);
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
}

#[test]
fn an_interface_that_netd_cannot_adopt_is_refused_and_creates_no_network() {
    let world = World::new(&["c1"]);
    found(&world, 1, "10.22.0.5/16");
    let key = key("chain", "c1", "eth0");
    for (addresses, words) in [
        (json!([]), "no address"),
        (json!([{"address": "10.22.0.9"}]), "does not have the address 10.22.0.9"),
        (json!([{"address": "10.22.0.5"}]), "no gateway"),
        (json!([{"address": "10.22.0.5", "gateway": "10.22.0.254"}]), "no address of the host"),
    ] {
        let requested = json!({"interface": "found", "addresses": addresses});
        let error = world.attach(&key, on("net1", "c1", requested)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let inode = (1, "eth0".parse().unwrap());
    world.fake.world().found.get_mut(&inode).unwrap().host_end = None;
    let requested = json!({"interface": "found", "addresses": [{"address": "10.22.0.5", "gateway": "10.22.0.1"}]});
    let error = world.attach(&key, on("net1", "c1", requested)).unwrap_err();
    assert!(error.to_string().contains("no veth pair"), "{error}");
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0));
}

#[test]
fn a_full_network_has_no_capacity() {
    let world = World::new(&["c1"]);
    let small = json!({"network": {"name": "net1", "subnets": ["10.1.0.0/30"]}});
    let room = || world.runtime.block_on(world.engine.handle.capacity("net1"));
    assert_eq!(room().unwrap_err().kind(), ErrorKind::NotFound);
    world.attach(&key("x", "c1", "eth0"), on("net1", "c1", small)).unwrap();
    assert_eq!(room().unwrap_err().kind(), ErrorKind::Exhausted);
    world.runtime.block_on(world.engine.handle.detach(key("x", "c1", "eth0"))).unwrap();
    room().unwrap();
}
