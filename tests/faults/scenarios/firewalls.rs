//! Firewalls of other programs, which drop what they do not know.

use netd::kernel::KernelEvent;
use netd::kernel::fake::World;
use netd_testing::request::attach;

use super::Scenario;
use crate::drive::Kind::{Command, Removal, Repair};
use crate::lab::Lab;

const DROPS: &str = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n";

/// Another program loads its rules; netd's go with the former ones.
fn load(lab: &Lab) {
    change(lab, |world| {
        world.iptables = DROPS.into();
        world.ways = vec!["eth0".parse().unwrap()];
    });
}

/// It drops nothing any more, and leaves all rules as they are.
fn accept(lab: &Lab) {
    change(lab, |world| world.iptables = world.iptables.replace(" DROP ", " ACCEPT "));
}

/// The kernel reports the change, if anybody listens.
fn change(lab: &Lab, how: impl FnOnce(&mut World)) {
    how(&mut lab.world());
    if lab.is_running() {
        lab.emit(&KernelEvent::FirewallChanged);
    }
}

fn two_networks(lab: &mut Lab) {
    load(lab);
    lab.create("net1", |_| {}).unwrap();
    lab.create("net2", |spec| spec.internal = true).unwrap();
    lab.connect("net1", "web", &["4000:80"]).unwrap();
}

fn one_network(lab: &mut Lab) {
    load(lab);
    lab.create("net1", |_| {}).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "create a network where a firewall drops",
        kind: Command,
        prepare: |lab| load(lab),
        act: |lab| lab.create("net1", |_| {}),
    },
    Scenario {
        name: "create a second network where a firewall drops",
        kind: Command,
        prepare: two_networks,
        act: |lab| lab.create("net3", |_| {}),
    },
    Scenario {
        name: "attach, with a new network, where a firewall drops",
        kind: Command,
        prepare: one_network,
        act: |lab| lab.attach(attach("net2", "pod1").publish("4000:80")),
    },
    Scenario {
        name: "remove one of two networks where a firewall drops",
        kind: Removal,
        prepare: two_networks,
        act: |lab| lab.remove("net2"),
    },
    Scenario {
        name: "remove the only network where a firewall drops",
        kind: Removal,
        prepare: one_network,
        act: |lab| lab.remove("net1"),
    },
    Scenario {
        name: "a firewall drops from now on",
        kind: Repair,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.connect("net1", "web", &["4000:80"]).unwrap();
        },
        act: |lab| {
            load(lab);
            Ok(())
        },
    },
    Scenario {
        name: "a firewall that drops is loaded again",
        kind: Repair,
        prepare: two_networks,
        act: |lab| {
            load(lab);
            Ok(())
        },
    },
    Scenario {
        name: "a firewall no longer drops",
        kind: Repair,
        prepare: two_networks,
        act: |lab| {
            accept(lab);
            Ok(())
        },
    },
    Scenario {
        name: "a start where a firewall drops",
        kind: Repair,
        prepare: |lab| {
            two_networks(lab);
            lab.end();
            load(lab);
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start where a firewall no longer drops",
        kind: Repair,
        prepare: |lab| {
            two_networks(lab);
            lab.end();
            accept(lab);
        },
        act: Lab::start,
    },
];
