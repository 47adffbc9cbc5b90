//! Who asks the gateway of a network whose interfaces another program made, and for whom that decides.

use netd::engine::listener::Listening;
use netd::kernel::KernelEvent;

use super::adopted::{behind, found};
use super::*;

/// A name service that says that it serves.
fn serving(mut world: World) -> World {
    let (_, nothing) = tokio::sync::mpsc::unbounded_channel();
    let mut listening = std::mem::replace(&mut world.engine.listening, nothing);
    std::thread::spawn(move || {
        while let Some(message) = listening.blocking_recv() {
            if let Listening::Alive(told) = message {
                // The engine may have given up.
                let _ = told.send(());
            }
        }
    });
    world
}

/// Containers that are to be attached to a network of another program; without a bridge, each has its own interface on
/// the host.
fn world(bridge: bool) -> World {
    let world = serving(World::new(&["c1", "c2", "c3", "c4"]));
    (1..=4).for_each(|inode| found(&world, inode, &format!("10.22.0.{}/16", 4 + inode)));
    for interface in world.fake.world().found.values_mut() {
        let end = interface.host_end.as_mut().unwrap();
        end.bridge = end.bridge.take().filter(|_| bridge);
    }
    world
}

fn attach_all(world: &World, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let (name, address) = (format!("c{number}"), format!("10.22.0.{}/16", 4 + number));
        world.attach(&key("chain", &name, "eth0"), behind(&name, &address)).unwrap();
    }
}

/// The containers that are served within, and whether the network is.
fn within(world: &World) -> (Vec<u64>, bool) {
    // The answer comes after what was emitted before.
    world.runtime.block_on(world.engine.handle.diff()).unwrap();
    let blocked = world.engine.handle.snapshot().gateway_blocked.len();
    (world.fake.world().inside.keys().copied().collect(), blocked == 1)
}

#[test]
fn a_container_that_is_asked_for_lack_of_a_bridge_decides_for_itself_only() {
    let world = world(false);
    world.fake.world().own_firewalls.insert(1);
    attach_all(&world, 1..=1);
    assert_eq!(within(&world), (vec![1], false));
    attach_all(&world, 2..=4);
    assert_eq!(within(&world), (vec![1], false));
    world.fake.emit(&KernelEvent::FirewallChanged);
    assert_eq!(within(&world), (vec![1], false));
    let world = serving(world.again());
    assert_eq!(within(&world), (vec![1], false));
}

#[test]
fn two_containers_that_agree_decide_and_decide_again() {
    let world = world(false);
    world.fake.world().drops_questions = true;
    attach_all(&world, 1..=1);
    assert_eq!(within(&world), (vec![1], false));
    attach_all(&world, 2..=2);
    assert_eq!(within(&world), (vec![1, 2], true));
    attach_all(&world, 3..=3);
    world.fake.world().drops_questions = false;
    world.fake.emit(&KernelEvent::Tick);
    assert_eq!(within(&world), (vec![1, 2, 3], false), "they were told so");
    attach_all(&world, 4..=4);
    assert_eq!(within(&world), (vec![1, 2, 3], false));
}

#[test]
fn netd_asks_itself_on_a_bridge_that_another_program_made() {
    let world = world(true);
    world.fake.world().gateways.insert("cni0".parse().unwrap(), vec![[10, 22, 0, 1].into()]);
    world.fake.world().own_firewalls.extend([1, 2]);
    attach_all(&world, 1..=3);
    assert_eq!(within(&world), (vec![], false));
    world.fake.world().drops_questions = true;
    world.fake.emit(&KernelEvent::FirewallChanged);
    assert_eq!(within(&world), (vec![1, 2, 3], true));
}

/// Asking from all networks at once would keep commands waiting: 1.2 s for 300 networks.
#[test]
fn many_networks_are_asked_from_some_at_a_time_and_all_in_the_end() {
    let names: Vec<String> = (1..=20).map(|number| format!("c{number}")).collect();
    let world = serving(World::new(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    for name in &names {
        world.attach(&key("podman", name, "eth0"), attach(&format!("net-{name}"), name)).unwrap();
    }
    let asked = || world.fake.world().asked_at_once;
    world.fake.world().drops_questions = true;
    world.fake.world().asked_at_once = 0;
    world.fake.emit(&KernelEvent::FirewallChanged);
    let blocked = || {
        world.runtime.block_on(world.engine.handle.diff()).unwrap();
        world.engine.handle.snapshot().gateway_blocked.len()
    };
    netd_testing::wait::until("all were asked from", || netd_testing::wait::seen(blocked(), |count| *count == 20));
    assert!((1..=8).contains(&asked()), "{} at once", asked());
}
