//! A store that refuses changes for a while.

use netd::kernel::KernelEvent;
use netd::store::memory::Fault;

use crate::lab::Lab;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.create("net1", |_| {}).unwrap();
    lab.create("net2", |_| {}).unwrap();
    lab.connect("net1", "web", &["4000:80"]).unwrap();
    lab.connect("net2", "web", &[]).unwrap();
    lab.connect("net2", "db", &["4004:81"]).unwrap();
    lab
}

fn problems(lab: &Lab) -> Vec<String> {
    lab.snapshot().problems.clone()
}

/// A store that refuses everything kept containers that had ended, until something else was repaired.
#[test]
fn a_container_that_has_ended_is_released_whatever_the_store_says() {
    let lab = lab();
    lab.fake.delete_namespace("db");
    lab.store.set_fault(Some((0, Fault::FailsForGood)));
    lab.emit(&KernelEvent::LinkGone("ndv-db-net2".parse().unwrap()));
    assert_eq!(lab.snapshot().desired.counts().2, 2);
    assert!(problems(&lab)[0].contains("cannot store changes"), "{:?}", problems(&lab));
    lab.connect("net1", "pod1", &[]).unwrap_err();
    lab.emit(&KernelEvent::Tick);
    assert_eq!(problems(&lab).len(), 1, "it lasts");
    lab.store.set_fault(None);
    lab.emit(&KernelEvent::Tick);
    assert_eq!((problems(&lab), lab.differences()), (vec![], vec![]));
    assert_eq!(lab.store.stored().endpoints.len(), 2);
    // A command that fails is a problem as well.
    lab.store.set_fault(Some((0, Fault::FailsForGood)));
    lab.connect("net1", "pod1", &[]).unwrap_err();
    assert!(problems(&lab)[0].contains("cannot store changes"), "{:?}", problems(&lab));
    lab.store.set_fault(None);
    lab.connect("net1", "pod1", &[]).unwrap();
    assert_eq!(problems(&lab), [""; 0]);
}
