//! Tests the view of the name service over HTTP: metrics, query logs, and explanations of answers.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::engine::telemetry::meter::Unanswered;
use crate::engine::telemetry::{Entry, Origin};

/// A served API with `web` (alias `*.app`) and `client` on net1, `far` on net2, and `alone` on the internal network
/// inner.
async fn populated() -> Api {
    let api = serve();
    for (network, internal) in [("net1", false), ("net2", false), ("inner", true)] {
        api.ask("POST", "/v1/networks", Some(json!({"name": network, "internal": internal}))).await;
    }
    for (network, container, place) in [
        ("net1", "web", json!({"pid": 1, "aliases": ["*.app"]})),
        ("net2", "far", json!({"pid": 4711})),
        ("inner", "alone", json!({"netns": "/run/netns/there"})),
    ] {
        let mut request = place;
        request["container"] = json!(container);
        let (status, body) = api.ask("POST", &format!("/v1/networks/{network}/endpoints"), Some(request)).await;
        assert_eq!(status, 201, "{body}");
    }
    api
}

fn entry(name: &str) -> Entry {
    Entry {
        time: UNIX_EPOCH + Duration::from_micros(1_500_000),
        transport: "udp",
        name: name.into(),
        kind: "A".into(),
        code: "NOERROR".into(),
        answers: vec!["192.0.2.1".into()],
        answer_count: 3,
        origin: Origin::Upstream("192.0.2.53:53".parse().unwrap()),
        duration: Duration::from_micros(1234),
        dropped_before: 0,
    }
}

