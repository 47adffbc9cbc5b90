//! Standard input: malformed configurations and invalid values.

use netd_testing::cni::{Daemon, conf};
use serde_json::{Value, json};

use crate::call;

const COMMANDS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

#[test]
fn every_command_refuses_input_that_is_not_a_configuration() {
    let daemon = Daemon::start();
    for command in COMMANDS {
        for (stdin, code, words) in [
            ("", 6, "it is empty"),
            (" \n", 6, "it is empty"),
            ("{", 6, "decode the network configuration"),
            ("[]", 6, "not a JSON object"),
            ("null", 6, "not a JSON object"),
            ("{\"name\":\"n\",\"cniVersion\":\"1.1.0\"} x", 6, "trailing"),
            ("{\"cniVersion\":\"1.1.0\"}", 7, "missing network name"),
            ("{\"cniVersion\":\"1.1.0\",\"name\":\"\"}", 7, "missing network name"),
            ("{\"cniVersion\":\"1.1.0\",\"name\":null}", 7, "missing network name"),
            ("{\"cniVersion\":\"1.1.0\",\"name\":\"a b\"}", 7, "\"name\": \"a b\""),
            ("{\"cniVersion\":\"1.1.0\",\"name\":7}", 7, "\"name\": 7"),
            ("{\"cniVersion\":\"1.1.0\",\"name\":\"n\",\"socket\":7}", 7, "\"socket\": 7"),
            ("{\"name\":\"n\"}", 1, "config is \"0.1.0\", plugin supports [\"0.3.0\", \"0.3.1\""),
            ("{\"cniVersion\":\"\",\"name\":\"n\"}", 1, "config is \"0.1.0\""),
            ("{\"cniVersion\":\"0.2.0\",\"name\":\"n\"}", 1, "config is \"0.2.0\""),
            ("{\"cniVersion\":\"9.9.9\",\"name\":\"n\"}", 1, "incompatible CNI versions"),
            ("{\"cniVersion\":\"1.1\",\"name\":\"n\"}", 1, "config is \"1.1\""),
            ("{\"cniVersion\":1.1,\"name\":\"n\"}", 6, "\"cniVersion\""),
        ] {
            let mut call = call(command, &Value::Null);
            call.stdin = stdin.into();
            // CHECK and GC check their additional keys first.
            if stdin.contains("socket") && ["CHECK", "GC"].contains(&command) {
                continue;
            }
            call.run().failed(code, words);
        }
    }
    assert_eq!(daemon.calls(), [""; 0]);
}

#[test]
fn an_invalid_value_is_named_with_its_key_and_not_sent() {
    let daemon = Daemon::start();
    for (keys, words) in [
        (json!({"network": "a b"}), "\"network\": \"a b\""),
        (json!({"network": 7}), "\"network\": 7"),
        (json!({"subnets": 7}), "\"subnets\": 7"),
        (json!({"subnets": [7]}), "\"subnets[0]\": 7"),
        (json!({"subnets": [{"gateway": "10.1.0.1"}]}), "\"subnets[0].subnet\""),
        (json!({"gateway": 7}), "\"gateway\": 7"),
        (json!({"gateway": [7]}), "\"gateway\": [7]"),
        (json!({"internal": "yes"}), "\"internal\": \"yes\""),
        (json!({"icc": 1}), "\"icc\": 1"),
        (json!({"ipMasq": "no"}), "\"ipMasq\": \"no\""),
        (json!({"ipv6": []}), "\"ipv6\": []"),
        (json!({"mtu": "1500"}), "\"mtu\": \"1500\""),
        (json!({"upstreams": ["9.9.9.9", "one.one"]}), "one.one"),
        (json!({"upstreams": {}}), "use a string or a list of strings"),
        (json!({"dnsListen": "host"}), "use auto, gateway or container"),
        (json!({"hostAccess": "some"}), "\"hostAccess\": \"some\""),
        (json!({"sticky": "maybe"}), "use true or false"),
        (json!({"mtu": -1}), "\"mtu\": -1"),
        (json!({"mtu": 5_000_000_000_u64}), "\"mtu\": 5000000000"),
        (json!({"aliases": "a"}), "\"aliases\": \"a\""),
        (json!({"aliases": [1]}), "\"aliases\": [1]"),
        (json!({"dns": []}), "\"dns\": []"),
        (json!({"dns": {"nameservers": ["x"]}}), "\"dns.nameservers\": [\"x\"]"),
        (json!({"dns": {"search": "x"}}), "\"dns.search\": \"x\""),
        (json!({"ipam": "host-local"}), "\"ipam\": \"host-local\""),
        (json!({"ipam": {"subnet": "10.1.0.0/16"}}), "\"ipam\": {\"subnet\""),
        (json!({"ipam": {"type": "../x"}}), "\"ipam.type\": \"../x\""),
        (json!({"prevResult": {}, "ipam": {"type": "static"}}), "both given"),
        (json!({"args": 7}), "\"args\": 7"),
        (json!({"args": {"cni": {"ips": 7}}}), "\"args.cni.ips\": 7"),
        (json!({"args": {"cni": {"mac": "x"}}}), "\"args.cni.mac\": \"x\""),
        (json!({"bandwidth": {"ingressRate": 8000}}), "\"bandwidth.ingressRate\": 8000: it needs ingressBurst"),
    ] {
        call("ADD", &conf(&daemon).with(keys)).run().failed(7, words);
    }
    assert_eq!(daemon.calls(), [""; 0]);
}

