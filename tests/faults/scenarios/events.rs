//! What other programs do to netd's part of the kernel, and the kernel reports.

use netd::kernel::KernelEvent;
use netd_testing::request::attach;

use super::Scenario;
use crate::drive::Kind::Repair;
use crate::lab::{Lab, within};

/// A person's container with ports on two networks, one of which answers names within.
fn connected(lab: &mut Lab) {
    lab.create("net1", |_| {}).unwrap();
    lab.create("net2", within).unwrap();
    lab.connect("net1", "web", &["4000:80"]).unwrap();
    lab.connect("net2", "web", &["4001:80"]).unwrap();
    lab.connect("net1", "db", &["4002:80"]).unwrap();
    lab.reserve("net2", "r1", &["4020:80"]).unwrap();
    lab.attach(attach("net1", "pod1").limit_out(8000)).unwrap();
}

fn link(name: &str) -> KernelEvent {
    KernelEvent::LinkGone(name.parse().unwrap())
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a namespace ends",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.fake.delete_namespace("db");
            lab.emit(&link("ndv-db-net1"));
            Ok(())
        },
    },
    Scenario {
        name: "a namespace ends in which names are answered",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.fake.delete_namespace("web");
            lab.emit(&KernelEvent::NetnsGone("/run/netns/web".into()));
            Ok(())
        },
    },
    Scenario {
        name: "an interface is deleted",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.delete_link("ndv-web-net1");
            lab.emit(&link("ndv-web-net1"));
            Ok(())
        },
    },
    Scenario {
        name: "a limited interface is deleted",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.delete_link("ndv-pod1-net1");
            lab.emit(&link("ndv-pod1-net1"));
            Ok(())
        },
    },
    Scenario {
        name: "the device of a limit is deleted",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.world().ifbs.clear();
            lab.emit(&link("ndb-pod1-net1"));
            Ok(())
        },
    },
    Scenario {
        name: "a bridge is deleted",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.world().bridges.remove(&"nd-net1".parse().unwrap());
            lab.emit(&link("nd-net1"));
            Ok(())
        },
    },
    Scenario {
        name: "the table is deleted",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.world().elements = None;
            lab.emit(&KernelEvent::Changed);
            Ok(())
        },
    },
    Scenario {
        name: "the elements are flushed",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.world().elements.as_mut().unwrap().clear();
            lab.emit(&KernelEvent::Changed);
            Ok(())
        },
    },
    Scenario {
        name: "the table gets another rule",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.world().structure_differs = true;
            lab.emit(&KernelEvent::Changed);
            Ok(())
        },
    },
    Scenario {
        name: "a firewall drops questions from now on",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.world().drops_questions = true;
            lab.emit(&KernelEvent::FirewallChanged);
            Ok(())
        },
    },
    Scenario {
        name: "a firewall lets questions pass again",
        kind: Repair,
        prepare: |lab| {
            connected(lab);
            lab.world().drops_questions = true;
            lab.emit(&KernelEvent::FirewallChanged);
        },
        act: |lab| {
            lab.world().drops_questions = false;
            lab.emit(&KernelEvent::Tick);
            Ok(())
        },
    },
    Scenario {
        name: "an engine's container gets a resolver",
        kind: Repair,
        prepare: |lab| {
            let path = netd::kernel::netns_of_process(4711);
            lab.fake.add_namespace_at(&path);
            lab.create("net1", |_| {}).unwrap();
            lab.connect_docked("net1", "docked", 4711).unwrap();
        },
        act: |lab| {
            let inode = lab.world().namespaces[&netd::kernel::netns_of_process(4711)];
            lab.world().resolvers.insert(inode);
            lab.emit(&KernelEvent::LinksChanged);
            Ok(())
        },
    },
    Scenario {
        name: "time passes",
        kind: Repair,
        prepare: connected,
        act: |lab| {
            lab.emit(&KernelEvent::Tick);
            Ok(())
        },
    },
];
