//! A container that a runtime attaches to several networks at once.

use std::sync::Arc;

use netd::api::v1::attachments_of;
use netd::engine;
use netd::engine::ErrorKind;
use netd::engine::event::{Cause, Change};
use netd::kernel::KernelEvent;
use netd::kernel::fake::faults::Faults;
use netd::model::endpoint::Endpoint;
use netd::store::memory::Fault;
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

/// A request as Podman's: the network is on demand.
fn on_demand(container: &str, subnet: &str) -> Attach {
    attach("net1", container).to(network("net1").subnet(subnet).on_demand())
}

impl World {
    /// The subnets of all networks, after everything that the engine has to do.
    fn subnets(&self) -> Vec<String> {
        // Refused after everything before it.
        self.runtime.block_on(self.engine.handle.capacity("?")).unwrap_err();
        let snapshot = self.engine.handle.snapshot();
        snapshot.desired.networks().map(|network| network.subnets[0].subnet.to_string()).collect()
    }
}

#[test]
fn a_network_on_demand_goes_with_its_last_endpoint() {
    let world = World::new(&["c1", "c2"]);
    let subnet = "10.9.0.0/24";
    let (one, two) = (key("podman", "c1", "eth0"), key("podman", "c2", "eth0"));
    world.attach(&one, on_demand("c1", subnet)).unwrap();
    world.attach(&two, on_demand("c2", subnet)).unwrap();
    world.detach(&one);
    assert_eq!(world.subnets(), [subnet]);
    let world = world.again();
    assert_eq!(world.subnets(), [subnet]);
    world.detach(&two);
    assert_eq!(world.subnets(), [""; 0]);
    assert!(world.fake.world().bridges.is_empty());
    // A container that ended without a detach takes the network with it, also while it makes room for another.
    world.attach(&one, on_demand("c1", subnet).publish("4000:80")).unwrap();
    world.fake.delete_namespace("c1");
    let second = world.attach(&two, on_demand("c2", subnet).publish("4000:80")).unwrap();
    assert_eq!((world.subnets(), world.names()), (vec![subnet.into()], vec!["c2".into()]));
    world.fake.delete_namespace("c2");
    world.fake.world().links.clear();
    world.fake.emit(&KernelEvent::LinkGone(second.host_ifname.clone()));
    assert_eq!(world.subnets(), [""; 0]);
}

#[test]
fn a_network_on_demand_that_cannot_be_removed_goes_with_the_next_command_or_start() {
    let world = World::new(&["c1"]);
    let one = key("podman", "c1", "eth0");
    for restarts in [false, true] {
        world.attach(&one, on_demand("c1", "10.9.0.0/24")).unwrap();
        // The second commit deletes the network.
        world.store.set_fault(Some((1, if restarts { Fault::FailsForGood } else { Fault::Fails })));
        world.detach(&one);
        if restarts {
            assert_eq!(world.subnets(), ["10.9.0.0/24"]);
            world.store.set_fault(None);
            assert_eq!(world.again().subnets(), [""; 0]);
            return;
        }
        world.subnets();
        assert_eq!(world.subnets(), [""; 0]);
    }
}

#[test]
fn a_network_on_demand_follows_its_definition_when_nothing_uses_it() {
    let world = World::new(&["c1", "c2"]);
    let (one, two) = (key("podman", "c1", "eth0"), key("podman", "c2", "eth0"));
    world.attach(&one, on_demand("c1", "10.9.0.0/24")).unwrap();
    let refused = world.attach(&two, on_demand("c2", "10.10.0.0/24")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let told = refused.to_string();
    assert!(["net1", "subnet or gateway", "c1"].iter().all(|named| told.contains(named)), "{told}");
    world.detach(&one);
    world.attach(&two, on_demand("c2", "10.10.0.0/24")).unwrap();
    assert_eq!(world.subnets(), ["10.10.0.0/24"]);
    // One that a person made is joined as it is, and stays.
    world.detach(&two);
    world.create("net1");
    let made = world.subnets();
    world.attach(&one, attach("net1", "c1").to(network("net1").on_demand())).unwrap();
    world.detach(&one);
    assert_eq!(world.subnets(), made);
}

#[test]
fn name_servers_are_changed_while_containers_have_addresses() {
    let world = World::new(&["c1", "c2"]);
    world.attach(&key("podman", "c1", "eth0"), on_demand("c1", "10.9.0.0/24")).unwrap();
    let servers = vec!["192.0.2.7".parse().unwrap()];
    let changed = world.runtime.block_on(world.engine.handle.set_upstreams("net1", servers.clone())).unwrap();
    assert_eq!(changed.dns.upstreams, servers);
    let world = world.again();
    let network = world.engine.handle.snapshot().desired.networks().next().unwrap().clone();
    assert_eq!(network.dns.upstreams, servers);
    // Addresses in use are still known.
    let second = world.attach(&key("podman", "c2", "eth0"), attach("net1", "c2")).unwrap();
    assert_eq!(second.addresses[0].to_string(), "10.9.0.3/24");
}

#[test]
fn no_default_route_leads_over_a_network_that_must_not_have_it() {
    let world = World::new(&["c1"]);
    let requests = vec![attach("net1", "c1").no_default_route(), attach("net2", "c1")];
    let endpoints = world.attach_all(requests).unwrap();
    let snapshot = world.engine.handle.snapshot();
    let routes: Vec<usize> = endpoints.iter().map(|endpoint| snapshot.routes(endpoint).len()).collect();
    assert_eq!(routes, [0, 1]);
}
