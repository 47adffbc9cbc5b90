//! Bad input for `netd-netavark`, and the commands that Podman's command line does not reach: nothing but a sentence comes
//! of the first.

use libtest_mimic::Trial;
use netd_testing::wait::is;
use serde_json::{Value, json};

use super::peer::{call, input};
use super::{NEEDS, PROGRAM, all_gone, ready};
use crate::lab::command::Out;
use crate::lab::{Lab, run};
use crate::world::{on_host_words, trial, until};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("netavark: bad input is refused in one line, and nothing is changed", NEEDS, bad_input),
        trial(
            "netavark: setup and teardown are repeatable, all or nothing, and work where the namespace is gone",
            NEEDS,
            repeated,
        ),
        trial("netavark: update, create, version and reload", NEEDS, others),
        trial("netavark: the plugin makes networks of netd and joins existing ones", NEEDS, plugin),
    ]
}

fn program(words: &[&str]) -> Out {
    on_host_words(&[&[PROGRAM], words].concat())
}

/// The sentence of a refusal.
#[track_caller]
fn sentence(refused: &Out) -> String {
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let told: Value = serde_json::from_str(&refused.stdout).unwrap_or_else(|_| panic!("{refused:?}"));
    assert_eq!(refused.stdout.lines().count(), 1, "{refused:?}");
    told["error"].as_str().expect("a sentence").to_owned()
}

fn one(definition: Value, wanted: Value) -> Value {
    input(&[(definition, wanted)], &json!({}))
}

fn bad_input(lab: &Lab) {
    ready(lab);
    run("ip netns add c1").ok();
    let none = || json!({});
    let long = "x".repeat(5 << 20);
    for (text, named) in [
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "an object"),
        ("7".to_owned(), "an object"),
        (long, "more than 4 MiB"),
        (format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)), "failed to load"),
        (json!({"container_id": 7}).to_string(), "invalid type"),
        (input(&[(none(), none())], &json!({"container_id": "../x"})).to_string(), "container id"),
        (input(&[(none(), none())], &json!({"port_mappings": [{"host_port": 70000}]})).to_string(), "70000"),
        (input(&[(none(), none())], &json!({"port_mappings": [{"host_ip": "", "host_port": 1, "container_port": 2, "protocol": "x", "range": 1}]})).to_string(), "protocol"),
        (one(json!({"subnets": [{"subnet": "10.99.0.0/33"}]}), none()).to_string(), "10.99.0.0/33"),
        (one(none(), json!({"static_ips": ["10.1.2.3"]})).to_string(), "10.1.2.3"),
        (one(none(), json!({"static_ips": ["10.99.0.1"]})).to_string(), "the gateway"),
        (one(none(), json!({"interface_name": "a/b"})).to_string(), "interface name"),
    ] {
        let sentence = sentence(&call(PROGRAM, "setup", "c1", &text));
        assert!(sentence.contains(named), "{named}: {sentence}");
    }
    for (words, named) in [
        (&["frobnicate"][..], "unknown command \"frobnicate\""),
        (&["setup"], "one network namespace"),
        (&["--frob", "setup", "x"], "unknown flag"),
        (&["-f", "/nowhere/x.json", "setup", "x"], "/nowhere/x.json"),
        (&["update", "net0"], "--network-dns-servers"),
        (&["update", "net0", "--network-dns-servers", "nowhere"], "name server"),
    ] {
        let sentence = sentence(&program(words));
        assert!(sentence.contains(named), "{words:?}: {sentence}");
    }
    all_gone(lab);
}

fn repeated(lab: &Lab) {
    ready(lab);
    run("ip netns add c1").ok();
    let two = input(&[(json!({}), json!({})), (json!({}), json!({}))], &json!({}));
    let first = call(PROGRAM, "setup", "c1", &two.to_string()).ok().json();
    assert_eq!(call(PROGRAM, "setup", "c1", &two.to_string()).ok().json(), first, "again");
    call(PROGRAM, "teardown", "c1", &two.to_string()).ok();
    call(PROGRAM, "teardown", "c1", &two.to_string()).ok();
    all_gone(lab);
    // The second network is not possible, so the first is not there either.
    let mut half = two.clone();
    half["networks"]["net1"]["static_ips"] = json!(["10.1.2.3"]);
    sentence(&call(PROGRAM, "setup", "c1", &half.to_string()));
    all_gone(lab);
    call(PROGRAM, "setup", "c1", &two.to_string()).ok();
    run("ip netns del c1").ok();
    call(PROGRAM, "teardown", "c1", &two.to_string()).ok();
    all_gone(lab);
}

