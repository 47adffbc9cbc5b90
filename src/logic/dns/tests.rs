//! Tables of questions over one small state, and properties over any question.

use proptest::prelude::*;

use super::*;
use crate::logic::samples;
use crate::model::endpoint::Endpoint;
use crate::model::names::Alias;
use crate::model::network::Network;
use crate::model::question::Service;

mod foreign;
mod members;
mod services;
mod wildcards;

/// Networks net1 (10.1.0.0/24, fd01::/64), net2 (10.2), my.net (10.3), secret (10.4, internal), Upper (10.5).
/// Containers web (net1; publishes 80/tcp and 9000-9009/udp, labels), db (net1, net2; serves 5432/tcp and 8080/tcp as
/// http), cache (net2, `*.app`), a.b (my.net, net1), hidden (secret), Caps (Upper).
fn state() -> Desired {
    let mut desired = Desired::default();
    let networks = [("net1", 1, true, false), ("net2", 2, false, false), ("my.net", 3, false, false)];
    for (name, n, v6, internal) in networks.into_iter().chain([("secret", 4, false, true), ("Upper", 5, false, false)])
    {
        let (four, six) = (format!("10.{n}.0.0/24"), format!("fd0{n}::/64"));
        let subnets = if v6 { &[four.as_str(), &six][..] } else { &[four.as_str()] };
        desired.insert_network(Network { internal, ..samples::network(name, subnets) });
    }
    for (sequence, (container, network, addresses, aliases)) in [
        ("web", "net1", &["10.1.0.2", "fd01::2"][..], &["www", "API.example.com"][..]),
        ("db", "net1", &["10.1.0.3"], &["store"]),
        ("db", "net2", &["10.2.0.3"], &["store"]),
        ("cache", "net2", &["10.2.0.4"], &["store", "host", "*.App"]),
        ("a.b", "my.net", &["10.3.0.2"], &["x.net1"]),
        ("a.b", "net1", &["10.1.0.5"], &[]),
        ("hidden", "secret", &["10.4.0.2"], &[]),
        ("Caps", "Upper", &["10.5.0.2"], &["LOUD"]),
    ]
    .into_iter()
    .enumerate()
    {
        let (ports, exposed, labels) = match sequence {
            0 => (&["4000:80", "9000-9009:9000-9009/udp"][..], &[][..], &[("tier", "front"), ("note", "a b")][..]),
            1 => (&[][..], &["5432/tcp", "8080/tcp=HTTP"][..], &[("on", "net1")][..]),
            2 => (&[][..], &[][..], &[("on", "net2")][..]),
            _ => (&[][..], &[][..], &[][..]),
        };
        let exposed = exposed.iter().map(|exposure| exposure.parse().unwrap()).collect();
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let endpoint = endpoint(&desired, network, container, sequence as u64, addresses, ports);
        desired.insert_endpoint(Endpoint { aliases: parsed(aliases), exposed, labels, ..endpoint });
    }
    desired
}

/// A container on one of these networks, with its id made of its name.
fn endpoint(
    desired: &Desired,
    network: &str,
    container: &str,
    sequence: u64,
    addresses: &[&str],
    ports: &[&str],
) -> Endpoint {
    let network = desired.network(&network.parse().unwrap()).unwrap();
    let mut endpoint = samples::endpoint(network, container, sequence, addresses, ports);
    endpoint.container.id = format!("{}0123456789abcdef", container.replace('.', "-")).parse().unwrap();
    endpoint
}

fn parsed(aliases: &[&str]) -> Vec<Alias> {
    aliases.iter().map(|alias| alias.parse().unwrap()).collect()
}

fn ask(client: &str, name: &str, kind: RecordType) -> Answer {
    let client = client.parse().map_or(Client::Host, Client::Address);
    answer(&state(), "internal", client, name, kind)
}

fn answer(desired: &Desired, domain: &str, client: Client, name: &str, kind: RecordType) -> Answer {
    Zone { desired, domain, search: &[] }.answer(client, name, kind)
}

fn may_forward(desired: &Desired, client: Client) -> bool {
    Zone { desired, domain: "internal", search: &[] }.may_forward(client)
}

