//! Networks: their life, their subnets, and what their bridges look like to `ip`.

use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::look::links;
use crate::lab::{Lab, addresses, ip_json, run, space, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("networks: create, ls, inspect, rm", life),
        trial("networks: prune removes unused networks, rm refuses a used one and names its containers", prune),
        trial("networks: the same over the HTTP API", http),
        trial("networks: automatic subnets avoid the host's routes and addresses", automatic),
        trial("networks: routes to 0.0.0.0/1 and 128.0.0.0/1 are no overlap", default_route_in_disguise),
        trial("networks: an overlapping subnet is refused, naming the route or the network", overlap),
        trial("networks: --ipv6 gives a stable random ULA /64", ula),
        trial("networks: several subnets, gateways and ranges are honoured", subnets),
        trial("networks: IPv6 addresses are usable at once", not_tentative),
        trial("networks: bridge and veth names identify their owner and fit the kernel's limit", names),
        trial("networks: the MTU is the uplink's, or the requested one", mtu),
        trial("networks: forwarding is enabled only when needed, and logged", forwarding),
    ]
}

fn subnet(network: &Value, index: usize) -> String {
    network["subnets"][index]["subnet"].as_str().unwrap_or_else(|| panic!("no subnet {index}: {network}")).to_owned()
}

fn life(lab: &Lab) {
    lab.start_daemon();
    assert_eq!(lab.netd("network ls --json").ok().json(), serde_json::json!([]));
    lab.netd("network create net1 --label a=b --label c=").ok();
    let shown = lab.network("net1");
    assert_eq!((&shown["name"], &shown["driver"]), (&"net1".into(), &"bridge".into()));
    assert_eq!(shown["bridge"], "nd-net1");
    assert_eq!(subnet(&shown, 0), "10.77.0.0/24");
    assert_eq!(shown["subnets"][0]["gateway"], "10.77.0.1");
    assert_eq!(shown["labels"], serde_json::json!({"a": "b", "c": ""}));
    for (key, value) in [("internal", false), ("icc", true), ("masquerade", true)] {
        assert_eq!(shown[key], value, "{key}: {shown}");
    }
    assert_eq!(shown["mtu"], 1500);
    assert_eq!(shown["id"].as_str().map(str::len), Some(64), "{shown}");
    assert!(shown["created"].as_str().is_some_and(|text| text.ends_with('Z')), "{shown}");
    assert_eq!(lab.netd("network ls --json").ok().json(), Value::Array(vec![shown.clone()]));
    assert_eq!(addresses("host", "nd-net1"), ["10.77.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let twice = lab.netd("network create net1").refused();
    assert!(twice.contains("net1") && twice.contains("exists"), "{twice}");
    lab.netd("network rm net1").ok();
    assert!(!links("host").contains(&"nd-net1".to_owned()));
    let gone = lab.netd("network rm net1").refused();
    assert!(gone.contains("net1"), "{gone}");
    lab.netd("network inspect net1").refused();
}

fn prune(lab: &Lab) {
    lab.start_daemon();
    for name in ["used", "free1", "free2"] {
        lab.netd(&format!("network create {name}")).ok();
    }
    lab.connected("used", "web", "");
    lab.connected("used", "db", "");
    let line = lab.netd("network rm used").refused();
    assert!(line.contains("web") && line.contains("db") && line.contains("used"), "{line}");
    let pruned = lab.netd("network prune").ok().stdout;
    assert!(pruned.contains("free1") && pruned.contains("free2") && !pruned.contains("used"), "{pruned}");
    let left = lab.netd("network ls --json").ok().json();
    assert_eq!(left.as_array().map(|all| all.iter().map(|n| n["name"].clone()).collect()), Some(vec!["used".into()]));
}

fn http(lab: &Lab) {
    lab.start_daemon();
    let (status, body) = lab.http("POST", "/v1/networks", r#"{"name":"net1"}"#);
    assert!((200..300).contains(&status), "{status} {body}");
    let made: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(made, lab.network("net1"));
    let (status, body) = lab.http("GET", "/v1/networks", "");
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, Value::Array(vec![made.clone()])));
    let (status, body) = lab.http("GET", "/v1/networks/net1", "");
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, made));
    let (status, body) = lab.http("POST", "/v1/networks", r#"{"name":"net1"}"#);
    let error: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &error["error"]["code"]), (409, &"conflict".into()), "{body}");
    assert!((200..300).contains(&lab.http("DELETE", "/v1/networks/net1", "").0));
    let (status, body) = lab.http("DELETE", "/v1/networks/net1", "");
    let error: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &error["error"]["code"]), (404, &"not_found".into()), "{body}");
    let (status, body) = lab.http("GET", "/v1/nowhere", "");
    assert!(status == 404 && serde_json::from_str::<Value>(&body).is_ok(), "{status} {body}");
}

