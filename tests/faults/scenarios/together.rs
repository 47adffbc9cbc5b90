//! Containers that runtimes attach to several networks at once, or to none.

use netd::api::v1::attachments_of;
use netd_testing::request::{Attach, attach, network};

use super::Scenario;
use crate::drive::Kind::{Command, Removal};
use crate::lab::Lab;

fn first() -> Attach {
    attach("net1", "pod1").publish("4000:80").route("10.9.0.0/16").limit_in(8000)
}

fn second() -> Attach {
    attach("net2", "pod1").publish("4000:80")
}

fn on_demand() -> Attach {
    attach("net1", "pod1").to(network("net1").subnet("10.0.0.0/29").on_demand()).publish("4000:80")
}

fn both(lab: &mut Lab) {
    lab.attach_together(vec![first(), second()]).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "attach to two networks together, both new",
        kind: Command,
        prepare: |_| {},
        act: |lab| lab.attach_together(vec![first(), second()]),
    },
    Scenario {
        name: "attach together where one is attached already",
        kind: Command,
        prepare: |lab| lab.attach(first()).unwrap(),
        act: |lab| lab.attach_together(vec![first(), second()]),
    },
    Scenario {
        name: "attach to a network on demand",
        kind: Command,
        prepare: |_| {},
        act: |lab| lab.attach(on_demand()),
    },
    Scenario {
        name: "detach from two networks together",
        kind: Removal,
        prepare: both,
        act: |lab| lab.detach_together(attachments_of("pod1", None).unwrap()),
    },
];
