//! The usual commands of a runtime: ADD, CHECK, DEL, with every capability.

use std::fs;

use libtest_mimic::Trial;
use netd_testing::conf::Conf;
use netd_testing::wait::is;
use serde_json::json;

use super::traces;
use crate::lab::cni::call;
use crate::lab::look::{default_routes, links, same, without_revision};
use crate::lab::{Dig, HOST4, Lab, Proto, Server, addresses, ask, ip_json, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cni: ADD, CHECK and DEL", the_job),
        trial("cni: a repeated ADD changes nothing, and a repeated DEL succeeds", repeated),
        trial("cni: a foreign interface is an error that changes nothing", foreign_interface),
        trial("cni: DEL without a namespace path, and of a deleted namespace", no_namespace),
        trial("cni: ips, mac, aliases and dns from runtimeConfig, args and CNI_ARGS", capabilities),
        trial("cni: ranges of addresses", ranges),
        trial("cni: limits in both directions", limits),
        trial("cni: pods of two Kubernetes namespaces", scopes),
        trial("cni: two interfaces on one network", twice),
        trial("cni: an internal and a dual-stack network made on first use", first_use),
        trial("cni: the daemon does not run", away),
        trial("cni: ADD over a restart of the daemon", restarted),
    ]
}

fn ready(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.container("web");
    lab.container("client");
}

fn the_job(lab: &Lab) {
    ready(lab);
    let before = traces(lab);
    let capabilities = json!({"portMappings": true, "aliases": true});
    let of_web = |conf: Conf| conf.key("capabilities", capabilities.clone()).runtime("aliases", json!(["www"]));
    let web = |command| call(command, "web").port(4000, 80).conf(of_web);
    let result = web("ADD").run().ok();
    let client = call("ADD", "client").run().ok();
    let _server = Server::start("web", "web", 80);

    let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
    assert_eq!(addresses("web", "eth0"), [address.parse::<std::net::IpAddr>().unwrap()]);
    let inside = &result["interfaces"][result["ips"][0]["interface"].as_u64().unwrap() as usize];
    assert_eq!((&inside["name"], &inside["sandbox"]), (&json!("eth0"), &json!("/run/netns/web")));
    assert_eq!(ip_json("web", "link show eth0")[0]["address"], inside["mac"]);
    assert_eq!(ip_json("web", "link show eth0")[0]["mtu"], inside["mtu"]);
    let outside = result["interfaces"].as_array().unwrap().iter().filter(|i| i.get("sandbox").is_none());
    for interface in outside {
        let seen = ip_json("host", &format!("link show {}", interface["name"].as_str().unwrap()));
        assert!(interface.get("mac").is_none_or(|mac| *mac == seen[0]["address"]), "{interface}");
    }
    let gateway = result["ips"][0]["gateway"].as_str().unwrap().to_owned();
    assert_eq!(default_routes("web", 4), [(gateway.clone(), "eth0".to_owned())]);
    assert!(result["routes"].as_array().unwrap().contains(&json!({"dst": "0.0.0.0/0", "gw": gateway})), "{result}");
    assert_eq!(result["dns"]["nameservers"], json!([gateway]));
    assert_eq!((&result["dns"]["domain"], &result["dns"]["search"][0]), (&json!("internal"), &json!("internal")));

    for name in ["web", "www", "web.net1.internal"] {
        Dig::expect("client", &format!("@{gateway} {name}"), &[&address]);
    }
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("client", Proto::Udp, (&address, 80)).who, "web");
    web("CHECK").prev_result(&result).run().ok();

    web("DEL").prev_result(&result).run().ok();
    call("DEL", "client").prev_result(&client).run().ok();
    assert_eq!(traces(lab), before);
    assert_eq!(links("web"), ["lo"]);
}

fn repeated(lab: &Lab) {
    ready(lab);
    let before = traces(lab);
    let add = call("ADD", "web").port(4000, 80);
    let first = add.run().ok();
    let attached = traces(lab);
    assert_eq!(add.run().ok(), first);
    assert_eq!(traces(lab), attached);
    for _ in 0..2 {
        call("DEL", "web").run().ok();
        assert_eq!(traces(lab), before);
    }
}

fn foreign_interface(lab: &Lab) {
    ready(lab);
    run("ip -n web link add eth0 type veth peer name other").ok();
    let before = without_revision(&lab.everything());
    let add = call("ADD", "web").conf(|conf| conf.key("name", "new").port(4000, 80));
    let answer = add.run();
    assert_eq!(answer.code, Some(1), "{answer}");
    assert!(answer.json["msg"].as_str().unwrap().contains("eth0 already exists"), "{answer}");
    same(&before, &without_revision(&lab.everything()));
}

