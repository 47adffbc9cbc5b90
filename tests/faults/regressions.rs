//! Faults of the product that the matrix has found, each told once.

use netd::kernel::KernelEvent;
use netd::kernel::fake::faults::Faults;
use netd::store::memory::Fault;
use netd_testing::request::attach;

use crate::lab::{Lab, key, within};

fn lab(prepare: impl FnOnce(&mut Lab)) -> Lab {
    let mut lab = Lab::new();
    prepare(&mut lab);
    lab
}

fn net1(lab: &mut Lab) {
    lab.create("net1", |_| {}).unwrap();
}

/// On the networks `net1`, which has the default route, and `net2`.
fn web_on_two_networks(lab: &mut Lab) {
    net1(lab);
    lab.create("net2", |_| {}).unwrap();
    lab.connect("net1", "web", &["4000:80"]).unwrap();
    lab.connect("net2", "web", &[]).unwrap();
}

fn problems(lab: &Lab) -> Vec<String> {
    lab.snapshot().problems.clone()
}

/// The repair recorded a problem that no reader saw: the status was fine.
#[test]
fn a_repair_that_cannot_see_the_kernel_is_a_problem() {
    let lab = lab(net1);
    // The first step succeeds, and nothing after it.
    lab.world().faults = Faults::call(4).for_good();
    lab.connect("net1", "web", &["4000:80"]).unwrap_err();
    assert!(problems(&lab)[0].contains("cannot read the host's network state"), "{:?}", problems(&lab));
}

/// It was recorded as well, and not shown until something else changed.
#[test]
fn an_interface_that_cannot_be_made_again_is_a_problem() {
    let lab = lab(web_on_two_networks);
    lab.delete_link("ndv-web-net2");
    lab.world().faults = Faults::call_of("Attach", 0);
    lab.emit(&KernelEvent::LinkGone("ndv-web-net2".parse().unwrap()));
    assert!(problems(&lab)[0].contains("repair failed"), "{:?}", problems(&lab));
}

/// Its namespace lives on, so the file was nobody's for good, and named a server that is gone.
#[test]
fn the_resolv_conf_of_a_disconnected_container_goes_with_the_next_repair() {
    let mut killed = lab(net1);
    killed.connect("net1", "web", &[]).unwrap();
    killed.store.set_fault(Some((0, Fault::DiesAfter)));
    killed.disconnect("net1", "web").unwrap_err();
    killed.restart();
    assert!(killed.world().resolv.is_empty(), "the daemon was killed");
    let failed = lab(net1);
    failed.connect("net1", "web", &[]).unwrap();
    failed.world().faults = Faults::call_of("Resolv", 0).for_good();
    let error = failed.disconnect("net1", "web").unwrap_err().to_string();
    assert!(error.contains("Resolv"), "{error}");
    failed.world().faults = Faults::default();
    failed.emit(&KernelEvent::Changed);
    assert!(failed.world().resolv.is_empty(), "it could not be removed");
}

/// Ports on 127.0.0.1 led nowhere, and asking again did not help.
#[test]
fn an_adopted_interface_that_a_killed_daemon_had_not_prepared_is_prepared_by_the_next_start() {
    let mut lab = lab(|lab| lab.make_found("pod1", "10.22.0.5", Some("cni0")));
    // After the commits of forwarding and of the network.
    lab.store.set_fault(Some((2, Fault::DiesAfter)));
    lab.attach(attach("found", "pod1").found("10.22.0.5", "10.22.0.1").publish("127.0.0.1:4000:80")).unwrap_err();
    lab.restart();
    assert_eq!((lab.snapshot().desired.counts().2, lab.differences()), (1, vec![]));
}

/// The disconnect answered that all was well, and the container had no way out until the next start.
#[test]
fn a_default_route_that_could_not_be_moved_is_moved_by_a_repair() {
    let lab = lab(web_on_two_networks);
    lab.world().faults = Faults::call_of("DefaultRoutes", 0).for_good();
    let _ = lab.disconnect("net1", "web");
    assert!(!lab.world().faults.hits().is_empty(), "the step was applied");
    assert_eq!(lab.differences(), Vec::<String>::new());
}

/// The problem vanished with the next repair, and the interface stayed without addresses.
#[test]
fn what_a_start_could_not_repair_within_a_container_is_tried_by_the_next_repair() {
    let mut lab = lab(web_on_two_networks);
    lab.end();
    lab.world().links.values_mut().for_each(|link| link.addresses.clear());
    lab.world().faults = Faults::call_of("Restore", 0).for_good();
    lab.start().unwrap();
    assert_eq!(problems(&lab).len(), 2);
    lab.emit(&KernelEvent::Changed);
    assert_eq!(problems(&lab).len(), 2, "as long as it fails");
    lab.world().faults = Faults::default();
    lab.emit(&KernelEvent::Changed);
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
}

