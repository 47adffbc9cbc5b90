//! One namespace is one container: a second name would take the default route and resolv.conf away from the first.

use std::fs;

use libtest_mimic::Trial;

use crate::lab::look::{default_routes, links};
use crate::lab::{Dig, Lab, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("one namespace: a second name is refused, naming the first, also after a restart", second_name)]
}

fn second_name(lab: &Lab) {
    lab.start_daemon();
    for network in ["net1", "net2"] {
        lab.netd(&format!("network create {network}")).ok();
    }
    lab.container("x");
    lab.netd("connect net1 base --netns /run/netns/x").ok();
    let seen = || (links("x"), default_routes("x", 4), fs::read_to_string("/etc/netns/x/resolv.conf").expect("a file"));
    let before = seen();
    let second = "connect net2 side --netns /run/netns/x";
    let word = "container side: /run/netns/x is the network namespace of container base: use that name";
    let refused = lab.netd(second).refused();
    assert!(refused.contains(word), "{refused}");
    assert_eq!(seen(), before);
    lab.kill_daemon();
    lab.start_daemon();
    for line in [second, "connect net2 x"] {
        let refused = lab.netd(line).refused();
        assert!(refused.contains("is the network namespace of container base"), "{line}: {refused}");
    }
    assert_eq!(seen(), before);
    // By its name it comes and goes, and what it had stays.
    lab.netd("connect net2 base --netns /run/netns/x --alias side").ok();
    let address = lab.address("net2", "base")[0].to_string();
    Dig::expect("x", "side.net2", &[&address]);
    lab.netd("disconnect net2 base").ok();
    assert_eq!(seen(), before);
    lab.netd("disconnect net1 base").ok();
    lab.netd(second).ok();
}