fn no_namespace(lab: &Lab) {
    ready(lab);
    let before = traces(lab);
    for path in ["", "/run/netns/web"] {
        lab.container("gone");
        call("ADD", "gone").port(4000, 80).run().ok();
        if path.is_empty() {
            // The namespace still exists; the runtime lost its path and passes none.
            call("DEL", "gone").netns("").run().ok();
        } else {
            run("ip netns delete gone").ok();
            call("DEL", "gone").run().ok();
        }
        assert_eq!(traces(lab), before);
        let _ = run("ip netns delete gone");
    }
    let message = call("ADD", "gone").run().error(3);
    assert!(message.contains("/run/netns/gone"), "{message}");
    let own = call("ADD", "web").netns("/run/netns/host").run().error(8);
    assert!(own.contains("/run/netns/host"), "{own}");
    assert_eq!(traces(lab), before);
}

fn capabilities(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.1.0.0/24").ok();
    let inline = json!({"args": {"cni": {"ips": ["10.1.0.20"], "mac": "02:00:00:00:00:20"}}, "aliases": ["always"],
        "dns": {"nameservers": ["192.0.2.53"], "search": ["corp.example"], "options": ["timeout:1"]}});
    let runtime = json!({"runtimeConfig": {"ips": ["10.1.0.10/24"], "mac": "02:00:00:00:00:10", "aliases": ["now"],
        "dns": {"servers": ["192.0.2.54"], "searches": ["lab.example"], "options": ["attempts:1"]}}});
    let variables = "IgnoreUnknown=1;IP=10.1.0.30;MAC=02:00:00:00:00:30;K8S_POD_NAME=named;OTHER=x";
    for (name, keys, args, address, mac) in [
        ("a", json!({}), variables, "10.1.0.30", "02:00:00:00:00:30"),
        ("b", inline.clone(), variables, "10.1.0.20", "02:00:00:00:00:20"),
        ("c", runtime.clone(), "", "10.1.0.10", "02:00:00:00:00:10"),
    ] {
        lab.container(name);
        let mut keys = keys;
        if name == "c" {
            keys.as_object_mut().unwrap().extend(inline.as_object().unwrap().clone());
        }
        let result = call("ADD", name).with(keys).args(args).run().ok();
        assert_eq!(addresses(name, "eth0"), [address.parse::<std::net::IpAddr>().unwrap()], "{result:#}");
        assert_eq!(ip_json(name, "link show eth0")[0]["address"], mac);
        if name == "c" {
            assert_eq!(result["dns"]["nameservers"], json!(["10.1.0.1", "192.0.2.53", "192.0.2.54"]));
            let search = result["dns"]["search"].as_array().unwrap();
            assert!(search.contains(&json!("corp.example")) && search.contains(&json!("lab.example")), "{search:?}");
            assert!(result["dns"]["options"].as_array().unwrap().contains(&json!("timeout:1")), "{result:#}");
            for alias in ["always", "now"] {
                Dig::expect(
                    "c",
                    &format!("@10.1.0.1 {alias}.net1"),
                    &["10.1.0.10", "10.1.0.20"][..if alias == "now" { 1 } else { 2 }],
                );
            }
        }
    }
    Dig::expect("c", "@10.1.0.1 named", &["10.1.0.20", "10.1.0.30"]);
    lab.container("d");
    let taken = call("ADD", "d").with(runtime).run();
    assert!(taken.json["msg"].as_str().unwrap().contains("10.1.0.10"), "{taken}");
    assert_eq!(links("d"), ["lo"]);
}

fn ranges(lab: &Lab) {
    lab.start_daemon();
    let range = json!({"runtimeConfig": {"ipRanges": [[
        {"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.50", "rangeEnd": "10.7.0.51", "gateway": "10.7.0.254"}]]}});
    for (name, address) in [("a", Some("10.7.0.50")), ("b", Some("10.7.0.51")), ("c", None)] {
        lab.container(name);
        let answer = call("ADD", name).with(range.clone()).run();
        match address {
            Some(address) => {
                assert_eq!(answer.ok()["ips"][0]["gateway"], "10.7.0.254");
                assert_eq!(addresses(name, "eth0"), [address.parse::<std::net::IpAddr>().unwrap()]);
            }
            None => assert!(answer.json["msg"].as_str().unwrap().contains("no free IP address"), "{answer}"),
        }
    }
}

