//! Policies: who may begin a flow to whom, seen with real flows, new ones and some that are open.

mod around;
pub(crate) mod flow;
mod matrix;
mod proxied;

use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, seen};
use serde_json::Value;

use crate::lab::{self, HOST4, Lab, OUTSIDE4, run, space, trial, until, until_within};
use flow::{Server, TCP, UDP, begins, open};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = matrix::trials();
    trials.extend(proxied::trials());
    trials.extend([
        trial("policy: the host and the outside are subjects, default-deny includes published ports", edges),
        trial("policy: names, aliases, labels, services and virtual addresses are subjects", subjects),
        trial("policy: it holds from the first packet of a container that comes later", first_packet),
        trial("policy: a restart, a kill and a flushed ruleset change nothing", survives),
        trial("policy: what is denied is counted by name", counted),
        trial("policy: a backup has them, and what is restored holds", restored),
        trial("policy: a file is applied whole or not at all, and planned", applied),
        trial(
            "policy: link-local addresses, fragments and other containers' answers are no way around",
            around::strangers,
        ),
        trial("policy: a container that leaves a network keeps what it has on its other one", leaves),
        trial("policy: within an internal network, what no policy is about passes", internal),
        trial("policy: within a bridge, the gateway is no way around", around::gateway),
        trial("policy: within a bridge clients may have any port, and servers too", any_port),
        trial("policy: a network without policies passes not one rule more", not_one_rule_more),
    ]);
    trials
}

/// netd counts every 10 s.
const A_COUNT: Duration = Duration::from_secs(15);

fn first(lab: &Lab, network: &str, container: &str) -> String {
    lab.address(network, container)[0].to_string()
}

/// As on hosts with `net.ipv4.ip_local_port_range = 1024 65535`.
fn any_port(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    ["client", "server"].iter().for_each(|name| lab.connected("net1", name, ""));
    let range = "net.ipv4.ip_local_port_range=20000 20099";
    lab::command::run_words(&["ip", "netns", "exec", "client", "sysctl", "-qw", range]).ok();
    let _servers = [Server::start("server", 50051), Server::start("server", 80), Server::start("client", 50051)];
    lab.netd("policy default-deny net1").ok();
    [50051, 80].iter().for_each(|port| drop(lab.netd(&format!("policy allow client server:{port}")).ok()));
    let (clients, servers) = (lab.address("net1", "client"), lab.address("net1", "server"));
    let mut open: Vec<_> = [50051, 80]
        .into_iter()
        .flat_map(|port| {
            servers.iter().map(move |to| open("client", TCP, &to.to_string(), port).expect("it is allowed"))
        })
        .collect();
    assert!(open.iter_mut().all(flow::Flow::goes_on));
    lab.netd("policy deny server client:9999").ok();
    assert!(open.iter_mut().all(flow::Flow::goes_on), "another policy does not end them");
    assert!(clients.iter().all(|to| !begins("server", TCP, &to.to_string(), 50051)), "the other way is not");
    lab.netd("policy rm 2 3").ok();
    assert!(open.iter_mut().all(flow::Flow::has_ended));
}

/// It is the only container on net1 that a policy is about: with it the network ceases to be compared with policies.
fn leaves(lab: &Lab) {
    lab.start_daemon();
    ["net1", "net2"].iter().for_each(|network| drop(lab.netd(&format!("network create {network}")).ok()));
    lab.connected("net2", "web", "-p 4000:80");
    lab.netd("connect net1 web").ok();
    lab.connected("net2", "db", "");
    lab.netd("policy allow outside web:80").ok();
    let _servers = ["web", "db"].map(|name| Server::start(name, 80));
    let works = || [begins("outside", TCP, HOST4, 4000), begins("web", TCP, &first(lab, "net2", "db"), 80)];
    until("the port answers, and what it sends passes", || is(works(), &[true; 2]));
    lab.netd("disconnect net1 web").ok();
    assert_eq!((works(), lab.diff()), ([true; 2], String::new()));
    lab.netd("connect net1 web").ok();
    assert_eq!((works(), lab.diff()), ([true; 2], String::new()));
}

