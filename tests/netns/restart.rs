//! Restart: kill the daemon with SIGKILL, start it again, and everything works.

use libtest_mimic::Trial;
use netd_testing::wait::{lacks, seen};

use crate::lab::look::{elements, links, ruleset, same, without_revision};
use crate::lab::{Dig, HOST4, Lab, Proto, Server, ask, echo, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "restart: traffic flows while the daemon is dead, and everything works after its restart",
            everything_stands,
        ),
        trial("restart: kill -9 right after a reply loses no state", right_after_a_reply),
        trial("restart: a namespace deleted while the daemon was dead is released", namespace_gone),
        trial("restart: a namespace recreated under the same name is a new container", namespace_made_again),
        trial("restart: a bridge deleted while the daemon was dead is recreated", bridge_gone),
        trial("restart: a table flushed while the daemon was dead is recreated", table_gone),
        trial("restart: a port detached from its bridge while the daemon was dead is attached again", port_detached),
        trial("restart: a bridge set down while the daemon was dead is set up", bridge_down),
        trial("restart: a bridge's addresses deleted while the daemon was dead are restored", bridge_unaddressed),
        trial("restart: a changed MTU of a bridge is restored", bridge_mtu),
        trial("restart: the daemon holds published ports again", ports_held),
        trial("restart: a second daemon on the same state is refused", second_daemon),
    ]
}

fn set_up(lab: &Lab) -> (Server, String) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 5000-5002:5000-5002 --alias www");
    lab.connected("net1", "client", "");
    let server = Server::start("web", "web", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    (server, lab.address("net1", "web")[0].to_string())
}

fn everything_stands(lab: &Lab) {
    let (_server, address) = set_up(lab);
    let before = without_revision(&lab.everything());
    lab.kill_daemon();
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("client", Proto::Tcp, (&address, 80)).who, "web");
    assert_eq!(ask("client", Proto::Tcp, (HOST4, 4000)).who, "web");
    lab.start_daemon();
    same(&before, &without_revision(&lab.everything()));
    Dig::expect("client", "web", &[&address]);
    Dig::expect("client", "www.net1", &[&address]);
    lab.connected("net1", "third", "-p 4001:80");
    assert_eq!(lab.address("net1", "third").len(), 2);
    lab.netd("disconnect net1 web").ok();
    Dig::expect_none("client", "web", "NXDOMAIN");
    echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    assert_eq!(links("web"), ["lo"]);
    lab.netd("connect net1 web -p 4000:80").ok();
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
}

fn right_after_a_reply(lab: &Lab) {
    lab.start_daemon();
    for number in 0..5 {
        lab.netd(&format!("network create n{number}")).ok();
        lab.kill_daemon();
        lab.start_daemon();
        lab.connected(&format!("n{number}"), &format!("c{number}"), &format!("-p {}:80", 4000 + number));
        lab.kill_daemon();
        lab.start_daemon();
        let shown = lab.netd("ps --json").ok().json();
        assert_eq!(shown.as_array().map(Vec::len), Some(number + 1), "{shown}");
        lab.address(&format!("n{number}"), &format!("c{number}"));
    }
    lab.netd("disconnect n0 c0").ok();
    lab.kill_daemon();
    lab.start_daemon();
    let left = lab.netd("ps --json").ok().json();
    let names: Vec<&str> = left.as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["c1", "c2", "c3", "c4"]);
    assert_eq!(links("c0"), ["lo"]);
}

fn namespace_gone(lab: &Lab) {
    let (server, address) = set_up(lab);
    let host_ifname = lab.endpoint("net1", "web")["host_ifname"].as_str().unwrap().to_owned();
    lab.kill_daemon();
    drop(server);
    run("ip netns delete web").ok();
    lab.start_daemon();
    // The kernel destroys a namespace some time after its last user: until then its interface exists.
    until("it is released", || lacks(lab.netd("ps").ok().stdout, "web"));
    Dig::expect_none("client", "web", "NXDOMAIN");
    // The name goes first, then what the kernel has of it.
    until("its interface is gone", || seen(links("host"), |links| !links.contains(&host_ifname)));
    let is_rid = |elements: &String| !elements.contains("4000") && !elements.contains(&address);
    until("its elements are gone", || seen(elements(), is_rid));
    assert!(!std::fs::exists("/etc/netns/web/resolv.conf").unwrap());
    lab.connected("net1", "other", "-p 4000:80");
    let _server = Server::start("other", "other", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "other");
}

fn namespace_made_again(lab: &Lab) {
    let (server, _) = set_up(lab);
    lab.kill_daemon();
    drop(server);
    run("ip netns delete web").ok();
    lab.container("web");
    lab.start_daemon();
    assert_eq!(links("web"), ["lo"], "the new namespace was not connected");
    assert!(!lab.netd("ps").ok().stdout.contains("web"));
    lab.netd("connect net1 web -p 4000:80").ok();
    let _server = Server::start("web", "web", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
}

fn bridge_gone(lab: &Lab) {
    let (_server, address) = set_up(lab);
    lab.kill_daemon();
    run("ip -n host link delete nd-net1").ok();
    lab.start_daemon();
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    Dig::expect("client", "web", &[&address]);
    assert_eq!(ask("client", Proto::Tcp, (&address, 80)).who, "web");
}

fn port_detached(lab: &Lab) {
    let (_server, _) = set_up(lab);
    let host_ifname = lab.endpoint("net1", "web")["host_ifname"].as_str().unwrap().to_owned();
    changed_while_dead(lab, &format!("ip -n host link set {host_ifname} nomaster"));
}

fn bridge_down(lab: &Lab) {
    let (_server, _) = set_up(lab);
    changed_while_dead(lab, "ip -n host link set nd-net1 down");
}

fn bridge_unaddressed(lab: &Lab) {
    let (_server, _) = set_up(lab);
    changed_while_dead(lab, "ip -n host address flush dev nd-net1");
}

fn bridge_mtu(lab: &Lab) {
    let (_server, _) = set_up(lab);
    changed_while_dead(lab, "ip -n host link set nd-net1 mtu 1280");
}

fn changed_while_dead(lab: &Lab, change: &str) {
    let before = without_revision(&lab.everything());
    lab.kill_daemon();
    run(change).ok();
    lab.start_daemon();
    same(&before, &without_revision(&lab.everything()));
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
}

fn table_gone(lab: &Lab) {
    let (_server, _) = set_up(lab);
    let before = ruleset();
    lab.kill_daemon();
    run("ip netns exec host nft flush ruleset").ok();
    lab.start_daemon();
    assert_eq!(ruleset(), before);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
}

fn ports_held(lab: &Lab) {
    let (_server, _) = set_up(lab);
    lab.kill_daemon();
    lab.start_daemon();
    for port in [4000, 5001] {
        let bound = crate::lab::space::inside("host", || std::net::TcpListener::bind(("0.0.0.0", port)).map(drop));
        assert_eq!(bound.map_err(|error| error.kind()), Err(std::io::ErrorKind::AddrInUse), "{port}");
    }
    lab.container("other");
    let line = lab.netd("connect net1 other -p 4000:80").refused();
    assert!(line.contains("web"), "{line}");
}

fn second_daemon(lab: &Lab) {
    let (_server, _) = set_up(lab);
    let line = "daemon --socket /run/lab/netd.sock --state-dir /run/lab/state --runtime-dir /run/lab/runtime";
    let out = lab.netd(line);
    assert_eq!(out.code, Some(1), "{out:?}");
    let last = out.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("netd: "), "{out:?}");
    lab.netd("ps").ok();
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
}
