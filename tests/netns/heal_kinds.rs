//! Repair of what another program changes without deleting it: links, addresses, routes, settings and files, on the host
//! and within containers. After each change everything looks as before, and traffic and names work.

use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, lacks, seen};

use crate::heal::{set_up, works};
use crate::lab::command::{Out, run_words};
use crate::lab::look::until_same;
use crate::lab::{Dig, Lab, run, trial, until, until_within};

/// One change: what it is, and the command that makes it. `END`: the host end of the container `web`.
struct Broken {
    what: &'static str,
    by: &'static str,
}

const ON_HOST: &[Broken] = &[
    Broken { what: "the bridge is renamed", by: "ip -n host link set nd-net1 name br9" },
    Broken { what: "the bridge is down", by: "ip -n host link set nd-net1 down" },
    Broken { what: "the bridge has an MTU without IPv6", by: "ip -n host link set nd-net1 mtu 576" },
    Broken { what: "the bridge has another MAC address", by: "ip -n host link set nd-net1 address 02:00:00:00:00:99" },
    Broken { what: "the bridge is in another group", by: "ip -n host link set nd-net1 group default" },
    Broken { what: "a container's address is on the bridge", by: "ip -n host address add 10.77.0.9/24 dev nd-net1" },
    Broken { what: "the bridge has no gateway address", by: "ip -n host address del 10.77.0.1/24 dev nd-net1" },
    Broken { what: "the bridge has no addresses", by: "ip -n host address flush dev nd-net1" },
    Broken {
        what: "IPv6 is disabled on the bridge",
        by: "ip netns exec host sysctl -qw net.ipv6.conf.nd-net1.disable_ipv6=1",
    },
    Broken {
        what: "route_localnet is off",
        by: "ip netns exec host sysctl -qw net.ipv4.conf.nd-net1.route_localnet=0",
    },
    Broken {
        what: "routers on the bridge may configure the host",
        by: "ip netns exec host sysctl -qw net.ipv6.conf.nd-net1.accept_ra=2",
    },
    Broken {
        what: "the bridge checks for duplicate addresses",
        by: "ip netns exec host sysctl -qw net.ipv6.conf.nd-net1.accept_dad=1",
    },
    Broken { what: "IPv4 forwarding is off", by: "ip netns exec host sysctl -qw net.ipv4.ip_forward=0" },
    Broken { what: "IPv6 forwarding is off", by: "ip netns exec host sysctl -qw net.ipv6.conf.all.forwarding=0" },
    Broken { what: "the subnet has no route", by: "ip -n host route del 10.77.0.0/24 dev nd-net1" },
    Broken { what: "the host end is renamed", by: "ip -n host link set END name veth9" },
    Broken { what: "the host end is off its bridge", by: "ip -n host link set END nomaster" },
    Broken { what: "the host end is down", by: "ip -n host link set END down" },
    Broken { what: "the host end has another MAC address", by: "ip -n host link set END address 02:00:00:00:00:98" },
    Broken { what: "the host end is in another group", by: "ip -n host link set END group default" },
    Broken {
        what: "IPv6 is enabled on the host end",
        by: "ip netns exec host sysctl -qw net.ipv6.conf.END.disable_ipv6=0",
    },
    Broken { what: "the host end is isolated", by: "ip netns exec host bridge link set dev END isolated on" },
];

const INSIDE: &[Broken] = &[
    Broken { what: "the container has no default route", by: "ip -n web route del default" },
    Broken { what: "the container has no IPv6 default route", by: "ip -n web -6 route del default" },
    Broken { what: "the container has no route to its subnet", by: "ip -n web route del 10.77.0.0/24" },
    Broken { what: "the container has no routes", by: "ip -n web route flush table main" },
    Broken { what: "the container has no IPv6 routes", by: "ip -n web -6 route flush table main" },
    Broken { what: "the container has no addresses", by: "ip -n web address flush dev eth0" },
    Broken { what: "eth0 is down", by: "ip -n web link set eth0 down" },
    Broken {
        what: "eth0 was down and is up",
        by: "ip netns exec web sh -c 'ip link set eth0 down; ip link set eth0 up'",
    },
    Broken { what: "lo is down", by: "ip -n web link set lo down" },
    Broken { what: "eth0 has another MAC address", by: "ip -n web link set eth0 address 02:00:00:00:00:97" },
    Broken { what: "eth0 has another MTU", by: "ip -n web link set eth0 mtu 1300" },
    Broken { what: "resolv.conf is deleted", by: "rm /etc/netns/web/resolv.conf" },
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("heal: changes of links, addresses, routes and settings of the host", |lab| heals(lab, ON_HOST)),
        trial("heal: changes within a container", |lab| heals(lab, INSIDE)),
        trial("heal: the redirection of DNS queries in a container", redirection),
        trial("heal: what a user adds stays", additions_stay),
        trial("heal: a program that changes it again and again is a problem", fought),
    ]
}

