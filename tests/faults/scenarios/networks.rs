//! Networks: made, removed, pruned.

use netd::model::address::Subnet;
use netd::model::backup::Definition;
use netd::model::ids::NetworkId;
use netd::model::request::NetworkSpec;
use netd::model::subnets::Subnets;

use super::Scenario;
use crate::drive::Kind::{Command, Removal};

/// A network in a backup, which keeps its third address for `web`.
fn definition(name: &str, subnet: &str) -> Definition {
    let subnet: Subnet = subnet.parse().unwrap();
    let mut spec = NetworkSpec::named(name.parse().unwrap());
    spec.subnets = Subnets::new(vec![subnet.into()], &[], &[]).unwrap();
    (spec.sticky, spec.mtu) = (true, Some(1400));
    let address = subnet.address(subnet.bounds().0 + 3).unwrap();
    let id = NetworkId::from_random([subnet.prefix(); 32]);
    Definition { id, spec, sticky: vec![(address, "web".parse().unwrap())] }
}

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
        name: "restore two networks beside one that is there",
        kind: Command,
        prepare: |lab| lab.create("net2", |_| {}).unwrap(),
        act: |lab| {
            let mut backup = lab.backup();
            backup.networks.extend([definition("net1", "10.200.0.0/29"), definition("net3", "fd00:3::/64")]);
            lab.restore(backup)
        },
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
        name: "remove the last network that needs forwarding",
        kind: Removal,
        prepare: |lab| {
            lab.create("net1", |spec| spec.ipv6 = true).unwrap();
            lab.create("net2", |spec| spec.internal = true).unwrap();
        },
        act: |lab| lab.remove("net1"),
    },
    Scenario {
        name: "remove the last network beside a bridge of another engine",
        kind: Removal,
        prepare: |lab| {
            lab.world().engines.insert("docker0".parse().unwrap());
            lab.create("net1", |_| {}).unwrap();
        },
        act: |lab| lab.remove("net1"),
    },
    Scenario {
        name: "create a network where the host is configured to forward",
        kind: Command,
        prepare: |lab| lab.world().asked.v4 = true,
        act: |lab| lab.create("net1", |spec| spec.ipv6 = true),
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