fn automatic(lab: &Lab) {
    run("ip -n host route add 10.77.0.0/24 via 192.0.2.2").ok();
    run("ip -n host address add 10.77.1.77/25 dev uplink").ok();
    run("ip -n host route add 10.77.2.128/25 via 192.0.2.2").ok();
    // A blackhole route would make netd's containers unreachable.
    run("ip -n host route add blackhole 10.77.4.0/30").ok();
    lab.start_daemon();
    let mut got = Vec::new();
    for name in ["a", "b", "c"] {
        lab.netd(&format!("network create {name}")).ok();
        got.push(subnet(&lab.network(name), 0));
    }
    assert_eq!(got, ["10.77.3.0/24", "10.77.5.0/24", "10.77.6.0/24"]);
}

fn default_route_in_disguise(lab: &Lab) {
    run("ip -n host route add 0.0.0.0/1 via 192.0.2.2").ok();
    run("ip -n host route add 128.0.0.0/1 via 192.0.2.2").ok();
    run("ip -n host -6 route add ::/1 via 2001:db8::2").ok();
    run("ip -n host -6 route add 8000::/1 via 2001:db8::2").ok();
    lab.start_daemon();
    lab.netd("network create auto --ipv6").ok();
    lab.netd("network create mine --subnet 10.50.0.0/24 --subnet fd00:50::/64").ok();
    assert_eq!(subnet(&lab.network("mine"), 0), "10.50.0.0/24");
}

fn overlap(lab: &Lab) {
    run("ip -n host route add 10.60.0.0/16 via 192.0.2.2").ok();
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.70.0.0/24").ok();
    let before = lab.everything();
    for (asked, named) in [
        ("10.60.7.0/24", vec!["10.60.7.0/24", "10.60.0.0/16", "uplink"]),
        ("10.0.0.0/8", vec!["10.0.0.0/8"]),
        ("10.70.0.128/25", vec!["net1", "10.70.0.0/24"]),
        ("192.0.2.0/25", vec!["192.0.2.0/24", "uplink"]),
        ("2001:db8::/80", vec!["2001:db8::/64", "uplink"]),
    ] {
        let line = lab.netd(&format!("network create other --subnet {asked}")).refused();
        assert!(named.iter().all(|part| line.contains(part)), "{named:?} in: {line}");
    }
    let within = lab.netd("network create other --subnet 10.80.0.0/16 --subnet 10.80.1.0/24");
    assert!(within.code != Some(0) && within.stderr.contains("10.80.0.0/16"), "{within:?}");
    lab.unchanged_since(&before);
}

fn ula(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create a --ipv6").ok();
    lab.netd("network create b --ipv6").ok();
    let (a, b) = (subnet(&lab.network("a"), 1), subnet(&lab.network("b"), 1));
    assert!(a.starts_with("fd") && a.ends_with("/64") && b.starts_with("fd") && a != b, "{a} {b}");
    // The same /48 for all networks of the host, the global id of which is random (RFC 4193, 3.2.2).
    assert_eq!(a.split(':').take(3).collect::<Vec<_>>(), b.split(':').take(3).collect::<Vec<_>>());
    assert!(!a.starts_with("fd00:0:0") && !a.starts_with("fd00::"), "{a} is not random");
    lab.netd("network rm a").ok();
    lab.kill_daemon();
    lab.start_daemon();
    lab.netd("network create a --ipv6").ok();
    let again = subnet(&lab.network("a"), 1);
    assert_eq!(again.split(':').take(3).collect::<Vec<_>>(), b.split(':').take(3).collect::<Vec<_>>(), "kept");
    lab.netd("network create only6 --subnet fd00:9::/64").ok();
    assert_eq!(lab.network("only6")["subnets"].as_array().map(Vec::len), Some(1), "an IPv6-only network");
}

