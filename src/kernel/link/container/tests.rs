//! Addresses and routes of existing interfaces, and routes of newly attached ones, observed through `ip -j`.

use super::*;
use crate::kernel::Kernel as _;
use crate::kernel::linux::Linux;
use crate::kernel::testing::lab::{Parked, addresses, attach, bridge, endpoint, in_own_netns, ip, sysctl_value};
use crate::model::host::step::Step;
use crate::model::route::Route;

fn via(subnet: &str, gateway: &str) -> Route {
    Route::via(subnet.parse().unwrap(), Some(gateway.parse().unwrap()))
}

fn kernel() -> Linux {
    let mut kernel = Linux::new().unwrap();
    kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24", "fd00:89::1/64"]))).unwrap();
    kernel
}

/// Both families, with a default route and a further route in each.
fn dual_stack(container: &Parked) -> EndpointLink {
    let mut link = endpoint(container, 2);
    link.addresses.push("fd00:89::2/64".parse().unwrap());
    link.default_gateways.push("fd00:89::1".parse().unwrap());
    link.routes = vec![via("10.7.0.0/16", "10.77.0.9"), via("fd00:7::/64", "fd00:89::9")];
    link
}

fn bare(link: &EndpointLink) -> EndpointLink {
    EndpointLink { addresses: Vec::new(), default_gateways: Vec::new(), routes: Vec::new(), ..link.clone() }
}

/// Destination and gateway of each route on `eth0` that has a gateway.
fn gateways(container: &Parked) -> Vec<String> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let routes = container.ip(&format!("{family} route show table all dev eth0"));
        let routes = routes.as_array().cloned().unwrap_or_default();
        let routes = routes.iter().filter_map(|route| Some((route["dst"].as_str()?, route["gateway"].as_str()?)));
        found.extend(routes.map(|(destination, gateway)| format!("{destination} via {gateway}")));
    }
    found
}

fn setting(container: &Parked, path: &'static str) -> String {
    container.run(move || sysctl_value(path))
}

const DUAL_STACK: [&str; 4] =
    ["default via 10.77.0.1", "10.7.0.0/16 via 10.77.0.9", "fd00:7::/64 via fd00:89::9", "default via fd00:89::1"];

#[test]
fn an_interface_without_addresses_gets_them_later() {
    in_own_netns(|| {
        let mut kernel = kernel();
        let container = Parked::new();
        let link = dual_stack(&container);
        kernel.apply(&attach(&bare(&link))).unwrap();
        let shown = container.ip("address show eth0");
        assert_eq!((&shown[0]["operstate"], shown[0]["addr_info"].as_array().unwrap().len()), (&"UP".into(), 0));
        assert_eq!(setting(&container, "ipv6/conf/eth0/disable_ipv6"), "1");

        for _ in 0..2 {
            kernel.apply(&Step::Address(Box::new(link.clone()))).unwrap();
            let shown = container.ip("address show eth0");
            assert_eq!(addresses(&shown), ["10.77.0.2/24", "fd00:89::2/64"]);
            assert!(!shown.to_string().contains("tentative"), "{shown}");
            assert_eq!(gateways(&container), DUAL_STACK);
        }
        assert_eq!(setting(&container, "ipv6/conf/eth0/accept_ra"), "0");
        assert_eq!(setting(&container, "ipv6/conf/eth0/accept_dad"), "0");

        for _ in 0..2 {
            kernel.apply(&Step::RemoveAddresses(Box::new(link.clone()))).unwrap();
            assert_eq!(container.ip("address show eth0")[0]["addr_info"].as_array().unwrap().len(), 0);
            assert_eq!(gateways(&container), Vec::<String>::new());
        }
        assert_eq!(setting(&container, "ipv6/conf/eth0/disable_ipv6"), "1", "as it was attached");
        ip("link delete ndv-2");
        kernel.apply(&Step::RemoveAddresses(Box::new(link.clone()))).unwrap();
        let error = kernel.apply(&Step::Address(Box::new(link.clone()))).unwrap_err().to_string();
        assert!(error.starts_with("look up interface eth0 in web: No such device"), "{error}");
        drop(container);
        kernel.apply(&Step::RemoveAddresses(Box::new(link.clone()))).unwrap();
        let error = kernel.apply(&Step::Address(Box::new(link))).unwrap_err();
        assert!(matches!(error, KernelError::NoNetns { .. }), "{error}");
    });
}

#[test]
fn what_others_gave_the_interface_stays() {
    in_own_netns(|| {
        let mut kernel = kernel();
        let container = Parked::new();
        let link = dual_stack(&container);
        kernel.apply(&attach(&bare(&link))).unwrap();
        let v4_only = EndpointLink { routes: Vec::new(), ..endpoint(&container, 2) };
        kernel.apply(&Step::Address(Box::new(v4_only))).unwrap();
        assert_eq!(setting(&container, "ipv6/conf/eth0/disable_ipv6"), "1");
        let mut unreachable = link.clone();
        unreachable.routes.push(via("10.8.0.0/16", "192.0.2.1"));
        let error = kernel.apply(&Step::Address(Box::new(unreachable))).unwrap_err().to_string();
        assert!(error.starts_with("add the route to 10.8.0.0/16 over eth0 in web: "), "{error}");
        assert_eq!(addresses(&container.ip("address show eth0")), ["10.77.0.2/24"], "there before");
        assert_eq!(gateways(&container), ["default via 10.77.0.1"], "there before");
        assert_eq!(setting(&container, "ipv6/conf/eth0/disable_ipv6"), "1");

        kernel.apply(&Step::Address(Box::new(link.clone()))).unwrap();
        container.ip("address add fd00:99::2/64 dev eth0 nodad");
        kernel.apply(&Step::RemoveAddresses(Box::new(link))).unwrap();
        assert_eq!(addresses(&container.ip("address show eth0")), ["fd00:99::2/64"]);
        assert_eq!(gateways(&container), Vec::<String>::new());
    });
}

