//! netd after another interface plugin.

use netd_testing::cni::{Daemon, conf, netns};
use serde_json::{Value, json};

use crate::call;

/// The result of the `bridge` plugin in the spec's example, with unknown fields.
fn previous(version: &str) -> Value {
    json!({
        "cniVersion": version, "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2, "x": 1}],
        "routes": [{"dst": "0.0.0.0/0"}], "y": {"z": 1},
        "interfaces": [{"name": "cni0", "mac": "00:11:22:33:44:55"}, {"name": "veth3243", "mac": "55:44:33:22:11:11"},
                       {"name": "eth0", "mac": "99:88:77:66:55:44", "sandbox": netns(), "w": 1}],
        "dns": {"nameservers": ["10.1.0.1", "7.7.7.7"], "domain": "prev.example"}
    })
}

#[test]
fn an_adopted_interface_is_passed_to_the_daemon_and_its_result_passed_on() {
    let daemon = Daemon::start();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut keys = json!({
            "prevResult": previous(version), "aliases": ["web"], "dns": {"nameservers": ["9.9.9.9"]},
            "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}], "mac": "02:00:00:00:00:01",
                              "dns": {"servers": ["8.8.8.8"]}}
        });
        if version < "1.0.0" {
            keys["prevResult"]["ips"][0]["version"] = json!("4");
        }
        let result = call("ADD", &conf(&daemon).version(version).with(keys.clone())).run().good();
        let mut expected = keys["prevResult"].clone();
        expected["dns"] = json!({"nameservers": ["10.1.0.1", "9.9.9.9", "7.7.7.7", "8.8.8.8"], "domain": "internal",
                                 "search": ["internal", "corp.example", "prev.example"], "options": ["ndots:1"]});
        assert_eq!(result, expected, "{version}");
        let asked = daemon.put();
        assert_eq!((&asked["interface"], &asked["name"]), (&json!("found"), &json!("web")));
        assert_eq!(asked["addresses"], json!([{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}]));
        assert_eq!((&asked["mac"], asked["ports"].as_array().unwrap().len()), (&Value::Null, 1));
    }
}

#[test]
fn the_result_has_the_configurations_version() {
    let daemon = Daemon::start();
    let mut newer = previous("1.1.0");
    newer["interfaces"][2]["mtu"] = json!(1500);
    newer["routes"][0]["priority"] = json!(7);
    let older = |version: &str| {
        let keys = json!({"prevResult": newer});
        call("ADD", &conf(&daemon).version(version).with(keys)).run().good()
    };
    let result = older("0.4.0");
    assert_eq!((&result["cniVersion"], &result["ips"][0]["version"]), (&json!("0.4.0"), &json!("4")));
    assert_eq!((&result["interfaces"][2]["mtu"], &result["routes"][0]), (&Value::Null, &json!({"dst": "0.0.0.0/0"})));
    let result = older("1.1.0");
    assert_eq!((&result["interfaces"][2]["mtu"], &result["routes"][0]["priority"]), (&json!(1500), &json!(7)));
    let mut old = previous("0.4.0");
    old["ips"][0]["version"] = json!("4");
    let result = call("ADD", &conf(&daemon).version("1.0.0").prev_result(&old)).run().good();
    assert_eq!((&result["cniVersion"], &result["ips"][0]["version"]), (&json!("1.0.0"), &Value::Null));
}

#[test]
fn a_previous_result_without_the_interface_is_refused() {
    let daemon = Daemon::start();
    for (pointer, value, words) in [
        ("/interfaces/2/name", json!("eth1"), "no interface \"eth0\" with a sandbox"),
        ("/interfaces/2/sandbox", json!(""), "no interface \"eth0\" with a sandbox"),
        ("/interfaces", json!({}), "\"prevResult.interfaces\": {}"),
        ("/ips", json!([]), "no address of interface \"eth0\""),
        ("/ips/0/interface", json!(1), "no address of interface \"eth0\""),
        ("/ips/0/address", Value::Null, "\"prevResult.ips[0].address\""),
        ("/ips/0/gateway", json!("x"), "\"prevResult.ips[0].gateway\": \"x\""),
        ("/dns", json!([]), "\"prevResult.dns\": []"),
    ] {
        let mut previous = previous("1.0.0");
        *previous.pointer_mut(pointer).unwrap() = value;
        let conf = conf(&daemon).version("1.0.0").prev_result(&previous);
        call("ADD", &conf).run().failed(7, words);
        // An error that prevents ADD must not prevent DEL.
        call("DEL", &conf).run().good();
        assert_eq!(daemon.calls(), ["DELETE /v1/attachments/dbnet/c1/eth0"]);
    }
    let conf = conf(&daemon).version("1.0.0").with(json!({"prevResult": []}));
    call("ADD", &conf).run().failed(7, "\"prevResult\": []");
}

#[test]
fn check_passes_on_the_mac_address_and_mtu_set_by_later_plugins() {
    let daemon = Daemon::start();
    let mut tuned = previous("1.1.0");
    tuned["interfaces"][2]["mac"] = json!("02:00:00:00:00:99");
    tuned["interfaces"][2]["mtu"] = json!(1400);
    call("CHECK", &conf(&daemon).prev_result(&tuned)).run().good();
    let asked = daemon.asked().remove(0).body;
    assert_eq!((&asked["mac"], &asked["mtu"]), (&json!("02:00:00:00:00:99"), &json!(1400)));
    let keys = json!({"prevResult": previous("0.4.0")});
    call("CHECK", &conf(&daemon).version("0.4.0").with(keys)).run().good();
    assert_eq!(daemon.asked().remove(0).body["mtu"], Value::Null, "an unknown value is not compared");
}
