//! Wildcard aliases, names of many labels, search domains, and names that have gone.

use super::*;

#[test]
fn wildcard_aliases_answer_any_depth_below() {
    for name in ["x.app", "X.y.APP", "a.b.c.d.app", "x.app.net2", "x.app.internal", "a.x.app.net2.internal", "*.app"] {
        assert_eq!(ask(DB, name, RecordType::A), a(&["10.2.0.4"]), "{name}");
        assert_eq!(ask(DB, name, RecordType::Aaaa), Answer::NoData, "{name}");
        assert_eq!(
            ask(WEB, name, RecordType::A),
            match name {
                "x.app" | "X.y.APP" | "a.b.c.d.app" | "*.app" => Answer::Forward,
                _ => Answer::NxDomain,
            },
            "{name}: its scope is the network"
        );
    }
    assert_eq!(ask(DB, "app", RecordType::A), Answer::NoData, "not the name itself, which lies above");
    assert_eq!(ask(DB, "x.yapp", RecordType::A), Answer::Forward, "whole labels");
}

#[test]
fn an_exact_name_wins_over_a_wildcard_and_a_longer_wildcard_over_a_shorter() {
    let mut desired = state();
    for (n, network, name, aliases) in [
        (1, "net1", "exact", &["y.app"][..]),
        (1, "net1", "deep", &["*.z.app"]),
        (2, "net2", "all", &["*.internal", "*.web"]),
    ] {
        let endpoint = endpoint(&desired, network, name, 50, &[&format!("10.{n}.0.{}", 90 + name.len())], &[]);
        desired.insert_endpoint(Endpoint { aliases: parsed(aliases), ..endpoint });
    }
    let ask = |name: &str, kind| answer(&desired, "internal", Client::Address(DB.parse().unwrap()), name, kind);
    let host = |name| ask(name, RecordType::A);
    assert_eq!(
        (host("y.app"), host("y.app.net1"), host("n.app")),
        (a(&["10.1.0.95"]), a(&["10.1.0.95"]), a(&["10.2.0.4"]))
    );
    assert_eq!(host("q.y.app"), a(&["10.2.0.4"]), "any depth, also below a name that somebody has");
    assert_eq!((host("q.z.app"), host("z.app")), (a(&["10.1.0.94"]), a(&["10.2.0.4"])));
    assert_eq!(
        (host("web.internal"), host("web.net1.internal"), host("q.internal")),
        (a(&["10.1.0.2"]), a(&["10.1.0.2"]), a(&["10.2.0.93"]))
    );
    assert_eq!(host("host.internal"), a(&["10.1.0.1"]), "the host's name is nobody else's");
    assert!(matches!(ask("_http._tcp.web", RecordType::Srv), Answer::Srv(_)), "a service wins over *.web");
    assert_eq!(ask("_ftp._tcp.web", RecordType::Srv), Answer::NoData, "which has the rest");
}

#[test]
fn names_of_many_labels_have_names_above_them() {
    let mut desired = state();
    let key = desired.at_address(CACHE.parse().unwrap()).unwrap().key();
    let mut endpoint = desired.endpoint(&key).unwrap().as_ref().clone();
    endpoint.aliases = vec!["one.two.three".parse().unwrap()];
    desired.insert_endpoint(endpoint);
    let ask = |client: &str, name: &str| {
        answer(&desired, "internal", Client::Address(client.parse().unwrap()), name, RecordType::A)
    };
    for name in ["one.two.three", "one.two.three.net2", "one.two.three.internal", "ONE.two.three.net2.internal"] {
        assert_eq!(ask(DB, name), a(&["10.2.0.4"]), "{name}");
    }
    for name in ["three", "two.three.internal", "three.net2", "two.three.net2.internal"] {
        assert_eq!(ask(DB, name), Answer::NoData, "{name}");
        assert_eq!(ask(WEB, name), Answer::NxDomain, "{name}");
    }
    assert_eq!(ask(DB, "two.three"), Answer::Forward, "somebody else's, for all that is known here");
    assert_eq!(ask(DB, "x.app"), Answer::Forward, "gone with the alias");
    desired.remove_endpoint(&key);
    let gone = answer(&desired, "internal", Client::Address(DB.parse().unwrap()), "three", RecordType::A);
    assert_eq!(gone, Answer::NxDomain, "gone with the container");
}

#[test]
fn a_search_domain_of_the_host_hides_no_container() {
    let desired = state();
    let search = ["Example.com".to_owned(), "lan.".to_owned(), String::new(), ".".to_owned()];
    let zone = Zone { desired: &desired, domain: "internal", search: &search };
    let ask = |client: &str, name: &str, kind| zone.answer(Client::Address(client.parse().unwrap()), name, kind);
    for name in
        ["web.example.com", "web.lan", "web.net1.example.com", "WWW.internal.Example.COM", "web.net1.internal.lan"]
    {
        assert_eq!(ask(DB, name, RecordType::A), a(&["10.1.0.2"]), "{name}");
        assert_eq!(ask(DB, name, RecordType::Other), Answer::NoData, "{name}: nothing of it leaves the host");
        assert_eq!(ask(CACHE, name, RecordType::A), Answer::Forward, "{name}: no container that this one sees");
        assert_eq!(ask("10.1.0.1", name, RecordType::A), Answer::Forward, "{name}: the host's own domains are its own");
    }
    assert!(matches!(ask(DB, "_http._tcp.web.lan", RecordType::Srv), Answer::Srv(_)));
    assert_eq!(ask(DB, "api.example.com", RecordType::A), a(&["10.1.0.2"]), "an alias as it stands");
    for name in ["nosuch.example.com", "example.com", "lan.example.com", "webexample.com"] {
        assert_eq!(ask(DB, name, RecordType::A), Answer::Forward, "{name}");
    }
    assert_eq!(ask(DB, "web", RecordType::A), a(&["10.1.0.2"]));
    assert_eq!(ask(DB, "nosuch", RecordType::A), Answer::NxDomain, "one label never leaves the host");
}

#[test]
fn a_name_is_gone_with_its_endpoint() {
    let mut desired = state();
    let key = desired.at_address(WEB.parse().unwrap()).unwrap().key();
    desired.remove_endpoint(&key);
    let ask = |name| answer(&desired, "internal", Client::Address(DB.parse().unwrap()), name, RecordType::A);
    assert_eq!((ask("web"), ask("www"), ask("web.net1")), (Answer::NxDomain, Answer::NxDomain, Answer::NxDomain));
    assert_eq!(ask("api.example.com"), Answer::Forward);
}
