//! The revision of the zone: cached replies are valid as long as it stays the same.

use netd::kernel::KernelEvent;

use super::*;

#[test]
fn only_changes_that_affect_answers_change_the_zone_revision() {
    let world = World::new();
    let last = std::cell::RefCell::new(world.handle().snapshot());
    // Whether the zone revision changed after all messages to the engine.
    let changed = || {
        let _ = world.runtime.block_on(world.handle().capacity("no-such-network"));
        let now = world.handle().snapshot();
        let before = last.replace(now.clone());
        assert_eq!(now.answers_like(&before), now.zone_revision == before.zone_revision);
        !now.answers_like(&before)
    };
    let handle = world.handle();
    let spec = NetworkSpec { dns: Default::default(), ..network_spec("net1") };
    world.runtime.block_on(handle.create_network(spec)).unwrap();
    assert!(changed(), "a network was created");
    of_engines::connect(&world, "net1", "web", None, None);
    assert!(changed(), "a container was connected");

    world.fake.emit(&KernelEvent::MonitorStopped { monitor: "link", why: "out of memory".into() });
    assert!(!changed(), "a problem");
    world.fake.world().bridges.clear();
    world.fake.world().links.clear();
    for event in [KernelEvent::Changed, KernelEvent::LinksChanged, KernelEvent::FirewallChanged, KernelEvent::Tick] {
        world.fake.emit(&event);
    }
    assert!(!changed(), "a repair");
    assert_eq!(world.fake.world().links.len(), 1);
    assert!(world.handle().snapshot().revision > world.handle().snapshot().zone_revision);

    world.runtime.block_on(handle.disconnect("net1", "web")).unwrap();
    assert!(changed(), "a container was disconnected");
    world.runtime.block_on(handle.remove_network("net1")).unwrap();
    assert!(changed(), "a network was removed");
}
