//! Failures of attachments: kills between commit and kernel, containers that end without a detach, other programs that
//! recreate interfaces.

use std::net::IpAddr;

use netd::engine::ErrorKind;
use netd::engine::event::Change;
use netd::kernel::fake::faults::Faults;
use netd::model::host::element::Element;
use netd::model::request::CheckSpec;
use netd_testing::request::{Attach, attach};

use super::adopted::{behind, found};
use super::{World, key, link};

fn bare() -> Attach {
    attach("net1", "c1").unaddressed().publish("4000:80/udp")
}

fn given(address: &str) -> Attach {
    attach("net1", "c1").given(address).publish("4000:80/udp")
}

#[test]
fn a_repeated_attach_fails_if_the_interface_cannot_be_made() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    world.attach(&key, attach("net1", "c1")).unwrap();
    world.fake.world().links.clear();
    world.fake.world().foreign_ifnames.insert((1, "eth0".parse().unwrap()));
    let error = world.attach(&key, attach("net1", "c1")).unwrap_err();
    assert!(error.to_string().contains("eth0 already exists"), "{error}");
    world.fake.world().foreign_ifnames.clear();
    world.attach(&key, attach("net1", "c1")).unwrap();
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
}

#[test]
fn a_repeated_attach_adds_addresses_that_a_killed_daemon_only_stored() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    world.attach(&key, bare()).unwrap();
    world.attach(&key, given("10.0.0.50")).unwrap();
    link(&mut world.fake.world()).addresses.clear();
    world.attach(&key, given("10.0.0.50")).unwrap();
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
}

#[test]
fn a_start_repairs_inside_containers() {
    let world = World::new(&["c1", "c2"]);
    let (one, two) = (key("podman", "c1", "eth0"), key("podman", "c2", "eth0"));
    world.attach(&one, attach("net1", "c1").route("10.9.0.0/16")).unwrap();
    world.attach(&two, attach("net1", "c2")).unwrap();
    for link in world.fake.world().links.values_mut() {
        link.addresses.clear();
        link.routes.clear();
    }
    world.fake.world().routes.clear();
    let world = world.again();
    assert_eq!(world.check(&one, "/run/netns/c1"), Ok(()));
    assert_eq!(world.check(&two, "/run/netns/c2"), Ok(()));
}

#[test]
fn an_adopted_container_that_ended_without_a_detach_is_released() {
    let world = World::new(&["c1", "c2", "c3"]);
    for (inode, ip) in [(1, "10.22.0.5/16"), (2, "10.22.0.5/16"), (3, "10.22.0.6/16")] {
        found(&world, inode, ip);
    }
    world.attach(&key("chain", "c1", "eth0"), behind("c1", "10.22.0.5/16").publish("4000:80")).unwrap();
    world.fake.delete_namespace("c1");
    // Its IPAM plugin has assigned the address again meanwhile.
    world.attach(&key("chain", "c2", "eth0"), behind("c2", "10.22.0.5/16").publish("4000:80")).unwrap();
    assert_eq!(world.names(), ["c2"]);
    world.fake.delete_namespace("c2");
    // This makes netd observe the host.
    world.attach(&key("chain", "c3", "eth0"), behind("c3", "10.22.0.6/16")).unwrap();
    world.runtime.block_on(world.engine.handle.disconnect("net1", "c3")).unwrap();
    let world = world.again();
    assert_eq!(world.names(), Vec::<String>::new());
}

#[test]
fn a_new_namespace_under_the_same_name_is_a_new_container() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c2", "eth0");
    world.attach(&key, attach("net1", "c1")).unwrap();
    world.runtime.block_on(world.engine.handle.detach(key)).unwrap();
    let first = world.connect("net1", "c1");
    world.fake.delete_namespace("c1");
    world.fake.add_namespace("c1");
    let second = world.connect("net1", "c1");
    assert_ne!(first.container.netns.id, second.container.netns.id, "the new namespace, not \"already connected\"");
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (1, 1, 1));
}

#[test]
fn the_port_of_a_container_that_ended_without_a_detach_is_free() {
    let world = World::new(&["c1", "c2"]);
    let requested = |netns| attach("net1", netns).publish("4000:80").address("10.0.0.9").mac("02:00:00:00:00:09");
    world.attach(&key("podman", "c1", "eth0"), requested("c1")).unwrap();
    let held = world.attach(&key("podman", "c2", "eth0"), requested("c2")).unwrap_err();
    assert_eq!(held.kind(), ErrorKind::Conflict, "{held}");
    world.fake.delete_namespace("c1");
    world.attach(&key("podman", "c2", "eth0"), requested("c2")).unwrap();
    assert_eq!(world.names(), ["c2"]);
}

