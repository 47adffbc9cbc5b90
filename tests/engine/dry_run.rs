//! A dry run decides as the command would, also where an ended container is in the way, and changes nothing.

use netd::engine::Request;
use netd::kernel::fake;
use netd::model::request::NetnsRef;

use super::*;

/// `web` has ended, another process has its name, and nobody has reported that yet.
fn replaced() -> (World, EndpointSpec) {
    let world = World::new();
    world.runtime.block_on(world.handle().create_network(network_spec("net2"))).unwrap();
    let port: PortSpec = "4000:80".parse().unwrap();
    let spec = |name: &str, netns| {
        let container = ContainerRef { name: name.into(), netns, id: None };
        EndpointSpec { ports: vec![port.clone()], ..person("net2", container) }
    };
    world.runtime.block_on(world.handle().connect(spec("web", None))).unwrap();
    world.fake.world().namespaces.remove(std::path::Path::new("/run/netns/web")).unwrap();
    world.fake.add_namespace_at("/proc/4711/ns/net");
    (world, spec("web", Some(NetnsRef::Path("/proc/4711/ns/net".into()))))
}

#[test]
fn what_an_ended_container_has_is_free_and_stays() {
    let (world, spec) = replaced();
    // Without the count of calls.
    let kernel = || fake::World { faults: Default::default(), ..world.fake.world().clone() };
    let before = (kernel(), world.store.stored(), world.handle().snapshot().revision);
    let mut events = world.handle().events();
    let plan = || world.runtime.block_on(world.handle().plan(Request::Connect(Box::new(spec.clone()))));
    let planned = plan().unwrap();
    assert!(planned.iter().any(|step| step.action == "add-interface"), "{planned:?}");
    assert_eq!(plan().unwrap().len(), planned.len());
    assert!(events.try_recv().is_err(), "nothing happened");
    let after = (kernel(), world.store.stored(), world.handle().snapshot().revision);
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    world.runtime.block_on(world.handle().connect(spec.clone())).unwrap();
}
