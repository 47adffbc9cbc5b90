//! Starts, after what happened while no netd ran.

use netd_testing::request::attach;

use super::Scenario;
use crate::drive::Kind::Repair;
use crate::lab::{Lab, within};

/// Containers of a person, of a runtime, and of a runtime whose interface another program made.
fn all_kinds(lab: &mut Lab) {
    lab.create("net1", |spec| spec.sticky = true).unwrap();
    lab.create("net2", within).unwrap();
    lab.connect("net1", "web", &["4000:80", "4001:81/udp"]).unwrap();
    lab.connect("net2", "web", &["4002:80"]).unwrap();
    lab.connect("net1", "db", &[]).unwrap();
    lab.reserve("net2", "r1", &["4020:80", "4021:81/udp"]).unwrap();
    lab.attach(attach("net1", "pod1").publish("4003:80").route("10.9.0.0/16").limit_out(8000)).unwrap();
    lab.make_found("pod2", "10.22.0.5", Some("cni0"));
    lab.attach(attach("found", "pod2").found("10.22.0.5", "10.22.0.1").publish("4004:80")).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "the first start",
        kind: Repair,
        prepare: |lab| {
            lab.end();
            lab.world().elements = None;
            lab.empty_store();
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start where nothing happened",
        kind: Repair,
        prepare: |lab| {
            all_kinds(lab);
            lab.end();
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start where the records of endpoints are lost",
        kind: Repair,
        prepare: |lab| {
            lab.create("net1", |spec| spec.sticky = true).unwrap();
            lab.create("net2", within).unwrap();
            lab.connect("net1", "web", &["4000:80"]).unwrap();
            lab.connect("net2", "web", &[]).unwrap();
            lab.end();
            lab.store.lose(&[]);
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start where all of netd's is gone",
        kind: Repair,
        prepare: |lab| {
            all_kinds(lab);
            lab.end();
            crate::support::wipe(&mut lab.world());
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start where the interfaces lack their addresses",
        kind: Repair,
        prepare: |lab| {
            all_kinds(lab);
            lab.end();
            let mut world = lab.world();
            for link in world.links.values_mut() {
                link.addresses.clear();
                link.routes.clear();
            }
            world.routes.clear();
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start where containers ended",
        kind: Repair,
        prepare: |lab| {
            all_kinds(lab);
            lab.end();
            ["web", "pod1", "pod2"].iter().for_each(|name| lab.fake.delete_namespace(name));
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start where another daemon's state is left",
        kind: Repair,
        prepare: |lab| {
            all_kinds(lab);
            lab.fake.add_namespace("gone");
            lab.connect("net2", "gone", &["4010:80"]).unwrap();
            lab.end();
            lab.forget("gone");
            lab.fake.delete_namespace("gone");
        },
        act: Lab::start,
    },
    Scenario {
        name: "a start after a reboot",
        kind: Repair,
        prepare: |lab| {
            all_kinds(lab);
            lab.end();
            lab.reboot();
        },
        act: Lab::start,
    },
];
