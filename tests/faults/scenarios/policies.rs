//! Policies, and containers that are held to what they may send.

use netd::model::egress::{Allowance, Egress, Stance};
use netd::model::request::{MemberAction, PolicyChange, ServiceSpec};
use netd_testing::request::rule;

use super::Scenario;
use crate::drive::Kind::{Command, Removal, Repair};
use crate::lab::{Answer, Lab};

fn add(lab: &Lab, rules: &[&str]) -> Answer {
    lab.change_policies(PolicyChange { add: rules.iter().map(|words| rule(words)).collect(), ..Default::default() })
}

/// Exactly these.
fn only(lab: &Lab, rules: &[&str]) -> Answer {
    let add = rules.iter().map(|words| rule(words)).collect();
    lab.change_policies(PolicyChange { add, only: true, ..Default::default() })
}

fn deny() -> Egress {
    let allow = ["example.test:443", "192.0.2.0/24:80"].map(|text| text.parse::<Allowance>().unwrap());
    Egress::new(Some(Stance::Deny), allow.into()).unwrap()
}

fn connected(lab: &mut Lab) {
    lab.create("net1", |spec| spec.ipv6 = true).unwrap();
    lab.create("net2", |_| {}).unwrap();
    lab.connect("net1", "web", &["4000:80"]).unwrap();
    lab.connect("net2", "db", &[]).unwrap();
}

fn decided(lab: &mut Lab) {
    connected(lab);
    add(lab, RULES).unwrap();
}

const RULES: &[&str] = &[
    "default-deny net1",
    "allow db web:80",
    "allow outside web:80",
    "deny web outside",
    "allow host web",
    "deny pod1 web",
];

/// `web` is held, `db` is not, on a network that lets nothing out but to allowed names.
fn held(lab: &mut Lab) {
    lab.create("net1", |spec| spec.egress = deny()).unwrap();
    lab.create("net2", |_| {}).unwrap();
    lab.connect("net1", "web", &["4000:80"]).unwrap();
    lab.connect("net2", "db", &[]).unwrap();
}

pub(super) const ALL: &[Scenario] = &[
    Scenario { name: "add policies", kind: Command, prepare: connected, act: |lab| add(lab, RULES) },
    Scenario {
        name: "add a policy to others",
        kind: Command,
        prepare: decided,
        act: |lab| add(lab, &["deny db web:80"]),
    },
    Scenario {
        name: "replace all policies",
        kind: Command,
        prepare: decided,
        act: |lab| only(lab, &["default-deny net2"]),
    },
    Scenario { name: "remove all policies", kind: Command, prepare: decided, act: |lab| only(lab, &[]) },
    Scenario {
        name: "connect a container that policies name",
        kind: Command,
        prepare: decided,
        act: |lab| lab.connect("net1", "pod1", &[]),
    },
    Scenario {
        name: "disconnect a container that policies name",
        kind: Removal,
        prepare: decided,
        act: |lab| lab.disconnect("net1", "web"),
    },
    Scenario {
        name: "drain a member of a service that a policy names",
        kind: Command,
        prepare: |lab| {
            connected(lab);
            let networks = vec![("net1".to_owned(), Vec::new())];
            let named = ServiceSpec::named("front".parse().unwrap());
            lab.create_service(ServiceSpec { networks, members: vec!["web".into()], ..named }).unwrap();
            add(lab, &["allow db service:front:80"]).unwrap();
        },
        act: |lab| lab.change_member("web", MemberAction::Drain),
    },
    Scenario {
        name: "create a network that holds its containers",
        kind: Command,
        prepare: |_| {},
        act: |lab| lab.create("net1", |spec| spec.egress = deny()),
    },
    Scenario {
        name: "connect a container that is held",
        kind: Command,
        prepare: held,
        act: |lab| lab.connect("net1", "pod1", &[]),
    },
    Scenario {
        name: "connect a container to a network that holds it on the other one too",
        kind: Command,
        prepare: held,
        act: |lab| lab.connect("net1", "db", &[]),
    },
    Scenario {
        name: "disconnect a container that is held",
        kind: Removal,
        prepare: held,
        act: |lab| lab.disconnect("net1", "web"),
    },
    Scenario {
        name: "the table with policies is deleted",
        kind: Repair,
        prepare: decided,
        act: |lab| {
            lab.world().elements = None;
            lab.emit(&netd::kernel::KernelEvent::Changed);
            Ok(())
        },
    },
    Scenario {
        name: "a start with policies and held containers, where the elements are gone",
        kind: Repair,
        prepare: |lab| {
            held(lab);
            add(lab, &["default-deny net1", "allow db web:80"]).unwrap();
            lab.end();
            lab.world().elements.as_mut().unwrap().clear();
        },
        act: Lab::start,
    },
];
