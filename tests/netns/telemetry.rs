//! Telemetry of the name service: `curl /metrics`, `netd dns log`, and the explanations of `netd resolve`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use libtest_mimic::Trial;
use netd_testing::wait::{is, seen};
use serde_json::Value;

use crate::lab::daemon::{CONFIG, SOCKET};
use crate::lab::upstream::{ANSWER, Upstream};
use crate::lab::{Dig, Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("telemetry: metrics: replies are counted by code and source", metrics),
        trial(
            "telemetry: query log: switched on, shown, followed, switched off, removed with the container",
            query_log,
        ),
        trial("telemetry: resolve: explains network, upstream, cache and refusals", explanations),
    ]
}

/// net1 with `web` (alias `*.app`) and `client`, net2 with `other`, the internal inner with `alone`.
fn set_up(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2").ok();
    lab.netd("network create inner --internal").ok();
    lab.connected("net1", "web", "--alias *.app");
    lab.connected("net1", "client", "");
    lab.connected("net2", "other", "");
    lab.connected("inner", "alone", "");
}

fn host_resolver() -> Upstream {
    Upstream::start("host", SocketAddr::from(([127, 0, 0, 1], 53)))
}

fn answer() -> String {
    Ipv4Addr::from(ANSWER).to_string()
}

/// The value of a sample; 0 where there is none.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(known, _)| known == name));
    line.map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

fn scrape() -> String {
    run(&format!("curl -sS --fail --unix-socket {SOCKET} http://netd/metrics")).ok().stdout
}

fn metrics(lab: &Lab) {
    let _upstream = host_resolver();
    set_up(lab);
    // netd sends one probe query when a network's first container is connected.
    let before = scrape();
    Dig::expect("client", "web", &[&lab.address("net1", "web")[0].to_string()]);
    Dig::ask("client", "web");
    Dig::ask("client", "+tcp web AAAA");
    Dig::ask("client", "nobody");
    Dig::ask("client", "web TYPE65280");
    Dig::ask("other", "other TXT");
    Dig::expect("client", "www.example.com", &[&answer()]);
    Dig::ask("alone", "www.example.com");
    let text = scrape();
    let queries = |network: &str, kind: &str, code: &str, source: &str| {
        let labels = format!("network=\"{network}\",type=\"{kind}\",rcode=\"{code}\",source=\"{source}\"");
        let name = format!("netd_dns_queries_total{{{labels}}}");
        sample(&text, &name) - sample(&before, &name)
    };
    let counted = [
        queries("net1", "A", "NOERROR", "local"),
        queries("net1", "AAAA", "NOERROR", "local"),
        queries("net1", "A", "NXDOMAIN", "local"),
        queries("net1", "other", "NOERROR", "local"),
        queries("net2", "TXT", "NOERROR", "local"),
        queries("net1", "A", "NOERROR", "upstream"),
        queries("inner", "A", "SERVFAIL", "none"),
        queries("net1", "A", "NOERROR", "none"),
    ];
    assert_eq!(counted, [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0], "{text}");
    let grown = |part: &str| {
        let name = format!("netd_dns_query_duration_seconds_{part}{{source=\"local\"}}");
        sample(&text, &name) - sample(&before, &name)
    };
    assert_eq!(grown("count"), 6.0, "{text}");
    assert!(grown("sum") > 0.0, "{text}");
    let server = "{server=\"127.0.0.1\"}";
    assert!(sample(&text, &format!("netd_dns_upstream_queries_total{server}")) >= 1.0, "{text}");
    assert!(sample(&text, &format!("netd_dns_upstream_answers_total{server}")) >= 1.0, "{text}");
    assert_eq!(sample(&text, &format!("netd_dns_upstream_healthy{server}")), 1.0, "{text}");
    lab.netd("disconnect net2 other").ok();
    lab.netd("network rm net2").ok();
    lab.netd("network create net2").ok();
    let text = scrape();
    let counted = text.lines().find(|line| line.contains("net2") && !line.starts_with("netd_network_free_ports{"));
    assert_eq!(counted, None, "a new network of that name starts at zero");
    assert_eq!(sample(&text, "netd_network_free_ports{network=\"net2\"}"), 1023.0, "{text}");
}

