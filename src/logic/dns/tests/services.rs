//! Services, texts, and types that a name does not have.

use super::*;

fn srv(places: &[(u16, u16, &str, &[&str])]) -> Answer {
    let service = |(priority, port, target, addresses): &(u16, u16, &str, &[&str])| Service {
        priority: *priority,
        port: *port,
        target: (*target).to_owned(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    Answer::Srv(places.iter().map(service).collect())
}

#[test]
fn published_ports_are_services() {
    let web = srv(&[(0, 80, "web.net1.internal", &["10.1.0.2", "fd01::2"])]);
    for name in [
        "_http._tcp.web",
        "_HTTP._TCP.Web.Net1",
        "_80._tcp.web",
        "_http._tcp.www.net1.internal",
        "_80._tcp.api.example.com",
    ] {
        assert_eq!(ask(DB, name, RecordType::Srv), web, "{name}");
        for kind in [RecordType::A, RecordType::Aaaa, RecordType::Txt, RecordType::Other] {
            assert_eq!(ask(DB, name, kind), Answer::NoData, "{name}");
        }
        assert_eq!(ask(DB, name, RecordType::Any), Answer::Any, "{name}");
    }
    let range = srv(&[(0, 9005, "web.net1.internal", &["10.1.0.2", "fd01::2"])]);
    assert_eq!(ask(DB, "_9005._udp.web", RecordType::Srv), range);
    assert_eq!(ask(DB, "_tcp.web", RecordType::Srv), Answer::NoData, "it lies above");
    for name in [
        "_ftp._tcp.web",
        "_http._udp.web",
        "_9010._udp.web",
        "_080._tcp.web",
        "_sctp.web",
        "_http._tcp.nosuch",
        "_tcp.cache",
        "_ftp._tcp.api.example.com",
    ] {
        assert_eq!(ask(DB, name, RecordType::Srv), Answer::NxDomain, "{name}");
    }
    assert_eq!(ask(CACHE, "_http._tcp.web", RecordType::Srv), Answer::NxDomain, "a network that is not shared");
    assert_eq!(ask(DB, "_http._tcp.example.com", RecordType::Srv), Answer::Forward);
    assert_eq!(ask(DB, "web", RecordType::Srv), Answer::NoData);
}

#[test]
fn declared_ports_are_services_on_every_network_of_the_container() {
    let db = |port| srv(&[(0, port, "db.net1.internal", &["10.1.0.3"]), (1, port, "db.net2.internal", &["10.2.0.3"])]);
    assert_eq!(ask(DB, "_postgresql._tcp.db", RecordType::Srv), db(5432), "called by convention");
    assert_eq!(ask(DB, "_5432._tcp.db", RecordType::Srv), db(5432));
    assert_eq!(ask(DB, "_http._tcp.db", RecordType::Srv), db(8080), "called as it was said");
    assert_eq!(ask(DB, "_http-alt._tcp.db", RecordType::Srv), Answer::NxDomain, "and not otherwise");
    let on_net2 = srv(&[(0, 5432, "db.net2.internal", &["10.2.0.3"])]);
    for name in ["_5432._tcp.db", "_5432._tcp.store", "_5432._tcp.db.net2"] {
        assert_eq!(ask(CACHE, name, RecordType::Srv), on_net2, "{name}: the networks of the client");
    }
}

#[test]
fn labels_are_texts() {
    let texts = |texts: &[&str]| Answer::Txt(texts.iter().map(|text| (*text).to_owned()).collect());
    for name in ["web", "web.net1.internal", "www", "WEB.internal"] {
        assert_eq!(ask(DB, name, RecordType::Txt), texts(&["note=a b", "tier=front"]), "{name}");
    }
    assert_eq!(ask(DB, "db", RecordType::Txt), texts(&["on=net1", "on=net2"]));
    assert_eq!(ask(WEB, "db", RecordType::Txt), texts(&["on=net1"]), "those of the networks that are shared");
    assert_eq!(ask(CACHE, "cache", RecordType::Txt), Answer::NoData);
}

#[test]
fn every_other_type_of_a_known_name_is_no_data() {
    // AAAA, MX, TXT, SRV, HTTPS, SVCB, CAA, SOA, NS, CNAME, PTR and an unknown type.
    for code in [28, 15, 16, 33, 65, 64, 257, 6, 2, 5, 12, 65_280] {
        for name in ["cache", "cache.net2", "cache.net2.internal", "store.net2"] {
            let answer = ask("10.2.0.4", name, RecordType::from_code(code));
            let labels = code == 16 && name.starts_with("store");
            assert_eq!(answer == Answer::NoData, !labels, "{name} {code}: {answer:?}");
        }
        assert_eq!(ask(CACHE, "nosuch", RecordType::from_code(code)), Answer::NxDomain, "{code}");
    }
    for name in ["cache", "internal", "net2.internal", "host.internal", "4.0.2.10.in-addr.arpa", "x.app", "app"] {
        assert_eq!(ask(CACHE, name, RecordType::Any), Answer::Any, "{name}");
    }
}
