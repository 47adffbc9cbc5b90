//! Records that were lost: endpoints are taken from the kernel, and what it cannot explain stays.

use netd::kernel::KernelEvent;
use netd::kernel::fake::faults::Faults;
use netd::model::request::NetworkSpec;

use crate::lab::Lab;

/// `web` on two networks, one of them sticky, and `db`.
fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.create("net1", |spec| spec.sticky = true).unwrap();
    lab.create("net2", |_| {}).unwrap();
    lab.connect("net1", "web", &["4000:80", "127.0.0.1:4001-4003:4001-4003/udp"]).unwrap();
    lab.connect("net2", "web", &[]).unwrap();
    lab.connect("net2", "db", &["4004:81"]).unwrap();
    lab.end();
    lab
}

fn lab_running() -> Lab {
    let mut lab = lab();
    lab.start().unwrap();
    lab
}

fn problems(lab: &Lab) -> Vec<String> {
    lab.snapshot().problems.clone()
}

/// What a user sees of the endpoints.
fn seen(lab: &Lab) -> Vec<String> {
    let snapshot = lab.snapshot();
    let endpoint = |endpoint: &std::sync::Arc<netd::model::endpoint::Endpoint>| {
        let (container, addresses) = (&endpoint.container, &endpoint.addresses);
        let mut publications = endpoint.publications.clone();
        publications.sort();
        format!("{} {} {:?} {addresses:?} {publications:?}", endpoint.network, container.name, container.netns)
    };
    let mut seen: Vec<String> = snapshot.desired.endpoints().map(endpoint).collect();
    seen.sort();
    seen
}

#[test]
fn endpoints_are_taken_from_their_interfaces() {
    let mut lab = lab();
    lab.start().unwrap();
    let (before, world) = (seen(&lab), format!("{:?}", lab.world().links));
    for _ in 0..2 {
        lab.end();
        lab.store.lose(&[]);
        lab.start().unwrap();
        assert_eq!(seen(&lab), before);
        assert_eq!(format!("{:?}", lab.world().links), world, "no interface was touched");
        assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
        assert!(!lab.store.stored().incomplete);
    }
    lab.restart();
    assert_eq!(seen(&lab), before, "they were stored");
    // The container is one, so it has one default route.
    lab.disconnect("net1", "web").unwrap();
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
}

#[test]
fn a_container_that_is_not_found_stays_as_it_is() {
    let mut lab = lab();
    lab.store.lose(&[]);
    let inode = lab.world().namespaces.remove(std::path::Path::new("/run/netns/db")).unwrap();
    let elements = lab.world().elements.clone();
    lab.start().unwrap();
    for _ in 0..2 {
        assert_eq!(lab.snapshot().desired.counts().2, 2);
        assert!(lab.world().links.contains_key(&"ndv-db-net2".parse().unwrap()));
        assert!(
            problems(&lab)[0].contains("interface ndv-db-net2") && problems(&lab).len() == 1,
            "{:?}",
            problems(&lab)
        );
        assert!(lab.world().elements >= elements, "its published port still leads to it");
        lab.emit(&KernelEvent::Changed);
        lab.restart();
    }
    // It is found later.
    lab.world().namespaces.insert("/run/netns/db".into(), inode);
    lab.emit(&KernelEvent::Changed);
    assert_eq!(lab.snapshot().desired.counts().2, 3);
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
}

#[test]
fn what_is_left_of_a_network_that_was_lost_stays_until_it_is_removed() {
    let mut lab = lab();
    lab.store.lose(&["net2"]);
    lab.start().unwrap();
    assert_eq!(lab.snapshot().desired.counts().2, 1);
    let kept = ["nd-net2", "ndv-db-net2", "ndv-web-net2"];
    assert_eq!(problems(&lab).len(), kept.len(), "{:?}", problems(&lab));
    assert!(kept.iter().zip(problems(&lab)).all(|(name, problem)| problem.contains(name)), "{:?}", problems(&lab));
    assert_eq!(lab.world().bridges.len(), 2);
    // Other commands work meanwhile, and what they leave is none of it.
    lab.connect("net1", "pod1", &[]).unwrap();
    lab.world().faults = Faults::call_of("Detach", 0).for_good();
    lab.disconnect("net1", "pod1").unwrap_err();
    lab.world().faults = Faults::default();
    lab.emit(&KernelEvent::Changed);
    assert_eq!((problems(&lab).len(), lab.world().links.len()), (kept.len(), 3));
    for name in kept {
        lab.world().links.remove(&name.parse().unwrap());
        lab.world().bridges.remove(&name.parse().unwrap());
    }
    lab.emit(&KernelEvent::Changed);
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
    assert!(!lab.store.stored().incomplete);
}

/// The bridge that stands is in nobody's way, and what is on it comes back with the network.
#[test]
fn a_network_that_was_lost_comes_back_by_its_backup() {
    let mut lab = lab();
    lab.start().unwrap();
    let (before, backup) = (seen(&lab), lab.backup());
    lab.end();
    lab.store.lose(&["net2"]);
    lab.start().unwrap();
    let bridges = format!("{:?}", lab.world().bridges);
    // The kernel refuses something of it: nothing was restored, and what stood still stands.
    lab.world().faults = Faults::call_of("Elements", 0);
    lab.restore(backup.clone()).unwrap_err();
    assert_eq!((lab.snapshot().desired.counts().0, format!("{:?}", lab.world().bridges)), (1, bridges));
    lab.restore(backup).unwrap();
    assert_eq!(seen(&lab), before);
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
}

#[test]
fn a_restore_is_all_or_nothing_and_destroys_nothing() {
    let lab = lab_running();
    let backup = lab.backup();
    lab.restore(backup.clone()).unwrap();
    assert_eq!(lab.backup(), backup, "what is there as the backup has it stays as it is");
    // One network is there otherwise.
    lab.disconnect("net2", "web").unwrap();
    lab.disconnect("net2", "db").unwrap();
    for change in [|spec: &mut NetworkSpec| spec.internal = true, |spec: &mut NetworkSpec| spec.mtu = Some(1400)] {
        let mut other = backup.clone();
        change(&mut other.networks[1].spec);
        lab.remove("net2").unwrap();
        lab.restore(other).unwrap();
        let error = lab.restore(backup.clone()).unwrap_err().to_string();
        assert!(error.starts_with("network net2 is not as the backup has it"), "{error}");
    }
    // Another has its subnet; the first network of the backup is missing.
    lab.remove("net2").unwrap();
    lab.restore(backup.clone()).unwrap();
    let subnet = backup.networks[1].spec.subnets.clone();
    lab.remove("net2").unwrap();
    lab.create("other", |spec| spec.subnets = subnet).unwrap();
    lab.disconnect("net1", "web").unwrap();
    lab.remove("net1").unwrap();
    let error = lab.restore(backup.clone()).unwrap_err().to_string();
    assert!(error.contains("overlaps with network other"), "{error}");
    assert_eq!(lab.backup().networks.len(), 1, "nothing was restored");
    lab.remove("other").unwrap();
    lab.restore(backup.clone()).unwrap();
    assert_eq!(lab.backup(), backup, "with the addresses that are kept");
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
    // Its address is kept.
    lab.connect("net1", "db", &[]).unwrap();
    lab.connect("net1", "web", &[]).unwrap();
    let kept = backup.networks[0].sticky[0].0;
    assert_eq!(lab.snapshot().desired.at_address(kept).unwrap().container.name.as_str(), "web");
}
