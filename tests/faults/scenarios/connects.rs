//! Connects and disconnects.

use super::Scenario;
use crate::drive::Kind::{Command, Removal, Replacement};
use crate::lab::{Lab, within};

const PORTS: &[&str] = &["4000:80", "4001:81/udp", "5000-5001:5000-5001", "127.0.0.1:4002:82"];

/// The container `web` on `net1`, where its ports lead, and on `net2`; `db` on `net1`.
fn two_networks(lab: &mut Lab) {
    lab.create("net1", |_| {}).unwrap();
    lab.create("net2", |spec| spec.ipv6 = true).unwrap();
    lab.connect("net1", "web", PORTS).unwrap();
    lab.connect("net2", "web", &["6000:80"]).unwrap();
    lab.connect("net1", "db", &["7000:80"]).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "connect with published ports",
        kind: Command,
        prepare: |lab| lab.create("net1", |_| {}).unwrap(),
        act: |lab| lab.connect("net1", "web", PORTS),
    },
    Scenario {
        name: "connect to a second network",
        kind: Command,
        prepare: |lab| {
            // The first leads nowhere: routes and ports move to the second.
            lab.create("net1", |spec| spec.internal = true).unwrap();
            lab.create("net2", |spec| spec.ipv6 = true).unwrap();
            lab.connect("net1", "web", &[]).unwrap();
        },
        act: |lab| lab.connect("net2", "web", PORTS),
    },
    Scenario {
        name: "connect where addresses are kept",
        kind: Command,
        prepare: |lab| lab.create("net1", |spec| spec.sticky = true).unwrap(),
        act: |lab| lab.connect("net1", "web", &[]),
    },
    Scenario {
        name: "connect where names are answered within",
        kind: Command,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.create("net2", within).unwrap();
            lab.connect("net1", "web", &[]).unwrap();
        },
        act: |lab| lab.connect("net2", "web", &[]),
    },
    Scenario {
        name: "connect where a firewall drops questions",
        kind: Command,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.world().drops_questions = true;
        },
        act: |lab| lab.connect("net1", "web", &[]),
    },
    Scenario {
        name: "connect a container that came again, without word of its end",
        kind: Replacement,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.connect("net1", "web", &["4000:80"]).unwrap();
            lab.fake.delete_namespace("web");
            lab.fake.add_namespace("web");
        },
        act: |lab| lab.connect("net1", "web", &["4000:80"]),
    },
    Scenario {
        name: "connect a container of another engine",
        kind: Command,
        prepare: |lab| {
            let path = netd::kernel::netns_of_process(4711);
            lab.fake.add_namespace_at(&path);
            let inode = lab.world().namespaces[&path];
            lab.world().resolvers.insert(inode);
            lab.create("net1", |_| {}).unwrap();
        },
        act: |lab| lab.connect_docked("net1", "docked", 4711),
    },
    Scenario {
        name: "connect while the bridge is gone",
        kind: Command,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.connect("net1", "db", &["7000:80"]).unwrap();
            lab.world().bridges.clear();
        },
        act: |lab| lab.connect("net1", "web", &["4000:80"]),
    },
    Scenario {
        name: "connect where a name is taken in the container, so that it is decided again",
        kind: Command,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            let inode = lab.world().namespaces[std::path::Path::new("/run/netns/web")];
            lab.world().foreign_ifnames.insert((inode, "eth0".parse().unwrap()));
        },
        act: |lab| lab.connect("net1", "web", PORTS),
    },
    Scenario {
        name: "disconnect the only network",
        kind: Removal,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.connect("net1", "web", PORTS).unwrap();
        },
        act: |lab| lab.disconnect("net1", "web"),
    },
    Scenario {
        name: "disconnect the network of the default route",
        kind: Removal,
        prepare: two_networks,
        act: |lab| lab.disconnect("net1", "web"),
    },
    Scenario {
        name: "disconnect where names are answered within",
        kind: Removal,
        prepare: |lab| {
            lab.create("net1", |_| {}).unwrap();
            lab.create("net2", within).unwrap();
            lab.connect("net1", "web", &[]).unwrap();
            lab.connect("net2", "web", &[]).unwrap();
        },
        act: |lab| lab.disconnect("net2", "web"),
    },
    Scenario {
        name: "disconnect the only network, where names are answered within",
        kind: Removal,
        prepare: |lab| {
            lab.create("net1", within).unwrap();
            lab.connect("net1", "web", &[]).unwrap();
        },
        act: |lab| lab.disconnect("net1", "web"),
    },
    Scenario {
        name: "disconnect two containers",
        kind: Removal,
        prepare: two_networks,
        act: |lab| lab.disconnect_both(("net1", "web"), ("net1", "db")),
    },
];
