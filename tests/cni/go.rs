//! The bytes that runtimes send, and Go's way to decode them: keys without regard to case, `null` as absent.

use netd_testing::cni::{Daemon, conf, netns};
use serde_json::{Value, json};

use crate::call;

/// The body of the PUT request for this input; its key `"socket": ""` is filled in.
fn put(daemon: &Daemon, stdin: &str, arguments: &str) -> Value {
    let mut call = call("ADD", &Value::Null);
    call.stdin = stdin.replace("\"socket\":\"\"", &format!("\"socket\":{:?}", daemon.socket())).into_bytes();
    call.set("CNI_ARGS", arguments).run().good();
    daemon.put()
}

/// containerd 1.6.20, taken from its CRI; 1.7 and 2.0 send the same structures (go-cni has no names for their fields),
/// 2.0 with `cgroupPath` in addition if the configuration declares it.
const CONTAINERD: &str = r#"{"capabilities":{"aliases":true,"bandwidth":true,"cgroupPath":true,"dns":true,"ipRanges":true,"ips":true,"mac":true,"portMappings":true},"cniVersion":"1.0.0","name":"pods","runtimeConfig":{"bandwidth":{"IngressRate":10000000,"IngressBurst":4294967295,"EgressRate":0,"EgressBurst":0},"dns":{"Servers":["9.9.9.9"],"Searches":["shop.example"],"Options":["ndots:5"]},"portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":""},{"HostPort":53,"ContainerPort":53,"Protocol":"udp","HostIP":"192.0.2.1"}]},"socket":"","type":"netd-cni"}"#;

#[test]
fn the_input_of_containerds_cri_is_accepted() {
    let daemon = Daemon::start();
    let arguments =
        "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=f6;K8S_POD_UID=u;IgnoreUnknown=1";
    let expected = json!({
        "netns": netns(), "network": {"name": "pods", "ipv6": false, "internal": false}, "interface": "made",
        "name": "web", "scope": "shop",
        "ports": [{"host_port": 8080, "container_port": 80, "protocol": "tcp"},
                  {"host_ip": "192.0.2.1", "host_port": 53, "container_port": 53, "protocol": "udp"}],
        "bandwidth": {"ingress_rate": 10_000_000, "ingress_burst": 4_294_967_295_u64}
    });
    assert_eq!(put(&daemon, CONTAINERD, arguments), expected);
    let newer = CONTAINERD.replace("\"runtimeConfig\":{", "\"runtimeConfig\":{\"cgroupPath\":\"/kubepods/pod1\",");
    assert_eq!(put(&daemon, &newer, arguments), expected);
    let ranges =
        r#""ipRanges":[[{"Subnet":"10.1.0.0/16","RangeStart":"10.1.0.5","RangeEnd":"","Gateway":"10.1.0.1"}]],"#;
    let with_ranges = CONTAINERD.replace("\"portMappings\":[", &format!("{ranges}\"portMappings\":["));
    let asked = put(&daemon, &with_ranges, arguments);
    assert_eq!(asked["ranges"], json!([{"subnet": "10.1.0.0/16", "first": "10.1.0.5"}]));
    assert_eq!(asked["network"]["gateways"], json!(["10.1.0.1"]));
}

#[test]
fn the_name_servers_of_containerds_cri_are_in_the_result() {
    let daemon = Daemon::start();
    let mut call = call("ADD", &Value::Null);
    call.stdin = CONTAINERD.replace("\"socket\":\"\"", &format!("\"socket\":{:?}", daemon.socket())).into_bytes();
    let dns = call.run().good()["dns"].clone();
    assert_eq!(dns["nameservers"], json!(["10.1.0.1", "9.9.9.9"]));
    assert_eq!(dns["search"], json!(["internal", "corp.example", "shop.example"]));
    assert_eq!(dns["options"], json!(["ndots:1", "ndots:5"]));
}

/// CRI-O (ocicni, `buildCNIRuntimeConf`).
#[test]
fn the_input_of_crio_is_accepted() {
    let daemon = Daemon::start();
    let stdin = r#"{"cniVersion":"1.0.0","name":"pods","runtimeConfig":{"aliases":{"pods":["db"]},"bandwidth":{"egressBurst":4294967295,"egressRate":8000000,"ingressBurst":0,"ingressRate":0},"cgroupPath":"/kubepods.slice/pod1","io.kubernetes.cri.pod-annotations":{"a":"b"},"ipRanges":[[{"subnet":"10.1.0.0/16"}]],"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":""}]},"socket":"","type":"netd-cni"}"#;
    let arguments =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=f6;K8S_POD_UID=u";
    let asked = put(&daemon, stdin, &format!("{arguments};IP=10.1.0.7;MAC=02:00:00:00:00:07"));
    let expected = json!({
        "netns": netns(), "interface": "made", "name": "web", "scope": "shop", "aliases": ["db"],
        "network": {"name": "pods", "subnets": ["10.1.0.0/16"], "ipv6": false, "internal": false},
        "addresses": [{"address": "10.1.0.7"}], "ranges": [{"subnet": "10.1.0.0/16"}], "mac": "02:00:00:00:00:07",
        "ports": [{"host_port": 8080, "container_port": 80, "protocol": "tcp"}],
        "bandwidth": {"egress_rate": 8_000_000, "egress_burst": 4_294_967_295_u64}
    });
    assert_eq!(asked, expected);
}

/// The body of the PUT request for a configuration with these keys.
fn asked(daemon: &Daemon, keys: Value) -> Value {
    call("ADD", &conf(daemon).with(keys)).run().good();
    daemon.put()
}

