//! The request to the daemon: the settings of configuration, runtime and arguments, in order of precedence.

use netd_testing::cni::{Daemon, conf, netns};
use serde_json::{Value, json};

use crate::call;

/// The body of the PUT request for these keys and arguments.
fn put(daemon: &Daemon, keys: Value, arguments: &str) -> Value {
    call("ADD", &conf(daemon).with(keys)).set("CNI_ARGS", arguments).run().good();
    daemon.put()
}

#[test]
fn a_minimal_configuration_makes_a_minimal_request() {
    let daemon = Daemon::start();
    let network = json!({"name": "dbnet", "ipv6": false, "internal": false});
    let all = json!({"netns": netns(), "network": network, "interface": "made"});
    assert_eq!(put(&daemon, json!({}), ""), all);
}

#[test]
fn every_setting_is_in_the_request() {
    let daemon = Daemon::start();
    let keys = json!({
        "network": "net1", "subnets": ["10.1.0.0/16", {"subnet": "fd00:1::/64", "gateway": "fd00:1::9",
        "ipRange": "fd00:1::/80"}], "gateway": "10.1.0.9", "internal": true, "icc": "False", "ipMasq": false,
        "mtu": 1400, "ipv6": "true", "aliases": ["db"], "upstreams": ["9.9.9.9", "tls://1.1.1.1#one.one"],
        "dnsListen": "container", "hostAccess": "ports", "sticky": "true",
        "runtimeConfig": {
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "TCP"},
                {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
                {"hostPort": 90, "containerPort": 91, "hostIP": ""}
            ],
            "ips": ["10.1.0.7/16", "fd00:1::7"], "mac": "C2-11-22-33-44-55", "aliases": ["web", "www", "db"],
            "bandwidth": {"ingressRate": 8000, "ingressBurst": 16000, "egressRate": 0, "egressBurst": 0},
            "ipRanges": [[{"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.5", "rangeEnd": "10.1.0.9",
                           "gateway": "10.1.0.1"}, {"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]]
        }
    });
    let asked = put(&daemon, keys, "");
    let expected = json!({
        "netns": netns(),
        "network": {
            "name": "net1", "subnets": ["10.1.0.0/16", {"subnet": "fd00:1::/64", "gateway": "fd00:1::9",
            "ip_range": "fd00:1::/80"}], "gateways": ["10.1.0.9"], "ipv6": true, "internal": true, "icc": false,
            "masquerade": false, "mtu": 1400, "dns": ["9.9.9.9", "tls://1.1.1.1#one.one"], "host_access": "ports",
            "sticky": true, "options": {"dns.listen": "container"}
        },
        "name": "web", "aliases": ["www", "db"], "interface": "made",
        "addresses": [{"address": "10.1.0.7/16"}, {"address": "fd00:1::7"}],
        "ranges": [{"subnet": "10.1.0.0/16", "first": "10.1.0.5", "last": "10.1.0.9"}, {"subnet": "10.1.0.0/16"},
                   {"subnet": "fd00:1::/64"}],
        "mac": "c2:11:22:33:44:55",
        "ports": [
            {"host_port": 8080, "container_port": 80, "protocol": "tcp"},
            {"host_ip": "127.0.0.1", "host_port": 53, "container_port": 53, "protocol": "udp"},
            {"host_port": 90, "container_port": 91, "protocol": "tcp"}
        ],
        "bandwidth": {"ingress_rate": 8000, "ingress_burst": 16000}
    });
    assert_eq!(asked, expected);
}

#[test]
fn runtime_config_wins_over_args_over_cni_args_over_the_configuration() {
    let daemon = Daemon::start();
    let address = |text: &str| json!([{"address": text}]);
    let runtime = json!({"ips": ["10.1.0.1/16"], "mac": "02:00:00:00:00:01",
                         "bandwidth": {"ingressRate": 1000, "ingressBurst": 1000}});
    let args = json!({"cni": {"ips": ["10.1.0.2"], "mac": "02:00:00:00:00:02"}});
    let arguments = "IP=10.1.0.3/16,fd00::3;GATEWAY=10.1.0.9;MAC=02:00:00:00:00:03";
    let bandwidth = json!({"egressRate": 2000, "egressBurst": 2000});
    let all = json!({"runtimeConfig": runtime, "args": args, "bandwidth": bandwidth});
    let asked = put(&daemon, all, arguments);
    assert_eq!((&asked["addresses"], &asked["mac"]), (&address("10.1.0.1/16"), &json!("02:00:00:00:00:01")));
    assert_eq!(asked["bandwidth"], json!({"ingress_rate": 1000, "ingress_burst": 1000}));
    let asked = put(&daemon, json!({"args": args, "bandwidth": bandwidth, "runtimeConfig": {"ips": []}}), arguments);
    assert_eq!((&asked["addresses"], &asked["mac"]), (&address("10.1.0.2"), &json!("02:00:00:00:00:02")));
    assert_eq!(asked["bandwidth"], json!({"egress_rate": 2000, "egress_burst": 2000}));
    let asked = put(&daemon, json!({}), arguments);
    let both = json!([{"address": "10.1.0.3/16", "gateway": "10.1.0.9"}, {"address": "fd00::3"}]);
    assert_eq!((&asked["addresses"], &asked["mac"]), (&both, &json!("02:00:00:00:00:03")));
    let asked = put(&daemon, json!({}), "IP=;MAC=;K8S_POD_NAME=");
    assert_eq!((&asked["addresses"], &asked["mac"], &asked["name"]), (&Value::Null, &Value::Null, &Value::Null));
}

#[test]
fn a_container_is_named_by_its_pod_or_its_first_alias() {
    let daemon = Daemon::start();
    let names = |keys: Value, arguments: &str| {
        let asked = put(&daemon, keys, arguments);
        json!([asked["name"], asked["scope"], asked["aliases"]])
    };
    let aliases = json!({"aliases": ["db"], "args": {"cni": {"aliases": ["www"]}}});
    assert_eq!(names(aliases.clone(), ""), json!(["www", null, ["db"]]));
    let podman = "IgnoreUnknown=1;K8S_POD_NAME=web";
    assert_eq!(names(aliases.clone(), podman), json!(["web", null, ["www", "db"]]));
    let kubernetes = "K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=1;K8S_POD_UID=2";
    assert_eq!(names(json!({}), kubernetes), json!(["web", "prod", null]));
    // The scope comes from the pod.
    assert_eq!(names(aliases, "K8S_POD_NAMESPACE=prod"), json!(["www", null, ["db"]]));
    // Podman lists aliases by network.
    let per_network = json!({"runtimeConfig": {"aliases": {"dbnet": ["web", "4f5e"], "other": ["x"]}}});
    assert_eq!(names(per_network, ""), json!(["web", null, ["4f5e"]]));
    assert_eq!(names(json!({"runtimeConfig": {"aliases": {"other": ["x"]}}}), ""), json!([null, null, null]));
    // Not every DNS name can be a container's.
    assert_eq!(names(json!({"aliases": ["_x", "y"]}), ""), json!([null, null, ["_x", "y"]]));
}

#[test]
fn a_new_network_gets_the_subnets_of_the_ranges() {
    let daemon = Daemon::start();
    let ranges = json!([[{"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.9", "gateway": "10.1.0.1"},
                         {"subnet": "10.2.0.0/16", "gateway": "10.2.0.1"}],
                        [{"subnet": "fd00:1::/64", "gateway": "fd00:1::1"}]]);
    let network = put(&daemon, json!({"runtimeConfig": {"ipRanges": ranges}}), "")["network"].clone();
    assert_eq!(network["subnets"], json!(["10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64"]));
    assert_eq!(network["gateways"], json!(["10.1.0.1", "10.2.0.1", "fd00:1::1"]));
    let keys = json!({"subnets": "10.0.0.0/8", "runtimeConfig": {"ipRanges": ranges}});
    let network = put(&daemon, keys, "")["network"].clone();
    assert_eq!((&network["subnets"], &network["gateways"]), (&json!(["10.0.0.0/8"]), &Value::Null));
}

#[test]
fn dns_lists_netd_then_the_configuration_then_the_runtime() {
    let daemon = Daemon::start();
    let keys = json!({
        "dns": {"nameservers": ["9.9.9.9", "10.1.0.1"], "domain": "db.example", "search": ["db.example"],
                "options": ["ndots:5"]},
        "runtimeConfig": {"dns": {"servers": ["8.8.8.8", "9.9.9.9"], "searches": ["internal", "x.example"],
                                  "options": ["ndots:5", "edns0"]}}
    });
    let result = call("ADD", &conf(&daemon).version("1.0.0").with(keys)).run().good();
    let dns = json!({
        "nameservers": ["10.1.0.1", "9.9.9.9", "8.8.8.8"], "domain": "db.example",
        "search": ["internal", "corp.example", "db.example", "x.example"], "options": ["ndots:1", "ndots:5", "edns0"]
    });
    assert_eq!(result["dns"], dns);
}

#[test]
fn a_relative_netns_is_made_absolute_and_the_result_keeps_the_original() {
    let daemon = Daemon::start();
    let relative = format!("../..{}", netns());
    let mut call = call("ADD", &conf(&daemon).version("1.0.0"));
    call.set("CNI_NETNS", &relative);
    let mut command = call.command();
    command.current_dir("/usr/bin");
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &call.stdin).unwrap();
    let result: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(result["interfaces"][2]["sandbox"], json!(relative));
    let asked = daemon.put()["netns"].as_str().unwrap().to_owned();
    assert!(asked.starts_with('/') && asked.ends_with(netns()), "{asked}");
}

#[test]
fn egress_comes_from_the_configuration_its_args_and_the_annotations_of_a_pod() {
    let daemon = Daemon::start();
    let egress = |keys: Value| {
        let body = put(&daemon, keys, "");
        (body["egress"].clone(), body["egress_allow"].clone())
    };
    assert_eq!(egress(json!({})), (Value::Null, Value::Null));
    assert_eq!(egress(json!({"egress": "open"})).0, "open");
    let all = json!({
        "egress": "open",
        "args": {"egressAllow": "a.test:443, *.b.test", "cni": {"egressAllow": ["192.0.2.0/24"]}},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"netd.egress-allow": "c.test"}},
    });
    let allowed = json!(["a.test:443/tcp", "*.b.test", "192.0.2.0/24", "c.test"]);
    assert_eq!(egress(all), (json!("deny"), allowed));
    let pod = json!({"netd.egress": "open"});
    let both = json!({"egress": "deny", "runtimeConfig": {"io.kubernetes.cri.pod-annotations": pod}});
    assert_eq!(egress(both).0, "deny", "a pod does not open what its configuration denies");
    for keys in [json!({"egress": "shut"}), json!({"egressAllow": "a..b"}), json!({"egressAllow": {"a": 1}})] {
        call("ADD", &conf(&daemon).with(keys)).run().failed(7, "egress");
    }
}

