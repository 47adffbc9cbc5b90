//! Another program that keeps removing netd's accept rule from its firewall table.

use std::time::Duration;

use netd::kernel::KernelEvent;
use netd_testing::clock::Clock;

use super::monitors::problems;
use super::*;

/// How often netd restores the rule within a time.
const TRIES: usize = 5;
const SPAN: Duration = Duration::from_secs(60);

/// The rules of the other program, as `iptables-save` prints them.
const DROPS: &str = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n";

#[test]
fn netd_gives_up_restoring_its_rule_and_tries_again_a_minute_later() {
    let world = World::new();
    let clock = world.runtime.block_on(async { Clock::stop() });
    world.fake.world().ways = vec!["eth7".parse().unwrap()];
    // The other program loads its rules: netd's are gone. Returns whether they are back, and the problems.
    let load = || {
        world.fake.world().iptables = DROPS.into();
        world.fake.emit(&KernelEvent::FirewallChanged);
        let problems = problems(&world).concat();
        (world.fake.world().iptables.contains("NETD-FORWARD"), problems)
    };
    let gives_up = "another program keeps removing netd's accept rule";
    load();
    world.runtime.block_on(world.handle().create_network(network_spec("net1"))).unwrap();
    for _ in 0..TRIES {
        assert_eq!(load(), (true, String::new()));
    }
    let (is_back, problem) = load();
    assert!(!is_back && problem.contains(gives_up), "{problem}");
    world.runtime.block_on(clock.jump(SPAN - Duration::from_secs(1)));
    assert!(!load().0, "within the minute");
    world.runtime.block_on(clock.jump(Duration::from_secs(1)));
    assert_eq!(load(), (true, String::new()));
}
