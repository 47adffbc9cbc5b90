//! Which names are taken, and what DNS answers if a container (of a runtime, or from an earlier release) has one all
//! the same.

use std::net::IpAddr;

use super::*;
use crate::logic::dns::Zone;
use crate::logic::samples;
use crate::model::question::{Answer, Client, RecordType};

const DOMAIN: &str = "lan";

/// Networks net1 (10.1) and net2 (10.2): `web` and `client` on net1, `client` and `other` on net2, the latter with
/// these aliases.
fn state(aliases: &[&str]) -> Desired {
    let mut desired = Desired::default();
    let net1 = samples::network("net1", &["10.1.0.0/24"]);
    let net2 = samples::network("Net2", &["10.2.0.0/24"]);
    let all = [(&net1, "web", "10.1.0.2"), (&net1, "client", "10.1.0.3"), (&net2, "client", "10.2.0.3")];
    for (sequence, (network, name, address)) in all.into_iter().enumerate() {
        desired.insert_network(network.clone());
        desired.insert_endpoint(samples::endpoint(network, name, sequence as u64, &[address], &[]));
    }
    let mut other = samples::endpoint(&net2, "other", 9, &["10.2.0.9"], &[]);
    other.aliases = aliases.iter().map(|alias| alias.parse().unwrap()).collect();
    desired.insert_endpoint(other);
    desired
}

fn ask(desired: &Desired, name: &str) -> Answer {
    let client: IpAddr = "10.1.0.3".parse().unwrap();
    Zone { desired, domain: DOMAIN, search: &[] }.answer(Client::Address(client), name, RecordType::A)
}

fn a(address: &str) -> Answer {
    Answer::A(vec![address.parse().unwrap()])
}

#[test]
fn names_of_the_host_of_loopback_and_of_addresses_are_reserved() {
    for name in [
        "localhost",
        "x.localhost",
        "*.localhost",
        "*.x.localhost",
        "host.lan",
        "host.docker.internal",
        "host.containers.internal",
        "host.netd.internal",
        "2.0.1.10.in-addr.arpa",
        "x.ip6.arpa",
        "*.in-addr.arpa",
    ] {
        assert!(reserved(name, DOMAIN).is_some() && reserved(name, "LAN.").is_some(), "{name}");
    }
    // Names that resolve to the container can be given, though they look similar.
    for name in
        ["host", "host.net1", "*.host.lan", "*.internal", "docker.internal", "localhosts", "my-localhost", "arpa"]
    {
        assert_eq!(reserved(name, DOMAIN), None, "{name}");
    }
    assert_eq!((reserved("host.internal", DOMAIN), reserved("host.", "")), (None, None), "another domain, and none");
}

#[test]
fn reserved_names_are_those_that_dns_answers_otherwise() {
    let names = ["localhost", "x.localhost", "host.lan", "host.docker.internal", "9.0.2.10.in-addr.arpa"];
    let desired = state(&names);
    for name in names {
        assert_ne!(ask(&desired, name), a("10.2.0.9"), "{name}");
    }
}

#[test]
fn name_and_network_belong_to_the_container_of_that_name() {
    let desired = state(&[]);
    let (other, web) = ("other".parse().unwrap(), desired.exact_container("web").unwrap().container.id.clone());
    let id = format!("{}.net1", web.short());
    for name in ["web.net1", "web.net1.lan", "web.lan", "client.net2", "client.net2.lan", &id] {
        assert!(owner(&desired, DOMAIN, name, &other).is_some(), "{name}");
    }
    for name in ["web", "web.net2", "web.net9", "nobody.net1", "nobody.lan", "web.net1.internal", "a.web.net1"] {
        assert!(owner(&desired, DOMAIN, name, &other).is_none(), "{name}");
    }
    assert!(owner(&desired, DOMAIN, "web.net1", &web).is_none(), "its own name");
}

#[test]
fn an_alias_does_not_take_over_name_and_network() {
    let names = ["web.net1", "WEB.Net1.LAN", "web.lan"];
    let desired = state(&names);
    for name in names.into_iter().chain(["web", "Web.NET1"]) {
        assert_eq!(ask(&desired, name), a("10.1.0.2"), "{name}");
    }
    let service = Zone { desired: &desired, domain: DOMAIN, search: &[] };
    let explained = service.explain(Client::Address("10.1.0.3".parse().unwrap()), "web.net1.lan", RecordType::A);
    assert_eq!(explained.holders[0].container.name.as_str(), "web");
    // Without the container, the alias applies.
    let mut without = desired.clone();
    let web = desired.exact_container("web").unwrap().endpoints[0].key();
    without.remove_endpoint(&web);
    for name in names {
        assert_eq!(ask(&without, name), a("10.2.0.9"), "{name}");
    }
}

#[test]
fn who_comes_is_told_whose_names_mean_it_and_whose_it_lost() {
    let desired = state(&["web.net1", "web.lan", "*.net1", "free.net1"]);
    let reported = |name: &str| {
        let endpoint = &desired.exact_container(name).unwrap().endpoints[0];
        let mut reported: Vec<String> = lost(&desired, DOMAIN, endpoint)
            .into_iter()
            .map(|lost| format!("{} {}->{}", lost.name, lost.by.container.name, lost.to.container.name))
            .collect();
        reported.sort();
        reported
    };
    assert_eq!(reported("web"), ["web.lan other->web", "web.net1 other->web"], "it came after the alias");
    assert_eq!(reported("other"), ["web.lan other->web", "web.net1 other->web"], "or before");
    assert!(reported("client").is_empty());
    // The index drops removed endpoints.
    let mut gone = desired.clone();
    gone.remove_endpoint(&desired.exact_container("other").unwrap().endpoints[0].key());
    assert!(gone.dotted("web.net1").is_empty() && gone.dotted("free.net1").is_empty());
}

#[test]
fn a_pod_has_its_name_with_and_without_its_scope() {
    let mut desired = state(&["pod.net1", "pod.prod.net1"]);
    let net1 = desired.network(&"net1".parse().unwrap()).unwrap().clone();
    let mut pod = samples::endpoint(&net1, "pod.prod", 20, &["10.1.0.20"], &[]);
    pod.container.scope = Some("prod".parse().unwrap());
    desired.insert_endpoint(pod);
    for name in ["pod.net1", "pod.prod.net1", "pod.prod", "pod"] {
        assert_eq!(ask(&desired, name), a("10.1.0.20"), "{name}");
    }
}
