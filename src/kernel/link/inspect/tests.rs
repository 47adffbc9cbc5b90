//! Inspects interfaces that netd or another program made in a container.

use super::*;
use crate::kernel::Kernel as _;
use crate::kernel::linux::Linux;
use crate::kernel::testing::lab::{Parked, attach, bridge, endpoint, in_own_netns, ip, pair};
use crate::model::host::step::Step;
use crate::model::route::Route;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

/// Inspects the interface with that name in the container.
fn inspect_interface(container: &Parked, ifname: &str) -> Option<ObservedInterface> {
    let netns = netns::identify(&container.path).unwrap();
    interface(&mut Netlink::open().unwrap(), &netns, &name(ifname)).unwrap()
}

#[test]
fn an_interface_is_seen_with_its_other_end() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        let container = Parked::new();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24", "fd00:89::1/64"]))).unwrap();
        let mut link = endpoint(&container, 2);
        link.addresses.push("fd00:89::2/64".parse().unwrap());
        link.default_gateways.push("fd00:89::1".parse().unwrap());
        pair(&mut link).isolated = true;
        kernel.apply(&attach(&link)).unwrap();
        container.ip("route add 10.7.0.0/16 via 10.77.0.9 mtu 1300 advmss 1200 metric 7 table 1000");
        container.ip("route add 10.8.0.0/16 dev eth0 scope host");
        container.ip("route add 10.9.0.0/16 via inet6 fd00:89::9 dev eth0");
        container.ip("route add fd00:9::/64 via fd00:89::9");
        container.ip("route add blackhole 10.6.0.0/16");

        let observed = kernel.interface(&link.netns, &link.ifname).unwrap().unwrap();
        assert_eq!((observed.mac, observed.up, observed.mtu), (Some(link.mac), true, 1400));
        assert_eq!(observed.addresses, link.addresses, "without link-local ones");
        let via = |subnet: &str, gateway: &str| Route::via(subnet.parse().unwrap(), Some(gateway.parse().unwrap()));
        let given = Route {
            mtu: Some(1300),
            advmss: Some(1200),
            priority: Some(7),
            table: Some(1000),
            ..via("10.7.0.0/16", "10.77.0.9")
        };
        let on_host = Route { scope: Some(254), ..Route::via("10.8.0.0/16".parse().unwrap(), None) };
        let expected = [
            via("0.0.0.0/0", "10.77.0.1"),
            via("::/0", "fd00:89::1"),
            given,
            on_host,
            via("10.9.0.0/16", "fd00:89::9"),
            via("fd00:9::/64", "fd00:89::9"),
        ];
        for route in &expected {
            assert!(observed.routes.contains(route), "{route:?} is missing in {:?}", observed.routes);
        }
        assert_eq!(observed.routes.len(), expected.len(), "{:?}", observed.routes);
        let (name_of_end, bridge) = (name("ndv-2"), Some(name("nd-net1")));
        assert_eq!(
            observed.host_end,
            Some(HostEnd { name: name_of_end, bridge, up: true, isolated: true, vlan: None })
        );

        ip("link set ndv-2 nomaster down");
        container.ip("link set eth0 down");
        let observed = inspect_interface(&container, "eth0").unwrap();
        let HostEnd { bridge, up, isolated, .. } = observed.host_end.unwrap();
        assert_eq!((observed.up, bridge, up, isolated), (false, None, false, false));

        assert_eq!(inspect_interface(&container, "eth1"), None);
        drop(container);
        let error = kernel.interface(&link.netns, &link.ifname).unwrap_err();
        assert!(matches!(error, KernelError::NoNetns { .. }), "{error}");
    });
}

#[test]
fn an_end_elsewhere_is_not_the_hosts() {
    in_own_netns(|| {
        let [asked, neighbour, other] = [(); 3].map(|()| Parked::new());
        // Both pairs have the same indices, but only one pair has an end on the host.
        asked.ip(&format!("link add eth0 index 10 type veth peer x index 20 netns {}", neighbour.path.display()));
        ip(&format!("link add ndv-2 index 20 type veth peer eth0 index 10 netns {}", other.path.display()));
        // The host has a number for both namespaces.
        ip(&format!("link add ndv-3 index 21 type veth peer eth1 index 11 netns {}", asked.path.display()));
        assert_eq!(inspect_interface(&asked, "eth0").unwrap().host_end, None);
        assert_eq!(inspect_interface(&asked, "eth1").unwrap().host_end.unwrap().name, name("ndv-3"));
        assert_eq!(inspect_interface(&other, "eth0").unwrap().host_end.unwrap().name, name("ndv-2"));

        asked.ip("link add in0 index 30 type veth peer in1 index 20");
        assert_eq!(inspect_interface(&asked, "in0").unwrap().host_end, None, "both ends are inside");
        let loopback = inspect_interface(&asked, "lo").unwrap();
        assert_eq!((loopback.host_end, loopback.mac), (None, None));
    });
}