/// The name with labels and the value of each sample line.
fn samples(text: &str) -> Vec<(&str, &str)> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_what_the_name_service_does() {
    let api = populated().await;
    let snapshot = api.handle.snapshot();
    let meter = &api.handle.telemetry().meter;
    let net1 = snapshot.desired.networks().find(|network| network.name.as_str() == "net1").unwrap();
    let counts = meter.of(&snapshot.desired, net1);
    counts.replied(1, 0, Origin::Local);
    counts.replied(1, 0, Origin::Local);
    counts.replied(28, 3, Origin::Cache);
    counts.unanswered(Unanswered::Flood);
    counts.shed();
    meter.took_each([2, 0, 0, 0, 0], Duration::from_micros(7));
    meter.tcp.open.store(4, Ordering::Relaxed);
    let text = String::from_utf8(api.raw("GET", "/metrics", None).await.body).unwrap();
    let samples = samples(&text);
    for expected in [
        ("netd_dns_queries_total{network=\"net1\",type=\"A\",rcode=\"NOERROR\",source=\"local\"}", "2"),
        ("netd_dns_queries_total{network=\"net1\",type=\"AAAA\",rcode=\"NXDOMAIN\",source=\"cache\"}", "1"),
        ("netd_dns_unanswered_total{network=\"net1\",reason=\"flood\"}", "1"),
        ("netd_dns_unanswered_total{network=\"net1\",reason=\"no_question\"}", "0"),
        ("netd_dns_shed_total{network=\"net1\"}", "1"),
        ("netd_dns_query_duration_seconds_bucket{source=\"local\",le=\"0.000005\"}", "0"),
        ("netd_dns_query_duration_seconds_bucket{source=\"local\",le=\"0.00001\"}", "2"),
        ("netd_dns_query_duration_seconds_bucket{source=\"local\",le=\"10\"}", "2"),
        ("netd_dns_query_duration_seconds_bucket{source=\"local\",le=\"+Inf\"}", "2"),
        ("netd_dns_query_duration_seconds_count{source=\"local\"}", "2"),
        ("netd_dns_query_duration_seconds_sum{source=\"local\"}", "0.000014"),
        ("netd_dns_tcp_connections", "4"),
        ("netd_dns_upstream_queries_total{server=\"192.0.2.53:53\"}", "7"),
        ("netd_dns_upstream_answers_total{server=\"192.0.2.53:53\"}", "4"),
        ("netd_dns_upstream_failures_total{server=\"192.0.2.53:53\"}", "2"),
        ("netd_dns_upstream_timeouts_total{server=\"192.0.2.53:53\"}", "1"),
        ("netd_dns_upstream_rtt_seconds{server=\"192.0.2.53:53\"}", "0.003"),
        ("netd_dns_upstream_healthy{server=\"192.0.2.53:53\"}", "1"),
        ("netd_dns_cache_entries", "5"),
        ("netd_dns_cache_bytes", "1280"),
        ("netd_dns_cache_hits_total", "3"),
        ("netd_dns_cache_misses_total", "2"),
    ] {
        assert!(samples.contains(&expected), "{expected:?}:\n{text}");
    }
    assert!(!text.contains("network=\"\""), "nothing came in where no network is:\n{text}");
    // Every sample belongs to the family of the last TYPE line before it.
    let mut family = "";
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => family = rest.split(' ').next().unwrap(),
            None => assert!(line.starts_with('#') || line.starts_with(family), "{line} under {family}"),
        }
    }
    api.ask("DELETE", "/v1/networks/net1/endpoints/web", None).await;
    api.ask("DELETE", "/v1/networks/net1", None).await;
    let text = String::from_utf8(api.raw("GET", "/metrics", None).await.body).unwrap();
    assert!(!text.contains("network=\"net1\""), "its counts go with the network:\n{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_log_is_switched_shown_and_followed() {
    let api = populated().await;
    let path = "/v1/dns/log/web";
    let (status, body) = api.ask("GET", path, None).await;
    assert_eq!((status, body["error"]["code"].as_str()), (404, Some("not_found")));
    assert!(body["error"]["message"].as_str().unwrap().contains("`netd dns log on web`"), "{body}");
    assert_eq!(api.ask("DELETE", path, None).await.0, 204, "off already");
    let (status, on) = api.ask("PUT", path, None).await;
    assert_eq!((status, &on["container"]["name"], &on["entries"]), (200, &json!("web"), &json!(0)));
    assert_eq!(api.ask("PUT", path, Some(json!({}))).await, (200, on.clone()), "again changes nothing");
    assert_eq!(api.ask("GET", "/v1/dns/log", None).await, (200, json!([on])));
    let logged = api.handle.telemetry().log.now().values().next().unwrap().clone();
    logged.drop_one();
    logged.add(entry("www.example"));
    let expected = json!({"time": "1970-01-01T00:00:01.500000Z", "container": "web", "transport": "udp",
        "name": "www.example", "type": "A", "rcode": "NOERROR", "answers": ["192.0.2.1"], "answer_count": 3,
        "source": "upstream", "server": "192.0.2.53:53", "duration_us": 1234, "dropped_before": 1});
    assert_eq!(api.ask("GET", path, None).await, (200, json!([expected])));
    let client = api.client.clone();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let follower = tokio::task::spawn_blocking(move || {
        for line in client.lines("/v1/dns/log/web?follow=true").unwrap() {
            sender.send(serde_json::from_str::<Value>(&line.unwrap()).unwrap()).unwrap();
        }
    });
    assert_eq!(lines.recv().await.unwrap(), expected, "what was there");
    logged.add(entry("later.example"));
    assert_eq!(lines.recv().await.unwrap()["name"], "later.example");
    drop(logged);
    assert_eq!(api.ask("DELETE", path, None).await.0, 204);
    follower.await.unwrap();
    assert!(lines.recv().await.is_none(), "it ends with the log");
    assert_eq!(api.ask("GET", "/v1/dns/log", None).await, (200, json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_log_goes_with_its_container() {
    let api = populated().await;
    api.ask("PUT", "/v1/dns/log/web", None).await;
    api.ask("PUT", "/v1/dns/log/far", None).await;
    api.ask("DELETE", "/v1/networks/net1/endpoints/web", None).await;
    let (_, logs) = api.ask("GET", "/v1/dns/log", None).await;
    assert_eq!((logs.as_array().unwrap().len(), &logs[0]["container"]["name"]), (1, &json!("far")));
    api.ask("POST", "/v1/networks/net1/endpoints", Some(json!({"container": "web", "pid": 1}))).await;
    assert_eq!(api.ask("GET", "/v1/dns/log/web", None).await.0, 404, "the next web is not logged");
}

/// The reply of `GET /v1/resolve`.
async fn resolved(api: &Api, query: &str) -> Value {
    let (status, body) = api.ask("GET", &format!("/v1/resolve?{query}"), None).await;
    assert_eq!(status, 200, "{query}: {body}");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_explained() {
    let api = populated().await;
    for (query, status, source, reason, words) in [
        ("name=web&from=web", "NOERROR", "local", "name", "container web on network net1 has the name: 10.77.0.2"),
        ("name=x.app&from=web", "NOERROR", "local", "wildcard", "has an alias `*.…` above the name"),
        ("name=web&type=MX&from=web", "NODATA", "local", "name", "it has no MX records"),
        ("name=far&from=web", "NXDOMAIN", "local", "unknown", "exists on network net2, to which web is not connected"),
        ("name=far&from=web", "NXDOMAIN", "local", "unknown", "names of one label are not forwarded"),
        ("name=nobody.internal&from=web", "NXDOMAIN", "local", "unknown", "are not forwarded"),
        ("name=far", "NOERROR", "local", "name", "the host sees the networks inner, net1, net2, in this order"),
        ("name=10.77.0.2&from=web", "NOERROR", "local", "reverse", "container web on network net1 has the address"),
        (
            "name=host.internal&from=web",
            "NOERROR",
            "local",
            "host",
            "the name denotes the host, at the address where web reaches it",
        ),
        ("name=www.example&from=web", "NOERROR", "upstream", "foreign", "upstream 192.0.2.53:53 answered just now"),
        ("name=www.example&from=web", "NOERROR", "upstream", "foreign", "asked for 10.77.0.2"),
        ("name=www.example", "NOERROR", "upstream", "foreign", "asked for the host"),
        ("name=a.nowhere&from=web", "SERVFAIL", "none", "foreign", "no upstream answered"),
        ("name=www.example&from=alone", "SERVFAIL", "none", "foreign", "alone is on internal networks only"),
    ] {
        let body = resolved(&api, query).await;
        let lines: Vec<&str> =
            body["explanation"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!(
            (&body["status"], &body["source"], &body["reason"]),
            (&json!(status), &json!(source), &json!(reason)),
            "{query}"
        );
        assert!(lines.iter().any(|line| line.contains(words)), "{query}: {words:?} in {lines:#?}");
    }
    let body = resolved(&api, "name=web&from=web").await;
    assert_eq!((&body["networks"], &body["hidden"]), (&json!(["net1"]), &json!([])));
    let holder = &body["holders"][0];
    assert_eq!((&holder["container"]["name"], &holder["network"]), (&json!("web"), &json!("net1")));
    assert_eq!(holder["addresses"], json!(["10.77.0.2"]));
    assert_eq!(resolved(&api, "name=far&from=web").await["hidden"], json!(["net2"]));
    let body = resolved(&api, "name=www.example&from=web").await;
    assert_eq!(
        (&body["answers"], &body["server"], &body["ttl"]),
        (&json!(["192.0.2.80"]), &json!("192.0.2.53:53"), &json!(60))
    );
}
