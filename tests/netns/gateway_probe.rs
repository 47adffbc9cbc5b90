//! How netd finds out whether containers reach the name service at their gateway: itself, without leaving anything, and
//! again when the firewall changes. No container decides for others.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::{PATIENCE, contains, is, until_within};

use crate::inside::{DROPS, close_the_host, name_server, report_only, resolves, sleeper, times_logged};
use crate::lab::look::ip_json;
use crate::lab::{Dig, Lab, Proto, Server, ask, command, daemon, run, trial, until};

const WITHIN: &str = "127.0.0.11";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("gateway probe: a container that drops its own questions decides for itself only", own_firewall),
        trial("gateway probe: questions pass again", passes_again),
        trial("gateway probe: nothing is left of it", leaves_nothing),
        trial("gateway probe: a container gets the address that was asked from", is_not_remembered),
        trial("gateway probe: nothing is left of it after a kill", killed),
        trial("gateway probe: a network without a free address", full),
        trial("gateway probe: both address families are asked", both_families),
    ]
}

/// The container drops its own questions.
fn drop_own_questions(container: &str) {
    let rules = "add table inet own; add chain inet own out { type filter hook output priority 0; }; \
                 add rule inet own out meta l4proto { tcp, udp } th dport 53 drop";
    command::run_words(&["ip", "netns", "exec", container, "nft", rules]).ok();
}

fn open_the_host() {
    run("ip netns exec host nft delete table inet closed").ok();
}

fn gateway(lab: &Lab) -> String {
    lab.network("net1")["subnets"][0]["gateway"].as_str().expect("a gateway").to_owned()
}

fn address(lab: &Lab, container: &str) -> String {
    lab.address("net1", container)[0].to_string()
}

/// The neighbours that the host knows on the bridges, and the names of its links.
fn traces() -> String {
    let bridges = |entry: &serde_json::Value| entry["dev"].as_str().is_some_and(|dev| dev.starts_with("nd-"));
    let entries: Vec<String> =
        ip_json("host", "neighbour show").iter().filter(|e| bridges(e)).map(|e| e["dst"].to_string()).collect();
    format!("{:?} {entries:?}", links("host"))
}

fn own_firewall(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "mute", "");
    drop_own_questions("mute");
    let gateway = gateway(lab);
    let decides_for_nobody = |other: &str| {
        lab.connected("net1", other, "");
        assert_eq!(name_server(other), gateway);
        resolves(other, "", "mute", &address(lab, "mute"));
        assert_eq!((name_server("mute"), times_logged(lab, DROPS)), (gateway.clone(), 0));
    };
    lab.kill_daemon();
    lab.start_daemon();
    decides_for_nobody("one");
    decides_for_nobody("two");
    assert_eq!(lab.netd("status --json").ok().json()["problems"], serde_json::json!([]));
}

fn passes_again(lab: &Lab) {
    report_only();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "");
    let mut process = sleeper();
    lab.netd(&format!("connect net1 process --pid {}", process.id())).ok();
    let (web, gateway) = (address(lab, "web"), gateway(lab));
    let asks = |line: &str| run(&format!("nsenter -t {} -n dig +short +tries=1 +time=3 {line}", process.id())).stdout;
    let listens = || run(&format!("nsenter -t {} -n ss -Hlntu", process.id())).ok().stdout;
    assert_eq!(listens(), "");
    close_the_host();
    until("netd has detected it", || is(name_server("web"), WITHIN));
    assert_eq!(asks(&format!("@{gateway} web")).trim(), web, "it goes on asking as it was told");
    lab.connected("net1", "during", "");
    assert_eq!(name_server("during"), WITHIN);
    open_the_host();
    until_within(4 * PATIENCE, "netd asks again", || is(times_logged(lab, "are answered again"), &1));
    lab.connected("net1", "later", "");
    assert_eq!(name_server("later"), gateway);
    assert_eq!(lab.exec("later", "ss -Hlntu").ok().stdout, "");
    // A program that was told the gateway asks there again.
    until("the process is not served within any more", || is(listens(), ""));
    assert_eq!(asks(&format!("@{gateway} web")).trim(), web);
    let goes_on = || {
        for told in ["web", "during"] {
            assert_eq!(name_server(told), WITHIN);
            resolves(told, "", "later", &address(lab, "later"));
            resolves(told, &format!("@{gateway}"), "later", &address(lab, "later"));
        }
        resolves("later", "", "web", &web);
    };
    goes_on();
    lab.kill_daemon();
    lab.start_daemon();
    goes_on();
    assert_eq!((times_logged(lab, DROPS), name_server("later")), (1, gateway.clone()));
    // It is found blocked again, and one that comes back is told anew.
    lab.netd("disconnect net1 during").ok();
    lab.connected("net1", "during", "");
    assert_eq!(name_server("during"), gateway);
    process.kill().expect("it runs");
    process.wait().expect("it ends");
}

