//! Services: made, updated, removed, their members drained, and restored from a backup.

use netd::model::request::{MemberAction, ServiceSpec};
use netd::model::service::Mode;

use super::Scenario;
use crate::drive::Kind::{Command, Removal};
use crate::lab::Lab;

/// A service on these networks with a virtual address on each, and `web` and `db` as members.
fn service(networks: &[&str], ports: &[&str]) -> ServiceSpec {
    ServiceSpec {
        networks: networks.iter().map(|name| ((*name).to_owned(), Vec::new())).collect(),
        members: vec!["web".into(), "db".into()],
        mode: Mode::Vip,
        ports: ports.iter().map(|port| port.parse().unwrap()).collect(),
        ..ServiceSpec::named("front".parse().unwrap())
    }
}

fn networks(lab: &mut Lab) {
    lab.create("net1", |_| {}).unwrap();
    lab.create("net2", |spec| spec.ipv6 = true).unwrap();
    lab.connect("net1", "web", &[]).unwrap();
}

fn made(lab: &mut Lab) {
    networks(lab);
    lab.create_service(service(&["net1"], &["4000:80", "4001:81"])).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "create a service with a virtual address",
        kind: Command,
        prepare: networks,
        act: |lab| lab.create_service(service(&["net1"], &[])),
    },
    Scenario {
        name: "create a service with virtual addresses on two networks and ports",
        kind: Command,
        prepare: networks,
        act: |lab| lab.create_service(service(&["net1", "net2"], &["4000:80", "4001:81/udp"])),
    },
    Scenario {
        name: "create a service without an address",
        kind: Command,
        prepare: networks,
        act: |lab| lab.create_service(ServiceSpec { mode: Mode::Dns, ..service(&["net1"], &[]) }),
    },
    Scenario {
        name: "move a service to another network, with another port",
        kind: Command,
        prepare: made,
        act: |lab| lab.update_service(service(&["net2"], &["4001:81", "4002:82"])),
    },
    Scenario {
        name: "take the address of a service",
        kind: Command,
        prepare: made,
        act: |lab| lab.update_service(ServiceSpec { mode: Mode::Dns, ..service(&["net1"], &[]) }),
    },
    Scenario { name: "remove a service", kind: Removal, prepare: made, act: |lab| lab.remove_service("front") },
    Scenario {
        name: "drain a member",
        kind: Command,
        prepare: made,
        act: |lab| lab.change_member("web", MemberAction::Drain),
    },
    Scenario {
        name: "undrain a member",
        kind: Command,
        prepare: |lab| {
            made(lab);
            lab.change_member("web", MemberAction::Drain).unwrap();
        },
        act: |lab| lab.change_member("web", MemberAction::Undrain),
    },
    Scenario {
        name: "disconnect a drained member",
        kind: Removal,
        prepare: |lab| {
            made(lab);
            lab.change_member("web", MemberAction::Drain).unwrap();
        },
        act: |lab| lab.disconnect("net1", "web"),
    },
    Scenario {
        name: "restore a service and its network",
        kind: Command,
        prepare: |_| {},
        act: |lab| {
            let other = Lab::new();
            other.create("net1", |_| {}).unwrap();
            other.connect("net1", "web", &[]).unwrap();
            other.create_service(service(&["net1"], &["4000:80"])).unwrap();
            lab.restore(other.backup())
        },
    },
];