#[test]
fn an_invalid_value_of_a_runtime_is_named_with_its_key_and_not_sent() {
    let daemon = Daemon::start();
    let runtime = |value: Value| json!({"runtimeConfig": value});
    let port = |value: Value| json!({"runtimeConfig": {"portMappings": [value]}});
    for (keys, words) in [
        (runtime(json!([])), "\"runtimeConfig\": []"),
        (runtime(json!({"mac": "01:00:00:00:00:00"})), "\"runtimeConfig.mac\": \"01:00:00:00:00:00\""),
        (runtime(json!({"ips": [7]})), "\"runtimeConfig.ips\": [7]"),
        (runtime(json!({"aliases": 7})), "\"runtimeConfig.aliases\": 7"),
        (runtime(json!({"bandwidth": {"ingressRate": "8k"}})), "\"runtimeConfig.bandwidth.ingressRate\": \"8k\""),
        (runtime(json!({"bandwidth": {"egressRate": 8000}})), "it needs egressBurst"),
        (runtime(json!({"bandwidth": {"egressBurst": 8000}})), "it needs egressRate"),
        (runtime(json!({"dns": {"servers": ["x"]}})), "\"runtimeConfig.dns.servers\": [\"x\"]"),
        (runtime(json!({"ipRanges": [{"subnet": "10.1.0.0/16"}]})), "\"runtimeConfig.ipRanges[0]\""),
        (runtime(json!({"ipRanges": [[{}]]})), "\"runtimeConfig.ipRanges[0][0].subnet\""),
        (runtime(json!({"ipRanges": [[{"subnet": "10.1.0.5/16"}]]})), "host bits are set"),
        (runtime(json!({"ipRanges": [[{"subnet": "10.1.0.0/16", "rangeStart": "x"}]]})), "rangeStart\": \"x\""),
        (
            runtime(json!({"ipRanges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "10.2.0.0/16"}]]})),
            "\"runtimeConfig.ipRanges[1]\"",
        ),
        (runtime(json!({"ipRanges": [[{"subnet": "10.1.0.0/16"}, {"subnet": "fd00::/64"}]]})), "one address family"),
        (port(json!({"hostPort": 0, "containerPort": 80})), "\"runtimeConfig.portMappings[0].hostPort\": 0"),
        (port(json!({"hostPort": 80, "containerPort": 0})), "\"runtimeConfig.portMappings[0].containerPort\": 0"),
        (port(json!({"hostPort": 80})), "containerPort\": null"),
        (port(json!({"hostPort": 65536, "containerPort": 80})), "hostPort\": 65536"),
        (port(json!({"hostPort": "80", "containerPort": 80})), "hostPort\": \"80\""),
        (port(json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"})), "protocol\": \"icmp\""),
        (port(json!({"hostPort": 80, "containerPort": 80, "hostIP": "x"})), "hostIP\": \"x\""),
        (port(json!(7)), "\"runtimeConfig.portMappings[0]\": 7"),
    ] {
        call("ADD", &conf(&daemon).with(keys)).run().failed(7, words);
    }
    assert_eq!(daemon.calls(), [""; 0]);
}

#[test]
fn keys_that_would_be_ignored_are_refused() {
    let daemon = Daemon::start();
    for (keys, words) in [
        (json!({"internl": true}), "\"internl\": true"),
        (json!({"subnet": "10.1.0.0/16"}), "\"subnet\": \"10.1.0.0/16\""),
        (json!({"bridge": "cni0"}), "\"bridge\": \"cni0\""),
        (json!({"subnets": [{"subnet": "10.1.0.0/16", "range": "x"}]}), "\"subnets[0].range\": \"x\""),
        (json!({"dns": {"servers": []}}), "\"dns.servers\": []"),
        (json!({"bandwidth": {"ingress": 7}}), "\"bandwidth.ingress\": 7"),
    ] {
        let conf = conf(&daemon).with(keys);
        call("ADD", &conf).run().failed(2, &format!("unsupported field {words}"));
        assert_eq!(daemon.calls(), [""; 0]);
        // An error that prevents ADD must not prevent DEL.
        call("DEL", &conf).run().good();
        assert_eq!(daemon.calls(), ["DELETE /v1/attachments/dbnet/c1/eth0"]);
    }
    call("STATUS", &conf(&daemon).with(json!({"internl": true}))).run().failed(2, "internl");
    assert_eq!(daemon.calls(), [""; 0]);
}

#[test]
fn keys_of_the_protocol_and_of_other_programs_are_ignored() {
    let daemon = Daemon::start();
    let keys = json!({
        "cniVersions": ["1.0.0", "1.1.0"], "disableCheck": false, "disableGC": false, "loadOnlyInlinedPlugins": true,
        "capabilities": {"portMappings": true}, "cni.dev/attachments": [], "_comment": "x", "example.org/x": 1,
        "args": {"cni": {"labels": null, "sysctl": {}}, "org.example": 1}, "dns": null,
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {}, "mac": null}, "prevResult": null, "ipam": {}
    });
    call("ADD", &conf(&daemon).with(keys)).run().good();
    let plain = daemon.put();
    call("ADD", &conf(&daemon)).run().good();
    assert_eq!(plain, daemon.put());
}

#[test]
fn gc_requires_the_list_of_valid_attachments() {
    let daemon = Daemon::start();
    let key = "cni.dev/valid-attachments";
    for (keys, words) in [
        (json!({}), "missing \"cni.dev/valid-attachments\""),
        (json!({key: null}), "missing \"cni.dev/valid-attachments\""),
        (json!({key: "x"}), "\"cni.dev/valid-attachments\": \"x\""),
        (json!({key: [7]}), "\"cni.dev/valid-attachments[0]\": 7"),
        (json!({key: [{"ifname": "eth0"}]}), "containerID"),
        (json!({key: [{"containerID": "c1"}]}), "ifname"),
    ] {
        call("GC", &conf(&daemon).with(keys)).run().failed(7, words);
    }
    assert_eq!(daemon.calls(), [""; 0]);
}
