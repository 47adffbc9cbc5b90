//! A container that a runtime attaches to several networks at once.

use std::sync::Arc;

use netd::api::v1::attachments_of;
use netd::engine;
use netd::engine::ErrorKind;
use netd::engine::event::{Cause, Change};
use netd::kernel::fake::faults::Faults;
use netd::model::endpoint::Endpoint;
use netd_testing::request::{Attach, attach, connect, network};

use super::{World, key};

impl World {
    /// Attaches the container `c1` with eth0, eth1, ….
    fn attach_all(&self, requests: Vec<Attach>) -> Result<Vec<Arc<Endpoint>>, engine::Error> {
        let spec = |(nth, request): (usize, Attach)| request.spec(key("podman", "c1", &format!("eth{nth}")));
        let specs = requests.into_iter().enumerate().map(spec).collect();
        self.runtime.block_on(self.engine.handle.connect_together(specs, || false))
    }

    fn create(&self, name: &str) {
        self.runtime.block_on(self.engine.handle.create_network(network(name).spec())).unwrap();
    }
}

fn both() -> Vec<Attach> {
    let to = |network| attach(network, "c1").name("web").publish("4000:80");
    vec![to("net1"), to("net2")]
}

#[test]
fn a_failure_at_any_step_of_any_network_is_undone_completely() {
    for fail_in in 0.. {
        let world = World::new(&["c1", "c2"]);
        world.create("net2");
        world.runtime.block_on(world.engine.handle.connect(connect("net2", "c2").spec())).unwrap();
        let before = world.fake.world().clone();
        world.fake.world().faults = Faults::call_of("apply", fail_in);
        let attached = world.attach_all(both());
        let hit = !world.fake.world().faults.hits().is_empty();
        if attached.is_ok() {
            if hit {
                continue;
            }
            assert!(fail_in > 8, "only {fail_in} steps");
            return;
        }
        let after = world.fake.world().clone();
        assert_eq!((after.elements, after.bridges), (before.elements, before.bridges), "step {fail_in}");
        assert_eq!((after.links.len(), after.held), (1, before.held), "step {fail_in}");
        assert_eq!(world.engine.handle.snapshot().desired.counts(), (1, 1, 1), "step {fail_in}");
    }
}

#[test]
fn what_was_there_before_stays_when_a_later_network_is_refused() {
    let world = World::new(&["c1"]);
    let mut events = world.engine.handle.events();
    let first = world.attach_all(both()[..1].to_vec()).unwrap();
    let mut three = both();
    three.push(attach("net3", "c1").address("192.0.2.1"));
    let error = world.attach_all(three).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let snapshot = world.engine.handle.snapshot();
    assert_eq!(snapshot.desired.endpoints().cloned().collect::<Vec<_>>(), first);
    assert_eq!(snapshot.desired.networks().map(|network| network.name.as_str()).collect::<Vec<_>>(), ["net1"]);
    let undone = |change: &Change| matches!(change, Change::Disconnected { endpoint, cause: Cause::Undone } if endpoint.network.as_str() == "net2");
    let told = std::iter::from_fn(|| events.try_recv().ok()).filter(|event| undone(&event.change)).count();
    assert_eq!(told, 1);
}

#[test]
fn a_repeated_request_changes_nothing_and_completes_what_is_missing() {
    let world = World::new(&["c1"]);
    let first = world.attach_all(both()).unwrap();
    assert_eq!(world.attach_all(both()).unwrap(), first);
    world.detach(&key("podman", "c1", "eth0"));
    let again = world.attach_all(both()).unwrap();
    assert_eq!(again[1], first[1]);
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (2, 1, 2));
}

#[test]
fn a_caller_that_has_gone_gets_nothing() {
    let world = World::new(&["c1"]);
    let specs = both().into_iter().enumerate();
    let specs = specs.map(|(nth, request)| request.spec(key("podman", "c1", &format!("eth{nth}")))).collect();
    world.runtime.block_on(world.engine.handle.connect_together(specs, || true)).unwrap_err();
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0));
}

#[test]
fn a_container_is_detached_from_all_networks_or_from_some() {
    let world = World::new(&["c1", "c2"]);
    let detach = |only| {
        let attachments = attachments_of("c1", only).unwrap();
        world.runtime.block_on(world.engine.handle.detach_together(attachments)).unwrap();
        let snapshot = world.engine.handle.snapshot();
        snapshot.desired.endpoints().map(|e| format!("{} {}", e.network, e.container.name)).collect::<Vec<_>>()
    };
    world.attach_all(both()).unwrap();
    world.attach(&key("podman", "c2", "eth0"), attach("net1", "c2")).unwrap();
    world.create("net3");
    let by_hand = connect("net3", "web").spec();
    world.runtime.block_on(world.engine.handle.connect(by_hand)).unwrap();
    assert_eq!(detach(Some("podman/eth9,other/eth0")), ["net1 web", "net1 c2", "net2 web", "net3 web"]);
    assert_eq!(detach(Some("podman/eth0,podman/eth9")), ["net1 c2", "net2 web", "net3 web"]);
    assert_eq!(detach(None), ["net1 c2", "net3 web"], "what a person connected stays");
    assert_eq!(detach(None), ["net1 c2", "net3 web"]);
}