/// The address was free for netd, and in use in the container.
#[test]
fn an_address_that_could_not_be_taken_back_goes_with_the_next_repair() {
    let lab = lab(net1);
    lab.attach(attach("net1", "pod1").unaddressed()).unwrap();
    // The first step succeeds, the third fails, and the undoing of the first.
    lab.world().faults = Faults::call(2).for_good();
    lab.attach(attach("net1", "pod1").given("10.0.0.5")).unwrap_err();
    lab.world().faults = Faults::default();
    assert_ne!(lab.differences(), Vec::<String>::new());
    lab.emit(&KernelEvent::Changed);
    assert_eq!(lab.differences(), Vec::<String>::new());
}

/// What the container received stayed limited, and what it sent was redirected to a device that was deleted.
#[test]
fn limits_that_a_killed_daemon_left_on_an_adopted_interface_go_with_the_next_start() {
    let mut lab = lab(|lab| lab.make_found("pod1", "10.22.0.5", Some("cni0")));
    let request = attach("found", "pod1").found("10.22.0.5", "10.22.0.1").limit_in(8000).limit_out(8000);
    lab.attach(request).unwrap();
    lab.store.set_fault(Some((0, Fault::DiesAfter)));
    lab.detach(key("pod1", "eth0")).unwrap_err();
    // One lock for both: the world cannot be locked twice at a time.
    let limits = |lab: &Lab| {
        let world = lab.world();
        (world.shapings.len(), world.ifbs.len())
    };
    assert_eq!(limits(&lab), (1, 1));
    lab.restart();
    assert_eq!(limits(&lab), (0, 0));
}

/// The next network was given the prefix, but the store never.
#[test]
fn a_prefix_of_a_network_that_could_not_be_stored_is_drawn_again() {
    let mut lab = Lab::new();
    let six = |lab: &Lab, name: &str| {
        let snapshot = lab.snapshot();
        let network = snapshot.desired.network(&name.parse().unwrap()).unwrap();
        match network.subnets[1].subnet.network() {
            std::net::IpAddr::V6(six) => six.octets()[..6].to_vec(),
            four => panic!("{four}"),
        }
    };
    lab.store.set_fault(Some((0, Fault::Fails)));
    lab.create("net1", |spec| spec.ipv6 = true).unwrap_err();
    lab.create("net2", |spec| spec.ipv6 = true).unwrap();
    lab.restart();
    lab.create("net3", |spec| spec.ipv6 = true).unwrap();
    assert_eq!(six(&lab, "net2"), six(&lab, "net3"), "one prefix for the host");
}

#[test]
fn records_of_a_network_that_no_longer_exists_go_with_the_next_start() {
    let mut lab = lab(net1);
    lab.connect("net1", "web", &[]).unwrap();
    lab.disconnect("net1", "web").unwrap();
    lab.store.set_fault(Some((0, Fault::DiesAfter)));
    lab.remove("net1").unwrap_err();
    assert_eq!(lab.store.stored().released.len(), 1);
    lab.restart();
    assert_eq!(lab.store.stored().released.len(), 0);
}

/// The container's questions were redirected to a socket that was closed: it had no names at all.
#[test]
fn a_redirection_that_a_killed_daemon_left_goes_with_the_next_start() {
    let mut lab = lab(net1);
    lab.create("net2", within).unwrap();
    lab.connect("net1", "web", &[]).unwrap();
    lab.connect("net2", "web", &[]).unwrap();
    lab.store.set_fault(Some((0, Fault::DiesAfter)));
    lab.disconnect("net2", "web").unwrap_err();
    lab.restart();
    assert!(lab.world().inside.is_empty());
}

#[test]
fn a_redirection_that_cannot_be_removed_is_a_problem_and_goes_with_the_next_repair() {
    let lab = lab(net1);
    lab.create("net2", within).unwrap();
    lab.connect("net1", "web", &[]).unwrap();
    lab.connect("net2", "web", &[]).unwrap();
    lab.world().faults = Faults::call_of("leave_inside", 0);
    lab.disconnect("net2", "web").unwrap();
    assert!(problems(&lab)[0].contains("leave_inside"), "{:?}", problems(&lab));
    lab.emit(&KernelEvent::Changed);
    assert!(problems(&lab).is_empty() && lab.world().inside.is_empty());
}

/// The problem was about a gateway, or a container, that no longer existed, and stayed until the next start.
#[test]
fn a_problem_of_the_name_service_ends_with_its_network_or_container() {
    let lab = Lab::new();
    lab.world().faults = Faults::call_of("dns_sockets", 0);
    net1_without_name_service(&lab);
    lab.remove("net1").unwrap();
    assert_eq!(problems(&lab), Vec::<String>::new());
    lab.create("net2", within).unwrap();
    lab.world().faults = Faults::call_of("open_inside", 0);
    lab.attach(attach("net2", "pod1")).unwrap();
    assert_eq!(problems(&lab).len(), 1);
    lab.detach(key("pod1", "eth0")).unwrap();
    assert_eq!(problems(&lab), Vec::<String>::new());
}