#[test]
fn an_interface_recreated_by_another_program_is_adopted_again() {
    let world = World::new(&["c1"]);
    found(&world, 1, "10.22.0.5/16");
    let key = key("chain", "c1", "eth0");
    let first = world.attach(&key, behind("c1", "10.22.0.5/16")).unwrap();
    assert_eq!(world.attach(&key, behind("c1", "10.22.0.5/16")).unwrap(), first);
    let mut seen = world.fake.world().found.values().next().unwrap().clone();
    seen.mac = Some("02:00:00:00:00:77".parse().unwrap());
    seen.addresses = vec!["10.22.0.7/16".parse().unwrap()];
    seen.host_end.as_mut().unwrap().name = "veth77".parse().unwrap();
    world.fake.world().found.insert((1, "eth0".parse().unwrap()), seen);
    let second = world.attach(&key, behind("c1", "10.22.0.7/16")).unwrap();
    assert_eq!(second.host_ifname.as_str(), "veth77");
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (1, 1, 1));
}

#[test]
fn a_bridge_recreated_by_another_program_is_prepared_again() {
    let world = World::new(&["c1", "c2", "c3"]);
    found(&world, 1, "10.22.0.5/16");
    found(&world, 2, "10.22.0.6/16");
    let prepared = |world: &World| world.fake.world().prepared.iter().map(ToString::to_string).collect::<Vec<_>>();
    world.attach(&key("chain", "c1", "eth0"), behind("c1", "10.22.0.5/16")).unwrap();
    assert_eq!(prepared(&world), ["cni0"]);
    world.detach(&key("chain", "c1", "eth0"));
    world.fake.world().prepared.clear();
    let world = world.again();
    world.attach(&key("chain", "c2", "eth0"), behind("c2", "10.22.0.6/16")).unwrap();
    assert_eq!(prepared(&world), ["cni0"], "the settings were lost with the old bridge");
    // Without a bridge, the host end itself is prepared.
    found(&world, 3, "10.23.0.5/24");
    let mut fake = world.fake.world();
    let seen = fake.found.get_mut(&(3, "eth0".parse().unwrap())).unwrap();
    seen.host_end.as_mut().unwrap().bridge = None;
    fake.facts.addresses.push(("10.23.0.1/32".parse().unwrap(), "veth3".parse().unwrap()));
    drop(fake);
    let requested = attach("net3", "c3").found("10.23.0.5/24", "10.23.0.1");
    world.attach(&key("ptp", "c3", "eth0"), requested).unwrap();
    assert_eq!(prepared(&world), ["cni0", "veth3"]);
}

#[test]
fn an_address_of_a_failed_attach_counts_as_released() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    world.attach(&key, attach("net1", "c1").address("10.0.0.50")).unwrap();
    world.detach(&key);
    let released = |world: &World| world.store.stored().released.iter().map(|(_, ip, _)| *ip).collect::<Vec<_>>();
    assert_eq!(released(&world), [IpAddr::from([10, 0, 0, 50])]);
    world.attach(&key, bare()).unwrap();
    world.fake.world().faults = Faults::call_of("apply", 1);
    world.attach(&key, given("10.0.0.50")).unwrap_err();
    assert_eq!(released(&world), [IpAddr::from([10, 0, 0, 50])]);
    world.attach(&key, given("10.0.0.50")).unwrap();
    assert_eq!(released(&world), Vec::<IpAddr>::new());
}

#[test]
fn a_request_with_addresses_must_match_the_earlier_request() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    world.attach(&key, bare()).unwrap();
    let base = || attach("net1", "c1");
    for other in [base().given("10.0.0.50").publish("4001:80"), base().unaddressed()] {
        let error = world.attach(&key, other).unwrap_err();
        assert!(error.to_string().contains("its ports"), "{error}");
    }
    world.detach(&key);
    let deaf = || base().publish("[::1]:4000:80");
    world.attach(&key, deaf().unaddressed()).unwrap();
    // Another network of the container may publish the port; this one cannot.
    let endpoint = world.attach(&key, deaf().given("10.0.0.50")).unwrap();
    let why: Vec<String> = endpoint.skipped.iter().map(|skipped| skipped.why.to_string()).collect();
    assert!(endpoint.publications.is_empty() && why.len() == 1 && why[0].contains("no IPv6 address"), "{why:?}");
}

