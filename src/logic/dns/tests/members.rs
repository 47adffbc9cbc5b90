//! Names that stand for several containers.

use super::*;
use crate::model::ids::ContainerId;
use crate::model::service::{Condition, Mode, Said, Service as Balanced, WhenNoneReady};

/// [`state`], and three further containers on net1: w1, w2 and w3, members of the service `front`.
fn balanced(change: impl FnOnce(&mut Balanced)) -> Desired {
    let mut desired = state();
    for (n, name) in [(1u8, "w1"), (2, "w2"), (3, "w3")] {
        let addresses = [format!("10.1.0.1{n}"), format!("fd01::1{n}")];
        let addresses = addresses.each_ref().map(String::as_str);
        let endpoint = endpoint(&desired, "net1", name, 20 + u64::from(n), &addresses, &[]);
        desired.insert_endpoint(Endpoint { aliases: parsed(&["front-end"]), ..endpoint });
    }
    let mut service = samples::service("front", &[("net1", &[])], &["w1", "W2", "w3"]);
    change(&mut service);
    desired.insert_service(service);
    desired
}

fn mark(desired: &mut Desired, container: &str, ready: bool) {
    let id = desired.exact_container(container).unwrap().container.id.clone();
    desired.insert_condition(Condition { said: Some(Said { ready, since: 7 }), ..Condition::new(id) });
}

