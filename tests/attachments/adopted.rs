//! Interfaces that another program made.

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
        }),
    };
    let mut fake = world.fake.world();
    fake.found.insert((inode, "eth0".parse().unwrap()), interface);
    let gateway = ("10.22.0.1/16".parse().unwrap(), "cni0".parse().unwrap());
    fake.facts.addresses.push(gateway);
}

#[test]
fn names_and_ports_are_added_to_an_adopted_interface() {
    let world = World::new(&["c1", "c2"]);
    found(&world, 1, "10.22.0.5/16");
    found(&world, 2, "10.22.0.6/16");
    let requested =
        |ip: &str| json!({"interface": "found", "ports": [], "addresses": [{"address": ip, "gateway": "10.22.0.1"}]});
    let mut with_port = requested("10.22.0.5/16");
    with_port["ports"] = json!(["4000:80"]);
    let (one, two) = (key("chain", "c1", "eth0"), key("chain", "c2", "eth0"));
    let first = world.attach(&one, on("net1", "c1", with_port)).unwrap();
    let second = world.attach(&two, on("net1", "c2", requested("10.22.0.6/16"))).unwrap();
    assert_eq!(world.resolve(&second, "c1"), [first.addresses[0].ip()]);
    let table = world.fake.world().elements.clone().unwrap();
    assert!(table.contains(&Element::Bridge("cni0".parse().unwrap())), "{table:?}");
    assert!(table.iter().any(|element| matches!(element, Element::Publish(to) if to.to == first.addresses[0].ip())));
    assert!(world.fake.world().links.is_empty() && world.fake.world().bridges.is_empty(), "netd made no interface");
    assert_eq!(world.check(&one, "/run/netns/c1"), Ok(()));
    let by_hand = by_name("net1", "c2");
    let error = world.runtime.block_on(world.engine.handle.connect(by_hand)).unwrap_err().to_string();
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
    let requested = json!({"interface": "found", "addresses": [{"address": "10.22.0.5/16", "gateway": "10.22.0.1"}]});
    world.attach(&key, on("net1", "c1", requested.clone())).unwrap();
    let new: netd::model::names::IfName = "vethnew".parse().unwrap();
    for interface in world.fake.world().found.values_mut() {
        interface.host_end.as_mut().unwrap().name = new.clone();
    }
    assert_eq!(world.attach(&key, on("net1", "c1", requested)).unwrap().host_ifname, new);
    assert_eq!(world.check(&key, "/run/netns/c1"), Ok(()));
}

#[test]
fn an_interface_that_netd_cannot_adopt_is_refused_and_creates_no_network() {
    let world = World::new(&["c1"]);
    found(&world, 1, "10.22.0.5/16");
    let key = key("chain", "c1", "eth0");
    for (addresses, words) in [
        (json!([]), "no address"),
        (json!([{"address": "10.22.0.9"}]), "does not have the address 10.22.0.9"),
        (json!([{"address": "10.22.0.5"}]), "no gateway"),
        (json!([{"address": "10.22.0.5", "gateway": "10.22.0.254"}]), "no address of the host"),
    ] {
        let requested = json!({"interface": "found", "addresses": addresses});
        let error = world.attach(&key, on("net1", "c1", requested)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let inode = (1, "eth0".parse().unwrap());
    world.fake.world().found.get_mut(&inode).unwrap().host_end = None;
    let requested = json!({"interface": "found", "addresses": [{"address": "10.22.0.5", "gateway": "10.22.0.1"}]});
    let error = world.attach(&key, on("net1", "c1", requested)).unwrap_err();
    assert!(error.to_string().contains("no veth pair"), "{error}");
    assert_eq!(world.engine.handle.snapshot().desired.counts(), (0, 0, 0));
}
