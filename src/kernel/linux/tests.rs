//! The steps on the real kernel, in separate namespaces, observed through `ip -j`.

mod limits;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::*;
use crate::kernel::testing::lab::{
    Parked, addresses, attach, bridge, endpoint, in_own_netns, ip, pair, sysctl_value, tc,
};
use crate::model::address::Families;
use crate::model::host::observed::ObservedKind;
use crate::model::host::routing::TurnedOn;
use crate::model::host::step::DefaultRoute;

#[test]
fn a_bridge_is_made_and_put_right() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        let target = bridge(&["10.77.0.1/24", "fd00:89::1/64"]);
        kernel.apply(&Step::AddBridge(target.clone())).unwrap();
        let shown = ip("-d address show nd-net1");
        assert_eq!(shown[0]["mtu"], 1400);
        assert_eq!(shown[0]["address"], "02:6e:0a:4d:00:01");
        assert_eq!(shown[0]["ifalias"], "netd network net1");
        assert_eq!(shown[0]["group"], "28260");
        assert_eq!(shown[0]["linkinfo"]["info_data"]["stp_state"], 0);
        assert!(shown[0]["flags"].as_array().unwrap().iter().any(|flag| flag == "UP"));
        assert_eq!(addresses(&shown), ["10.77.0.1/24", "fd00:89::1/64"]);
        assert!(!shown.to_string().contains("tentative"), "{shown}");
        assert_eq!(sysctl_value("ipv4/conf/nd-net1/route_localnet"), "1");
        assert_eq!(sysctl_value("ipv6/conf/nd-net1/accept_ra"), "0");

        ip("address del 10.77.0.1/24 dev nd-net1");
        // One in the network's subnet is in the way, another is the user's own.
        ip("address add 10.77.0.9/24 dev nd-net1");
        ip("address add 10.99.0.1/24 dev nd-net1");
        ip("link set nd-net1 down mtu 1300");
        kernel.apply(&Step::AddBridge(target.clone())).unwrap();
        let name: IfName = "nd-net1".parse().unwrap();
        let observed = kernel.observe().unwrap().links.remove(&name).unwrap();
        assert!(observed.up && observed.ours && observed.kind == ObservedKind::Bridge && observed.mtu == 1400);
        let mut found = observed.addresses;
        found.sort();
        let mut expected = target.addresses.clone();
        expected.insert(1, "10.99.0.1/24".parse().unwrap());
        assert_eq!(found, expected);

        kernel.apply(&Step::DeleteBridge(target.clone())).unwrap();
        kernel.apply(&Step::DeleteBridge(target)).unwrap();
        assert!(kernel.observe().unwrap().links.is_empty());
    });
}

#[test]
fn a_bridge_without_ipv6_has_none() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        assert_eq!(sysctl_value("ipv6/conf/nd-net1/disable_ipv6"), "1");
    });
}

#[test]
fn somebody_elses_interface_is_neither_taken_nor_deleted() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        ip("link add nd-net1 type bridge");
        let error = kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap_err().to_string();
        assert!(error.starts_with("interface nd-net1 already exists in the host"), "{error}");
        kernel.apply(&Step::DeleteBridge(bridge(&[]))).unwrap();
        assert_eq!(ip("link show nd-net1")[0]["ifname"], "nd-net1");
        assert_eq!(kernel.observe().unwrap().links.len(), 1, "every bridge is observed");
    });
}

#[test]
fn an_endpoint_is_complete_when_attach_returns() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        let container = Parked::new();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24", "fd00:89::1/64"]))).unwrap();
        let mut link = endpoint(&container, 2);
        link.addresses.push("fd00:89::2/64".parse().unwrap());
        link.default_gateways.push("fd00:89::1".parse().unwrap());
        pair(&mut link).isolated = true;
        kernel.apply(&attach(&link)).unwrap();
        let host = ip("-d link show ndv-2");
        let port = &host[0]["linkinfo"]["info_slave_data"];
        assert_eq!(port["state"], "forwarding", "the first packet is not lost");
        assert_eq!(host[0]["address"], "06:6e:0a:4d:00:02");
        assert_eq!((&port["hairpin"], &port["isolated"]), (&true.into(), &true.into()));
        assert_eq!(host[0]["master"], "nd-net1");
        assert_eq!(host[0]["group"], "28260");
        assert_eq!(host[0]["ifalias"], "netd: web on net1");
        assert_eq!(ip("address show ndv-2")[0]["addr_info"].as_array().unwrap().len(), 0);

        let inside = container.ip("address show eth0");
        assert_eq!(inside[0]["address"], "02:6e:0a:4d:00:02");
        assert_eq!((&inside[0]["mtu"], &inside[0]["operstate"]), (&1400.into(), &"UP".into()));
        assert_eq!(addresses(&inside), ["10.77.0.2/24", "fd00:89::2/64"]);
        assert_eq!(container.ip("route show default")[0]["gateway"], "10.77.0.1");
        assert_eq!(container.ip("-6 route show default")[0]["gateway"], "fd00:89::1");
        assert_eq!(container.ip("address show lo")[0]["addr_info"][0]["local"], "127.0.0.1");
        let name: IfName = "ndv-2".parse().unwrap();
        let observed = kernel.observe().unwrap().links.remove(&name).unwrap();
        assert!(observed.isolated && observed.ours && observed.up && observed.kind == ObservedKind::Veth);
        assert_eq!(observed.master, Some(pair(&mut link).bridge.clone()));
    });
}