/// The names in `netd dns log show`.
fn shown(lab: &Lab, container: &str) -> Vec<String> {
    let entries = lab.netd(&format!("dns log show {container} --json")).ok().json();
    entries.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

fn query_log(lab: &Lab) {
    let _upstream = host_resolver();
    set_up(lab);
    Dig::ask("web", "before");
    lab.netd("dns log on web").ok();
    Dig::ask("client", "web");
    Dig::ask("web", "client");
    Dig::ask("web", "+tcp www.example.com");
    until("both are written", || is(shown(lab, "web"), &["client", "www.example.com"]));
    let text = lab.netd("dns log show web").ok().stdout;
    let client = lab.address("net1", "client")[0].to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(&format!("  udp  client A  NOERROR  {client}  (local, ")), "{text}");
    assert!(
        lines[1].contains(&format!("  tcp  www.example.com A  NOERROR  {}  (upstream 127.0.0.1:53, ", answer())),
        "{text}"
    );
    let log = lab.log();
    assert!(log.lines().any(|line| line.contains("container=web") && line.contains("name=www.example.com")), "{log}");
    assert!(!log.contains("query container=client"), "{log}");
    let list = lab.netd("dns log ls --json").ok().json();
    assert_eq!(
        (&list[0]["container"]["name"], &list[1], &list[0]["dropped"]),
        (&"web".into(), &Value::Null, &0.into())
    );

    lab.netd("dns log off web").ok();
    Dig::ask("web", "after");
    let off = lab.netd("dns log show web");
    assert!(off.code == Some(1) && off.stderr.contains("netd dns log on web"), "{off:?}");
    lab.netd("dns log on web").ok();
    assert!(shown(lab, "web").is_empty(), "queries while the log was off are not logged");

    let followed = std::thread::spawn(|| {
        run(&format!("timeout 20 curl -sSN --unix-socket {SOCKET} http://netd/v1/dns/log/web?follow=true"))
    });
    until("new queries are followed", || {
        Dig::ask("web", "followed");
        seen(shown(lab, "web"), |shown| !shown.is_empty())
    });
    // The log ends with the container, and the stream with the log.
    lab.netd("disconnect net1 web").ok();
    let lines = followed.join().unwrap().ok().stdout;
    assert!(lines.lines().all(|line| line.contains("\"name\":\"followed\"")), "{lines}");
    lab.netd("connect net1 web").ok();
    assert!(lab.netd("dns log show web").code == Some(1), "the next web is not logged");
    assert_eq!(lab.netd("dns log ls --json").ok().json(), serde_json::json!([]));
}

fn explanations(lab: &Lab) {
    // A resolver on the host that resolv.conf names keeps its answers itself; one of the configuration does not count as
    // such.
    fs::create_dir_all(Path::new(CONFIG).parent().unwrap()).unwrap();
    fs::write(CONFIG, "[dns]\nupstreams = [\"127.0.0.1\"]\n").unwrap();
    let _upstream = host_resolver();
    set_up(lab);
    let web = lab.address("net1", "web")[0].to_string();
    let says = |line: &str, words: &[&str]| {
        let text = lab.netd(&format!("resolve {line}")).ok().stdout;
        assert!(words.iter().all(|words| text.contains(words)), "{line}: {words:?}\n{text}");
    };
    says("web --from client", &["NOERROR", &web, &format!("container web on network net1 has the name: {web}")]);
    says("x.app --from client", &[&web, "container web on network net1 has an alias `*.…` above the name"]);
    says("other --from client", &["NXDOMAIN", "exists on network net2, to which client is not connected"]);
    says("other.net2 --from client", &["NXDOMAIN", "exists on network net2, to which client is not connected"]);
    says("nobody --from client", &["NXDOMAIN", "names of one label are not forwarded"]);
    let foreign = "www.example.com --from client";
    says(foreign, &[&answer(), "upstream 127.0.0.1:53 answered just now", "upstreams of the configuration: 127.0.0.1"]);
    says("www.example.com --from alone", &["SERVFAIL", "not forwarded: alone is on internal networks only"]);
    says("www.example.com", &[&answer(), "the host sees the networks inner, net1, net2, in this order"]);
    says(foreign, &[&answer(), "answered from the cache, TTL ", " s"]);
    let json = lab.netd(&format!("resolve {foreign} --json")).ok().json();
    assert_eq!(
        (&json["source"], &json["reason"], &json["status"]),
        (&"cache".into(), &"foreign".into(), &"NOERROR".into())
    );
    assert!(json["ttl"].as_u64().is_some_and(|ttl| ttl <= 60) && json["server"].is_null(), "{json}");
    let json = lab.netd("resolve web --from client --json").ok().json();
    assert_eq!((&json["source"], &json["holders"][0]["network"]), (&"local".into(), &"net1".into()));
}