#[test]
fn labels_come_from_the_configuration_its_args_and_the_annotations_of_a_pod() {
    let daemon = Daemon::start();
    let labels = |keys: Value| put(&daemon, keys, "")["labels"].clone();
    let convention = json!([{"key": "app", "value": "web"}, {"key": "tier"}]);
    assert_eq!(labels(json!({"args": {"cni": {"labels": convention}}})), json!({"app": "web", "tier": ""}));
    assert_eq!(labels(json!({"args": {"labels": {"app": "web", "tier": null}}})), json!({"app": "web"}));
    assert_eq!(labels(json!({"labels": {"app": "web"}})), json!({"app": "web"}));
    let all = json!({
        "labels": {"a": "conf", "b": "conf", "c": "conf", "d": "conf"},
        "args": {"labels": {"b": "args", "c": "args"}, "cni": {"labels": [{"Key": "c", "Value": "cni"}]}},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"netd.label": "d=pod, e=x=y", "other": "z"}},
    });
    assert_eq!(labels(all), json!({"a": "conf", "b": "args", "c": "cni", "d": "pod", "e": "x=y"}));
    for (keys, words) in [
        (json!({"labels": "app=web"}), "labels"),
        (json!({"labels": {"app": 7}}), "a string"),
        (json!({"args": {"cni": {"labels": [{"value": "x"}]}}}), "a label needs a key"),
        (json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"netd.label": "app"}}}), "LABEL=VALUE"),
    ] {
        call("ADD", &conf(&daemon).with(keys)).run().failed(7, words);
    }
}