fn a(addresses: &[&str]) -> Answer {
    Answer::A(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

const WEB: &str = "10.1.0.2";
const DB: &str = "10.1.0.3";
const CACHE: &str = "10.2.0.4";
const AB: &str = "10.3.0.2";
const HIDDEN: &str = "10.4.0.2";

#[test]
fn every_form_of_a_name_resolves() {
    for name in ["web", "WEB", "web.net1", "web.internal", "web.net1.internal", "Web.NET1.Internal", "www", "www.net1"]
        .into_iter()
        .chain(["www.net1.internal", "web012345678", "web012345678.net1", "api.example.com", "api.EXAMPLE.com.net1"])
    {
        assert_eq!(ask(DB, name, RecordType::A), a(&["10.1.0.2"]), "{name}");
        assert_eq!(ask(DB, name, RecordType::Aaaa), Answer::Aaaa(vec!["fd01::2".parse().unwrap()]), "{name}");
        assert_eq!(ask(WEB, name, RecordType::A), a(&["10.1.0.2"]), "itself: {name}");
    }
    assert_eq!(ask(DB, "web0123456789abcdef", RecordType::A), Answer::NxDomain, "the whole id is no name");
}

#[test]
fn networks_come_in_the_order_of_the_client() {
    assert_eq!(ask(DB, "db", RecordType::A), a(&["10.1.0.3", "10.2.0.3"]));
    assert_eq!(ask("10.2.0.3", "db", RecordType::A), a(&["10.1.0.3", "10.2.0.3"]), "whichever address asks");
    assert_eq!(ask(DB, "db.net2", RecordType::A), a(&["10.2.0.3"]));
    assert_eq!(ask(DB, "store", RecordType::A), a(&["10.1.0.3", "10.2.0.3", "10.2.0.4"]));
    assert_eq!(ask(CACHE, "store.net2.internal", RecordType::A), a(&["10.2.0.3", "10.2.0.4"]));
    assert_eq!(ask(WEB, "store", RecordType::A), a(&["10.1.0.3"]));
    assert_eq!(ask("::ffff:10.1.0.2", "db", RecordType::A), a(&["10.1.0.3"]), "a mapped source is the IPv4 one");
}

#[test]
fn names_and_networks_may_have_dots() {
    for name in ["a.b", "a.b.internal"] {
        assert_eq!(ask(AB, name, RecordType::A), a(&["10.3.0.2", "10.1.0.5"]), "{name}");
    }
    assert_eq!(ask(AB, "a.b.my.net", RecordType::A), a(&["10.3.0.2"]));
    assert_eq!(ask(AB, "a.b.my.net.internal", RecordType::A), a(&["10.3.0.2"]));
    assert_eq!(ask(AB, "a.b.net1", RecordType::A), a(&["10.1.0.5"]));
    assert_eq!(ask(AB, "x.net1", RecordType::A), a(&["10.3.0.2"]), "a whole name beats a split one");
    assert_eq!(ask(AB, "my.net", RecordType::A), Answer::NoData, "a network's own name");
    assert_eq!(ask("10.5.0.2", "caps.upper", RecordType::A), a(&["10.5.0.2"]));
    assert_eq!(ask("10.5.0.2", "loud.UPPER.internal", RecordType::A), a(&["10.5.0.2"]));
}

#[test]
fn a_known_name_without_the_type_is_no_data() {
    for name in ["db", "db.net1", "db.net1.internal", "store"] {
        assert_eq!(ask(WEB, name, RecordType::Aaaa), Answer::NoData, "{name}");
        assert_eq!(ask(WEB, name, RecordType::Other), Answer::NoData, "{name}");
        assert_eq!(ask(WEB, name, RecordType::Ptr), Answer::NoData, "{name}");
    }
    for apex in ["internal", "net1.internal", "docker.internal", "containers.internal", "host.internal"] {
        assert_eq!(ask(WEB, apex, RecordType::Other), Answer::NoData, "{apex}");
    }
}

#[test]
fn what_is_ours_never_leaves_the_host() {
    for name in ["nosuch", "cache", "hidden", "nosuch.net1", "web.net2", "cache.net2", "hidden.secret", "x.upper"]
        .into_iter()
        .chain(["nosuch.internal", "x.y.internal", "net2.internal", "secret.internal", "my.net", "x.my.net"])
        .chain(["web.net2.internal", "cache.net2.internal", "hidden.secret.internal", "net1.net2"])
    {
        for kind in [RecordType::A, RecordType::Srv, RecordType::Txt, RecordType::Any, RecordType::Other] {
            assert_eq!(ask(WEB, name, kind), Answer::NxDomain, "{name}");
        }
    }
    for name in ["example.com", "x.example.com", "internal.example.com", "webinternal.com", "", "net1.com"] {
        assert_eq!(ask(WEB, name, RecordType::A), Answer::Forward, "{name:?}");
        assert_eq!(ask(WEB, name, RecordType::Other), Answer::Forward, "{name:?}");
    }
}

#[test]
fn only_served_clients_are_answered() {
    for client in ["10.1.0.77", "192.0.2.1", "127.0.0.1", "fd01::77", "::1"] {
        assert_eq!(ask(client, "web", RecordType::A), Answer::Refused, "{client}");
        assert_eq!(ask(client, "example.com", RecordType::A), Answer::Refused, "{client}");
        assert_eq!(ask(client, "2.0.1.10.in-addr.arpa", RecordType::Ptr), Answer::Refused, "{client}");
        assert!(!may_forward(&state(), Client::Address(client.parse().unwrap())), "{client}");
    }
    assert!(!may_forward(&state(), Client::Address(HIDDEN.parse().unwrap())), "internal networks only");
    for client in [WEB, CACHE, "10.4.0.1"] {
        assert!(may_forward(&state(), Client::Address(client.parse().unwrap())), "{client}");
    }
}

#[test]
fn the_host_sees_every_network() {
    assert_eq!(ask("host", "hidden", RecordType::A), a(&["10.4.0.2"]));
    assert_eq!(ask("10.2.0.1", "hidden", RecordType::A), a(&["10.4.0.2"]));
    assert_eq!(ask("10.2.0.1", "db", RecordType::A), a(&["10.2.0.3", "10.1.0.3"]), "the one it asks through first");
    assert_eq!(ask("host", "host.internal", RecordType::A), a(&["127.0.0.1"]));
    assert_eq!(ask("host", "host.docker.internal", RecordType::Aaaa), Answer::Aaaa(vec!["::1".parse().unwrap()]));
}

#[test]
fn the_host_has_its_names() {
    for name in ["host.internal", "HOST.docker.internal", "host.containers.internal", "host.netd.internal"] {
        assert_eq!(ask(WEB, name, RecordType::A), a(&["10.1.0.1"]), "{name}");
        assert_eq!(ask(WEB, name, RecordType::Aaaa), Answer::Aaaa(vec!["fd01::1".parse().unwrap()]), "{name}");
        assert_eq!(ask(DB, name, RecordType::Aaaa), Answer::NoData, "{name}: db has no IPv6");
        assert_eq!(ask(HIDDEN, name, RecordType::A), a(&["10.4.0.1"]), "{name}: internal networks have a gateway too");
    }
    assert_eq!(ask(CACHE, "host", RecordType::A), a(&["10.2.0.4"]), "without a domain it is a name like any other");
    assert_eq!(ask(WEB, "host.lan", RecordType::A), Answer::Forward);
    let lan = |name| answer(&state(), "lan", Client::Address(WEB.parse().unwrap()), name, RecordType::A);
    assert_eq!((lan("host.lan"), lan("host.docker.internal")), (a(&["10.1.0.1"]), a(&["10.1.0.1"])));
    assert_eq!((lan("db.net1.lan"), lan("db.net1.internal")), (a(&["10.1.0.3"]), Answer::Forward));
    assert_eq!(ask(WEB, "localhost", RecordType::A), a(&["127.0.0.1"]));
    assert_eq!(ask(WEB, "x.localhost", RecordType::Aaaa), Answer::Aaaa(vec!["::1".parse().unwrap()]));
}

#[test]
fn addresses_have_names() {
    let ptr = |client, name: &str| ask(client, name, RecordType::Ptr);
    let names = |names: &[&str]| Answer::Ptr(names.iter().map(|name| (*name).to_owned()).collect());
    let v6 = |last: char| format!("{last}.{}1.0.d.f.IP6.arpa", "0.".repeat(27));
    assert_eq!(ptr(DB, "2.0.1.10.in-addr.arpa"), names(&["web", "web.net1.internal"]));
    assert_eq!(ptr(DB, &v6('2')), names(&["web", "web.net1.internal"]));
    assert_eq!(ptr("10.5.0.2", "2.0.5.10.IN-ADDR.ARPA"), names(&["Caps", "Caps.Upper.internal"]));
    assert_eq!(ptr(DB, "1.0.1.10.in-addr.arpa"), names(&["host.internal"]));
    assert_eq!(ptr(DB, &v6('1')), names(&["host.internal"]));
    assert_eq!(ask(DB, "2.0.1.10.in-addr.arpa", RecordType::A), Answer::NoData);
    for ours in ["9.0.1.10.in-addr.arpa", "2.0.4.10.in-addr.arpa", "1.0.4.10.in-addr.arpa", "9.0.4.10.in-addr.arpa"] {
        assert_eq!(ptr(DB, ours), Answer::NxDomain, "{ours}");
    }
    assert_eq!(ptr(DB, "0.1.10.in-addr.arpa"), Answer::NoData, "our subnet's own name does not leak either");
    let dns_sd = format!("lb._dns-sd._udp.{}1.0.d.f.ip6.arpa", "0.".repeat(28));
    for below in ["lb._dns-sd._udp.0.0.1.10.in-addr.arpa", "x.0.1.10.in-addr.arpa", "9.2.0.1.10.in-addr.arpa", &dns_sd]
    {
        assert_eq!(ptr(DB, below), Answer::NxDomain, "{below} must not come back to us through the host's resolver");
    }
    for other in ["x.1.10.in-addr.arpa", "lb._dns-sd._udp.0.0.9.10.in-addr.arpa", "y.x.in-addr.arpa"] {
        assert_eq!(ptr(DB, other), Answer::Forward, "{other}");
    }
    for other in ["2.0.9.10.in-addr.arpa", "10.in-addr.arpa", "in-addr.arpa", "x.in-addr.arpa", "8.8.8.8.in-addr.arpa"]
    {
        assert_eq!(ptr(DB, other), Answer::Forward, "{other}");
    }
}

#[test]
fn addresses_of_one_host_or_link_are_asked_for_nowhere() {
    let ptr = |name: &str| ask(DB, name, RecordType::Ptr);
    let v6 = |first: &str, last: char| format!("{last}.{}{first}.ip6.arpa", "0.".repeat(31 - first.split('.').count()));
    for local in
        ["1.1.254.169.in-addr.arpa", "2.0.0.127.in-addr.arpa", "0.0.0.0.in-addr.arpa", "255.255.255.255.in-addr.arpa"]
    {
        assert_eq!(ptr(local), Answer::NxDomain, "{local}");
    }
    assert_eq!((ptr(&v6("0.8.e.f", '7')), ptr(&v6("f.b.e.f", '7'))), (Answer::NxDomain, Answer::NxDomain));
    assert_eq!(ptr(&v6("0", '0')), Answer::NxDomain);
    for above in
        ["127.in-addr.arpa", "254.169.in-addr.arpa", "9.254.169.in-addr.arpa", "8.e.f.ip6.arpa", "b.e.f.ip6.arpa"]
    {
        assert_eq!(ptr(above), Answer::NoData, "{above}");
    }
    for loopback in ["1.0.0.127.in-addr.arpa", &v6("0", '1')] {
        assert_eq!(ptr(loopback), Answer::Ptr(vec!["localhost".into()]), "{loopback}");
        assert_eq!(ask(DB, loopback, RecordType::Txt), Answer::NoData);
    }
    // The site's own servers know these.
    for other in ["169.in-addr.arpa", "1.1.168.192.in-addr.arpa", "e.f.ip6.arpa", "c.e.f.ip6.arpa", &v6("0.0.d.f", '7')]
    {
        assert_eq!(ptr(other), Answer::Forward, "{other}");
    }
}

#[test]
fn a_container_on_five_networks_sees_these_in_its_order() {
    let mut desired = state();
    // Connected in another order than that of the networks' names or addresses.
    for (sequence, (n, network)) in
        [(5, "Upper"), (2, "net2"), (4, "secret"), (1, "net1"), (3, "my.net")].into_iter().enumerate()
    {
        for (name, host, sequence) in [("many", 77, 100 + sequence), (&*format!("peer{n}"), 78, 200 + sequence)] {
            let (ifname, aliases) = (format!("eth{sequence}").parse().unwrap(), parsed(&["all"]));
            let endpoint = endpoint(&desired, network, name, sequence as u64, &[&format!("10.{n}.0.{host}")], &[]);
            desired.insert_endpoint(Endpoint { ifname, aliases, ..endpoint });
        }
    }
    let ask = |client: &str, name: &str| {
        answer(&desired, "internal", Client::Address(client.parse().unwrap()), name, RecordType::A)
    };
    let own = ["10.5.0.77", "10.2.0.77", "10.4.0.77", "10.1.0.77", "10.3.0.77"];
    for client in own {
        assert_eq!(ask(client, "many"), a(&own), "{client}");
        let all: Vec<String> =
            [5, 2, 4, 1, 3].iter().flat_map(|n| [format!("10.{n}.0.77"), format!("10.{n}.0.78")]).collect();
        assert_eq!(ask(client, "all"), a(&all.iter().map(String::as_str).collect::<Vec<_>>()), "{client}");
        for (n, network) in [(5, "upper"), (2, "net2"), (4, "secret"), (1, "net1"), (3, "my.net")] {
            assert_eq!(ask(client, &format!("many.{network}")), a(&[&format!("10.{n}.0.77")]), "a network is selected");
        }
        assert_eq!(ask(client, "many.net9.internal"), Answer::NxDomain, "a network that is not there");
    }
    for n in 1..=5 {
        assert_eq!(ask(&format!("10.{n}.0.78"), "many"), a(&[&format!("10.{n}.0.77")]), "only what is shared");
        let other = if n == 1 { "net2" } else { "net1" };
        assert_eq!(ask(&format!("10.{n}.0.78"), &format!("many.{other}")), Answer::NxDomain, "not shared: not probed");
    }
}

#[test]
fn an_answer_is_explained() {
    let desired = state();
    let search = ["lan".to_owned()];
    let zone = Zone { desired: &desired, domain: "internal", search: &search };
    let explain = |client: &str, name, kind| zone.explain(Client::Address(client.parse().unwrap()), name, kind);
    let names = |list: &[NetworkName]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    for (client, name, kind, reason, holders, hidden) in [
        (DB, "store", RecordType::A, Reason::Name, "db.net1 db.net2 cache.net2", ""),
        (DB, "x.app", RecordType::A, Reason::Wildcard, "cache.net2", ""),
        (DB, "_http._tcp.web", RecordType::Srv, Reason::Service, "web.net1", ""),
        (DB, "_tcp.web", RecordType::Srv, Reason::Above, "", ""),
        (DB, "web.lan", RecordType::A, Reason::Search, "web.net1", ""),
        (DB, "host.internal", RecordType::A, Reason::Host, "", ""),
        (DB, "localhost", RecordType::A, Reason::Loopback, "", ""),
        (DB, "2.0.1.10.in-addr.arpa", RecordType::Ptr, Reason::Reverse, "web.net1", ""),
        (DB, "2.0.4.10.in-addr.arpa", RecordType::Ptr, Reason::Reverse, "", ""),
        (DB, "net2.internal", RecordType::A, Reason::Above, "", ""),
        (DB, "nosuch", RecordType::A, Reason::Unknown, "", ""),
        (WEB, "cache", RecordType::A, Reason::Unknown, "", "net2"),
        (WEB, "cache.net2", RecordType::A, Reason::Unknown, "", "net2"),
        (WEB, "x.app", RecordType::A, Reason::Foreign, "", "net2"),
        (WEB, "example.com", RecordType::A, Reason::Foreign, "", ""),
        ("192.0.2.1", "web", RecordType::A, Reason::Stranger, "", ""),
    ] {
        let explained = explain(client, name, kind);
        let who: Vec<String> =
            explained.holders.iter().map(|e| format!("{}.{}", e.container.name, e.network)).collect();
        assert_eq!(
            (explained.reason, who.join(" ").as_str(), names(&explained.hidden).as_str()),
            (reason, holders, hidden),
            "{name}"
        );
        assert_eq!(explained.answer, zone.answer(Client::Address(client.parse().unwrap()), name, kind), "{name}");
    }
    assert_eq!(names(&explain(DB, "x", RecordType::A).networks), "net1 net2");
}

fn names() -> impl Strategy<Value = String> {
    let parts = [
        "web", "_http", "_tcp", "_80", "app", "example", "com", "db", "store", "a", "b", "net1", "net2", "my", "net",
        "secret", "hidden", "internal", "host",
    ];
    let part = prop_oneof![
        proptest::sample::select(parts.to_vec()).prop_map(str::to_owned),
        "[0-9a-f]{1,3}",
        Just("in-addr.arpa".to_owned()),
        Just("ip6.arpa".to_owned()),
        Just("UPPER.Localhost".to_owned()),
    ];
    prop_oneof![proptest::collection::vec(part, 0..8).prop_map(|parts| parts.join(".")), any::<String>(), "[.]{0,4}"]
}

proptest! {
    #[test]
    fn no_question_panics_or_tells_of_a_network_that_is_not_shared(
        name in names(),
        domain in prop_oneof![Just("internal".to_owned()), Just("net1".to_owned()), any::<String>()],
        client in proptest::sample::select(&[WEB, DB, CACHE, AB, HIDDEN, "10.5.0.2", "fd01::2", "192.0.2.1"][..]),
    ) {
        let desired = state();
        let source: IpAddr = client.parse().unwrap();
        let shared: Vec<_> = desired.at_address(source).map(|endpoint| {
            let attached = desired.container(&endpoint.container.id).unwrap();
            attached.endpoints.iter().map(|endpoint| endpoint.network.clone()).collect()
        }).unwrap_or_default();
        let search = [domain.clone(), "example.com".to_owned(), "store".to_owned()];
        let zone = Zone { desired: &desired, domain: &domain, search: &search };
        for kind in [
            RecordType::A, RecordType::Aaaa, RecordType::Ptr, RecordType::Srv, RecordType::Txt, RecordType::Any, RecordType::Other,
        ] {
            let explained = zone.explain(Client::Address(source), &name, kind);
            prop_assert!(explained.holders.iter().all(|endpoint| shared.contains(&endpoint.network)));
            let addresses: Vec<IpAddr> = match explained.answer {
                Answer::A(list) => list.into_iter().map(IpAddr::from).collect(),
                Answer::Aaaa(list) => list.into_iter().map(IpAddr::from).collect(),
                Answer::Ptr(names) => {
                    prop_assert!(names.iter().all(|name| !name.contains("hidden") || client == HIDDEN));
                    continue;
                }
                Answer::Srv(services) => services.into_iter().flat_map(|service| service.addresses).collect(),
                Answer::Txt(texts) => {
                    let on_net1 = texts.iter().any(|text| text == "on=net1" || text == "tier=front");
                    prop_assert!(!on_net1 || shared.iter().any(|network| network.as_str() == "net1"));
                    continue;
                }
                _ => continue,
            };
            prop_assert!(!addresses.is_empty());
            for address in addresses.into_iter().filter(|address| !address.is_loopback()) {
                let network = desired.at_address(address).map(|endpoint| endpoint.network.clone())
                    .or_else(|| desired.at_gateway(address).map(|network| network.name.clone()));
                prop_assert!(shared.contains(&network.unwrap()), "{} told {} of {}", name, client, address);
            }
        }
    }
}
