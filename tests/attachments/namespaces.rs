//! One namespace is one container, under any name.

use std::path::PathBuf;
use std::sync::Arc;

use netd::engine;
use netd::model::endpoint::Endpoint;
use netd::store::{Record, Store as _};
use netd_testing::request::{attach, connect};

use super::{World, key};

impl World {
    /// Another path to the namespace of that name.
    fn also_at(&self, path: &str, name: &str) {
        let mut world = self.fake.world();
        let inode = world.namespaces[&PathBuf::from("/run/netns").join(name)];
        world.namespaces.insert(path.into(), inode);
    }

    fn connect_at(&self, network: &str, name: &str, netns: &str) -> Result<Arc<Endpoint>, engine::Error> {
        self.runtime.block_on(self.engine.handle.connect(connect(network, name).netns(netns).spec()))
    }
}

/// Two networks, and a namespace that can be reached by three paths.
fn world() -> World {
    let world = World::new(&["x", "other"]);
    for network in ["net1", "net2"] {
        let key = key("cni", "other", if network == "net1" { "eth0" } else { "eth1" });
        world.attach(&key, attach(network, "other")).unwrap();
    }
    world.also_at("/proc/812/ns/net", "x");
    world
}

#[test]
fn a_second_name_for_a_namespace_is_refused_with_the_first_name() {
    let world = world();
    world.connect_at("net1", "base", "/run/netns/x").unwrap();
    let expected = |error: engine::Error| {
        let text = error.to_string();
        assert!(text.contains("is the network namespace of container base"), "{text}");
    };
    expected(world.connect_at("net2", "side", "/run/netns/x").unwrap_err());
    expected(world.connect_at("net2", "side", "/proc/812/ns/net").unwrap_err());
    expected(world.runtime.block_on(world.engine.handle.connect(connect("net2", "x").spec())).unwrap_err());
    let world = world.again();
    expected(world.connect_at("net2", "side", "/proc/812/ns/net").unwrap_err());
    assert!(!world.names().contains(&"side".to_owned()), "{:?}", world.names());
    // By its own name it may be connected with any path.
    world.connect_at("net2", "base", "/proc/812/ns/net").unwrap();
    assert_eq!(world.engine.handle.snapshot().desired.counts().1, 2);
}

#[test]
fn a_container_whose_path_is_gone_lives_as_long_as_its_namespace() {
    let world = world();
    world.connect_at("net1", "base", "/proc/812/ns/net").unwrap();
    world.fake.world().namespaces.remove(&PathBuf::from("/proc/812/ns/net"));
    let text = world.connect_at("net2", "side", "/run/netns/x").unwrap_err().to_string();
    assert!(text.contains("is the network namespace of container base"), "{text}");
    let snapshot = world.engine.handle.snapshot();
    let base = snapshot.desired.containers().find(|attached| attached.container.name.as_str() == "base").unwrap();
    assert_eq!(base.container.netns.path, PathBuf::from("/run/netns/x"), "it is known by the path that is left");
    world.fake.world().namespaces.clear();
    world.fake.add_namespace("y");
    world.connect_at("net2", "base", "/run/netns/y").unwrap();
    assert_eq!(world.names().iter().filter(|name| *name == "base").count(), 1, "the former one has ended");
}

#[test]
fn a_runtimes_container_in_a_known_namespace_is_that_container_with_an_alias() {
    let world = world();
    let base = world.connect_at("net1", "base", "/run/netns/x").unwrap();
    let key1 = key("podman", "c0ffee", "eth1");
    let requested = || attach("net2", "x").name("web").publish("8080:80");
    let attached = world.attach(&key1, requested()).unwrap();
    assert_eq!(attached.container, base.container);
    assert_eq!(world.engine.handle.snapshot().desired.counts().1, 2);
    let probe = world.engine.handle.snapshot().attachment(&key("cni", "other", "eth1")).unwrap();
    assert_eq!(world.resolve(&probe, "web"), [attached.addresses[0].ip()]);
    assert!(world.resolve(&probe, "base").contains(&attached.addresses[0].ip()));
    // The runtime's id identifies it: in a repeated attach, a check, after a restart, and in a detach.
    assert_eq!(world.attach(&key1, requested()).unwrap(), attached);
    world.check(&key1, "/run/netns/x").unwrap();
    let key2 = key("podman", "c0ffee", "eth2");
    let second = world.attach(&key2, attach("net2", "x").name("web")).unwrap();
    assert_eq!(second.container, base.container);
    let world = world.again();
    assert_eq!(world.attach(&key1, requested()).unwrap(), attached);
    let found = world.engine.handle.snapshot().desired.exact_container("c0ffee").map(|a| a.container.clone());
    assert_eq!(found, Some(base.container.clone()));
    let valid = vec![(key1.container.clone(), key1.ifname.clone())];
    let gone = world.runtime.block_on(world.engine.handle.gc(key1.owner.clone(), valid)).unwrap();
    assert_eq!(gone.iter().map(|endpoint| endpoint.ifname.to_string()).collect::<Vec<_>>(), ["eth2"]);
    world.detach(&key1);
    let snapshot = world.engine.handle.snapshot();
    assert_eq!(snapshot.desired.exact_container("c0ffee"), None);
    let left = snapshot.desired.container(&base.container.id).unwrap().endpoints.len();
    assert_eq!(left, 1, "the endpoint connected by the user remains");
}

#[test]
fn a_user_connects_a_runtimes_container_by_its_name() {
    let world = world();
    world.attach(&key("podman", "c0ffee", "eth0"), attach("net1", "x").name("web")).unwrap();
    let error = world.connect_at("net2", "side", "/proc/812/ns/net").unwrap_err().to_string();
    assert!(error.contains("is the network namespace of container web"), "{error}");
    world.connect_at("net2", "web", "/proc/812/ns/net").unwrap();
}

/// Earlier releases accepted one namespace as two containers.
#[test]
fn two_stored_names_for_one_namespace_load_and_a_third_is_refused() {
    let mut world = world();
    world.fake.add_namespace("y");
    let base = world.connect_at("net1", "base", "/run/netns/x").unwrap();
    let mut side = Endpoint::clone(&world.connect_at("net2", "side", "/run/netns/y").unwrap());
    side.container.netns = base.container.netns.clone();
    world.store.commit(&[Record::PutEndpoint(Box::new(side))]).unwrap();
    let world = world.again();
    let mut names = world.names();
    names.sort_unstable();
    assert_eq!(names, ["base", "other", "side"]);
    let error = world.connect_at("net2", "third", "/run/netns/x").unwrap_err().to_string();
    assert!(error.contains("is the network namespace of container base"), "{error}");
    world.connect_at("net2", "base", "/run/netns/x").unwrap();
    let disconnected = world.runtime.block_on(world.engine.handle.disconnect("net2", "side"));
    assert_eq!(disconnected.unwrap().container.name.as_str(), "side");
}