fn subnets(lab: &Lab) {
    lab.start_daemon();
    lab.netd(
        "network create net1 --subnet 10.1.0.0/24 --gateway 10.1.0.254 --ip-range 10.1.0.64/30 --subnet fd00:1::/64 \
         --gateway fd00:1::99",
    )
    .ok();
    let shown = lab.network("net1");
    assert_eq!((subnet(&shown, 0), subnet(&shown, 1)), ("10.1.0.0/24".into(), "fd00:1::/64".into()));
    assert_eq!(shown["subnets"][0]["gateway"], "10.1.0.254");
    assert_eq!(shown["subnets"][1]["gateway"], "fd00:1::99");
    for name in ["a", "b", "c", "d"] {
        lab.connected("net1", name, "");
        let address = lab.address("net1", name)[0].to_string();
        let last: u8 = address.strip_prefix("10.1.0.").and_then(|last| last.parse().ok()).expect("in the subnet");
        assert!((64..=67).contains(&last), "{address} is not in 10.1.0.64/30");
    }
    lab.container("e");
    let full = lab.netd("connect net1 e").refused();
    assert!(full.contains("IP address") && full.contains("net1"), "{full}");
    lab.netd("connect net1 e --ip 10.1.0.5").ok();
}

fn not_tentative(lab: &Lab) {
    lab.start_daemon();
    for _ in 0..3 {
        lab.netd("network create net1 --ipv6").ok();
        lab.container("web");
        lab.netd("connect net1 web").ok();
        for (ns, dev) in [("web", "eth0"), ("host", "nd-net1")] {
            let link = &ip_json(ns, &format!("-6 address show dev {dev}"))[0];
            let all = link["addr_info"].as_array().unwrap();
            let global: Vec<_> = all.iter().filter(|address| address["scope"] == "global").collect();
            assert_eq!(global.len(), 1, "{link}");
            assert!(global[0]["tentative"].is_null() && global[0]["dadfailed"].is_null(), "{link}");
        }
        lab.netd("disconnect net1 web").ok();
        run("ip netns delete web").ok();
        lab.netd("network rm net1").ok();
    }
}

fn names(lab: &Lab) {
    lab.start_daemon();
    let long = "a-network-with-a-very-long-name";
    let longer = "a-network-with-a-very-long-name-2";
    for name in ["net1", long, longer] {
        lab.netd(&format!("network create {name}")).ok();
    }
    let bridges: Vec<String> =
        ["net1", long, longer].iter().map(|name| lab.network(name)["bridge"].as_str().unwrap().to_owned()).collect();
    assert_eq!(bridges[0], "nd-net1");
    assert_ne!(bridges[1], bridges[2]);
    let there = links("host");
    assert!(bridges.iter().all(|name| name.starts_with("nd-") && there.contains(name)), "{bridges:?} {there:?}");
    lab.netd("network create own -o com.docker.network.bridge.name=mybr0").ok();
    assert_eq!(lab.network("own")["bridge"], "mybr0");
    lab.connected("net1", "web", "");
    let host_ifname = lab.endpoint("net1", "web")["host_ifname"].as_str().unwrap().to_owned();
    assert!(host_ifname.contains("web") && links("host").contains(&host_ifname), "{host_ifname}");
    let master = ip_json("host", &format!("link show {host_ifname}"))[0]["master"].clone();
    assert_eq!(master, "nd-net1");
}

fn mtu(lab: &Lab) {
    run("ip -n host link set uplink mtu 1400").ok();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create small --mtu 1300").ok();
    lab.connected("net1", "web", "");
    lab.netd("connect small web").ok();
    let mtu = |ns: &str, dev: &str| ip_json(ns, &format!("link show {dev}"))[0]["mtu"].clone();
    assert_eq!((mtu("host", "nd-net1"), mtu("web", "eth0")), (1400.into(), 1400.into()));
    assert_eq!((mtu("host", "nd-small"), mtu("web", "eth1")), (1300.into(), 1300.into()));
    assert_eq!(lab.network("net1")["mtu"], 1400);
}

fn forwarding(lab: &Lab) {
    let now =
        || ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(|key| space::setting("host", key).unwrap());
    lab.start_daemon();
    lab.netd("network create hidden --internal --ipv6").ok();
    assert_eq!(now(), ["0", "0"], "an internal network needs none");
    lab.netd("network create net1").ok();
    assert_eq!(now(), ["1", "0"]);
    assert!(lab.log().contains("ip_forward"), "it is logged: {}", lab.log());
    lab.netd("network create net2 --ipv6").ok();
    assert_eq!(now(), ["1", "1"]);
}