fn a(addresses: &[&str]) -> Answer {
    Answer::A(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

fn ask_in(desired: &Desired, client: &str, name: &str, kind: RecordType) -> Answer {
    let client = client.parse().map_or(Client::Host, Client::Address);
    answer(desired, "internal", client, name, kind)
}

#[test]
fn a_service_is_its_ready_members_and_all_of_them_below_it() {
    let mut desired = balanced(|_| {});
    mark(&mut desired, "w2", false);
    for name in ["front", "FRONT", "front.internal", "front.net1", "front.net1.internal"] {
        assert_eq!(ask_in(&desired, DB, name, RecordType::A), a(&["10.1.0.11", "10.1.0.13"]), "{name}");
    }
    for name in ["all.front", "tasks.front", "tasks.front.net1.internal", "all.front.internal"] {
        let all = a(&["10.1.0.11", "10.1.0.12", "10.1.0.13"]);
        assert_eq!(ask_in(&desired, DB, name, RecordType::A), all, "{name}");
    }
    assert_eq!(ask_in(&desired, "10.1.0.12", "front", RecordType::A), a(&["10.1.0.11", "10.1.0.13", "10.1.0.12"]));
    assert_eq!(ask_in(&desired, CACHE, "front", RecordType::A), Answer::NxDomain, "a network that is not shared");
    assert_eq!(ask_in(&desired, DB, "w2", RecordType::A), a(&["10.1.0.12"]), "by its own name it is found");
    desired.remove_service(&"front".parse().unwrap());
    assert_eq!(ask_in(&desired, DB, "front", RecordType::A), Answer::NxDomain);
}

#[test]
fn a_service_without_ready_members_is_nobody_or_everybody() {
    for (choice, expected) in
        [(WhenNoneReady::Empty, Answer::NoData), (WhenNoneReady::All, a(&["10.1.0.11", "10.1.0.12"]))]
    {
        let mut desired = balanced(|service| service.when_none_ready = choice);
        for container in ["w1", "w2"] {
            mark(&mut desired, container, false);
        }
        let drained: ContainerId = desired.exact_container("w3").unwrap().container.id.clone();
        desired.insert_condition(Condition { draining: Some(7), ..Condition::new(drained) });
        assert_eq!(ask_in(&desired, DB, "front", RecordType::A), expected, "{choice}");
    }
}

#[test]
fn a_virtual_address_stands_for_the_members() {
    let vip = ["10.1.0.100", "fd01::100"];
    let desired = balanced(|service| {
        (service.mode, service.target) = (Mode::Vip, Some("80".parse().unwrap()));
        service.networks = samples::service("front", &[("net1", &vip)], &[]).networks;
    });
    assert_eq!(ask_in(&desired, DB, "front", RecordType::A), a(&["10.1.0.100"]));
    assert_eq!(ask_in(&desired, DB, "front", RecordType::Aaaa), Answer::Aaaa(vec!["fd01::100".parse().unwrap()]));
    assert_eq!(ask_in(&desired, "10.1.0.11", "front", RecordType::A), a(&["10.1.0.100"]), "a member asks too");
    let all = a(&["10.1.0.11", "10.1.0.12", "10.1.0.13"]);
    assert_eq!(ask_in(&desired, DB, "tasks.front", RecordType::A), all);
    let names = Answer::Ptr(vec!["front".into(), "front.net1.internal".into()]);
    assert_eq!(ask_in(&desired, DB, "100.0.1.10.in-addr.arpa", RecordType::Ptr), names);
    let service = Service {
        priority: 0,
        port: 80,
        target: "front.net1.internal".into(),
        addresses: vip.map(|address| address.parse().unwrap()).into(),
    };
    for name in ["_http._tcp.front", "_80._tcp.front.net1"] {
        assert_eq!(ask_in(&desired, DB, name, RecordType::Srv), Answer::Srv(vec![service.clone()]), "{name}");
    }
}

#[test]
fn srv_records_name_the_ready_members() {
    let mut desired = balanced(|service| service.target = Some("8080".parse().unwrap()));
    mark(&mut desired, "w2", false);
    let service = |name: &str, n: u8| Service {
        priority: 0,
        port: 8080,
        target: format!("{name}.net1.internal"),
        addresses: vec![[10, 1, 0, n].into(), format!("fd01::{n}").parse().unwrap()],
    };
    let both = Answer::Srv(vec![service("w1", 11), service("w3", 13)]);
    assert_eq!(ask_in(&desired, DB, "_8080._tcp.front", RecordType::Srv), both);
}

#[test]
fn names_of_services_precede_those_of_containers_and_these_aliases_of_services() {
    let desired = balanced(|service| {
        service.networks[0].aliases = parsed(&["web", "front-end"]);
    });
    assert_eq!(ask_in(&desired, DB, "web", RecordType::A), a(&["10.1.0.2"]), "a container's own name");
    let members = a(&["10.1.0.11", "10.1.0.12", "10.1.0.13"]);
    assert_eq!(ask_in(&desired, DB, "front-end", RecordType::A), members, "also an alias of each container");
    let desired = balanced(|service| service.name = "web".parse().unwrap());
    assert_eq!(ask_in(&desired, DB, "web", RecordType::A), members, "the name of a service");
}

/// docker-compose gives its containers labels, and the name of the service as an alias.
#[test]
fn containers_of_one_compose_service_are_a_service_by_themselves() {
    let mut desired = state();
    for (n, oneoff) in [(1u8, "False"), (2, "False"), (3, "True")] {
        let name = format!("shop-{n}");
        let endpoint = endpoint(&desired, "net1", &name, 30 + u64::from(n), &[&format!("10.1.0.2{n}")], &[]);
        let labels = [
            ("com.docker.compose.project", "shop"),
            ("com.docker.compose.service", "front"),
            ("com.docker.compose.oneoff", oneoff),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        desired.insert_endpoint(Endpoint { labels, ..endpoint });
    }
    let services: Vec<&str> = desired.services().map(|service| service.name.as_str()).collect();
    assert_eq!(services, ["shop_front"]);
    for name in ["front", "shop_front", "front.net1"] {
        assert_eq!(ask_in(&desired, DB, name, RecordType::A), a(&["10.1.0.21", "10.1.0.22"]), "{name}");
    }
    let keys: Vec<_> =
        desired.endpoints().filter(|e| e.container.name.as_str().starts_with("shop")).map(|e| e.key()).collect();
    keys.iter().for_each(|key| drop(desired.remove_endpoint(key)));
    assert_eq!(desired.services().len(), 0, "it ends with its containers");
    assert_eq!(ask_in(&desired, DB, "front", RecordType::A), Answer::NxDomain);
}
