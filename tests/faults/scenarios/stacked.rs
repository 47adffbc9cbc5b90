//! Networks on an interface of the host, with the host's own interface there.

use netd::model::network::{HostAccess, MacvlanMode, StackedMode};
use netd::model::request::{DriverSpec, NetworkSpec};

use super::Scenario;
use crate::drive::Kind::{Command, Removal};
use crate::lab::Lab;

/// An interface of the host, with an address in the subnet of the network.
fn eth0(lab: &Lab) {
    lab.fake.add_card("eth0".parse().unwrap(), Vec::new());
}

fn on_eth0(spec: &mut NetworkSpec) {
    let mode = StackedMode::Macvlan(MacvlanMode::Bridge);
    spec.driver = DriverSpec::Stacked { parent: "eth0".parse().unwrap(), mode, host: Vec::new() };
}

fn with_host(spec: &mut NetworkSpec) {
    on_eth0(spec);
    spec.host_access = Some(HostAccess::All);
}

fn connected(lab: &mut Lab) {
    eth0(lab);
    lab.create("lan", with_host).unwrap();
    lab.connect("lan", "web", &[]).unwrap();
    lab.connect("lan", "db", &[]).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "create a network on an interface of the host",
        kind: Command,
        prepare: |lab| eth0(lab),
        act: |lab| lab.create("lan", with_host),
    },
    Scenario {
        name: "connect on an interface of the host",
        kind: Command,
        prepare: |lab| {
            eth0(lab);
            lab.create("lan", with_host).unwrap();
            lab.connect("lan", "db", &[]).unwrap();
        },
        act: |lab| lab.connect("lan", "web", &[]),
    },
    Scenario {
        name: "connect on an interface of the host, beside a bridge",
        kind: Command,
        prepare: |lab| {
            eth0(lab);
            lab.create("lan", on_eth0).unwrap();
            lab.create("net1", |_| {}).unwrap();
            lab.connect("net1", "web", &["4000:80"]).unwrap();
        },
        act: |lab| lab.connect("lan", "web", &[]),
    },
    Scenario {
        name: "disconnect on an interface of the host",
        kind: Removal,
        prepare: connected,
        act: |lab| lab.disconnect("lan", "web"),
    },
    Scenario {
        name: "remove a network on an interface of the host",
        kind: Removal,
        prepare: |lab| {
            connected(lab);
            lab.disconnect("lan", "web").unwrap();
            lab.disconnect("lan", "db").unwrap();
        },
        act: |lab| lab.remove("lan"),
    },
];