/// With br_netfilter, as on hosts with Docker or Kubernetes, the rules against leaving an internal network saw its own frames.
fn internal(lab: &Lab) {
    lab.start_daemon();
    for (network, more) in [("net1", ""), ("net2", "--egress deny")] {
        lab.netd(&format!("network create {network} --ipv6 --internal {more}")).ok();
        let [web, db, other] = ["web", "db", "other"].map(|name| format!("{name}-{network}"));
        [&web, &db, &other].iter().for_each(|name| lab.connected(network, name, ""));
        let _server = Server::start(&db, 80);
        lab.netd(&format!("policy deny {other} {db}")).ok();
        let addresses = lab.address(network, &db);
        let passes = |from: &str| {
            let each = addresses.iter().flat_map(|to| [TCP, UDP].map(|proto| begins(from, proto, &to.to_string(), 80)));
            each.collect::<Vec<bool>>()
        };
        for frames_pass_the_hosts_rules in ["0", "1"] {
            let _ = space::bridge_netfilter(frames_pass_the_hosts_rules);
            assert_eq!((passes(&web), passes(&other)), (vec![true; 4], vec![false; 4]), "{network}");
        }
        lab.netd(&format!("policy default-deny {network}")).ok();
        assert_eq!(passes(&web), [false; 4], "{network}");
        lab.netd(&format!("policy allow {web} {db}")).ok();
        assert_eq!((passes(&web), passes(&other)), (vec![true; 4], vec![false; 4]), "{network}");
    }
}