#[test]
fn the_first_interface_gets_the_default_route_when_its_address_arrives_late() {
    let world = World::new(&["c1"]);
    let (eth0, eth1) = (key("podman", "c1", "eth0"), key("podman", "c1", "eth1"));
    world.attach(&eth0, bare()).unwrap();
    world.attach(&eth1, attach("net2", "c1")).unwrap();
    let address = world.attach(&eth0, given("10.0.0.50")).unwrap().addresses[0].ip();
    let routes: Vec<String> =
        world.fake.world().routes[&1].iter().map(|r| format!("{} {}", r.ifname, r.gateway)).collect();
    assert_eq!(routes, ["eth0 10.0.0.1"]);
    let table = world.fake.world().elements.clone().unwrap();
    assert!(table.iter().any(|element| matches!(element, Element::Publish(to) if to.to == address)), "{table:?}");
    assert_eq!(world.check(&eth0, "/run/netns/c1"), Ok(()));
    assert_eq!(world.check(&eth1, "/run/netns/c1"), Ok(()));
}

#[test]
fn only_the_first_container_of_an_adopted_network_observes_the_host() {
    let world = World::new(&["c1", "c2"]);
    found(&world, 1, "10.22.0.5/16");
    found(&world, 2, "10.22.0.6/16");
    world.attach(&key("chain", "c1", "eth0"), behind("c1", "10.22.0.5/16")).unwrap();
    world.fake.world().facts.addresses.clear();
    world.attach(&key("chain", "c2", "eth0"), behind("c2", "10.22.0.6/16")).unwrap();
}

#[test]
fn a_connection_is_reported_once() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    let mut events = world.engine.handle.events();
    world.attach(&key, bare()).unwrap();
    world.attach(&key, given("10.0.0.50")).unwrap();
    world.attach(&key, given("10.0.0.50")).unwrap();
    world.detach(&key);
    world.attach(&key, bare()).unwrap();
    world.detach(&key);
    let mut changes = Vec::new();
    while let Ok(event) = events.try_recv() {
        match &event.change {
            Change::Connected(endpoint) => changes.push(format!("+{}", endpoint.addresses.len())),
            Change::Disconnected { endpoint, .. } => changes.push(format!("-{}", endpoint.addresses.len())),
            _ => {}
        }
    }
    assert_eq!(changes, ["+1", "-1"]);
}

#[test]
fn a_repeated_attach_keeps_its_free_ports() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    let requested = |ports: &[&str]| ports.iter().fold(attach("net1", "c1"), |request, port| request.publish(port));
    let both = ["80-82", "8000-8002:90"];
    let first = world.attach(&key, requested(&both)).unwrap();
    assert_eq!(first.publications.len(), 4);
    assert_eq!(world.attach(&key, requested(&both)).unwrap(), first);
    for other in [&["80-81", "8000-8002:90"][..], &["80-82", "8001-8002:90"], &["80-82"]] {
        world.attach(&key, requested(other)).unwrap_err();
    }
}

#[test]
fn a_disconnect_and_a_concurrent_detach_remove_both_endpoints() {
    let world = World::new(&["c1"]);
    let (eth0, eth1) = (key("podman", "c1", "eth0"), key("podman", "c1", "eth1"));
    world.attach(&eth0, attach("net1", "c1")).unwrap();
    world.attach(&eth1, attach("net1", "c1")).unwrap();
    let handle = world.engine.handle.clone();
    let check = CheckSpec { key: eth1, netns: "/run/netns/c1".into(), addresses: Vec::new(), mac: None, mtu: None };
    // The kernel blocks the engine until both commands are in its mailbox, so that it takes them together.
    let kernel = world.fake.world();
    let (_, detached, disconnected, ()) = world.runtime.block_on(async {
        let release = async { drop(kernel) };
        tokio::join!(handle.check(check), handle.detach(eth0), handle.disconnect("net1", "c1"), release)
    });
    detached.unwrap();
    assert_eq!(disconnected.unwrap().ifname.as_str(), "eth1");
    assert_eq!(world.names(), Vec::<String>::new());
}