fn others(lab: &Lab) {
    ready(lab);
    run("ip netns add c1").ok();
    let whole = one(json!({"network_dns_servers": ["192.0.2.7"]}), json!({}));
    call(PROGRAM, "setup", "c1", &whole.to_string()).ok();
    assert_eq!(lab.network("net0")["dns"]["servers"], json!(["192.0.2.7"]));
    program(&["update", "net0", "--network-dns-servers", "192.0.2.8,192.0.2.9"]).ok();
    assert_eq!(lab.network("net0")["dns"]["servers"], json!(["192.0.2.8", "192.0.2.9"]));
    // A definition that Podman has changed meanwhile is followed.
    run("ip netns add c2").ok();
    let mut other = whole.clone();
    (other["container_id"], other["container_name"]) = (json!("d".repeat(64)), json!("two"));
    other["networks"]["net0"]["static_ips"] = json!(["10.99.0.6"]);
    other["networks"]["net0"]["static_mac"] = json!("02:00:00:00:00:66");
    other["network_info"]["net0"]["network_dns_servers"] = Value::Null;
    call(PROGRAM, "setup", "c2", &other.to_string()).ok();
    assert_eq!(lab.network("net0")["dns"]["servers"], json!([]));
    for (netns, input) in [("c1", &whole), ("c2", &other)] {
        call(PROGRAM, "teardown", netns, &input.to_string()).ok();
    }
    program(&["update", "net0", "--network-dns-servers="]).ok();
    assert_eq!(program(&["version"]).ok().json()["program"], "netd-netavark");
    assert!(program(&["--version"]).ok().stdout.starts_with("netd-netavark "));
    program(&["firewalld-reload"]).ok();
    all_gone(lab);
}

fn plugin(lab: &Lab) {
    ready(lab);
    run("ip netns add c1").ok();
    let write = |input: &Value| std::fs::write("/run/lab/input.json", input.to_string()).expect("a file");
    let with_file = |words: &[&str]| program(&[&["-f", "/run/lab/input.json"], words].concat());
    assert_eq!(program(&["info"]).ok().json()["api_version"], "1.0.0");
    let network = json!({"name": "net0", "id": "a".repeat(64), "driver": "netd", "dns_enabled": true, "internal": false,
        "ipv6_enabled": false, "network_interface": "", "created": "0001-01-01T00:00:00Z"});
    write(&network);
    let made = with_file(&["create"]).ok().json();
    assert_eq!((&made["name"], &made["id"], &made["driver"]), (&network["name"], &network["id"], &network["driver"]));
    assert_eq!(made["ipam_options"], json!({"driver": "none"}), "netd gives the addresses");
    let exec = |network: &Value| {
        json!({"container_id": "c".repeat(64), "container_name": "web", "port_mappings": null,
        "network": network, "network_options": {"interface_name": "eth0", "aliases": ["www"]}})
    };
    write(&exec(&made));
    let status = with_file(&["setup", "/run/netns/c1"]).ok().json();
    let address = lab.address("net0", "web")[0].to_string();
    let subnet = &status["interfaces"]["eth0"]["subnets"][0];
    assert_eq!(subnet["ipnet"], format!("{address}/24"));
    assert_eq!(status["dns_server_ips"], json!([subnet["gateway"]]));
    with_file(&["teardown", "/run/netns/c1"]).ok();
    all_gone(lab);
    let mut joined = network.clone();
    joined["options"] = json!({"netd.network": "mine"});
    write(&joined);
    assert!(sentence(&with_file(&["create"])).contains("mine"), "there is no such network");
    lab.netd("network create mine --subnet 10.99.7.0/24").ok();
    let joined = with_file(&["create"]).ok().json();
    write(&exec(&joined));
    with_file(&["setup", "/run/netns/c1"]).ok();
    assert!(lab.address("mine", "web")[0].to_string().starts_with("10.99.7."));
    with_file(&["teardown", "/run/netns/c1"]).ok();
    until("the container has gone", || is(lab.netd("ps --json").ok().json(), &json!([])));
    assert_eq!(lab.network("mine")["name"], "mine", "a network that a person made stays");
    lab.netd("network rm mine").ok();
    all_gone(lab);
}