fn edges(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    let _servers = [Server::start("web", 80), Server::start("web", 81), Server::start("outside", 90)];
    let _host = Server::start("host", 91);
    let web = first(lab, "net1", "web");
    let seen = || {
        let both = |ns: &str, to: &str, port| begins(ns, TCP, to, port) && begins(ns, UDP, to, port);
        let ways = [
            ("outside", both("outside", lab::HOST4, 4000) && both("outside", lab::HOST6, 4000)),
            ("host", both("host", &web, 80)),
            ("host 81", both("host", &web, 81)),
            ("host port", both("host", lab::HOST4, 4000)),
            ("to host", both("web", "10.77.0.1", 91)),
            ("to outside", both("web", OUTSIDE4, 90)),
        ];
        ways.into_iter().filter(|(_, passes)| *passes).map(|(name, _)| name).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(seen(), "outside, host, host 81, host port, to host, to outside");
    lab.netd("policy default-deny net1").ok();
    assert_eq!(seen(), "to host, to outside");
    lab.netd("policy allow outside web:80").ok();
    lab.netd("policy allow outside web:80/udp").ok();
    assert_eq!(seen(), "outside, to host, to outside");
    lab.netd("policy allow host web").ok();
    lab.netd("policy deny host web:81").ok();
    assert_eq!(seen(), "outside, host, host port, to host, to outside");
    lab.netd("policy deny web host:91").ok();
    lab.netd("policy deny web outside:90/udp").ok();
    assert_eq!(seen(), "outside, host, host port");
    for (question, expected) in [
        ("outside web:80", true),
        ("outside web:81", false),
        ("host web:80", true),
        ("host web:81", false),
        ("web host:91", false),
        ("web host:92", true),
        ("web outside:90/udp", false),
        ("web outside:90", true),
    ] {
        let said = lab.netd(&format!("policy test {question} --json"));
        assert_eq!(said.succeeded().is_ok(), expected, "{question}");
    }
    // Names are answered in any case.
    assert!(run("ip netns exec web dig +short +time=2 @10.77.0.1 web").ok().stdout.contains(&web));
    assert_eq!(lab.diff(), "");
}

fn subjects(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    for (name, more) in
        [("a", "--label tier=web"), ("b", "--alias backend"), ("c", "--label tier=web"), ("d", ""), ("e", "")]
    {
        lab.connected("net1", name, more);
    }
    let _servers = ["a", "b", "c", "d", "e"].map(|name| Server::start(name, 80));
    lab.netd("service create api --network net1 --mode vip --member d --member e --health none").ok();
    let vip = lab.netd("service inspect api --json").ok().json()[0]["networks"][0]["addresses"][0].clone();
    let vip = vip.as_str().expect("a virtual address").to_owned();
    let passes = |from: &str, to: &str| {
        let to = if to == "api" { vip.clone() } else { first(lab, "net1", to) };
        begins(from, TCP, &to, 80)
    };
    lab.netd("policy default-deny net1").ok();
    assert!(!passes("a", "b") && !passes("a", "api") && !passes("b", "a"));
    lab.netd("policy allow tier=web backend:80").ok();
    assert!(passes("a", "b") && passes("c", "b") && !passes("d", "b") && !passes("b", "c"));
    lab.netd("policy allow c service:api").ok();
    assert!(passes("c", "api") && passes("c", "d") && !passes("a", "api") && !passes("a", "d"));
    // A member that leaves the service is no longer meant, one that comes is.
    lab.netd("service update api --member-rm e --member-add b").ok();
    assert!(passes("c", "d") && !passes("c", "e"));
    lab.netd("policy deny a.net1 name:b.net1").ok();
    assert!(!passes("a", "b") && passes("c", "b"));
    let listed = lab.netd("policy ls --json").ok().json();
    let now = |id: usize, side: &str| listed[id][side].to_string();
    assert_eq!(now(1, "from_containers"), r#"["a","c"]"#);
    assert_eq!(now(2, "to_containers"), r#"["b","d"]"#);
    lab.netd("policy rm 1 2 3 4").ok();
    assert!(passes("a", "b") && passes("d", "a") && passes("a", "api"));
    assert_eq!(lab.diff(), "");
}

fn first_packet(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "db", "");
    let db = first(lab, "net1", "db");
    let server = Server::start("db", 80);
    let come = |name: &str| {
        lab.container(name);
        let knocking = flow::knock(name, &db, 80);
        lab.netd(&format!("connect net1 {name}")).ok();
        // What it sends before is kept for later, or lost.
        until("it knows its neighbour", || contains(run(&format!("ip -n {name} neigh show {db}")).stdout, "lladdr"));
        knocking.until_sent(20);
        server.heard()
    };
    lab.netd("policy deny late db").ok();
    assert_eq!(come("late"), 0, "not one datagram of the container that is denied");
    assert!(come("other") > 0, "the other one is heard");
}

fn survives(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2").ok();
    for name in ["web", "db", "x"] {
        lab.connected("net1", name, "");
    }
    lab.connected("net2", "far", "");
    let _servers = [Server::start("db", 80), Server::start("far", 80)];
    lab.netd("policy default-deny net1").ok();
    lab.netd("policy allow web db:80").ok();
    lab.netd("policy allow web far:80").ok();
    let (db, far) = (first(lab, "net1", "db"), first(lab, "net2", "far"));
    let right = || {
        let seen = [begins("web", TCP, &db, 80), begins("web", TCP, &far, 80), !begins("x", TCP, &db, 80)];
        is(seen, &[true; 3])
    };
    let mut flows = [open("web", TCP, &db, 80), open("web", TCP, &far, 80)].map(|flow| flow.expect("a flow"));
    lab.kill_daemon();
    right().expect("without a daemon");
    lab.start_daemon();
    right().expect("after a kill");
    run("ip netns exec host nft flush ruleset").ok();
    until("the tables are back", right);
    run("ip netns exec host nft delete element inet netd shut4 { 10.77.0.3 }").ok();
    run("ip netns exec host nft flush map bridge netd within4_port").ok();
    until("the elements are back", || is(lab.diff(), ""));
    until("and decide", right);
    flows.iter_mut().for_each(|flow| assert!(flow.goes_on(), "an allowed flow goes on"));
    lab.netd("disconnect net1 db").ok();
    assert_eq!(lab.diff(), "");
    lab.netd("network rm net2").refused();
    lab.netd("disconnect net2 far").ok();
    lab.netd("network rm net2").ok();
    assert_eq!(lab.diff(), "");
}

fn counted(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2").ok();
    for (network, name) in [("net1", "web"), ("net1", "db"), ("net2", "far")] {
        lab.connected(network, name, "");
    }
    lab.netd("policy deny web db:5432").ok();
    lab.netd("policy deny web far").ok();
    let (db, far) = (first(lab, "net1", "db"), first(lab, "net2", "far"));
    assert!(!begins("web", TCP, &db, 5432) && !begins("web", UDP, &far, 53));
    let metrics = || lab.http("GET", "/metrics", "").1;
    let line = |to: &str, service: &str| {
        format!("netd_denied_packets_total{{from=\"web\",to=\"{to}\",service=\"{service}\"}}")
    };
    until_within(A_COUNT, "they are counted", || contains(metrics(), &line("db", "5432/tcp")));
    until_within(A_COUNT, "also between networks", || contains(metrics(), &line("far", "53/udp")));
    let listed = lab.netd("policy ls --json").ok().json();
    let denied: Vec<u64> =
        listed.as_array().into_iter().flatten().filter_map(|p| p["denied_packets"].as_u64()).collect();
    assert!(denied.iter().all(|count| *count > 0) && denied.len() == 2, "{denied:?}");
    assert!(lab.log().contains("denied: web to db (5432/tcp)"), "{}", lab.log());
}

fn restored(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("policy deny web db:80").ok();
    lab.netd("policy default-deny net1").ok();
    let said = lab.netd("backup /run/backup.json").ok().stdout;
    assert!(said.contains("1 networks, 2 policies"), "{said}");
    lab.netd("policy rm 1 2").ok();
    lab.netd("network rm net1").ok();
    let said = lab.netd("restore /run/backup.json").ok().stdout;
    assert!(said.contains("policy added: deny web db:80/tcp"), "{said}");
    let again = lab.netd("restore /run/backup.json").ok().stdout;
    assert!(!again.contains("policy"), "they are there: {again}");
    lab.connected("net1", "web", "");
    lab.connected("net1", "db", "");
    let _server = Server::start("db", 80);
    lab.netd("policy allow web db").ok();
    let db = first(lab, "net1", "db");
    assert_eq!((begins("web", TCP, &db, 80), begins("web", UDP, &db, 80)), (false, true));
    let range = lab.netd("policy test web db:80-90");
    assert!(range.code != Some(0) && range.stderr.contains("ask about one port"), "{}", range.stderr);
    assert_eq!(lab.diff(), "");
}

fn applied(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "");
    lab.connected("net1", "db", "");
    let db = first(lab, "net1", "db");
    let _server = Server::start("db", 80);
    let apply = |text: &str, more: &str| {
        std::fs::write("/run/policies.yaml", text).expect("a file");
        lab.netd(&format!("policy apply /run/policies.yaml {more}"))
    };
    let shown = || {
        let listed = lab.netd("policy ls --json").ok().json();
        let one = |p: &Value| format!("{} {} {} {}", p["id"], p["action"], p["to"], p["ports"]);
        listed.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join("; ")
    };
    lab.netd("policy deny web db").ok();
    let before = lab.everything();
    let good = "policies:\n  - default-deny net1\n  - allow web db:80\n";
    let plan = apply(good, "--dry-run").ok().stdout;
    assert!(
        plan.contains("remove policy: deny web db\n") && plan.contains("add policy: allow web db:80/tcp"),
        "{plan}"
    );
    lab.unchanged_since(&before);
    for (text, words) in [
        ("policies:\n  - allow web db:80\n  - allow web db:0\n", "no port is 0"),
        ("policies:\n  - allow web db:80\n  - default-deny nowhere\n", "no network \"nowhere\""),
        ("policies:\n  - allow outside host\n", "one side must be containers"),
        ("policies: 7\n", "no list of policies"),
    ] {
        let line = apply(text, "").refused();
        assert!(line.contains(words), "{line}");
        lab.unchanged_since(&before);
    }
    assert!(!begins("web", TCP, &db, 80));
    apply(good, "").ok();
    assert!(begins("web", TCP, &db, 80) && !begins("web", UDP, &db, 80));
    assert_eq!(shown(), r#"2 "default-deny" "net1" null; 3 "allow" "db" "80/tcp""#);
    assert!(apply(good, "").ok().stdout.lines().all(|line| line.contains("there already")));
    apply("policies: []\n", "").ok();
    assert_eq!(shown(), "");
    assert!(begins("web", UDP, &db, 80));
}

/// The rules that the kernel evaluates for the same traffic.
fn rules(lab: &Lab, to: &str) -> Vec<String> {
    lab.exec("host", "nft add table inet trace").ok();
    lab.exec("host", "nft add table bridge trace").ok();
    for (family, hook) in [("inet", "prerouting"), ("inet", "output"), ("bridge", "prerouting")] {
        let chain = format!("{{ type filter hook {hook} priority -400; }}");
        run(&format!("ip netns exec host nft add chain {family} trace {hook} {chain}")).ok();
        run(&format!(
            "ip netns exec host nft add rule {family} trace {hook} meta l4proto udp th dport 80 meta nftrace set 1"
        ))
        .ok();
    }
    // The program says nothing when it is ready.
    let traced = until("the kernel traces", || {
        let traced = flow::trace(|| assert!(begins("same", UDP, to, 80)));
        seen(traced, |rules| !rules.is_empty())
    });
    lab.exec("host", "nft delete table inet trace").ok();
    lab.exec("host", "nft delete table bridge trace").ok();
    traced
}

fn not_one_rule_more(lab: &Lab) {
    let _ = space::bridge_netfilter("1");
    lab.start_daemon();
    for network in ["net1", "net2"] {
        lab.netd(&format!("network create {network} --ipv6")).ok();
    }
    for (network, name) in [("net2", "web"), ("net2", "same"), ("net1", "other")] {
        lab.connected(network, name, "");
    }
    let _server = Server::start("web", 80);
    let web = first(lab, "net2", "web");
    assert!(begins("same", UDP, &web, 80), "neighbours know each other");
    let before = rules(lab, &web);
    lab.netd("policy default-deny net1").ok();
    lab.netd("policy deny other outside").ok();
    assert_eq!(rules(lab, &web), before);
    assert!(before.len() > 3, "{before:?}");
    lab.netd("policy deny web same:99").ok();
    assert!(rules(lab, &web).len() > before.len(), "a policy costs something where it is");
}
