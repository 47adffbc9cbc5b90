//! CHECK and GC over the fake kernel.

use super::*;

#[test]
fn a_check_names_the_changed_part() {
    let key = key("podman", "c1", "eth0");
    let cases: [(Vandal, &str); 10] = [
        (|world| world.links.clear(), "interface eth0 is gone"),
        (|world| link(world).addresses.clear(), "address 10.0.0.2/24"),
        (|world| world.routes.clear(), "default route by 10.0.0.1"),
        (|world| link(world).routes.clear(), "route to 10.9.0.0/16"),
        (|world| link(world).mac = "02:00:00:00:00:99".parse().unwrap(), "MAC address"),
        (|world| pair(world).bridge = "br0".parse().unwrap(), "bridge port"),
        (|world| world.bridges.clear(), "bridge nd-net1 is gone"),
        (|world| elements(world).retain(|element| !matches!(element, Element::Publish(_))), "nft"),
        (|world| world.elements = None, "nft"),
        (|world| world.shapings.clear(), "limits"),
    ];
    for (vandal, part) in cases {
        let world = World::new(&["c1"]);
        world.attach(&key, with_everything()).unwrap();
        assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
        vandal(&mut world.fake.world());
        let error = world.check(&key, "/run/netns/c1").unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn an_unknown_attachment_fails_a_check_and_may_be_detached() {
    let world = World::new(&["c1", "c2"]);
    let attached = key("podman", "c1", "eth0");
    world.attach(&attached, attach("net1", "c1")).unwrap();
    for other in [key("podman", "c2", "eth0"), key("podman", "c1", "eth1"), key("other", "c1", "eth0")] {
        assert!(world.check(&other, "/run/netns/c1").unwrap_err().contains("no attachment"));
        world.runtime.block_on(world.engine.handle.detach(other)).unwrap();
    }
    assert!(world.check(&attached, "/run/netns/c2").unwrap_err().contains("another network namespace"));
    assert_eq!(world.check(&attached, "/run/netns/c1"), Ok(()), "the attachment is unchanged");
}

#[test]
fn gc_removes_exactly_the_other_attachments_of_its_network() {
    let world = World::new(&["c1", "c2", "c3", "hand"]);
    for (owner, container, ifname, netns) in [
        ("podman", "c1", "eth0", "c1"),
        ("podman", "c1", "eth1", "c1"),
        ("podman", "c2", "eth0", "c2"),
        ("other", "c3", "eth0", "c3"),
    ] {
        world.attach(&key(owner, container, ifname), attach("net1", netns)).unwrap();
    }
    world.connect("net1", "hand");
    let valid = vec![("c1".parse().unwrap(), "eth1".parse().unwrap())];
    let gone = world.runtime.block_on(world.engine.handle.gc("podman".parse().unwrap(), valid)).unwrap();
    let mut gone: Vec<String> = gone.iter().map(|e| format!("{} {}", e.container.id, e.ifname)).collect();
    gone.sort();
    assert_eq!(gone, ["c1 eth0", "c2 eth0"]);
    let gone = world.runtime.block_on(world.engine.handle.gc("podman".parse().unwrap(), Vec::new())).unwrap();
    assert_eq!(gone.len(), 1, "an empty list keeps none");
    let mut left = world.names();
    left.sort();
    assert_eq!(left, ["c3", "hand"]);
}

#[test]
fn a_check_accepts_changes_of_later_plugins() {
    let world = World::new(&["c1"]);
    let key = key("podman", "c1", "eth0");
    world.attach(&key, attach("net1", "c1")).unwrap();
    let (netns, tuned) = ("/run/netns/c1", "02:00:00:00:00:99");
    link(&mut world.fake.world()).mac = tuned.parse().unwrap();
    link(&mut world.fake.world()).mtu = 1400;
    assert!(world.check(&key, netns).unwrap_err().contains("MAC address"));
    assert_eq!(world.check_for(&key, netns, Some(tuned), None), Ok(()), "no MTU is remembered");
    assert_eq!(world.check_for(&key, netns, Some(tuned), Some(1400)), Ok(()));
    assert!(world.check_for(&key, netns, Some(tuned), Some(1500)).unwrap_err().contains("MTU of eth0 is 1400"));
}
