//! Behind another plugin: names, ports and firewall for an interface that the reference `bridge` plugin made.

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::contains;
use serde_json::{Value, json};

use super::traces;
use crate::lab::cni::{Call, call, reference};
use crate::lab::look::links;
use crate::lab::{Dig, HOST4, Lab, Proto, Server, ask, run, skippable, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("cni: chained behind the reference bridge plugin", behind_bridge),
        skippable("cni: CHECK after the reference tuning plugin changed the MAC address and MTU", before_tuning),
        trial("cni: an interface that netd cannot adopt is refused", not_on_this),
    ]
}

/// The configuration of the plugin before netd's.
fn bridge(call: Call) -> Call {
    call.with(json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true,
        "hairpinMode": true, "ipam": {"type": "host-local", "dataDir": "/run/lab/ipam",
        "ranges": [[{"subnet": "10.22.0.0/16"}]]}, "cniVersion": "1.0.0"}))
}

fn ours(call: Call, previous: &Value) -> Call {
    call.conf(|conf| conf.version("1.0.0").prev_result(previous))
}

fn published(call: Call, name: &str) -> Call {
    if name == "web" { call.port(4000, 80) } else { call }
}

fn behind_bridge(lab: &Lab) -> Completion {
    let (Some(program), Some(_)) = (reference("bridge"), reference("host-local")) else {
        return Completion::ignored_with("containernetworking-plugins is not installed");
    };
    lab.start_daemon();
    let mut results = Vec::new();
    for name in ["web", "client"] {
        lab.container(name);
        let previous = bridge(call("ADD", name)).run_program(&program).ok();
        let add = published(ours(call("ADD", name), &previous), name);
        let result = add.run().ok();
        assert_eq!(result["interfaces"], previous["interfaces"]);
        assert_eq!(result["ips"], previous["ips"]);
        assert_eq!(result["dns"]["nameservers"], json!(["10.22.0.1"]));
        assert_eq!(add.run().ok(), result, "again");
        results.push((name, result));
    }
    let address = results[0].1["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
    let _server = Server::start("web", "web", 80);
    Dig::expect("client", "@10.22.0.1 web", &[&address]);
    Dig::expect("client", "@10.22.0.1 web.net1.internal", &[&address]);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("client", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("web", Proto::Tcp, (HOST4, 4000)).who, "web", "itself");
    assert_eq!(ask("host", Proto::Tcp, ("127.0.0.1", 4000)).who, "web");
    assert_eq!(ask("client", Proto::Tcp, (&address, 80)).who, "web");
    run(&format!("ip -n outside route add 10.22.0.0/16 via {HOST4}")).ok();
    assert!(crate::lab::echo::answers("outside", Proto::Tcp, (&address, 80)).is_none(), "an unpublished port");
    for (name, result) in &results {
        published(ours(call("CHECK", name), result), name).run().ok();
    }
    for (name, result) in &results {
        ours(call("DEL", name), result).run().ok();
        bridge(call("DEL", name)).prev_result(result).run_program(&program).ok();
    }
    assert_eq!(lab.netd("ps --json").ok().json(), json!([]));
    assert!(!traces(lab).contains("4000"), "{}", traces(lab));
    assert!(!links("host").iter().any(|link| link.starts_with("veth")), "{:?}", links("host"));
    lab.netd("network rm net1").ok();
    assert!(!traces(lab).contains("cni0\","), "its elements are still in the table: {}", traces(lab));
    assert!(links("host").contains(&"cni0".to_owned()), "the bridge belongs to the other plugin");
    Completion::Completed
}

fn before_tuning(lab: &Lab) -> Completion {
    let Some(program) = reference("tuning") else {
        return Completion::ignored_with("containernetworking-plugins is not installed");
    };
    lab.start_daemon();
    lab.container("web");
    let made = call("ADD", "web").conf(|conf| conf.version("1.0.0")).run().ok();
    let tune = |previous: &Value| {
        let keys = json!({"type": "tuning", "mac": "02:aa:bb:cc:dd:ee", "mtu": 1400});
        ours(call("ADD", "web").with(keys), previous)
    };
    let tuned = tune(&made).run_program(&program).ok();
    assert_eq!(tuned["interfaces"][2]["mac"], "02:aa:bb:cc:dd:ee");
    ours(call("CHECK", "web"), &tuned).run().ok();
    let message = ours(call("CHECK", "web"), &made).run().error(102);
    assert!(message.contains("MAC address"), "a change that no result announced: {message}");
    sends_with_its_new_address(lab, &made);
    Completion::Completed
}

/// The container sends from the MAC address that the later plugin gave it, also after a restart of netd; from that of a
/// neighbour it does not.
fn sends_with_its_new_address(lab: &Lab, made: &Value) {
    lab.container("client");
    let client = call("ADD", "client").conf(|conf| conf.version("1.0.0")).run().ok();
    let address = made["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
    let _server = Server::start("web", "web", 80);
    let elements = || run("ip netns exec host nft -j list table bridge netd").ok().stdout;
    until("its new address may send", || contains(elements(), "02:aa:bb:cc:dd:ee"));
    assert_eq!(ask("client", Proto::Tcp, (address, 80)).who, "web");
    lab.container("other");
    for _ in 0..2 {
        // It is shown, and nobody else gets it.
        assert_eq!(lab.endpoint("net1", "web")["learned_mac"], "02:aa:bb:cc:dd:ee");
        let refused = lab.netd("connect net1 other --mac 02:aa:bb:cc:dd:ee").refused();
        assert!(refused.contains("web"), "{refused}");
        lab.kill_daemon();
        lab.start_daemon();
    }
    assert_eq!(ask("client", Proto::Tcp, (address, 80)).who, "web");
    assert!(elements().contains("02:aa:bb:cc:dd:ee"), "{}", elements());
    let neighbour = client["interfaces"][2]["mac"].as_str().unwrap();
    run(&format!("ip -n web link set eth0 address {neighbour}")).ok();
    until("netd has seen it", || contains(lab.log(), "the MAC address of another one"));
    assert!(crate::lab::echo::answers("client", Proto::Tcp, (address, 80)).is_none(), "{}", elements());
    ours(call("DEL", "web"), made).run().ok();
    assert!(!elements().contains("02:aa:bb:cc:dd:ee"), "{}", elements());
}

fn not_on_this(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    // One end of a pair whose other end is not on the host: as with macvlan.
    run("ip -n web link add eth0 type veth peer name other").ok();
    run("ip -n web address add 10.22.0.5/16 dev eth0").ok();
    let before = lab.everything();
    let previous = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/web"}],
        "ips": [{"address": "10.22.0.5/16", "gateway": "10.22.0.1", "interface": 0}]});
    let message = ours(call("ADD", "web"), &previous).run().error(7);
    assert!(message.contains("eth0") && message.contains("other end on the host"), "{message}");
    let elsewhere = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "net9", "sandbox": "/run/netns/web"}],
        "ips": [{"address": "10.22.0.5/16", "interface": 0}]});
    ours(call("ADD", "web"), &elsewhere).run().error(7);
    lab.unchanged_since(&before);
}
