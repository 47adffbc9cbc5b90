//! Repairs that failed and are tried again without a notification.

use std::time::Duration;

use netd::kernel::KernelEvent;
use netd_testing::clock::Clock;

use super::monitors::problems;
use super::*;

#[test]
fn a_failed_repair_is_tried_again_by_itself_after_longer_and_longer_pauses() {
    let world = World::new();
    let clock = world.runtime.block_on(async { Clock::stop() });
    world.runtime.block_on(world.handle().create_network(network_spec("net1"))).unwrap();
    let bridges = std::mem::take(&mut world.fake.world().bridges);
    world.fake.world().faults = Faults::call_of("AddBridge", 0).for_good();
    world.fake.emit(&KernelEvent::Changed);
    let later = |pause: Duration| {
        world.runtime.block_on(clock.jump(pause));
        // The engine looks at its clock after the first command, and answers the second afterwards.
        problems(&world);
        (problems(&world).len(), world.fake.world().faults.hits().len())
    };
    let (found, mut tries) = later(Duration::ZERO);
    assert_eq!(found, 1);
    let moment = Duration::from_millis(1);
    for pause in [1, 2, 4, 8].map(Duration::from_secs) {
        assert_eq!(later(pause - moment), (1, tries), "within {pause:?}");
        let (found, more) = later(moment);
        assert!(found == 1 && more > tries, "after {pause:?}");
        tries = more;
    }
    world.fake.world().faults = Faults::default();
    assert_eq!(later(Duration::from_secs(16)), (0, 0));
    assert_eq!(world.fake.world().bridges, bridges, "the bridge is back");
}
