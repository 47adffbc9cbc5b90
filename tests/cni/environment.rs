//! Environment variables: required ones, valid values, and errors for missing ones.

use netd_testing::cni::{Daemon, conf};
use serde_json::json;

use crate::call;

#[test]
fn every_missing_variable_is_named() {
    let daemon = Daemon::start();
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    for (command, needed) in [("ADD", &all[..]), ("CHECK", &all), ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"])] {
        let conf = conf(&daemon);
        for set in 1..(1 << needed.len()) {
            let mut call = call(command, &conf);
            let missing = |(index, _): &(usize, &&str)| set & (1 << index) != 0;
            let missing: Vec<&str> = needed.iter().enumerate().filter(missing).map(|(_, name)| *name).collect();
            for (index, name) in missing.iter().enumerate() {
                // An empty variable counts as missing.
                if index == 0 {
                    call.set(name, "")
                } else {
                    call.unset(name)
                };
            }
            call.run().failed(4, &format!("required env variables [{}] missing", missing.join(",")));
        }
    }
    assert_eq!(daemon.calls(), [""; 0]);
}

#[test]
fn malformed_variables_are_named_with_their_value() {
    let daemon = Daemon::start();
    let conf = conf(&daemon);
    for command in ["ADD", "CHECK", "DEL"] {
        for (name, value) in [
            ("CNI_CONTAINERID", "../x"),
            ("CNI_CONTAINERID", "-x"),
            ("CNI_CONTAINERID", "a b"),
            ("CNI_IFNAME", "0123456789abcdef"),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "a:b"),
            ("CNI_IFNAME", "a b"),
        ] {
            call(command, &conf).set(name, value).run().failed(4, &format!("invalid {name} {value:?}"));
        }
    }
    for command in ["add", "ADDED", "INIT"] {
        call(command, &conf).run().failed(4, &format!("unknown CNI_COMMAND: {command}"));
    }
    assert_eq!(daemon.calls(), [""; 0]);
}

#[test]
fn variables_that_are_not_utf_8_are_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let daemon = Daemon::start();
    let call = call("ADD", &conf(&daemon));
    let mut command = call.command();
    command.env("CNI_CONTAINERID", std::ffi::OsStr::from_bytes(b"\xff"));
    let child = command.spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("CNI_CONTAINERID") && text.contains("not UTF-8"), "{text}");
}

#[test]
fn without_a_command_the_plugin_prints_its_version() {
    let mut call = call("", &json!(null));
    (call.environment, call.stdin) = Default::default();
    let answer = call.run();
    assert_eq!((answer.code, answer.json.is_null()), (0, true));
    let lines: Vec<&str> = answer.stderr.lines().collect();
    let about = format!("CNI plugin netd-cni v{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines, [about.as_str(), "CNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"]);
}

#[test]
fn the_namespace_must_exist_and_not_be_the_plugins() {
    let daemon = Daemon::start();
    let conf = conf(&daemon);
    call("ADD", &conf).set("CNI_NETNS", "/nowhere/x").run().failed(3, "open the network namespace \"/nowhere/x\"");
    call("ADD", &conf).set("CNI_NETNS", "/proc/self/ns/net").run().failed(8, "should not be the same");
    assert_eq!(daemon.calls(), [""; 0]);
    for yes in ["1", "true", "TRUE"] {
        let mut call = call("ADD", &conf);
        call.set("CNI_NETNS", "/proc/self/ns/net").set("CNI_NETNS_OVERRIDE", yes).run().good();
        assert_eq!(daemon.put()["netns"], "/proc/self/ns/net");
    }
    call("ADD", &conf)
        .set("CNI_NETNS", "/proc/self/ns/net")
        .set("CNI_NETNS_OVERRIDE", "0")
        .run()
        .failed(8, "should not be the same");
}

#[test]
fn a_container_is_deleted_without_its_namespace() {
    let daemon = Daemon::start();
    let conf = conf(&daemon);
    for netns in ["", "/nowhere/x", "/proc/self/ns/net"] {
        assert!(call("DEL", &conf).set("CNI_NETNS", netns).run().good().is_null());
        assert_eq!(daemon.calls(), ["DELETE /v1/attachments/dbnet/c1/eth0"]);
    }
    assert!(call("DEL", &conf).unset("CNI_NETNS").run().good().is_null());
}

#[test]
fn arguments_are_read_as_libcni_does() {
    let daemon = Daemon::start();
    let conf = conf(&daemon);
    for (arguments, words) in [
        ("IP", "\"IP\" is not KEY=VALUE"),
        ("FOO=bar", "\"FOO\" is not known"),
        ("IgnoreUnknown=0;FOO=bar", "\"FOO\" is not known"),
        ("IgnoreUnknown=false;ip=10.1.0.7", "\"ip\" is not known"),
        ("IgnoreUnknown=perhaps", "IgnoreUnknown"),
        ("MAC=x", "MAC \"x\""),
        ("MAC=01:00:00:00:00:00", "multicast"),
        ("GATEWAY=x", "GATEWAY \"x\""),
        ("K8S_POD_NAME=a b", "K8S_POD_NAME \"a b\""),
        ("K8S_POD_NAME=a;K8S_POD_NAMESPACE=a/b", "K8S_POD_NAMESPACE \"a/b\""),
    ] {
        let answer = call("ADD", &conf).set("CNI_ARGS", arguments).run();
        answer.failed(4, "CNI_ARGS");
        answer.failed(4, words);
        // An error that prevents ADD must not prevent DEL.
        call("DEL", &conf).set("CNI_ARGS", arguments).run().good();
    }
    daemon.asked();
    for arguments in
        ["", ";", "IgnoreUnknown=1;FOO=bar;", "IgnoreUnknown=True;a=b", "K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=y"]
    {
        call("ADD", &conf).set("CNI_ARGS", arguments).run().good();
        assert_eq!(daemon.put()["addresses"], serde_json::Value::Null);
    }
}
