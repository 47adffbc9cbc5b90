//! Ports that a runtime requests on each network of a container, some of which cannot publish them.

use netd::api::v1;
use netd::engine::ErrorKind;
use netd::model::host::element::Element;
use netd_testing::request::{attach, connect, network};

use super::{World, key};

impl World {
    /// The published host ports with their destination addresses.
    fn published(&self) -> Vec<(u16, String)> {
        let world = self.fake.world();
        let port = |element: &Element| match element {
            Element::Publish(published) => Some((published.port, published.to.to_string())),
            _ => None,
        };
        world.elements.iter().flatten().filter_map(port).collect()
    }

    fn connect_with(&self, network: &str, container: &str, port: &str) -> Result<v1::Endpoint, String> {
        let request = connect(network, container).publish(port);
        let connected = self.runtime.block_on(self.engine.handle.connect(request.spec()));
        connected.map(|endpoint| v1::Endpoint::from(endpoint.as_ref())).map_err(|error| error.to_string())
    }
}

#[test]
fn a_port_is_published_on_the_network_that_can_publish_it_in_any_order() {
    for internal_first in [true, false] {
        let world = World::new(&["c1"]);
        let (front, back) = (key("front", "c1", "eth0"), key("back", "c1", "eth1"));
        let on_front = || world.attach(&front, attach("front", "c1").publish("8080:80")).unwrap();
        let request = |port| attach("back", "c1").to(network("back").internal()).publish(port);
        let on_back = || world.attach(&back, request("8080:80")).unwrap();
        let (front_endpoint, back_endpoint) = if internal_first {
            let back = on_back();
            assert_eq!(world.published(), []);
            (on_front(), back)
        } else {
            let front = on_front();
            (front, on_back())
        };
        let to = front_endpoint.addresses[0].ip().to_string();
        assert_eq!(world.published(), [(8080, to)]);
        let shown = v1::Endpoint::from(back_endpoint.as_ref());
        assert!(shown.ports.is_empty() && front_endpoint.skipped.is_empty(), "{shown:?}");
        let skipped = &shown.skipped_ports[0];
        assert_eq!((skipped.port.to_string().as_str(), shown.skipped_ports.len()), ("*:8080->80/tcp", 1));
        assert!(skipped.why.contains("internal"), "{skipped:?}");
        // A repeated attach changes nothing, also after a restart; other ports are refused.
        assert_eq!(on_back(), back_endpoint);
        let world = world.again();
        assert_eq!(world.attach(&back, request("8080:80")).unwrap(), back_endpoint);
        let error = world.attach(&back, request("8081:80")).unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("its ports"), "{error}");
        world.check(&back, "/run/netns/c1").unwrap();
        world.detach(&front);
        assert_eq!(world.published(), []);
    }
}

/// A host address of a family that the network does not have.
#[test]
fn a_port_of_another_family_is_skipped_as_well() {
    let world = World::new(&["c1"]);
    let (six, four) = (key("six", "c1", "eth0"), key("four", "c1", "eth1"));
    let requested = |name| attach(name, "c1").publish("127.0.0.1:8080:80").publish("8081:81");
    let first = world.attach(&six, requested("six").to(network("six").subnet("fd00:6::/64"))).unwrap();
    assert_eq!((first.skipped.len(), first.publications.len()), (1, 1));
    let second = world.attach(&four, requested("four")).unwrap();
    assert_eq!((second.skipped.len(), second.publications.len()), (0, 2));
    let to = second.addresses[0].ip().to_string();
    assert!(world.published().contains(&(8080, to)), "{:?}", world.published());
    // The addresses, and thereby the families, become known later.
    let world = World::new(&["c2"]);
    let key = key("dhcp", "c2", "eth0");
    let request = || attach("net1", "c2").publish("[::1]:8080:80").publish("8081:81");
    assert_eq!(world.attach(&key, request().unaddressed()).unwrap().publications.len(), 2);
    let given = || request().given("10.0.0.9/24");
    let endpoint = world.attach(&key, given()).unwrap();
    assert_eq!((endpoint.skipped.len(), endpoint.publications.len()), (1, 1));
    assert_eq!(world.attach(&key, given()).unwrap(), endpoint);
}

#[test]
fn a_users_port_is_refused_only_if_no_network_of_the_container_can_publish_it() {
    let world = World::new(&["web"]);
    let internal = attach("back", "other").to(network("back").internal());
    world.fake.add_namespace("other");
    world.attach(&key("cni", "other", "eth0"), internal).unwrap();
    world.attach(&key("cni", "other", "eth1"), attach("front", "other")).unwrap();
    let why = world.connect_with("back", "web", "8080:80").unwrap_err();
    assert_eq!(
        why,
        "cannot publish 8080:80/tcp on network back: it is internal, so other hosts cannot reach it; publish on another network"
    );
    let front = world.connect("front", "web");
    let back = world.connect_with("back", "web", "8080:80").unwrap();
    assert_eq!((back.ports.len(), back.skipped_ports.len()), (1, 0));
    assert_eq!(world.published(), [(8080, front.addresses[0].ip().to_string())]);
}
