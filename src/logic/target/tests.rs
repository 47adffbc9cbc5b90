//! The targets of networks and containers.

use super::*;
use crate::logic::samples;
use crate::model::host::element::{Table, Verdict};
use crate::model::network::{Adopted, Driver};

fn desired(networks: &[&Network]) -> Desired {
    let mut desired = Desired::default();
    networks.iter().for_each(|network| drop(desired.insert_network((*network).clone())));
    desired
}

#[test]
fn the_interface_of_a_container_without_bridge_is_known() {
    let mut network = samples::network("routed", &["10.0.1.0/24"]);
    let endpoint = Arc::new(samples::endpoint(&network, "web", 1, &["10.0.1.2"], &[]));
    let is_direct = |network: &Network| {
        let element = Element::Direct(endpoint.host_ifname.clone());
        container_elements(&desired(&[network]), std::slice::from_ref(&endpoint)).contains(&element)
    };
    assert!(!is_direct(&network));
    for (bridge, direct) in [(Some("cni0".parse().unwrap()), false), (None, true)] {
        network.driver = Driver::Adopted(Adopted { bridge, icc: true, masquerade: false });
        assert_eq!(is_direct(&network), direct);
    }
}

#[test]
fn ports_lead_to_the_network_of_the_default_route() {
    let one = samples::network("net1", &["10.0.1.0/24"]);
    let two = samples::network("net2", &["10.0.2.0/24", "fd00:2::/64"]);
    let first = Arc::new(samples::endpoint(&one, "web", 1, &["10.0.1.2"], &[]));
    let mut second = samples::endpoint(&two, "web", 2, &["10.0.2.2", "fd00:2::2"], &["4000:80"]);
    second.ifname = "eth1".parse().unwrap();
    let both = [first, Arc::new(second)];
    let to: Vec<IpAddr> = container_elements(&desired(&[&one, &two]), &both)
        .iter()
        .filter_map(|element| match element {
            Element::Publish(published) => Some(published.to),
            _ => None,
        })
        .collect();
    assert_eq!(to, ["10.0.1.2".parse::<IpAddr>().unwrap(), "fd00:2::2".parse().unwrap()]);
    let routes: Vec<_> = default_routes(&both).iter().map(|r| format!("{} {}", r.ifname, r.gateway)).collect();
    assert_eq!(routes, ["eth0 10.0.1.1", "eth1 fd00:2::1"]);
}

#[test]
fn what_of_the_host_is_reached_stands_in_two_sets() {
    let mut network = samples::network("net1", &["10.0.1.0/24"]);
    let bridge = network.bridge().unwrap().clone();
    let closed = || Element::ToHost(bridge.clone(), Verdict::Closed);
    for (access, closed) in [
        (HostAccess::All, vec![]),
        (HostAccess::Ports, vec![closed()]),
        (HostAccess::None, vec![closed(), Element::PortsClosed(bridge.clone())]),
    ] {
        network.host_access = access;
        let elements = network_elements(&desired(&[&network]), &network).into_iter();
        let elements: Vec<Element> =
            elements.filter(|element| matches!(element, Element::ToHost(..) | Element::PortsClosed(_))).collect();
        assert_eq!(elements, closed, "{access:?}");
    }
}

#[test]
fn a_range_that_keeps_its_numbers_is_one_element() {
    let network = samples::network("net1", &["10.0.1.0/24"]);
    let ports = ["10000-20000:10000-20000/udp", "7000-7001:8000-8001"];
    let endpoint = Arc::new(samples::endpoint(&network, "turn", 1, &["10.0.1.2"], &ports));
    let elements = container_elements(&desired(&[&network]), std::slice::from_ref(&endpoint));
    assert_eq!(elements.iter().filter(|element| element.table() == Table::Inet).count(), 3);
    // A range, and two ports in both families: what comes over the other one is proxied.
    assert_eq!(host_ports(&[endpoint]).len(), 1 + 2 * 2);
}

/// Replies of what the host passed on would leave past the host.
#[test]
fn nothing_published_leads_to_a_container_whose_default_route_goes_past_the_host() {
    let mut lan = samples::network("lan", &["10.0.1.0/24"]);
    lan.driver =
        Driver::Unmanaged(crate::model::network::Unmanaged { bridge: "br0".parse().unwrap(), icc: true, vlan: None });
    let net1 = samples::network("net1", &["10.0.2.0/24"]);
    let first = Arc::new(samples::endpoint(&lan, "web", 1, &["10.0.1.2"], &[]));
    let mut second = samples::endpoint(&net1, "web", 2, &["10.0.2.2"], &["4000:80"]);
    second.ifname = "eth1".parse().unwrap();
    let second = Arc::new(second);
    let published = |endpoints: &[Arc<Endpoint>]| {
        let elements = container_elements(&desired(&[&lan, &net1]), endpoints);
        let to = elements.iter().find_map(|element| match element {
            Element::Publish(published) => Some(published.to.to_string()),
            _ => None,
        });
        (to, host_ports(endpoints).is_empty(), default_routes(endpoints)[0].gateway.to_string())
    };
    assert_eq!(published(&[first.clone(), second.clone()]), (None, true, "10.0.1.1".to_owned()));
    let alone = (Some("10.0.2.2".to_owned()), false, "10.0.2.1".to_owned());
    assert_eq!(published(&[second.clone(), first]), alone, "the other way round");
    assert_eq!(published(&[second]), alone);
}
