//! Interfaces that another program made.

use netd::api::v1::Interface;

use super::*;

/// A veth pair that a bridge plugin made, on cni0 with the gateway 10.22.0.1.
pub(crate) fn found(world: &World, inode: u64, address: &str) {
    let interface = ObservedInterface {
        mac: Some(Mac::for_address([10, 22, 0, 5].into())),
        up: true,
        loopback_up: true,
        link_local: true,
        mtu: 1500,
        addresses: vec![address.parse().unwrap()],
        routes: Vec::new(),
        unrouted: Vec::new(),
        default_elsewhere: Vec::new(),
        host_end: Some(HostEnd {
            name: format!("veth{inode}").parse().unwrap(),
            bridge: Some("cni0".parse().unwrap()),
            up: true,
            isolated: false,
            vlan: None,
        }),
    };
    let mut fake = world.fake.world();
    fake.found.insert((inode, "eth0".parse().unwrap()), interface);
    let gateway = ("10.22.0.1/16".parse().unwrap(), "cni0".parse().unwrap());
    fake.facts.addresses.push(gateway);
}

/// A request for that pair.
pub(crate) fn behind(netns: &str, address: &str) -> Attach {
    attach("net1", netns).found(address, "10.22.0.1")
}

#[test]
fn names_and_ports_are_added_to_an_adopted_interface() {
    let world = World::new(&["c1", "c2"]);
    found(&world, 1, "10.22.0.5/16");
    found(&world, 2, "10.22.0.6/16");
    let (one, two) = (key("chain", "c1", "eth0"), key("chain", "c2", "eth0"));
    let first = world.attach(&one, behind("c1", "10.22.0.5/16").publish("4000:80")).unwrap();
    let second = world.attach(&two, behind("c2", "10.22.0.6/16")).unwrap();
    assert_eq!(world.resolve(&second, "c1"), [first.addresses[0].ip()]);
    let table = world.fake.world().elements.clone().unwrap();
    assert!(table.contains(&Element::Bridge("cni0".parse().unwrap())), "{table:?}");
    assert!(table.iter().any(|element| matches!(element, Element::Publish(to) if to.to == first.addresses[0].ip())));
    assert!(world.fake.world().links.is_empty() && world.fake.world().bridges.is_empty(), "netd made no interface");
    assert_eq!(world.check(&one, "/run/netns/c1"), Ok(()));
    let error =
        world.runtime.block_on(world.engine.handle.connect(connect("net1", "c2").spec())).unwrap_err().to_string();
    assert!(error.contains("another CNI plugin"), "{error}");
    world.runtime.block_on(world.engine.handle.detach(one)).unwrap();
    world.runtime.block_on(world.engine.handle.detach(two)).unwrap();
    world.runtime.block_on(world.engine.handle.remove_network("net1")).unwrap();
    assert_eq!(world.fake.world().elements.as_ref().map(std::collections::BTreeSet::len), Some(0));
}

#[test]
fn a_recreated_veth_pair_is_adopted_again() {
    let world = World::new(&["c1"]);
    found(&world, 1, "10.22.0.5/16");
    let key = key("chain", "c1", "eth0");
    world.attach(&key, behind("c1", "10.22.0.5/16")).unwrap();
    let new: netd::model::names::IfName = "vethnew".parse().unwrap();
    for interface in world.fake.world().found.values_mut() {
        interface.host_end.as_mut().unwrap().name = new.clone();
    }
    assert_eq!(world.attach(&key, behind("c1", "10.22.0.5/16")).unwrap().host_ifname, new);
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
}

#[test]
fn an_interface_that_netd_cannot_adopt_is_refused_and_creates_no_network() {
    let world = World::new(&["c1"]);
    found(&world, 1, "10.22.0.5/16");
    let key = key("chain", "c1", "eth0");
    let found = || attach("net1", "c1").interface(Interface::Found);
    for (requested, words) in [
        (found(), "no address"),
        (found().address("10.22.0.9"), "does not have the address 10.22.0.9"),
        (found().address("10.22.0.5"), "no gateway"),
        (found().address_via("10.22.0.5", "10.22.0.254"), "no address of the host"),
    ] {
        let error = world.attach(&key, requested).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let inode = (1, "eth0".parse().unwrap());
    world.fake.world().found.get_mut(&inode).unwrap().host_end = None;
    let error = world.attach(&key, behind("c1", "10.22.0.5")).unwrap_err();
    assert!(error.to_string().contains("no veth pair"), "{error}");
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0));
}
