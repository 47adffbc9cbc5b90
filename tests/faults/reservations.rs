//! Reservations that do not get what they had, or not at once.

use netd_testing::request::attach;

use crate::lab::Lab;

/// On `net1`, with the port 4000.
fn reserved() -> Lab {
    let lab = Lab::new();
    lab.create("net1", |_| {}).unwrap();
    lab.reserve("net1", "r1", &["4000:80"]).unwrap();
    lab
}

/// Another process takes the port while no daemon runs.
fn port_lost() -> Lab {
    let mut lab = reserved();
    let port = lab.world().held.first().unwrap().single().unwrap();
    lab.end();
    lab.world().foreign_ports.insert(port);
    lab.start().unwrap();
    lab
}

fn problems(lab: &Lab) -> Vec<String> {
    lab.snapshot().problems.clone()
}

/// Otherwise the container would be published nowhere, and nobody would know.
#[test]
fn a_port_that_was_lost_is_held_again_or_the_connect_is_refused() {
    let lab = port_lost();
    assert!(problems(&lab)[0].contains("cannot hold the ports of reservation r1"), "{:?}", problems(&lab));
    let error = lab.connect_reserved("net1", "web", "r1").unwrap_err().to_string();
    assert!(error.contains("port 4000/tcp on 0.0.0.0 is in use by sshd"), "{error}");
    lab.world().foreign_ports.clear();
    lab.connect_reserved("net1", "web", "r1").unwrap();
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
}

#[test]
fn a_port_that_was_lost_is_no_problem_once_the_reservation_is_released() {
    let lab = port_lost();
    lab.release("r1").unwrap();
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
}

/// The first try is taken back, and the reservation with it.
#[test]
fn a_connect_that_is_decided_again_has_the_same_reservation() {
    let lab = reserved();
    let address = lab.snapshot().desired.reservations().next().unwrap().addresses.clone();
    let inode = lab.world().namespaces[std::path::Path::new("/run/netns/web")];
    lab.world().foreign_ifnames.insert((inode, "eth0".parse().unwrap()));
    lab.connect_reserved("net1", "web", "r1").unwrap();
    let snapshot = lab.snapshot();
    let endpoint = snapshot.desired.endpoints().next().unwrap();
    assert_eq!((endpoint.ifname.as_str(), &endpoint.addresses), ("eth1", &address));
    assert_eq!(lab.differences(), Vec::<String>::new());
}

/// Nobody can get what it has in between, and two cannot be kept under one id.
#[test]
fn what_is_kept_of_a_container_comes_again() {
    let lab = reserved();
    lab.connect_reserved("net1", "web", "r1").unwrap();
    lab.connect("net1", "db", &[]).unwrap();
    let before = lab.snapshot();
    let before = before.desired.endpoints().find(|endpoint| endpoint.container.name.as_str() == "web").unwrap();
    lab.disconnect_keeping("net1", "web", "r1").unwrap();
    let refused = lab.disconnect_keeping("net1", "db", "r1").unwrap_err().to_string();
    assert!(refused.starts_with("reservation r1 already exists"), "{refused}");
    assert_eq!(lab.differences(), Vec::<String>::new(), "the port stays held");
    lab.connect_reserved("net1", "web", "r1").unwrap();
    let snapshot = lab.snapshot();
    let after = snapshot.desired.endpoints().find(|endpoint| endpoint.container.name.as_str() == "web").unwrap();
    assert_eq!((&after.addresses, after.mac), (&before.addresses, before.mac));
    assert_eq!((&after.publications, lab.differences()), (&before.publications, vec![]));
}

#[test]
fn an_attachment_of_a_runtime_is_not_kept() {
    let lab = Lab::new();
    lab.attach(attach("net1", "pod1").publish("4000:80")).unwrap();
    let refused = lab.disconnect_keeping("net1", "pod1", "r1").unwrap_err().to_string();
    assert!(refused.contains("a runtime attached the container"), "{refused}");
    assert_eq!((lab.snapshot().desired.counts().2, lab.differences()), (1, vec![]));
}

/// Another process had the port: the reservation has it as soon as that has ended.
#[test]
fn a_port_that_was_lost_before_is_a_problem_of_what_is_kept() {
    let mut lab = reserved();
    lab.connect_reserved("net1", "web", "r1").unwrap();
    let port = lab.world().held.first().unwrap().single().unwrap();
    lab.end();
    lab.world().foreign_ports.insert(port);
    lab.start().unwrap();
    lab.disconnect_keeping("net1", "web", "r1").unwrap();
    assert!(problems(&lab)[0].contains("cannot hold the ports of reservation r1"), "{:?}", problems(&lab));
    lab.world().foreign_ports.clear();
    lab.connect_reserved("net1", "web", "r1").unwrap();
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
}