fn limits(lab: &Lab) {
    ready(lab);
    let before = traces(lab);
    let limits = json!({"runtimeConfig": {"bandwidth": {
        "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 1_600_000}}});
    let result = call("ADD", "web").with(limits.clone()).run().ok();
    let host_end = lab.endpoint("net1", "web")["host_ifname"].as_str().unwrap().to_owned();
    let tbf = |device: &str| {
        let all = run(&format!("ip netns exec host tc -j qdisc show dev {device}")).ok().json();
        let tbf = all.as_array().unwrap().iter().find(|qdisc| qdisc["kind"] == "tbf").cloned();
        tbf.map(|qdisc| qdisc["options"]["rate"].clone())
    };
    // tc counts bytes per second.
    assert_eq!(tbf(&host_end), Some(json!(1_000_000)));
    let ifb = ip_json("host", "link show type ifb");
    let ifb = ifb[0]["ifname"].as_str().unwrap();
    assert_eq!(tbf(ifb), Some(json!(2_000_000)));
    let check = call("CHECK", "web").with(limits.clone()).prev_result(&result);
    check.run().ok();
    run(&format!("ip netns exec host tc qdisc del dev {host_end} root")).ok();
    let changed = check.run();
    let message = changed.json["msg"].as_str().unwrap_or_default();
    // netd may have repaired it before the check.
    assert!(changed.code == Some(0) || message.contains("limits"), "{changed}");
    let healed = (Some(0), Some(json!(1_000_000)));
    until("the limit is back", || is((check.run().code, tbf(&host_end)), &healed));
    call("DEL", "web").with(limits).run().ok();
    assert_eq!(traces(lab), before);
    let half = json!({"runtimeConfig": {"bandwidth": {"ingressRate": 8_000_000}}});
    let message = call("ADD", "web").with(half).run().error(7);
    assert!(message.contains("ingressBurst"), "{message}");
    assert_eq!(traces(lab), before);
}

fn scopes(lab: &Lab) {
    ready(lab);
    lab.container("c");
    let pod = |container: &str, name: &str, scope: &str| {
        let args =
            format!("K8S_POD_NAME={name};K8S_POD_NAMESPACE={scope};K8S_POD_INFRA_CONTAINER_ID=x;IgnoreUnknown=1");
        let result = call("ADD", container).args(&args).run().ok();
        result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
    };
    let prod = pod("web", "web", "prod");
    let test = pod("client", "web", "test");
    pod("c", "db", "prod");
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    Dig::expect("c", &format!("@{gateway} web"), &[&prod]);
    Dig::expect("c", &format!("@{gateway} web.test"), &[&test]);
    Dig::expect("client", &format!("@{gateway} web"), &[&test]);
    Dig::expect_none("client", &format!("@{gateway} db"), "NXDOMAIN");
}

fn twice(lab: &Lab) {
    ready(lab);
    let before = traces(lab);
    call("ADD", "web").run().ok();
    let one = traces(lab);
    call("ADD", "web").ifname("net0").run().ok();
    assert_eq!(links("web"), ["lo", "eth0", "net0"]);
    call("DEL", "web").ifname("net0").run().ok();
    assert_eq!(traces(lab), one);
    call("DEL", "web").run().ok();
    assert_eq!(traces(lab), before);
}

fn first_use(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    let inner = json!({"name": "inner", "internal": true, "subnets": ["10.3.0.0/24"], "mtu": 1400, "icc": false});
    let result = call("ADD", "web").with(inner).run().ok();
    assert_eq!(default_routes("web", 4), []);
    assert!(result.get("routes").is_none_or(|routes| routes == &json!([])), "{result:#}");
    let network = lab.network("inner");
    assert_eq!((&network["internal"], &network["icc"], &network["mtu"]), (&json!(true), &json!(false), &json!(1400)));
    let dual = json!({"name": "dual", "network": "both", "ipv6": true, "ipMasq": false});
    let result = call("ADD", "web").ifname("eth1").with(dual).run().ok();
    assert_eq!(result["ips"].as_array().unwrap().len(), 2);
    assert_eq!(addresses("web", "eth1").len(), 2);
    assert_eq!((default_routes("web", 4).len(), default_routes("web", 6).len()), (1, 1));
    assert_eq!(lab.network("both")["masquerade"], json!(false));
}

fn away(lab: &Lab) {
    lab.container("web");
    for command in ["ADD", "DEL"] {
        let message = call(command, "web").run().error(11);
        assert!(message.contains("/run/lab/netd.sock"), "{message}");
    }
    call("STATUS", "web").run().error(50);
    lab.start_daemon();
    call("STATUS", "web").run().ok();
    lab.netd("network create net1 --subnet 10.1.0.0/30").ok();
    call("STATUS", "web").run().ok();
    call("ADD", "web").run().ok();
    let full = call("STATUS", "web").run().error(50);
    assert!(full.contains("no free IP address"), "{full}");
}

fn restarted(lab: &Lab) {
    ready(lab);
    let before = traces(lab);
    let result = call("ADD", "web").run().ok();
    lab.kill_daemon();
    fs::remove_file("/run/lab/netd.sock").unwrap();
    lab.start_daemon();
    assert_eq!(call("ADD", "web").run().ok(), result);
    call("CHECK", "web").prev_result(&result).run().ok();
    lab.kill_daemon();
    run("ip netns delete web").ok();
    fs::remove_file("/run/lab/netd.sock").unwrap();
    lab.start_daemon();
    call("DEL", "web").run().ok();
    assert_eq!(traces(lab), before);
}
