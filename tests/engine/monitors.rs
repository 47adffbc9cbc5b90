//! Monitors of the kernel that stop and run again.

use netd::kernel::KernelEvent;
use netd::model::publication::PublishMode;
use netd::model::request::ServiceSpec;
use netd::model::service::Mode;

use super::*;

/// The problems after everything that was sent to the engine before.
pub(super) fn problems(world: &World) -> Vec<String> {
    let handle = world.handle();
    let _ = world.runtime.block_on(handle.capacity("no-such-network"));
    handle.snapshot().problems.clone()
}

/// When the thread of a monitor ended, only the log said so, and changes by other programs were no longer repaired.
#[test]
fn a_stopped_monitor_is_a_problem_and_its_restart_repairs_everything() {
    let world = World::new();
    let spec = NetworkSpec { dns: Default::default(), ..network_spec("net1") };
    world.runtime.block_on(world.handle().create_network(spec)).unwrap();
    assert_eq!(problems(&world), [""; 0]);
    world.fake.emit(&KernelEvent::MonitorStopped { monitor: "link", why: "out of memory".into() });
    let problem = "link monitor stopped: out of memory; netd notices changes by other programs late";
    assert_eq!(problems(&world), [problem]);
    // It remains a problem after a repair.
    world.fake.emit(&KernelEvent::Changed);
    assert_eq!(problems(&world), [problem]);
    // No monitor reports this change.
    let bridges = std::mem::take(&mut world.fake.world().bridges);
    assert_eq!(bridges.len(), 1);
    world.fake.emit(&KernelEvent::MonitorRuns("link"));
    assert_eq!(problems(&world), [""; 0]);
    assert_eq!(world.fake.world().bridges, bridges, "the bridge is back");
}

/// Such a kernel lets a container take the address of another one; everything else works there.
#[test]
fn a_kernel_without_bridge_tables_is_a_problem_and_networks_work() {
    let world = World::new();
    world.fake.world().unguarded = true;
    world.fake.world().refused = [("ndv-web-net1".parse().unwrap(), 3)].into();
    let spec = NetworkSpec { dns: Default::default(), ..network_spec("net1") };
    world.runtime.block_on(world.handle().create_network(spec)).unwrap();
    world.fake.emit(&KernelEvent::Changed);
    let found = problems(&world);
    assert!(found.len() == 1 && found[0].contains("CONFIG_NF_TABLES_BRIDGE"), "{found:?}");
    assert_eq!(*world.handle().snapshot().refused, world.fake.world().refused, "what was dropped is shown");
    world.fake.world().unguarded = false;
    world.fake.emit(&KernelEvent::Changed);
    assert_eq!(problems(&world), [""; 0]);
}

/// Names of services work on any kernel; their addresses and ports need one that hashes.
#[test]
fn a_kernel_without_the_table_of_services_is_a_problem_once_a_service_needs_it() {
    let world = World::new();
    world.fake.world().no_services = true;
    world.runtime.block_on(world.handle().create_network(network_spec("net1"))).unwrap();
    world.fake.emit(&KernelEvent::Changed);
    assert_eq!(problems(&world), [""; 0]);
    let networks = vec![("net1".to_owned(), Vec::new())];
    let spec = ServiceSpec { networks, mode: Mode::Vip, ..ServiceSpec::named("web".parse().unwrap()) };
    world.runtime.block_on(world.handle().create_service(spec)).unwrap();
    world.fake.emit(&KernelEvent::Changed);
    let found = problems(&world);
    assert!(found.len() == 1 && found[0].contains("CONFIG_NFT_HASH"), "{found:?}");
    world.runtime.block_on(world.handle().remove_service("web")).unwrap();
    world.fake.emit(&KernelEvent::Changed);
    assert_eq!(problems(&world), [""; 0]);
}

/// Ports that the host's own rules would decide about are refused there by name, and those that are to be so by the
/// configuration; what was made strict before is a problem.
#[test]
fn a_kernel_that_hands_no_packets_over_refuses_strict_ports() {
    let world = World::new();
    let strict = || NetworkSpec { publish: Some(PublishMode::Strict), ..network_spec("net2") };
    world.runtime.block_on(world.handle().create_network(network_spec("net1"))).unwrap();
    world.fake.add_namespace("web");
    let connect = || {
        let ports = vec!["published=4000,target=80,publish=strict".parse().unwrap()];
        let container = ContainerRef { name: "web".into(), netns: None, id: None };
        world.runtime.block_on(world.handle().connect(EndpointSpec { ports, ..person("net1", container) }))
    };
    world.fake.world().hands_nothing_over = true;
    world.fake.emit(&KernelEvent::Changed);
    assert_eq!(problems(&world), [""; 0]);
    for refused in [
        connect().map(drop).unwrap_err(),
        world.runtime.block_on(world.handle().create_network(strict())).map(drop).unwrap_err(),
    ] {
        assert!(refused.to_string().contains("CONFIG_NFT_LOG"), "{refused}");
    }
    world.fake.world().hands_nothing_over = false;
    world.fake.emit(&KernelEvent::Changed);
    assert_eq!(problems(&world), [""; 0]);
    connect().unwrap();
    world.fake.world().hands_nothing_over = true;
    world.fake.emit(&KernelEvent::Changed);
    let found = problems(&world);
    assert!(found.len() == 1 && found[0].contains("CONFIG_NETFILTER_NETLINK_LOG"), "{found:?}");
}

/// Both tables were counted as one object that is repaired: with two firewall reloads a second, the host was without
/// them for ten seconds.
#[test]
fn a_ruleset_that_is_flushed_as_often_as_netd_takes_part_is_restored_each_time() {
    let world = World::new();
    let spec = NetworkSpec { dns: Default::default(), ..network_spec("net1") };
    world.runtime.block_on(world.handle().create_network(spec)).unwrap();
    let before = world.fake.world().elements.clone();
    for flush in 1..20 {
        world.fake.world().elements = None;
        world.fake.emit(&KernelEvent::Changed);
        assert_eq!(problems(&world), [""; 0], "flush {flush}");
        assert_eq!(world.fake.world().elements, before, "flush {flush}");
    }
}
