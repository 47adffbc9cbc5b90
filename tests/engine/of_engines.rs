//! Containers of another engine over the fake kernel: names of interfaces, default routes, and the place of the name
//! service.

use std::path::Path;

use netd::kernel::netns_of_process;
use netd::model::endpoint::Endpoint;
use netd::model::host::step::DefaultRoute;
use netd::model::request::NetnsRef;

use super::*;

fn world() -> World {
    let world = World::new();
    for network in ["net1", "net2"] {
        let spec = NetworkSpec { sticky: false, ..network_spec(network) };
        let spec = NetworkSpec { dns: Default::default(), ..spec };
        world.runtime.block_on(world.handle().create_network(spec)).unwrap();
    }
    world
}

pub(crate) fn connect(
    world: &World,
    network: &str,
    container: &str,
    netns: Option<NetnsRef>,
    ifname: Option<&str>,
) -> Arc<Endpoint> {
    let container = ContainerRef { name: container.into(), netns, id: None };
    let ifname = ifname.map(|name| name.parse().unwrap());
    let spec = EndpointSpec { ifname, ..person(network, container) };
    world.runtime.block_on(world.handle().connect(spec)).unwrap()
}

/// (interface, metric) of each default route of the namespace, in their order.
fn routes(world: &World, path: &Path) -> Vec<(String, Option<u32>)> {
    let world = world.fake.world();
    let routes = world.routes.get(&world.namespaces[path]).into_iter().flatten();
    routes.map(|route| (route.ifname.to_string(), route.metric)).collect()
}

#[test]
fn interface_and_default_route_do_not_collide_with_the_engine() {
    let mut world = world();
    let path = netns_of_process(4711);
    world.fake.add_namespace_at(&path);
    let inode = world.fake.world().namespaces[&path];
    let own = DefaultRoute { ifname: "eth0".parse().unwrap(), gateway: "172.17.0.1".parse().unwrap(), metric: None };
    world.fake.world().routes.insert(inode, vec![own]);
    let netns = || Some(NetnsRef::OfEngine(4711));
    assert_eq!(connect(&world, "net1", "docked", netns(), None).ifname.as_str(), "nd0");
    assert_eq!(connect(&world, "net2", "docked", None, None).ifname.as_str(), "nd1");
    let both = [("eth0".to_owned(), None), ("nd0".to_owned(), Some(2048))];
    assert_eq!(routes(&world, &path), both, "the engine's, and one behind it");
    // It is recognised after a restart as well, independent of the kernel's state.
    world.stop();
    world.start();
    world.runtime.block_on(world.handle().disconnect("net1", "docked")).unwrap();
    assert_eq!(routes(&world, &path), [("eth0".to_owned(), None), ("nd1".to_owned(), Some(2048))]);
    assert_eq!(connect(&world, "net1", "docked", None, Some("eth3")).ifname.as_str(), "eth3", "as asked");
}

#[test]
fn a_namespace_of_an_engine_is_recognised_by_its_contents() {
    let world = world();
    world.fake.add_namespace("netns-1");
    let inode = world.fake.world().namespaces[Path::new("/run/netns/netns-1")];
    world.fake.world().of_engines.insert(inode);
    assert_eq!(connect(&world, "net1", "netns-1", None, None).ifname.as_str(), "nd0");
    let netns = Some(NetnsRef::Path("/run/netns/web".into()));
    assert_eq!(connect(&world, "net1", "site", netns, None).ifname.as_str(), "eth0", "a namespace without an engine");
    assert_eq!(routes(&world, Path::new("/run/netns/web")), [("eth0".to_owned(), None)]);
}

#[test]
fn a_container_with_a_resolver_of_its_engine_is_served_inside() {
    let world = world();
    let mut apart = NetworkSpec::named("apart".parse().unwrap());
    apart.dns.listen = DnsListen::Gateway;
    world.runtime.block_on(world.handle().create_network(apart)).unwrap();
    for pid in [1, 2, 3] {
        world.fake.add_namespace_at(netns_of_process(pid));
    }
    let inode = |pid| world.fake.world().namespaces[&netns_of_process(pid)];
    let resolvers = BTreeSet::from([inode(1), inode(3)]);
    world.fake.world().resolvers = resolvers;
    connect(&world, "net1", "one", Some(NetnsRef::OfEngine(1)), None);
    connect(&world, "net1", "two", Some(NetnsRef::OfEngine(2)), None);
    connect(&world, "apart", "three", Some(NetnsRef::OfEngine(3)), None);
    let inside = world.fake.world().inside.clone();
    let within: Vec<_> = inside.iter().map(|(inode, inside)| (*inode, inside.beside, inside.gateways.len())).collect();
    assert_eq!(within, [(inode(1), true, 0)], "not on the network with gateway; no other traffic is redirected");
    world.runtime.block_on(world.handle().disconnect("net1", "one")).unwrap();
    assert_eq!(world.fake.world().inside.len(), 0);
}

#[test]
fn a_cni_runtime_finds_its_next_interface_name_free() {
    let world = world();
    let requested = AttachChoice { how: InterfaceSource::Made, port: None, limits: (false, false) };
    let attach = |network: usize| {
        let spec = attach_spec((0, network), NETWORKS[network], requested, None);
        world.runtime.block_on(world.handle().connect(spec)).unwrap().ifname.to_string()
    };
    assert_eq!(attach(0), "eth0");
    world.runtime.block_on(world.handle().create_network(network_spec("besides"))).unwrap();
    assert_eq!(connect(&world, "besides", PODS[0], None, None).ifname.as_str(), "nd0");
    assert_eq!(attach(1), "eth1", "as requested");
    let routes = routes(&world, &Path::new("/run/netns").join(PODS[0]));
    assert_eq!(routes, [("eth0".to_owned(), None)], "netd sets its default route");
}
