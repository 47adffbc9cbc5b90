//! Reservations: made, consumed by an endpoint, released.

use super::Scenario;
use crate::drive::Kind::{Command, Removal, Repair, Replacement};
use crate::lab::Lab;

const PORTS: &[&str] = &["4000:80", "4001:81/udp", "5000-5001:5000-5001", "127.0.0.1:4002:82"];

/// `web` is reserved on `net1`, and `db` on `net2`, which has IPv6.
fn reserved(lab: &mut Lab) {
    lab.create("net1", |_| {}).unwrap();
    lab.create("net2", |spec| spec.ipv6 = true).unwrap();
    lab.reserve("net1", "web", PORTS).unwrap();
    lab.reserve("net2", "db", &["7000:80"]).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "reserve with ports",
        kind: Command,
        prepare: |lab| lab.create("net1", |spec| spec.ipv6 = true).unwrap(),
        act: |lab| lab.reserve("net1", "web", PORTS),
    },
    Scenario {
        name: "reserve an address that was released, where addresses are kept",
        kind: Command,
        prepare: |lab| {
            lab.create("net1", |spec| spec.sticky = true).unwrap();
            lab.connect("net1", "web", &[]).unwrap();
            lab.disconnect("net1", "web").unwrap();
        },
        act: |lab| lab.reserve("net1", "web", &["4000:80"]),
    },
    Scenario {
        name: "reserve where a container that ended without word has the port",
        kind: Replacement,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.connect("net1", "web", &["4000:80"]).unwrap();
            lab.fake.delete_namespace("web");
        },
        act: |lab| lab.reserve("net1", "db", &["4000:80"]),
    },
    Scenario {
        name: "connect with a reservation",
        kind: Command,
        prepare: reserved,
        act: |lab| lab.connect_reserved("net1", "web", "web"),
    },
    Scenario {
        name: "connect with a reservation to a second network, which adds a family to the ports",
        kind: Command,
        prepare: |lab| {
            reserved(lab);
            lab.connect("net2", "web", &[]).unwrap();
        },
        act: |lab| lab.connect_reserved("net1", "web", "web"),
    },
    Scenario {
        name: "connect with a reservation where addresses are kept",
        kind: Command,
        prepare: |lab| {
            lab.create("net1", |spec| spec.sticky = true).unwrap();
            lab.reserve("net1", "r1", &["4000:80"]).unwrap();
        },
        act: |lab| lab.connect_reserved("net1", "web", "r1"),
    },
    Scenario {
        name: "disconnect what had a reservation",
        kind: Removal,
        prepare: |lab| {
            reserved(lab);
            lab.connect_reserved("net1", "web", "web").unwrap();
        },
        act: |lab| lab.disconnect("net1", "web"),
    },
    Scenario {
        name: "disconnect, keeping a reservation",
        kind: Removal,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.create("net2", |spec| spec.ipv6 = true).unwrap();
            lab.connect("net1", "web", PORTS).unwrap();
            // It adds a family to the ports, which ends with the endpoint.
            lab.connect("net2", "web", &["6000:80"]).unwrap();
        },
        act: |lab| lab.disconnect_keeping("net1", "web", "r1"),
    },
    Scenario { name: "release a reservation", kind: Removal, prepare: reserved, act: |lab| lab.release("web") },
    Scenario {
        name: "a start with reservations, whose ports nobody holds",
        kind: Repair,
        prepare: |lab| {
            reserved(lab);
            lab.end();
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start with a reservation on a network that is gone",
        kind: Repair,
        prepare: |lab| {
            reserved(lab);
            lab.end();
            lab.forget_network("net2");
        },
        act: Lab::start,
    },
];
