//! Replies of the daemon as CNI error codes; and calls without a daemon.

use netd_testing::cni::{Daemon, conf, netns, script, status};
use serde_json::{Value, json};

use crate::call;

/// The result of an earlier ADD.
fn previous() -> Value {
    json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": netns()}],
           "ips": [{"address": "10.1.0.5/16", "interface": 0}]})
}

fn keys() -> Value {
    json!({"prevResult": previous(), "cni.dev/valid-attachments": []})
}

#[test]
fn each_error_code_of_the_daemon_has_its_cni_code() {
    for (status, code, [add, del, check, gc]) in [
        (400, "invalid", [7, 7, 7, 7]),
        (404, "not_found", [3, 999, 102, 999]),
        (409, "conflict", [100, 100, 100, 100]),
        (409, "exhausted", [101, 101, 101, 101]),
        (409, "changed", [102, 102, 102, 102]),
        (503, "unavailable", [11, 11, 11, 11]),
        (500, "kernel", [103, 103, 103, 103]),
        (500, "failed", [999, 999, 999, 999]),
        (405, "method_not_allowed", [999, 999, 999, 999]),
    ] {
        let daemon = Daemon::start();
        daemon.refuses("", status, code);
        let words = format!("the daemon says {code}");
        call("ADD", &conf(&daemon)).run().failed(add, &words);
        let conf = conf(&daemon).with(keys());
        for (command, code) in [("DEL", del), ("CHECK", check), ("GC", gc), ("STATUS", 50)] {
            call(command, &conf).run().failed(code, &words);
        }
    }
}

#[test]
fn without_a_daemon_the_error_is_try_again() {
    let daemon = Daemon::start();
    std::fs::rename(daemon.socket(), daemon.folder.path().join("away")).unwrap();
    for (command, code) in [("ADD", 11), ("DEL", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)] {
        let mut keys = keys();
        if command == "ADD" {
            keys = json!({});
        }
        let answer = call(command, &conf(&daemon).with(keys)).run();
        answer.failed(code, &format!("cannot reach netd at {}", daemon.socket().display()));
        answer.failed(code, "systemctl status netd");
    }
    std::fs::rename(daemon.folder.path().join("away"), daemon.socket()).unwrap();
}

#[test]
fn check_compares_the_addresses_of_its_own_interface() {
    let daemon = Daemon::start();
    let mut keys = keys();
    keys["prevResult"]["interfaces"] = json!([{"name": "eth0"}, {"name": "eth0", "sandbox": netns()}, {"name": "eth1",
                                               "sandbox": netns()}]);
    keys["prevResult"]["ips"] = json!([{"address": "10.1.0.5/16", "interface": 1}, {"address": "10.2.0.5/16",
                                        "interface": 2}, {"address": "fd00:1::5/64"}]);
    assert!(call("CHECK", &conf(&daemon).version("0.4.0").with(keys.clone())).run().good().is_null());
    let asked = daemon.asked();
    assert_eq!(asked[0].path, "/v1/attachments/dbnet/c1/eth0/check");
    assert_eq!(asked[0].body, json!({"netns": netns(), "addresses": ["10.1.0.5/16", "fd00:1::5/64"]}));
    call("CHECK", &conf(&daemon)).run().failed(7, "missing \"prevResult\"");
    keys["prevResult"]["interfaces"] = json!([{"name": "eth0"}]);
    let conf = conf(&daemon).with(keys);
    call("CHECK", &conf).run().failed(7, "no interface \"eth0\" with a sandbox");
    assert_eq!(daemon.calls(), [""; 0]);
}

#[test]
fn deleting_twice_is_fine() {
    let daemon = Daemon::start();
    for _ in 0..2 {
        let answer = call("DEL", &conf(&daemon).with(keys())).run();
        assert_eq!((answer.code, answer.json, answer.stderr.as_str()), (0, Value::Null, ""));
        assert_eq!(daemon.calls(), ["DELETE /v1/attachments/dbnet/c1/eth0"]);
    }
}

#[test]
fn gc_passes_on_the_valid_attachments() {
    let daemon = Daemon::start();
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "net1", "more": 1}]);
    let stay = json!({"valid": [{"container": "c1", "ifname": "eth0"}, {"container": "c2", "ifname": "net1"}]});
    for keys in [
        json!({"cni.dev/valid-attachments": valid}),
        // libcni's spelling is used only if the spec's is absent.
        json!({"cni.dev/attachments": valid}),
        json!({"cni.dev/valid-attachments": valid, "cni.dev/attachments": []}),
    ] {
        assert!(call("GC", &conf(&daemon).with(keys)).run().good().is_null());
        let asked = daemon.asked();
        assert_eq!((asked[0].path.as_str(), &asked[0].body), ("/v1/attachments/dbnet/gc", &stay));
    }
}

#[test]
fn status_covers_the_daemon_and_the_network() {
    let daemon = Daemon::start();
    let conf = conf(&daemon).with(json!({"network": "net1"}));
    assert!(call("STATUS", &conf).run().good().is_null());
    assert_eq!(daemon.calls(), ["GET /v1/status", "GET /v1/networks/net1/room"]);
    daemon.refuses("GET /v1/networks", 404, "not_found");
    call("STATUS", &conf).run().good();
    daemon.refuses("GET /v1/networks", 409, "exhausted");
    call("STATUS", &conf).run().failed(50, "the daemon says exhausted");
    daemon.answers("GET /v1/status", 200, status(false, &[]));
    call("STATUS", &conf).run().failed(50, "not finished the repair at its start");
    daemon.answers("GET /v1/status", 200, status(false, &["bridge nd-net1 is gone"]));
    call("STATUS", &conf).run().failed(51, "bridge nd-net1 is gone");
    daemon.answers("GET /v1/networks", 204, Value::Null);
    daemon.answers("GET /v1/status", 200, status(true, &["port 80 is taken"]));
    call("STATUS", &conf).run().good();
}

#[test]
fn skipped_ports_are_reported_on_standard_error() {
    let daemon = Daemon::start();
    let mut answer = netd_testing::cni::attachment("/eth0", &json!({"netns": netns(), "network": {"name": "back"}}));
    answer["endpoint"]["skipped_ports"] = json!([{"host_ip": null, "host_port": 8080, "container_port": 80,
                                                  "protocol": "tcp", "why": "it is internal"}]);
    daemon.answers("PUT", 200, answer);
    script(daemon.folder.path(), "host-local", r#"echo '{"ips":[{"address":"10.1.0.5/16"}]}'"#);
    let line = "netd-cni: port *:8080->80/tcp is not published on network back: it is internal\n";
    let ipam = json!({"ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}});
    for keys in [json!({}), json!({"prevResult": previous()}), ipam] {
        let mut call = call("ADD", &conf(&daemon).with(keys.clone()));
        let answer = call.set("CNI_PATH", daemon.folder.path().to_str().unwrap()).run();
        assert_eq!((answer.code, answer.stderr.as_str()), (0, line), "{keys}");
    }
}

#[test]
fn a_malformed_reply_of_the_daemon_is_an_error() {
    let daemon = Daemon::start();
    daemon.answers("PUT", 200, json!({"endpoint": 7}));
    call("ADD", &conf(&daemon)).run().failed(11, "no reply from the daemon");
}