#[test]
fn keys_have_no_case_and_the_exact_one_counts() {
    let daemon = Daemon::start();
    let plain = asked(
        &daemon,
        json!({"network": "net1", "subnets": "10.1.0.0/16", "internal": true, "icc": false, "ipMasq": false,
               "aliases": ["db"], "bandwidth": {"egressRate": 8000, "egressBurst": 8000},
               "args": {"cni": {"ips": ["10.1.0.7"], "mac": "02:00:00:00:00:07"}}}),
    );
    let shouted = asked(
        &daemon,
        json!({"NETWORK": "net1", "Subnets": [{"Subnet": "10.1.0.0/16"}], "INTERNAL": "TRUE", "Icc": false, "IPMASQ": false,
               "Aliases": ["db"], "BandWidth": {"EGRESSRATE": 8000, "egressburst": 8000},
               "Args": {"CNI": {"IPs": ["10.1.0.7"], "MAC": "02:00:00:00:00:07"}}}),
    );
    let mut expected = plain;
    expected["network"]["subnets"] = json!([{"subnet": "10.1.0.0/16"}]);
    assert_eq!(shouted, expected);
    // The long s and the Kelvin sign are Go's letters s and k.
    let odd = asked(&daemon, json!({"networ\u{212a}": "net1", "alia\u{17f}es": ["db"]}));
    assert_eq!((&odd["network"]["name"], &odd["name"]), (&json!("net1"), &json!("db")));
    let both = asked(&daemon, json!({"Network": "no", "network": "net1", "NETWORK": "no", "mtu": null, "MTU": 1400}));
    assert_eq!((&both["network"]["name"], &both["network"]["mtu"]), (&json!("net1"), &json!(1400)));
    // The name of a network is not a key of netd.
    let named = json!({"runtimeConfig": {"aliases": {"DBNET": ["no"], "dbnet": ["yes"]}}});
    assert_eq!(asked(&daemon, named)["name"], "yes");
}

#[test]
fn a_misspelt_key_of_the_configuration_is_refused_in_any_case() {
    let daemon = Daemon::start();
    let misspelt = conf(&daemon).key("Internl", true);
    call("ADD", &misspelt).run().failed(2, "unsupported field \"Internl\": true");
    let wrong = conf(&daemon).with(json!({"runtimeConfig": {"PortMappings": [{"HostPort": "80"}]}}));
    call("ADD", &wrong).run().failed(7, "\"runtimeConfig.PortMappings[0].HostPort\": \"80\"");
    assert_eq!(daemon.calls(), [""; 0]);
}

#[test]
fn null_counts_as_absent_everywhere() {
    let daemon = Daemon::start();
    let nulls = json!({
        "network": null, "subnets": null, "aliases": [null], "dns": {"nameservers": null}, "args": {"cni": null},
        "runtimeConfig": {
            "portMappings": [null], "ips": [null], "mac": null, "aliases": {"dbnet": null}, "ipRanges": [null, [null]],
            "bandwidth": {"IngressRate": null}, "dns": {"Servers": null, "Searches": [null]}
        }
    });
    assert_eq!(asked(&daemon, nulls), asked(&daemon, json!({})));
}

#[test]
fn unknown_keys_of_a_runtime_are_ignored_with_a_message() {
    let daemon = Daemon::start();
    let keys = json!({
        "args": {"cni": {"sysctl": []}, "more": 1},
        "runtimeConfig": {
            "infinibandGUID": "x", "portMappings": [{"HostPort": 80, "ContainerPort": 80, "HostInterface": "eth0"}],
            "bandwidth": {"ingress": 7}, "dns": {"domain": "x"}, "ipRanges": [[{"subnet": "10.1.0.0/16", "vlan": 7}]],
            "io.kubernetes.cri.pod-annotations": {}
        }
    });
    let answer = call("ADD", &conf(&daemon).with(keys)).run();
    let line = "netd-cni: ignored unknown keys: args.more, args.cni.sysctl, runtimeConfig.infinibandGUID, \
                runtimeConfig.portMappings[0].HostInterface, runtimeConfig.bandwidth.ingress, \
                runtimeConfig.dns.domain, runtimeConfig.ipRanges[0][0].vlan\n";
    assert_eq!((answer.code, answer.stderr.as_str()), (0, line));
    let plain = json!({"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}],
                                         "ipRanges": [[{"subnet": "10.1.0.0/16"}]]}});
    let put = daemon.put();
    assert_eq!(put, asked(&daemon, plain));
}

/// Another plugin's result, as a program in another language may write it.
#[test]
fn a_previous_result_and_an_error_are_read_in_any_case() {
    let daemon = Daemon::start();
    let previous = json!({
        "CNIVersion": "1.0.0", "Interfaces": [{"Name": "eth0", "Sandbox": netns(), "MAC": "02:00:00:00:00:07"}],
        "IPs": [{"Address": "10.1.0.5/16", "Gateway": "10.1.0.1", "Interface": 0, "Version": "4"}],
        "DNS": {"Nameservers": ["7.7.7.7"]}, "more": 1
    });
    let chained = conf(&daemon).version("1.0.0").key("PrevResult", previous);
    let result = call("ADD", &chained).run().good();
    assert_eq!(daemon.put()["addresses"], json!([{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}]));
    let mut keys: Vec<&String> = result.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["cniVersion", "dns", "interfaces", "ips", "more"], "{result}");
    assert_eq!((&result["dns"]["nameservers"], &result["more"]), (&json!(["10.1.0.1", "7.7.7.7"]), &json!(1)));
    assert_eq!(result["ips"][0]["Version"], Value::Null, "{result}");
    let valid = json!({"CNI.dev/valid-attachments": [{"ContainerID": "c1", "IfName": "eth0"}]});
    call("GC", &conf(&daemon).with(valid)).run().good();
    assert_eq!(daemon.asked()[0].body, json!({"valid": [{"container": "c1", "ifname": "eth0"}]}));
}
