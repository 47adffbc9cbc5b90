//! The same inputs for `netd-netavark` and for netavark itself, and a comparison of what both tell.

use std::collections::BTreeMap;
use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{NETAVARK, PROGRAM, install, ready};
use crate::lab::command::Out;
use crate::lab::{Lab, run};
use crate::world::{on_host_words, trial};

const NEEDS: &[&str] = &["podman", "runc", "conmon", NETAVARK, "iptables"];

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("netavark: both programs tell the same of the same container", NEEDS, same),
        trial("netavark: both programs refuse the same", NEEDS, same_refusals),
        trial("netavark: netavark calls the plugin", NEEDS, plugin),
    ]
}

/// Netavark of the distribution; `NETAVARK=FILE` names another.
fn netavark() -> String {
    std::env::var("NETAVARK").unwrap_or_else(|_| NETAVARK.to_owned())
}

/// What Podman writes for a container on networks: each a change of the definition, and of what the container gets.
pub(super) fn input(networks: &[(Value, Value)], more: &Value) -> Value {
    let mut input =
        json!({"container_id": "c".repeat(64), "container_name": "web", "networks": {}, "network_info": {}});
    for (number, (definition, wanted)) in networks.iter().enumerate() {
        let name = format!("net{number}");
        let subnet = |host: &str| format!("10.99.{number}.{host}");
        let mut network = json!({"name": name, "id": format!("{number:064x}"), "driver": "bridge",
            "network_interface": format!("nv{number}"), "subnets": [{"subnet": subnet("0/24"), "gateway": subnet("1")}],
            "ipv6_enabled": false, "internal": false, "dns_enabled": true, "ipam_options": {"driver": "host-local"},
            "created": "2026-01-01T00:00:00Z"});
        let mut options = json!({"interface_name": format!("eth{number}"), "static_ips": [subnet("5")],
            "static_mac": format!("02:00:00:00:00:0{number}")});
        for (object, changes) in [(&mut network, definition), (&mut options, wanted)] {
            for (key, value) in changes.as_object().unwrap() {
                object[key] = value.clone();
            }
        }
        input["networks"][&name] = options;
        input["network_info"][&name] = network;
    }
    for (key, value) in more.as_object().unwrap() {
        input[key] = value.clone();
    }
    input
}

/// A program that takes netavark's command line, on the host.
pub(super) fn call(program: &str, command: &str, netns: &str, input: &str) -> Out {
    fs::write("/run/lab/input.json", input).expect("a file");
    let flags = [
        "--config",
        "/run/lab/networks",
        "--rootless=false",
        "--aardvark-binary=/nonexistent",
        "-f",
        "/run/lab/input.json",
    ];
    let netns = format!("/run/netns/{netns}");
    let line: Vec<&str> = [program].into_iter().chain(flags).chain([command, &netns]).collect();
    on_host_words(&line)
}

/// The status of each network, and the answer of the container's kernel, from one of the programs.
fn told(program: &str, input: &Value) -> (Value, BTreeMap<String, Vec<String>>) {
    run("ip netns add c1").ok();
    let status = call(program, "setup", "c1", &input.to_string()).ok().json();
    let seen = ["-o -4 address", "-o -6 address show scope global", "-o link"].map(|what| {
        let text = run(&format!("ip -n c1 {what}")).ok().stdout;
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let after =
                |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1)).copied();
            let values = ["inet", "inet6", "mtu", "link/ether"].into_iter().filter_map(after);
            format!("{} {}", words[1].split('@').next().unwrap_or_default(), values.collect::<Vec<_>>().join(" "))
        };
        let mut lines: Vec<String> = text.lines().map(line).collect();
        // An earlier netavark takes the networks in any order.
        lines.sort();
        (what.to_owned(), lines)
    });
    let ended = call(program, "teardown", "c1", &input.to_string());
    // A later netavark misses the files of its name server, which is not there, and goes on.
    assert!(program != PROGRAM || ended.code == Some(0), "{ended:?}");
    assert!(!run("ip -n c1 -o link").ok().stdout.contains("eth0"), "{program} leaves the interface");
    run("ip netns del c1").ok();
    (status, seen.into_iter().collect())
}

/// Search domains are each program's own; whether there are some is the same.
fn without_domains(mut status: Value) -> Value {
    for network in status.as_object_mut().unwrap().values_mut() {
        let domains = &mut network["dns_search_domains"];
        *domains = json!(domains.as_array().is_some_and(|domains| !domains.is_empty()));
    }
    status
}