fn leaves_nothing(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2").ok();
    let before = traces();
    lab.connected("net1", "web", "");
    lab.connected("net2", "web", "");
    let host_ends: Vec<String> = links("host").into_iter().filter(|name| !before.contains(name)).collect();
    assert!(host_ends.len() == 2 && host_ends.iter().all(|name| name.starts_with("ndv-web-")), "{host_ends:?}");
    lab.kill_daemon();
    lab.start_daemon();
    // The probe of the start is before the next command.
    lab.netd("disconnect net1 web").ok();
    lab.netd("disconnect net2 web").ok();
    assert_eq!(traces(), before);
}

fn is_not_remembered(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.9.0.0/24").ok();
    lab.connected("net1", "web", "");
    // netd asked from the highest address, with another MAC address.
    lab.connected("net1", "heir", "--ip 10.9.0.254 --mac 02:00:00:00:00:77");
    let _server = Server::start("heir", "heir", 80);
    assert_eq!(ask("host", Proto::Tcp, ("10.9.0.254", 80)).who, "heir");
    assert_eq!(ask("web", Proto::Tcp, ("10.9.0.254", 80)).who, "heir");
}

/// All interfaces, also those from which netd asks.
fn links(ns: &str) -> Vec<String> {
    ip_json(ns, "link show").iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

fn killed(lab: &Lab) {
    report_only();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    close_the_host();
    lab.container("web");
    let before = links("host");
    let mut connect = Command::new("nsenter");
    connect.args(["--net=/run/netns/host", "--", daemon::netd(), "connect", "--socket", daemon::SOCKET, "net1", "web"]);
    connect.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut connect = connect.spawn().expect("netd connect");
    until("netd asks", || contains(format!("{:?}", links("host")), "ndp-net1"));
    lab.kill_daemon();
    connect.wait().expect("it ends");
    until("the kernel has removed it", || is(links("host").contains(&"ndp-net1".to_owned()), &false));
    // One that something holds is removed by the next start.
    run("ip -n host link add ndp-net1 group 28262 master nd-net1 type veth peer name ndp-other").ok();
    lab.start_daemon();
    until("it is removed", || is(links("host").contains(&"ndp-net1".to_owned()), &false));
    lab.netd("disconnect net1 web").ok();
    assert_eq!(links("host"), before);
}

fn full(lab: &Lab) {
    report_only();
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.9.0.0/29").ok();
    let names = ["one", "two", "three", "four", "mute"];
    names.iter().for_each(|name| lab.connected("net1", name, ""));
    let gateway = gateway(lab);
    drop_own_questions("mute");
    lab.kill_daemon();
    lab.start_daemon();
    lab.netd("network create net2").ok();
    for name in &names[..4] {
        assert_eq!(name_server(name), gateway, "{name}");
    }
    assert_eq!(name_server("mute"), WITHIN, "it asks within itself");
    resolves("mute", "", "one", &address(lab, "one"));
    let message = format!("container mute gets no answer to DNS queries from {gateway} on network net1");
    assert_eq!((times_logged(lab, DROPS), times_logged(lab, &message)), (0, 1));
    close_the_host();
    until("all ask within", || is(names.map(name_server).iter().all(|server| server == WITHIN), &true));
    until("an event says so", || is(times_logged(lab, "containers of network net1 get no answer"), &1));
    resolves("one", "", "two", &address(lab, "two"));
    lab.netd("disconnect net1 four").ok();
    open_the_host();
    until_within(4 * PATIENCE, "netd asks again", || is(times_logged(lab, "are answered again"), &1));
    lab.connected("net1", "four", "");
    assert_eq!(name_server("four"), gateway);
    resolves("four", "", "one", &address(lab, "one"));
}

fn both_families(lab: &Lab) {
    report_only();
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "");
    assert_eq!(times_logged(lab, DROPS), 0);
    let rules = "add table inet closed; add chain inet closed input { type filter hook input priority 0; }; \
                 add rule inet closed input meta nfproto ipv6 meta l4proto { tcp, udp } th dport { 53, 61053 } drop";
    command::run_words(&["ip", "netns", "exec", "host", "nft", rules]).ok();
    until("netd has detected it", || is(name_server("web"), WITHIN));
    let subnets = lab.network("net1")["subnets"].as_array().expect("an array").clone();
    let gateways: Vec<&str> = subnets.iter().filter_map(|subnet| subnet["gateway"].as_str()).collect();
    let v6 = gateways.iter().find(|gateway| gateway.contains(':')).expect("IPv6");
    until("an event says so", || contains(lab.log(), &format!("{DROPS} net1 to {v6}:")));
    Dig::expect("web", "web", &[&address(lab, "web")]);
}