#[test]
fn packets_pass_at_once() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24", "fd00:89::1/64"]))).unwrap();
        let servers = ["10.77.0.1:7", "[fd00:89::1]:7"].map(|at| {
            let server = UdpSocket::bind(at).unwrap();
            server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            server
        });
        let containers: Vec<Parked> = (0..30).map(|_| Parked::new()).collect();
        for (number, container) in (2..).zip(&containers) {
            let mut link = endpoint(container, number);
            link.addresses.push(format!("fd00:89::{number:x}/64").parse().unwrap());
            kernel.apply(&attach(&link)).unwrap();
            for server in &servers {
                let at = server.local_addr().unwrap();
                let client = container.run(move || {
                    let client = UdpSocket::bind((any_like(at), 0)).unwrap();
                    client.send_to(b"x", at).unwrap();
                    client
                });
                // A packet that is lost while an interface comes up is sent again after a second.
                let got = server.recv_from(&mut [0; 4]);
                let (_, from) = got.unwrap_or_else(|error| panic!("container {number} to {at}: {error}"));
                client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                server.send_to(b"y", from).unwrap();
                assert_eq!(client.recv_from(&mut [0; 4]).unwrap().1, at, "container {number}");
            }
        }
    });
}

/// The unspecified address of the same family.
fn any_like(at: SocketAddr) -> IpAddr {
    if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

#[test]
fn a_name_that_is_taken_changes_nothing() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        let (web, other) = (Parked::new(), Parked::new());
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        let mut first = endpoint(&web, 2);
        kernel.apply(&attach(&first)).unwrap();
        let same_inside = endpoint(&web, 3);
        let error = kernel.apply(&attach(&same_inside)).unwrap_err().to_string();
        assert!(error.starts_with("interface eth0 already exists in web"), "{error}");
        let mut same_outside = endpoint(&other, 4);
        pair(&mut same_outside).host_ifname = pair(&mut first).host_ifname.clone();
        let error = kernel.apply(&attach(&same_outside)).unwrap_err().to_string();
        assert!(error.starts_with("interface ndv-2 already exists in the host"), "{error}");
        assert_eq!(kernel.observe().unwrap().links.len(), 2);
        assert_eq!(other.ip("link show").as_array().unwrap().len(), 1);
    });
}

#[test]
fn what_fails_half_way_is_taken_back() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        let web = Parked::new();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        let good = endpoint(&web, 2);
        let mut unreachable = good.clone();
        unreachable.default_gateways = vec!["192.0.2.1".parse().unwrap()];
        let error = kernel.apply(&attach(&unreachable)).unwrap_err().to_string();
        assert!(error.starts_with("add the default route over eth0 in web: "), "{error}");
        let mut other_namespace = good.clone();
        other_namespace.netns.id.cookie = Some(1);
        let error = kernel.apply(&attach(&other_namespace)).unwrap_err();
        assert!(matches!(error, KernelError::NoNetns { .. }), "{error}");
        assert_eq!(web.ip("link show").as_array().unwrap().len(), 1);
        assert_eq!(kernel.observe().unwrap().links.len(), 1);
        let mut no_bridge = good.clone();
        pair(&mut no_bridge).bridge = "nd-none".parse().unwrap();
        let error = kernel.apply(&attach(&no_bridge)).unwrap_err().to_string();
        assert!(error.contains("nd-none"), "{error}");
    });
}

#[test]
fn a_default_route_from_elsewhere_stays_and_ours_move() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        let web = Parked::new();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        let first = endpoint(&web, 2);
        let mut second = endpoint(&web, 3);
        second.ifname = "eth1".parse().unwrap();
        second.default_gateways = vec!["10.77.0.9".parse().unwrap()];
        kernel.apply(&attach(&first)).unwrap();
        kernel.apply(&attach(&second)).unwrap();
        let routes = web.ip("route show default");
        assert_eq!((routes.as_array().unwrap().len(), &routes[0]["dev"]), (1, &"eth0".into()));
        let route = |ifname: &str, gateway: &str| DefaultRoute {
            metric: None,
            ifname: ifname.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        let step = Step::DefaultRoutes {
            netns: first.netns.clone(),
            remove: vec![route("eth0", "10.77.0.1"), route("gone", "10.77.0.1")],
            add: vec![route("eth1", "10.77.0.1")],
        };
        for _ in 0..2 {
            kernel.apply(&step).unwrap();
            let routes = web.ip("route show default");
            assert_eq!((routes.as_array().unwrap().len(), &routes[0]["dev"]), (1, &"eth1".into()));
        }
        drop(web);
        kernel.apply(&step).unwrap();
    });
}