fn same(lab: &Lab) {
    ready(lab);
    let none = || json!({});
    let v6 = json!({"subnets": [{"subnet": "10.99.0.0/24", "gateway": "10.99.0.1"}, {"subnet": "fd00:99::/64", "gateway": "fd00:99::1"}],
        "ipv6_enabled": true});
    let port = json!({"port_mappings": [{"host_ip": "", "host_port": 4000, "container_port": 80, "protocol": "tcp", "range": 1}]});
    for (what, networks, more) in [
        ("one network", vec![(none(), none())], none()),
        ("two networks", vec![(none(), none()), (none(), json!({"aliases": ["www"]}))], none()),
        ("both families", vec![(v6, json!({"static_ips": ["10.99.0.5", "fd00:99::5"]}))], none()),
        ("an internal network", vec![(json!({"internal": true}), none())], none()),
        (
            "an internal network without names and gateway",
            vec![(json!({"internal": true, "dns_enabled": false, "subnets": [{"subnet": "10.99.0.0/24"}]}), none())],
            none(),
        ),
        ("no names", vec![(json!({"dns_enabled": false}), none())], none()),
        (
            "no names, but name servers",
            vec![(json!({"dns_enabled": false}), none())],
            json!({"dns_servers": ["9.9.9.9"]}),
        ),
        ("an MTU", vec![(json!({"options": {"mtu": "1400"}}), none())], none()),
        ("a port", vec![(none(), none())], port),
    ] {
        let input = input(&networks, &more);
        let (theirs, seen_theirs) = told(&netavark(), &input);
        let (ours, seen_ours) = told(PROGRAM, &input);
        assert_eq!(without_domains(ours), without_domains(theirs), "{what}: the status");
        assert_eq!(seen_ours, seen_theirs, "{what}: what the container has");
    }
}

fn same_refusals(lab: &Lab) {
    ready(lab);
    run("ip netns add c1").ok();
    let none = || json!({});
    let of = |definition: Value, wanted: Value| input(&[(definition, wanted)], &none()).to_string();
    let without = |key: &str| {
        let mut whole = input(&[(none(), none())], &none());
        whole.as_object_mut().unwrap().remove(key);
        whole.to_string()
    };
    for (what, netns, text) in [
        ("no JSON", "c1", "{".to_owned()),
        ("nothing", "c1", String::new()),
        ("no id", "c1", without("container_id")),
        ("no networks", "c1", without("networks")),
        ("no definitions", "c1", without("network_info")),
        ("no addresses", "c1", of(none(), json!({"static_ips": null}))),
        ("no interface name", "c1", of(none(), json!({"interface_name": ""}))),
        ("an unknown ipam driver", "c1", of(json!({"ipam_options": {"driver": "other"}}), none())),
        ("an unknown driver", "c1", of(json!({"driver": "other"}), none())),
        ("a wrong MAC address", "c1", of(none(), json!({"static_mac": "zz"}))),
        ("no namespace", "nowhere", of(none(), none())),
    ] {
        for program in [netavark().as_str(), PROGRAM] {
            let refused = call(program, "setup", netns, &text);
            assert_eq!(refused.code, Some(1), "{what}: {program}: {refused:?}");
            let told: Value =
                serde_json::from_str(&refused.stdout).unwrap_or_else(|_| panic!("{what}: {program}: {refused:?}"));
            assert_eq!(told.as_object().unwrap().keys().collect::<Vec<_>>(), ["error"], "{what}: {program}");
            assert!(told["error"].as_str().is_some_and(|error| !error.is_empty()), "{what}: {program}: {told}");
        }
    }
    super::all_gone(lab);
}

/// A network of the plugin and one of netavark, for one container.
#[expect(clippy::print_stdout, reason = "a part that is not run says why")]
fn plugin(lab: &Lab) {
    if !on_host_words(&[&netavark(), "--help"]).stdout.contains("--plugin-directory") {
        println!("not run: {} knows no plugins (1.6.0 is the first); NETAVARK=FILE names another", netavark());
        return;
    }
    ready(lab);
    install(&["--plugin", "--plugin-dir", "/run/lab/plugins", "--program", PROGRAM]).ok();
    let netd = json!({"driver": "netd", "ipam_options": {"driver": "none"}, "subnets": null, "network_interface": ""});
    let theirs = json!({"dns_enabled": false});
    let whole = input(&[(netd, json!({"static_ips": null})), (theirs, json!({}))], &json!({}));
    fs::write("/run/lab/input.json", whole.to_string()).expect("a file");
    let (netavark, flags) = (netavark(), ["--config", "/run/lab/networks", "--plugin-directory", "/run/lab/plugins"]);
    let netavark = |command| {
        let line =
            [&[netavark.as_str()], &flags[..], &["-f", "/run/lab/input.json", command, "/run/netns/c1"]].concat();
        on_host_words(&line)
    };
    run("ip netns add c1").ok();
    let status = netavark("setup").ok().json();
    let address = lab.address("net0", "web")[0].to_string();
    assert_eq!(status["net0"]["interfaces"]["eth0"]["subnets"][0]["ipnet"], format!("{address}/24"));
    assert_eq!(status["net1"]["interfaces"]["eth1"]["subnets"][0]["ipnet"], "10.99.1.5/24");
    // The plugin's sentence is what netavark tells.
    lab.kill_daemon();
    run("ip netns add c2").ok();
    let refused = on_host_words(
        &[&[self::netavark().as_str()], &flags[..], &["-f", "/run/lab/input.json", "setup", "/run/netns/c2"]].concat(),
    );
    assert!(refused.stdout.contains("cannot reach netd at"), "{refused:?}");
    lab.start_daemon();
    run("ip netns del c1").ok();
    netavark("teardown").ok();
    super::all_gone(lab);
}
