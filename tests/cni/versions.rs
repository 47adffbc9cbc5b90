//! Each version of the spec: which commands it has and what its results look like.

use std::process::Stdio;

use netd_testing::cni::{Daemon, conf, netns};
use serde_json::{Value, json};

use crate::call;

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn version_ignores_standard_input() {
    let supported = json!(VERSIONS);
    for (stdin, version) in [
        ("", "1.1.0"),
        ("x", "1.1.0"),
        ("{}", "1.1.0"),
        ("{\"cniVersion\":\"0.4.0\"}", "0.4.0"),
        ("{\"cniVersion\":\"1.1.0\"}", "1.1.0"),
    ] {
        let mut call = call("VERSION", &Value::Null);
        call.stdin = stdin.into();
        assert_eq!(call.run().good(), json!({"cniVersion": version, "supportedVersions": supported}));
    }
}

#[test]
fn each_version_has_its_commands() {
    let daemon = Daemon::start();
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let conf = conf(&daemon).version(version).valid(&[]);
        let result = call("ADD", &conf).run().good();
        assert_eq!(result["cniVersion"], version);
        let checked = conf.clone().prev_result(&result);
        assert!(call("DEL", &checked).run().good().is_null());
        for (command, conf, since) in [("CHECK", &checked, 2), ("GC", &conf, 4), ("STATUS", &conf, 4)] {
            daemon.asked();
            let answer = call(command, conf).run();
            if number >= since {
                assert!(answer.good().is_null());
                assert_ne!(daemon.calls(), [""; 0]);
            } else {
                answer.failed(1, &format!("config version does not allow {command}"));
                assert_eq!(answer.json["cniVersion"], version);
                assert_eq!(daemon.calls(), [""; 0]);
            }
        }
    }
}

/// The interfaces, addresses and routes of the spec's own example, and a second family.
fn expected(version: &str) -> Value {
    let (families, details) = (version < "1.0.0", version >= "1.1.0");
    let mut result = json!({
        "cniVersion": version,
        "interfaces": [
            {"name": "nd-dbnet"},
            {"name": "veth3243", "mac": "56:44:33:22:11:11"},
            {"name": "eth0", "mac": "99:88:77:66:55:44", "sandbox": netns()}
        ],
        "ips": [
            {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2},
            {"address": "fd00:1::5/64", "gateway": "fd00:1::1", "interface": 2}
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0", "gw": "fd00:1::1"}],
        "dns": {"nameservers": ["10.1.0.1"], "domain": "internal", "search": ["internal", "corp.example"],
                "options": ["ndots:1"]}
    });
    if families {
        (result["ips"][0]["version"], result["ips"][1]["version"]) = (json!("4"), json!("6"));
    }
    if details {
        (result["interfaces"][1]["mtu"], result["interfaces"][2]["mtu"]) = (json!(1450), json!(1450));
    }
    result
}

#[test]
fn each_version_has_its_result() {
    let daemon = Daemon::start();
    for version in VERSIONS {
        let result = call("ADD", &conf(&daemon).version(version)).run().good();
        assert_eq!(result, expected(version), "{version}");
        assert_eq!(daemon.calls(), ["PUT /v1/attachments/dbnet/c1/eth0"]);
    }
}

#[test]
fn routes_have_more_fields_since_1_1_0() {
    let daemon = Daemon::start();
    let more = json!({"destination": "10.9.0.0/16", "gateway": "10.1.0.9", "mtu": 1400, "advmss": 1360, "priority": 7,
                      "table": 100, "scope": 0});
    let mut answer = netd_testing::cni::attachment("/eth0", &json!({"netns": netns(), "network": {"name": "dbnet"}}));
    answer["routes"] = json!([more]);
    daemon.answers("PUT", 200, answer);
    for version in VERSIONS {
        let mut route = json!({"dst": "10.9.0.0/16", "gw": "10.1.0.9"});
        if version == "1.1.0" {
            route = json!({"dst": "10.9.0.0/16", "gw": "10.1.0.9", "mtu": 1400, "advmss": 1360, "priority": 7,
                           "table": 100, "scope": 0});
        }
        let result = call("ADD", &conf(&daemon).version(version)).run().good();
        assert_eq!(result["routes"], json!([route]), "{version}");
    }
}

#[test]
fn an_internal_network_has_no_gateway() {
    let daemon = Daemon::start();
    let mut answer = netd_testing::cni::attachment("/eth0", &json!({"netns": netns(), "network": {"name": "dbnet"}}));
    (answer["routes"], answer["endpoint"]["gateways"]) = (json!([]), json!([]));
    daemon.answers("PUT", 200, answer);
    let result = call("ADD", &conf(&daemon).version("1.0.0").with(json!({"internal": "true"}))).run().good();
    assert_eq!(daemon.put()["network"]["internal"], true);
    assert_eq!(result["ips"][0], json!({"address": "10.1.0.5/16", "interface": 2}));
    assert_eq!(result["routes"], json!([]));
}

#[test]
fn a_closed_output_is_no_panic() {
    for command in ["VERSION", ""] {
        let mut call = call("VERSION", &Value::Null);
        call.set("CNI_COMMAND", command);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut process = call.command();
        process.stdin(Stdio::null());
        let output = if command.is_empty() { process.stderr(writer) } else { process.stdout(writer) };
        let output = output.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!([0, 1].contains(&output.status.code().unwrap()), "{output:?}");
    }
}
