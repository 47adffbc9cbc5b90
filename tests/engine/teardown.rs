//! Teardown: whatever fails, everything is gone or the command can be repeated.

use netd::store::Stored;

use super::*;

/// Two networks, one of which serves DNS within its containers, and a published port.
fn made() -> World {
    let world = World::new();
    for network in NETWORKS {
        world.runtime.block_on(world.handle().create_network(network_spec(network))).unwrap();
        let web = ContainerRef { name: "web".into(), netns: None, id: None };
        let ports = if network == "net2" { vec!["4000:80".parse().unwrap()] } else { Vec::new() };
        let spec = EndpointSpec { ports, ..person(network, web) };
        world.runtime.block_on(world.handle().connect(spec)).unwrap();
    }
    world
}

/// Lists what is left.
fn left(world: &World) -> Vec<&'static str> {
    let kernel = world.fake.world();
    let mut left = vec![
        ("bridges", !kernel.bridges.is_empty()),
        ("pairs", !kernel.links.is_empty()),
        ("the table", kernel.elements.is_some()),
        ("ports", !kernel.held.is_empty()),
        ("files", !kernel.resolv.is_empty()),
        ("redirections", !kernel.inside.is_empty()),
        ("records", world.store.stored() != Stored::default()),
    ];
    left.retain(|(_, is_left)| *is_left);
    left.into_iter().map(|(what, _)| what).collect()
}

#[test]
fn whatever_fails_it_can_be_repeated() {
    let mut refusals = 0;
    for nth in 0.. {
        let world = made();
        world.fake.world().faults = Faults::call(nth);
        let teardown = |dry_run| world.runtime.block_on(world.handle().teardown(dry_run));
        let first = teardown(false);
        let failed = std::mem::take(&mut world.fake.world().faults).hits().join(", ");
        if let Err(error) = &first {
            refusals += 1;
            let again = teardown(false);
            assert!(again.is_ok(), "call {nth}, {failed}: {error}; again: {again:?}");
        }
        assert_eq!(left(&world), [] as [&str; 0], "call {nth}, {failed}: {first:?}");
        assert_eq!(world.runtime.block_on(world.handle().prune_networks()).unwrap_err().kind(), ErrorKind::Unavailable);
        if failed.is_empty() {
            break;
        }
    }
    assert!(refusals > 0, "no fault was noticed");
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = made();
    let before = left(&world);
    let planned = world.runtime.block_on(world.handle().teardown(true)).unwrap();
    assert_eq!(left(&world), before);
    let count = |action: &str| planned.iter().filter(|step| step.action == action).count();
    assert_eq!([count("disconnect"), count("remove-network"), count("delete-table")], [2, 2, 1], "{planned:?}");
    world.runtime.block_on(world.handle().prune_networks()).unwrap();
}