#[test]
fn many_go_together_and_only_ours() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        let containers: Vec<Parked> = (0..100).map(|_| Parked::new()).collect();
        let mut links = Vec::new();
        for (number, container) in (2..).zip(&containers) {
            links.push(endpoint(container, number));
        }
        for link in &links {
            kernel.apply(&attach(link)).unwrap();
        }
        ip("link add foreign type veth peer name foreign-peer");
        let mut foreign = links[0].clone();
        pair(&mut foreign).host_ifname = "foreign".parse().unwrap();
        let (one, rest) = links.split_first().unwrap();
        kernel.apply(&Step::Detach(vec![one.clone()])).unwrap();
        assert_eq!(containers[0].ip("link show").as_array().unwrap().len(), 1);
        let step = Step::Detach(rest.iter().cloned().chain([foreign, one.clone()]).collect());
        let start = Instant::now();
        kernel.apply(&step).unwrap();
        println!("detach of {} together: {:?}", rest.len(), start.elapsed());
        kernel.apply(&step).unwrap();
        assert_eq!(kernel.observe().unwrap().links.len(), 1, "the bridge");
        assert_eq!(ip("link show foreign")[0]["ifname"], "foreign");
    });
}

#[test]
fn forwarding_keeps_router_advertisements() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        ip("link add up0 type bridge");
        ip("link add up1 type bridge");
        Sysctl::open().set(&["ipv6", "conf", "up1", "accept_ra"], "0").unwrap();
        kernel.apply(&Step::Forwarding(Families { v4: true, v6: false })).unwrap();
        assert_eq!(kernel.observe().unwrap().routing.on, Families { v4: true, v6: false });
        let advertised = kernel.advertised().unwrap();
        kernel.apply(&Step::Forwarding(Families::ALL)).unwrap();
        assert_eq!(kernel.observe().unwrap().routing.on, Families::ALL);
        let accept_ra = || ["up0", "up1"].map(|name| sysctl_value(&format!("ipv6/conf/{name}/accept_ra")));
        assert_eq!(accept_ra(), ["2", "0"]);
        // Off again. What somebody else has set to 2 stays.
        ip("link add up2 type bridge");
        Sysctl::open().set(&["ipv6", "conf", "up2", "accept_ra"], "2").unwrap();
        assert!(advertised.contains(&"up0".parse().unwrap()) && !advertised.contains(&"up1".parse().unwrap()));
        let before = |families| Step::StopForwarding(TurnedOn { families, accept_ra: advertised.clone() });
        kernel.apply(&before(Families { v4: true, v6: false })).unwrap();
        assert_eq!((kernel.observe().unwrap().routing.on.v4, accept_ra()[0].as_str()), (false, "2"));
        kernel.apply(&before(Families::ALL)).unwrap();
        assert_eq!(kernel.routing().unwrap().on, Families::default());
        assert_eq!((accept_ra(), sysctl_value("ipv6/conf/up2/accept_ra")), (["1".into(), "0".into()], "2".into()));
    });
}

#[test]
fn a_link_that_another_program_deletes_causes_an_event() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        kernel.monitor(Box::new(move |event| sender.send(event).unwrap_or(()))).unwrap();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        ip("link add foreign type ifb");
        ip("link del foreign");
        ip("link del nd-net1");
        // Another program's pair, whose container ends.
        let container = Parked::new();
        ip(&format!("link add veth7 type veth peer name eth0 netns {}", container.path.display()));
        ip("link add cni0 type bridge");
        ip("link set veth7 master cni0");
        drop(container);
        let mut gone = std::iter::from_fn(|| {
            loop {
                // The firewall's watcher may send events as well.
                if let KernelEvent::LinkGone(name) = receiver.recv_timeout(Duration::from_secs(5)).ok()? {
                    return Some(name.to_string());
                }
            }
        });
        assert_eq!(gone.next().as_deref(), Some("nd-net1"));
        assert_eq!(gone.next().as_deref(), Some("veth7"));
    });
}

/// Prints the times that docs/performance.md states:
/// `cargo test --release --lib attach_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn attach_costs() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        let containers: Vec<Parked> = (0..1000).map(|_| Parked::new()).collect();
        let mut times = Vec::new();
        for (number, container) in (2..).zip(&containers) {
            let mut link = endpoint(container, number);
            link.addresses = vec![format!("10.77.{}.{}/16", number >> 8, number & 0xff).parse().unwrap()];
            let start = Instant::now();
            kernel.apply(&attach(&link)).unwrap();
            times.push(start.elapsed());
        }
        for range in [0..300, 700..1000] {
            let part = &mut times[range.clone()];
            part.sort();
            println!("attach, {} there before: p50 {:?}, p99 {:?}", range.start, part[150], part[297]);
        }
        let start = Instant::now();
        kernel.facts().unwrap();
        println!("facts with 1000 endpoints: {:?}", start.elapsed());
        let start = Instant::now();
        kernel.observe().unwrap();
        println!("observe with 1000 endpoints: {:?}", start.elapsed());
        let netns = kernel.netns(&containers[0].path).unwrap();
        let start = Instant::now();
        assert!(kernel.netns_alive(&netns));
        println!("netns_alive: {:?}", start.elapsed());
    });
}
