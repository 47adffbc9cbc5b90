//! Ports of connected containers: published later, and no longer published.

use netd::model::request::PortAction::{Publish, Unpublish};

use super::Scenario;
use crate::drive::Kind::{Command, Removal, Replacement};
use crate::lab::Lab;

/// `web` on `net1`, where its ports lead, and on `net2`, which has IPv6; `db` on `net1`.
fn connected(lab: &mut Lab) {
    lab.create("net1", |_| {}).unwrap();
    lab.create("net2", |spec| spec.ipv6 = true).unwrap();
    lab.connect("net1", "web", &["4000:80", "4001:81/udp", "5000-5001:5000-5001"]).unwrap();
    lab.connect("net2", "web", &["6000:80"]).unwrap();
    lab.connect("net1", "db", &["7000:80"]).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "publish a further port",
        kind: Command,
        prepare: connected,
        act: |lab| lab.change_port("web", "4002:82", Publish),
    },
    Scenario {
        name: "publish a further range over UDP",
        kind: Command,
        prepare: connected,
        act: |lab| lab.change_port("web", "4010-4012:4010-4012/udp", Publish),
    },
    Scenario {
        name: "publish a long range, which nobody holds",
        kind: Command,
        prepare: connected,
        act: |lab| lab.change_port("web", "20000-29999:20000-29999/udp", Publish),
    },
    Scenario {
        name: "stop publishing a long range",
        kind: Removal,
        prepare: |lab| {
            connected(lab);
            lab.change_port("web", "20000-29999:20000-29999/udp", Publish).unwrap();
        },
        act: |lab| lab.change_port("web", "20000-29999:20000-29999/udp", Unpublish { drain: false }),
    },
    Scenario {
        name: "publish a port that another container has",
        kind: Command,
        prepare: connected,
        act: |lab| match lab.change_port("web", "7000:80", Publish) {
            Err(error) if error.to_string().contains("container db") => Ok(()),
            other => other,
        },
    },
    Scenario {
        name: "publish a port of a container that has ended without word",
        kind: Replacement,
        prepare: |lab| {
            connected(lab);
            lab.fake.delete_namespace("db");
        },
        act: |lab| lab.change_port("web", "7000:80", Publish),
    },
    Scenario {
        name: "stop publishing a port",
        kind: Removal,
        prepare: connected,
        act: |lab| lab.change_port("web", "4000:80", Unpublish { drain: false }),
    },
    Scenario {
        name: "stop publishing a range, whose flows stay",
        kind: Removal,
        prepare: connected,
        act: |lab| lab.change_port("web", "5000-5001:5000-5001", Unpublish { drain: true }),
    },
    Scenario {
        name: "stop publishing a port in both families",
        kind: Removal,
        prepare: connected,
        act: |lab| lab.change_port("web", "6000:80", Unpublish { drain: false }),
    },
];
