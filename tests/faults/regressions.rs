//! Faults of the product that the matrix has found, each told once.

use netd::kernel::KernelEvent;
use netd::kernel::fake::faults::Faults;
use netd::store::memory::Fault;
use serde_json::json;

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
    assert!(problems(&lab)[0].contains("cannot see the host's network"), "{:?}", problems(&lab));
}
