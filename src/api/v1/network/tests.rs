//! Requests for networks: what is understood, and what is refused with which words.

use super::*;
use crate::model::request::NetworkSpec;

fn spec(json: &str) -> Result<NetworkSpec, String> {
    let request: CreateNetwork = serde_json::from_str(json).map_err(|error| error.to_string())?;
    NetworkSpec::try_from(request).map_err(|error| error.to_string())
}

#[test]
fn a_name_is_enough() {
    let spec = spec(r#"{"name":"net1"}"#).unwrap();
    assert_eq!(spec, NetworkSpec::named("net1".parse().unwrap()));
}

#[test]
fn both_forms_of_subnets_mean_the_same() {
    let flat = spec(
        r#"{"name":"n","subnets":["10.1.0.0/16","fd00:1::/64"],"gateways":["10.1.0.9"],"ip_ranges":["10.1.5.0/24"]}"#,
    );
    let nested = spec(
        r#"{"name":"n","subnets":[{"subnet":"10.1.0.0/16","gateway":"10.1.0.9","ip_range":"10.1.5.0/24"},
            {"subnet":"fd00:1::/64"}]}"#,
    );
    assert_eq!(flat, nested);
    assert!(flat.unwrap().subnets.as_slice()[0].range.is_some());
}

#[test]
fn options_reach_the_spec() {
    let spec =
        spec(r#"{"name":"n","options":{"com.docker.network.bridge.name":"br7","mtu":"1400","icc":"0"}}"#).unwrap();
    assert_eq!(spec.bridge.map(String::from).as_deref(), Some("br7"));
    assert_eq!((spec.mtu, spec.icc, spec.masquerade), (Some(1400), false, true));
}

#[test]
fn fields_and_options_mean_the_same() {
    let fields = spec(r#"{"name":"n","dns":["9.9.9.9","tls://1.1.1.1"],"sticky":true,"host_access":"ports"}"#).unwrap();
    let options = r#"{"dns.servers":"9.9.9.9,tls://1.1.1.1","sticky":"true","dns.listen":"container"}"#;
    let options = spec(&format!(r#"{{"name":"n","options":{options}}}"#)).unwrap();
    assert_eq!((&fields.dns.upstreams, fields.sticky), (&options.dns.upstreams, options.sticky));
    assert_eq!((fields.host_access, options.host_access), (Some(HostAccess::Ports), None));
    assert_eq!(options.dns.listen, network::DnsListen::Container);
}

#[test]
fn what_was_asked_for_is_shown() {
    let mut network = crate::logic::samples::network("n", &["10.1.0.0/24"]);
    let shown = |network: &network::Network| serde_json::to_value(Network::new(network, [].into_iter())).unwrap();
    let plain = shown(&network);
    assert_eq!(plain["dns"], serde_json::json!({ "servers": [], "listen": "auto" }));
    assert_eq!((&plain["host_access"], &plain["sticky"]), (&"all".into(), &false.into()));
    network.dns.upstreams = vec!["tls://1.1.1.1#one.one".parse().unwrap()];
    network.host_access = HostAccess::None;
    let text = shown(&network);
    assert_eq!((&text["dns"]["servers"][0], &text["host_access"]), (&"tls://1.1.1.1#one.one".into(), &"none".into()));
}

#[test]
fn what_is_wrong_is_named() {
    for (json, words) in [
        (r#"{}"#, "missing field `name`"),
        (r#"{"name":"n","subnet":"10.0.0.0/24"}"#, "unknown field `subnet`"),
        (r#"{"name":"n","subnets":[{"subnet":"10.0.0.0/24","gw":"10.0.0.1"}]}"#, "unknown field `gw`"),
        (r#"{"name":"n","subnets":[7]}"#, "a subnet such as"),
        (r#"{"name":"a b"}"#, "invalid network name"),
        (r#"{"name":"n","driver":"overlay"}"#, "use bridge, macvlan, ipvlan or none"),
        (r#"{"name":"n","driver":"macvlan"}"#, "needs -o parent=INTERFACE"),
        (r#"{"name":"n","driver":"macvlan","options":{"parent":"eth0","icc":"0"}}"#, "the macvlan driver knows"),
        (r#"{"name":"n","options":{"mode":"unmanaged"}}"#, "name the host's bridge as well"),
        (
            r#"{"name":"n","options":{"mode":"unmanaged","bridge":"br0","masquerade":"1"}}"#,
            "translates and routes nothing",
        ),
        (
            r#"{"name":"n","driver":"macvlan","options":{"parent":"eth0","host_address":"10.0.0.9"}}"#,
            "with --host-access all only",
        ),
        (r#"{"name":"n","options":{"host_ipv4":"127.0.0.1"}}"#, "an address of the host in that family"),
        (r#"{"name":"n","subnets":["10.0.0.5/24"]}"#, "maybe you meant 10.0.0.0/24"),
        (r#"{"name":"n","subnets":["10.0.0.0/33"]}"#, "invalid subnet"),
        (r#"{"name":"n","subnets":["10.0.0.0/31"]}"#, "too small"),
        (r#"{"name":"n","subnets":["127.0.0.0/24"]}"#, "127.0.0.0/8"),
        (r#"{"name":"n","subnets":["224.1.0.0/24"]}"#, "cannot have"),
        (r#"{"name":"n","subnets":["0.0.0.0/0"]}"#, "all addresses"),
        (r#"{"name":"n","subnets":["fe80::/64"]}"#, "fe80::/10"),
        (r#"{"name":"n","subnets":["10.0.0.0/8","10.1.0.0/16"]}"#, "overlaps with 10.0.0.0/8"),
        (r#"{"name":"n","gateways":["10.0.0.1"]}"#, "give the subnet"),
        (r#"{"name":"n","subnets":["10.0.0.0/24"],"gateways":["10.0.1.1"]}"#, "none of the given subnets"),
        (r#"{"name":"n","subnets":["10.0.0.0/24"],"gateways":["10.0.0.1","10.0.0.2"]}"#, "has one already"),
        (r#"{"name":"n","subnets":["10.0.0.0/24"],"gateways":["10.0.0.0"]}"#, "network address"),
        (r#"{"name":"n","subnets":["10.0.0.0/24"],"gateways":["10.0.0.255"]}"#, "broadcast address"),
        (r#"{"name":"n","subnets":["10.0.0.0/24"],"gateways":["x"]}"#, "invalid gateway"),
        (r#"{"name":"n","subnets":["10.0.0.0/24"],"ip_ranges":["10.0.0.0/16"]}"#, "invalid ip range"),
        (r#"{"name":"n","mtu":67}"#, "68 to 65535"),
        (r#"{"name":"n","mtu":65536}"#, "68 to 65535"),
        (r#"{"name":"n","mtu":1279,"ipv6":true}"#, "1280 to 65535"),
        (r#"{"name":"n","mtu":576,"subnets":["fd00::/64"]}"#, "with IPv6"),
        (r#"{"name":"n","mtu":1400,"options":{"mtu":"1500"}}"#, "also given"),
        (r#"{"name":"n","labels":{"":"x"}}"#, "key is empty"),
        (r#"{"name":"n","dns":["one.one"]}"#, "invalid name server \"one.one\""),
        (r#"{"name":"n","dns":"9.9.9.9"}"#, "invalid type"),
        (
            r#"{"name":"n","dns":["9.9.9.9"],"options":{"dns.servers":"1.1.1.1"}}"#,
            "the field dns gives other name servers",
        ),
        (r#"{"name":"n","options":{"dns.servers":"9.9.9.9,"}}"#, "invalid name server \"\""),
        (r#"{"name":"n","options":{"dns.listen":"host"}}"#, "use auto, gateway or container"),
        (r#"{"name":"n","host_access":"some"}"#, "use none, ports or all"),
        (r#"{"name":"n","host_access":"ports","internal":true}"#, "use none or all"),
        (r#"{"name":"n","sticky":"yes"}"#, "invalid type"),
        (r#"{"name":"n","sticky":false,"options":{"sticky":"1"}}"#, "also given"),
        (r#"{"name":"n","options":{"parent":"eth0"}}"#, "the bridge driver knows"),
    ] {
        let error = spec(json).expect_err(json);
        assert!(error.contains(words), "{json}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_request_survives_its_own_json() {
    let json = r#"{"name":"n","subnets":["10.1.0.0/16",{"subnet":"10.2.0.0/16","gateway":"10.2.0.7"}],"mtu":1400}"#;
    let request: CreateNetwork = serde_json::from_str(json).unwrap();
    let again: CreateNetwork = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(request, again);
}