#[test]
fn routes_are_there_when_attach_returns() {
    in_own_netns(|| {
        let mut kernel = kernel();
        let container = Parked::new();
        let mut link = dual_stack(&container);
        link.routes.extend([
            Route { gateway: None, ..via("192.0.2.1/32", "10.77.0.9") },
            // Through a gateway that the previous route leads to.
            via("10.6.0.0/16", "192.0.2.1"),
            Route {
                mtu: Some(1300),
                advmss: Some(1200),
                priority: Some(7),
                table: Some(1000),
                ..via("10.5.0.0/16", "10.77.0.9")
            },
            Route { scope: Some(254), gateway: None, ..via("10.4.0.0/16", "10.77.0.9") },
            // The same route again.
            via("10.6.0.0/16", "192.0.2.1"),
        ]);
        kernel.apply(&attach(&link)).unwrap();
        let shown = gateways(&container);
        for wanted in DUAL_STACK.into_iter().chain(["10.6.0.0/16 via 192.0.2.1"]) {
            assert!(shown.iter().any(|shown| shown == wanted), "{wanted} is missing in {shown:?}");
        }
        let far = &container.ip("route show table 1000")[0];
        assert_eq!(
            (&far["dst"], &far["gateway"], &far["metric"]),
            (&"10.5.0.0/16".into(), &"10.77.0.9".into(), &7.into())
        );
        assert_eq!((&far["metrics"][0]["mtu"], &far["metrics"][0]["advmss"]), (&1300.into(), &1200.into()));
        assert_eq!(container.ip("route show 192.0.2.1")[0]["scope"], "link");
        assert_eq!(container.ip("route show 10.4.0.0/16")[0]["scope"], "host");
        let observed = kernel.interface(&link.netns, &link.ifname).unwrap().unwrap();
        for route in &link.routes {
            assert!(observed.routes.contains(&route.clone().normal()), "{route:?}");
        }
        kernel.apply(&Step::RemoveAddresses(Box::new(link))).unwrap();
        assert_eq!(container.ip("route show table all dev eth0"), serde_json::json!([]));
    });
}

#[test]
fn another_route_in_its_place_is_an_error() {
    in_own_netns(|| {
        let mut kernel = kernel();
        let container = Parked::new();
        for (routes, attempted) in [
            (
                vec![via("10.7.0.0/16", "10.77.0.9"), via("10.7.0.0/16", "10.77.0.8")],
                "10.7.0.0/16 over eth0 in web: File",
            ),
            (vec![via("0.0.0.0/0", "10.77.0.9")], "0.0.0.0/0 over eth0 in web: File exists"),
            (vec![via("10.7.0.0/16", "192.0.2.1")], "10.7.0.0/16 over eth0 in web: Network is unreachable"),
            // The route that the kernel made with the address, in its scope.
            (
                vec![Route { gateway: None, scope: Some(0), ..via("10.77.0.0/24", "10.77.0.9") }],
                "10.77.0.0/24 over eth0",
            ),
            (
                vec![Route { gateway: None, ..via("fd00::/8", "fd00::1") }],
                "fd00::/8 over eth0 in web: Permission denied",
            ),
        ] {
            let link = EndpointLink { routes, ..endpoint(&container, 2) };
            let error = kernel.apply(&attach(&link)).unwrap_err();
            assert!(matches!(error, KernelError::NoRoute { .. }), "who asked for the route can mend it: {error:?}");
            let error = error.to_string();
            assert!(error.starts_with(&format!("add the route to {attempted}")), "{error}");
            assert_eq!(container.ip("link show").as_array().unwrap().len(), 1, "taken back");
        }
    });
}

#[test]
fn an_interface_is_adopted() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        ip("link add br0 type bridge");
        let settings = ["ipv4/conf/br0/forwarding", "ipv6/conf/br0/disable_ipv6", "ipv6/conf/br0/accept_ra"];
        let before = settings.map(sysctl_value);
        kernel.apply(&Step::Adopt("br0".parse().unwrap())).unwrap();
        assert_eq!(sysctl_value("ipv4/conf/br0/route_localnet"), "1");
        assert_eq!(settings.map(sysctl_value), before);
        let error = kernel.apply(&Step::Adopt("br1".parse().unwrap())).unwrap_err().to_string();
        assert!(error.starts_with("set sysctl net.ipv4.conf.br1.route_localnet to 1: No such file"), "{error}");
    });
}
