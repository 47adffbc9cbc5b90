//! Attachments of runtimes.

use netd::engine::ErrorKind;
use netd_testing::request::{Attach, attach};

use super::Scenario;
use crate::drive::Kind::{Command, Removal, Replacement};
use crate::lab::{Lab, key};

/// The network is the first of its pool, so that its addresses are known before it is made.
fn made(netns: &str) -> Attach {
    let request = attach("net1", netns).publish("4000:80").publish("4001:81/udp").route("10.9.0.0/16");
    request.limit_in(8000).limit_out(8000)
}

fn bare() -> Attach {
    attach("net1", "pod1").unaddressed().publish("4000:80/udp")
}

fn given() -> Attach {
    attach("net1", "pod1").given("10.0.0.5").publish("4000:80/udp")
}

fn found(address: &str) -> Attach {
    let request = attach("found", "pod1").found(address, "10.22.0.1").publish("127.0.0.1:4000:80");
    request.limit_in(8000).limit_out(8000)
}

fn adopted(lab: &mut Lab) {
    lab.make_found("pod1", "10.22.0.5", Some("cni0"));
    lab.attach(found("10.22.0.5")).unwrap();
}

fn two_pods(lab: &mut Lab) {
    lab.attach(made("pod1")).unwrap();
    lab.attach_at("eth1", attach("net2", "pod1")).unwrap();
    lab.attach(attach("net1", "pod2").publish("4002:80")).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "attach, with a new network",
        kind: Command,
        prepare: |_| {},
        act: |lab| lab.attach(made("pod1")),
    },
    Scenario {
        name: "attach to a second network",
        kind: Command,
        prepare: |lab| {
            lab.create("net2", |_| {}).unwrap();
            lab.attach(made("pod1")).unwrap();
        },
        act: |lab| lab.attach_at("eth1", attach("net2", "pod1").publish("4000:80").publish("4001:81/udp")),
    },
    Scenario {
        name: "attach without addresses",
        kind: Command,
        prepare: |lab| lab.create("net1", |_| {}).unwrap(),
        act: |lab| lab.attach(bare()),
    },
    Scenario {
        name: "attach, giving the addresses",
        kind: Command,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.attach(bare()).unwrap();
            lab.attach_at("eth1", attach("net2", "pod1")).unwrap();
        },
        act: |lab| lab.attach(given()),
    },
    Scenario {
        name: "attach with given addresses at once",
        kind: Command,
        prepare: |lab| lab.create("net1", |_| {}).unwrap(),
        act: |lab| lab.attach(given()),
    },
    Scenario {
        name: "attach an interface of another program",
        kind: Command,
        prepare: |lab| lab.make_found("pod1", "10.22.0.5", Some("cni0")),
        act: |lab| lab.attach(found("10.22.0.5")),
    },
    Scenario {
        name: "attach an interface of another program without a bridge",
        kind: Command,
        prepare: |lab| lab.make_found("pod1", "10.22.0.5", None),
        act: |lab| lab.attach(found("10.22.0.5")),
    },
    Scenario {
        name: "attach where the other program has another bridge now",
        kind: Replacement,
        prepare: |lab| {
            adopted(lab);
            lab.detach(key("pod1", "eth0")).unwrap();
            lab.make_found("pod1", "10.22.0.5", Some("cni1"));
        },
        act: |lab| lab.attach(found("10.22.0.5")),
    },
    Scenario {
        name: "attach again what another program made anew",
        kind: Replacement,
        prepare: |lab| {
            adopted(lab);
            lab.make_found("pod1", "10.22.0.6", Some("cni0"));
        },
        act: |lab| lab.attach(found("10.22.0.6")),
    },
    Scenario {
        name: "attach again",
        kind: Command,
        prepare: |lab| lab.attach(made("pod1")).unwrap(),
        act: |lab| lab.attach(made("pod1")),
    },
    Scenario {
        name: "attach again where the interface is gone",
        kind: Command,
        prepare: |lab| {
            lab.attach(made("pod1")).unwrap();
            let mut world = lab.world();
            world.links.clear();
            world.routes.clear();
        },
        act: |lab| lab.attach(made("pod1")),
    },
    Scenario {
        name: "attach again where addresses and limits are gone",
        kind: Command,
        prepare: |lab| {
            lab.attach(made("pod1")).unwrap();
            let mut world = lab.world();
            world.links.values_mut().for_each(|link| link.addresses.clear());
            world.routes.clear();
            world.shapings.clear();
        },
        act: |lab| lab.attach(made("pod1")),
    },
    Scenario {
        name: "attach again where the bridge and the table are gone",
        kind: Command,
        prepare: |lab| {
            two_pods(lab);
            let mut world = lab.world();
            world.bridges.clear();
            world.elements = None;
        },
        act: |lab| lab.attach(made("pod1")),
    },
    Scenario {
        name: "attach a container that came again, without word of its end",
        kind: Replacement,
        prepare: |lab| {
            two_pods(lab);
            lab.fake.delete_namespace("pod1");
            lab.fake.add_namespace("pod1");
        },
        act: |lab| lab.attach(made("pod1")),
    },
    Scenario {
        name: "attach where a container that ended without word has the port",
        kind: Replacement,
        prepare: |lab| {
            lab.attach(made("pod1")).unwrap();
            lab.fake.delete_namespace("pod1");
        },
        act: |lab| lab.attach(made("pod2")),
    },
    Scenario { name: "detach", kind: Removal, prepare: two_pods, act: |lab| lab.detach(key("pod1", "eth0")) },
    Scenario {
        name: "detach an interface of another program",
        kind: Removal,
        prepare: adopted,
        act: |lab| lab.detach(key("pod1", "eth0")),
    },
    Scenario {
        name: "detach what is not there",
        kind: Removal,
        prepare: two_pods,
        act: |lab| lab.detach(key("pod3", "eth0")),
    },
    Scenario { name: "collect all but one", kind: Removal, prepare: two_pods, act: |lab| lab.gc("pod2") },
    Scenario { name: "check", kind: Command, prepare: two_pods, act: |lab| lab.check("pod1") },
    Scenario {
        name: "check what was changed, and attach again",
        kind: Command,
        prepare: |lab| {
            two_pods(lab);
            lab.world().held.clear();
        },
        act: |lab| match lab.check("pod1") {
            Err(error) if error.kind() == ErrorKind::Changed => lab.attach(made("pod1")),
            other => other,
        },
    },
    Scenario { name: "ask for capacity", kind: Command, prepare: two_pods, act: |lab| lab.capacity("net1") },
];