/// What netd made, as foreign programs show it.
fn look(lab: &Lab) -> String {
    let shell = "ip -d link show nd-net1; ip -d link show END; bridge -d link show dev END; ip address show dev nd-net1; \
         ip route show dev nd-net1; ip -6 route show dev nd-net1 proto kernel; \
         sysctl net.ipv6.conf.nd-net1.accept_ra net.ipv6.conf.nd-net1.accept_dad; \
         sysctl net.ipv4.conf.nd-net1.route_localnet net.ipv6.conf.nd-net1.disable_ipv6 net.ipv4.ip_forward \
         net.ipv6.conf.all.forwarding";
    let host = lab.shell("host", &shell.replace("END", &end(lab)));
    let inside = lab.shell("web", "ip -d link show; ip address show; ip route show; ip -6 route show");
    let file = std::fs::read_to_string("/etc/netns/web/resolv.conf").unwrap_or_default();
    // Timers, and what follows from the carrier a moment later.
    let all = format!("{}\n{}\n{}\n{}\n{file}", host.stdout, host.stderr, inside.stdout, inside.stderr);
    let moves = ["timer", "_lft", "gc_", "hello", "tcn_"];
    let lines = all.lines().filter(|line| !moves.iter().any(|word| line.contains(word)));
    lines.map(|line| line.replace(" nodad", "").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn end(lab: &Lab) -> String {
    lab.endpoint("net1", "web")["host_ifname"].as_str().unwrap().to_owned()
}

fn heals(lab: &Lab, changes: &[Broken]) {
    let _server = set_up(lab);
    let end = end(lab);
    let before = look(lab);
    for Broken { what, by } in changes {
        let out = run_shell(&by.replace("END", &end));
        assert_eq!(out.code, Some(0), "{what}: {by}: {}", out.stderr);
        until_same(what, &before, || look(lab));
        works(lab);
    }
    let status = lab.netd("status --json").ok().json();
    assert_eq!((&status["ready"], &status["problems"]), (&true.into(), &serde_json::json!([])), "{status}");
}

fn run_shell(line: &str) -> Out {
    run_words(&["sh", "-c", line])
}

fn redirection(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 -o dns.listen=container").ok();
    lab.connected("net1", "web", "");
    lab.connected("net1", "client", "");
    let address = lab.address("net1", "web")[0].to_string();
    let table = || run("ip netns exec client nft -s list table ip netd_dns").stdout;
    let before = table();
    assert!(before.contains("chain output"), "{before}");
    for change in ["nft flush ruleset", "nft delete table ip netd_dns", "nft flush chain ip netd_dns output"] {
        run(&format!("ip netns exec client {change}")).ok();
        until("the redirection is back", || is(table(), &before));
        until("the name answers", || is(Dig::ask("client", "web").answers, &[address.as_str()]));
    }
}

fn additions_stay(lab: &Lab) {
    let _server = set_up(lab);
    for line in [
        "ip -n host address add 192.0.2.7/32 dev nd-net1",
        "ip -n host route add 198.51.100.0/24 via 10.77.0.2 dev nd-net1",
        "ip -n web address add 192.0.2.8/32 dev eth0",
        "ip -n web route add 198.51.100.0/24 via 10.77.0.1",
        // And a change that makes netd look.
        "ip -n host link set nd-net1 down",
        "ip -n web link set eth0 mtu 1300",
    ] {
        run(line).ok();
    }
    works(lab);
    let shown = || run("ip -n web link show eth0").ok().stdout;
    until_within(Duration::from_secs(10), "eth0 has its MTU", || contains(shown(), "mtu 1500"));
    assert!(run("ip -n host address show nd-net1").ok().stdout.contains("192.0.2.7"));
    assert!(run("ip -n web address show eth0").ok().stdout.contains("192.0.2.8"));
    assert!(run("ip -n web route show").ok().stdout.contains("198.51.100.0/24"));
}

fn fought(lab: &Lab) {
    let _server = set_up(lab);
    let fighter = "while ip -n host link set nd-net1 mtu 1400; do \
                   until ip -n host link show nd-net1 | grep -q 'mtu 1500'; do :; done; done";
    let mut fighter = std::process::Command::new("sh").args(["-c", fighter]).spawn().unwrap();
    let complains = |status: &String| status.contains("nd-net1") && status.contains("again and again");
    let patience = Duration::from_secs(30);
    let what = "netd status names what another program fights about";
    until_within(patience, what, || seen(lab.netd("status").stdout, complains));
    fighter.kill().unwrap();
    fighter.wait().unwrap();
    until_within(patience, "the problem is over", || lacks(lab.netd("status").stdout, "again and again"));
    works(lab);
}