fn net1_without_name_service(lab: &Lab) {
    lab.create("net1", |_| {}).unwrap();
    assert_eq!(problems(lab).len(), 1);
}

/// After a restart the container was connected twice, with the same ports.
#[test]
fn a_change_that_the_store_refused_to_take_back_is_written_before_the_next_one() {
    let mut lab = lab(net1);
    let inode = lab.world().namespaces[std::path::Path::new("/run/netns/web")];
    lab.world().foreign_ifnames.insert((inode, "eth0".parse().unwrap()));
    // The first try is stored; taking it back is refused.
    lab.store.set_fault(Some((1, Fault::Fails)));
    lab.connect("net1", "web", &["4000:80"]).unwrap();
    lab.restart();
    let ifnames: Vec<String> = lab.snapshot().desired.endpoints().map(|endpoint| endpoint.ifname.to_string()).collect();
    assert_eq!((ifnames, problems(&lab)), (vec!["eth1".to_owned()], vec![]));
}

/// Nobody learned that it was not known whether names are answered, and nothing asked again.
#[test]
fn a_gateway_that_could_not_be_asked_is_a_problem_and_is_asked_again() {
    let lab = lab(net1);
    lab.world().drops_questions = true;
    let ask_in_vain = || {
        lab.world().faults = Faults::call_of("reaches", 0);
        lab.connect("net1", "web", &[]).unwrap();
        let message = "cannot check whether containers of network net1 reach their gateway: ";
        assert!(problems(&lab)[0].starts_with(message), "{:?}", problems(&lab));
    };
    ask_in_vain();
    lab.disconnect("net1", "web").unwrap();
    assert_eq!(problems(&lab), Vec::<String>::new(), "no container asks");
    ask_in_vain();
    lab.emit(&KernelEvent::Tick);
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
    assert!(!lab.world().inside.is_empty(), "its questions are dropped at the gateway");
}

/// They asked it in vain until the firewall changed, or another container was connected.
#[test]
fn containers_whose_gateway_a_killed_daemon_had_not_asked_are_served_within_by_the_next_start() {
    let mut lab = lab(net1);
    lab.world().drops_questions = true;
    lab.store.set_fault(Some((0, Fault::DiesAfter)));
    lab.connect("net1", "web", &[]).unwrap_err();
    lab.restart();
    assert!(!lab.world().inside.is_empty());
}

fn a_firewall_drops(lab: &mut Lab) {
    lab.world().iptables = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n".into();
    lab.emit(&KernelEvent::FirewallChanged);
}

/// The problem vanished with the next repair, and the rules stayed.
#[test]
fn rules_in_another_firewall_that_could_not_be_removed_are_removed_later() {
    for event in [KernelEvent::Changed, KernelEvent::Tick] {
        let mut lab = lab(a_firewall_drops);
        net1(&mut lab);
        lab.world().faults = Faults::call_of("Foreign", 0).for_good();
        lab.remove("net1").unwrap();
        lab.emit(&event);
        assert!(problems(&lab)[0].contains("cannot remove netd's accept rule"), "{:?}", problems(&lab));
        lab.world().faults = Faults::default();
        lab.emit(&event);
        assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]), "{event:?}");
    }
}

/// It was only in the list of other programs' firewalls.
#[test]
fn a_firewall_that_cannot_be_told_to_accept_questions_is_a_problem() {
    let mut lab = lab(a_firewall_drops);
    // The change of the chain for forwarded traffic comes first.
    lab.world().faults = Faults::call_of("Foreign", 1);
    net1(&mut lab);
    assert!(
        problems(&lab)[0].contains("chain INPUT") && problems(&lab)[0].contains("told to fail"),
        "{:?}",
        problems(&lab)
    );
    lab.emit(&KernelEvent::Tick);
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
}

/// The path by which a container was known went, its namespace stayed, and only the next command noticed.
#[test]
fn a_container_is_followed_to_where_its_namespace_is_now() {
    let lab = lab(web_on_two_networks);
    let known = || lab.snapshot().desired.containers().next().unwrap().container.netns.path.clone();
    let before = known();
    let inode = lab.world().namespaces.remove(&before).unwrap();
    lab.world().namespaces.insert("/proc/7/ns/net".into(), inode);
    lab.emit(&KernelEvent::Tick);
    assert_eq!(known(), std::path::Path::new("/proc/7/ns/net"));
    assert_eq!(lab.snapshot().desired.counts().2, 2);
}

/// A connect that the kernel refused left the state as it was, and the next repair counted it as a change all the same.
#[test]
fn a_command_that_was_undone_is_no_change() {
    let lab = lab(net1);
    let before = lab.snapshot();
    lab.world().faults = Faults::call_of("Attach", 0);
    lab.connect("net1", "web", &["4000:80"]).unwrap_err();
    lab.emit(&KernelEvent::Changed);
    let now = lab.snapshot();
    assert_eq!((now.revision, now.zone_revision), (before.revision, before.zone_revision));
}
