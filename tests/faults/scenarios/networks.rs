//! Networks: made, removed, pruned.

use super::Scenario;
use crate::drive::Kind::{Command, Removal};

pub(super) const ALL: &[Scenario] = &[
    Scenario { name: "create a network", kind: Command, prepare: |_| {}, act: |lab| lab.create("net1", |_| {}) },
    Scenario {
        name: "create a network with a drawn IPv6 subnet",
        kind: Command,
        prepare: |_| {},
        act: |lab| lab.create("net1", |spec| spec.ipv6 = true),
    },
    Scenario {
        name: "create an isolated network",
        kind: Command,
        prepare: |_| {},
        act: |lab| lab.create("net1", |spec| (spec.internal, spec.isolated) = (true, true)),
    },
    Scenario {
        name: "remove a network",
        kind: Removal,
        prepare: |lab| {
            lab.create("net1", |spec| spec.sticky = true).unwrap();
            lab.create("net2", |_| {}).unwrap();
            // Its address is released and kept.
            lab.connect("net1", "web", &[]).unwrap();
            lab.disconnect("net1", "web").unwrap();
        },
        act: |lab| lab.remove("net1"),
    },
    Scenario {
        name: "remove a network whose containers ask within",
        kind: Removal,
        prepare: |lab| {
            lab.world().drops_questions = true;
            lab.create("net1", |_| {}).unwrap();
            lab.connect("net1", "web", &[]).unwrap();
            lab.disconnect("net1", "web").unwrap();
        },
        act: |lab| lab.remove("net1"),
    },
    Scenario {
        name: "prune two of three networks",
        kind: Removal,
        prepare: |lab| {
            ["net1", "net2", "net3"].iter().for_each(|name| lab.create(name, |_| {}).unwrap());
            lab.connect("net2", "web", &["4000:80"]).unwrap();
        },
        act: |lab| lab.prune(),
    },
];
