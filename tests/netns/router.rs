//! The host does not become a router because netd turned forwarding on; where it was one, it stays one.

use std::fs;
use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{is, seen};
use serde_json::{Value, json};

use crate::lab::command::run_words;
use crate::lab::echo::{answers, expect_no_answer};
use crate::lab::look::ruleset;
use crate::lab::{
    HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, ask, daemon, run, skippable, space, trial, until,
    until_within,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("router: nothing passes between two networks of the host; containers and ports do", no_router),
        trial("router: what forwarded before netd goes on, with and after netd's networks", router_before),
        trial("router: what sysctl.d or netd.toml asks for is not restricted", asked),
        trial("router: forwarding goes off with the last network that needs it", last_network),
        trial("router: forwarding that was turned off is netd's when it is healed, and after a kill", healed),
        trial("router: a bridge of another engine goes on, and keeps forwarding on", other_engine),
        trial("router: an interface that comes later is kept apart too", later),
        trial("router: teardown turns off what netd turned on", torn_down),
        skippable("router: frames within a bridge of the host pass", frames),
    ]
}

/// The host's addresses on the second network, and those of `lan` there.
const HOST_LAN: [&str; 2] = ["198.51.100.1", "2001:db8:5::1"];
const LAN: [&str; 2] = ["198.51.100.2", "2001:db8:5::2"];
/// netd looks every 10 s at what the kernel does not report.
const A_LOOK: Duration = Duration::from_secs(15);

/// A namespace with these addresses, and the host at this end of the cable.
fn join(ns: &str, device: &str, host: [&str; 2], there: [&str; 2]) {
    run(&format!("ip netns add {ns}")).ok();
    run(&format!("ip -n host link add {device} type veth peer name eth0 netns {ns}")).ok();
    for (space, device, [v4, v6]) in [("host", device, host), (ns, "eth0", there)] {
        run(&format!("ip -n {space} address add {v4}/24 dev {device}")).ok();
        run(&format!("ip -n {space} address add {v6}/64 dev {device} nodad")).ok();
        run(&format!("ip -n {space} link set {device} up")).ok();
    }
    for host in host {
        run(&format!("ip -n {ns} route add default via {host}")).ok();
    }
}

/// A second network of the host. Both use the host as their router, and have a server.
fn lan() -> Vec<Server> {
    join("lan", "lan0", HOST_LAN, LAN);
    outside_routes();
    vec![Server::start("outside", "outside", 9000), Server::start("lan", "lan", 9000)]
}

fn outside_routes() {
    for host in [HOST4, HOST6] {
        run(&format!("ip -n outside route add default via {host}")).ok();
    }
}

#[track_caller]
fn passes() {
    for (from, who, to) in [("outside", "lan", LAN), ("lan", "outside", [OUTSIDE4, OUTSIDE6])] {
        for to in to {
            assert_eq!(ask(from, Proto::Tcp, (to, 9000)).who, who);
            assert_eq!(ask(from, Proto::Udp, (to, 9000)).who, who);
        }
    }
}

#[track_caller]
fn passes_not() {
    for to in LAN {
        expect_no_answer("outside", Proto::Tcp, (to, 9000));
        expect_no_answer("outside", Proto::Udp, (to, 9000));
    }
    for to in [OUTSIDE4, OUTSIDE6] {
        expect_no_answer("lan", Proto::Tcp, (to, 9000));
    }
}

/// net1 with `web`, which is published on port 4000.
fn net1(lab: &Lab) -> Server {
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80");
    Server::start("web", "web", 80)
}

#[track_caller]
fn containers_go_on() {
    for (who, to) in [("outside", [OUTSIDE4, OUTSIDE6]), ("lan", LAN)] {
        for to in to {
            assert_eq!(ask("web", Proto::Tcp, (to, 9000)).who, who);
        }
    }
    for (from, to) in [("outside", [HOST4, HOST6]), ("lan", HOST_LAN)] {
        for to in to {
            assert_eq!(ask(from, Proto::Tcp, (to, 4000)).who, "web");
        }
    }
}

fn remove(lab: &Lab) {
    lab.netd("disconnect net1 web").ok();
    lab.netd("network rm net1").ok();
}

fn forwarding() -> [String; 2] {
    ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(|key| space::setting("host", key).unwrap())
}

fn forward(value: &str) {
    space::sysctl("host", "net/ipv4/ip_forward", value);
    space::sysctl("host", "net/ipv6/conf/all/forwarding", value);
}

/// The interfaces in the set, sorted.
fn set(name: &str) -> Vec<String> {
    let listed = run(&format!("ip netns exec host nft -j list set inet netd {name}")).ok().json();
    let set = listed["nftables"].as_array().unwrap().iter().find_map(|object| object.get("set")).unwrap();
    let elements = set.get("elem").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut names: Vec<String> = elements.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// How many packets the rules have dropped, IPv4 and IPv6.
fn dropped() -> Vec<u64> {
    let listed = run("ip netns exec host nft -j list chain inet netd forward").ok().json();
    let rules = listed["nftables"].as_array().unwrap().iter().filter_map(|object| object.get("rule"));
    let ours = rules.filter(|rule| rule["comment"].as_str().is_some_and(|why| why.contains("netd's networks only")));
    let count = |rule: &Value| {
        let counter = rule["expr"].as_array()?.iter().find_map(|part| part.get("counter"))?;
        counter["packets"].as_u64()
    };
    ours.map(|rule| count(rule).unwrap()).collect()
}

fn no_router(lab: &Lab) {
    let _servers = lan();
    lab.start_daemon();
    passes_not();
    assert_eq!(dropped(), [0, 0], "the kernel forwards nothing yet");
    let _web = net1(lab);
    assert_eq!(forwarding(), ["1", "1"]);
    containers_go_on();
    passes_not();
    assert!(dropped().iter().all(|count| *count > 0), "{:?}", dropped());
    assert!(lab.log().contains("ip_forward"), "{}", lab.log());
    assert_eq!(
        lab.netd("status --json").ok().json()["kept_apart"],
        json!({"ipv4": ["lan0", "uplink"], "ipv6": ["lan0", "uplink"]})
    );
    // One family alone.
    remove(lab);
    lab.netd("network create net2").ok();
    assert_eq!((forwarding(), set("uplinks4").len(), set("uplinks6").len()), (["1".into(), "0".into()], 2, 0));
}

fn router_before(lab: &Lab) {
    forward("1");
    let _servers = lan();
    lab.start_daemon();
    let _web = net1(lab);
    passes();
    containers_go_on();
    assert_eq!((set("uplinks4"), set("uplinks6")), (vec![], vec![]));
    lab.kill_daemon();
    lab.start_daemon();
    passes();
    remove(lab);
    assert_eq!(forwarding(), ["1", "1"]);
    passes();
}

fn asked(lab: &Lab) {
    let _servers = lan();
    fs::create_dir_all("/etc/sysctl.d").unwrap();
    let file = "/etc/sysctl.d/50-router.conf";
    fs::write(file, "net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\n").unwrap();
    lab.start_daemon();
    let web = net1(lab);
    passes();
    remove(lab);
    assert_eq!(forwarding(), ["1", "1"], "it is asked for");
    assert!(lab.log().contains("forwarding stays on"), "{}", lab.log());
    drop(web);
    let _web = net1(lab);
    // netd looks at the file every 10 s.
    fs::remove_file(file).unwrap();
    until_within(A_LOOK, "the interfaces are kept apart", || is(set("uplinks4"), &["lan0", "uplink"]));
    passes_not();
    lab.stop_daemon();
    fs::write(daemon::CONFIG, "[firewall]\nforwarding = \"host\"\n").unwrap();
    lab.start_daemon();
    passes();
    containers_go_on();
    remove(lab);
    assert_eq!(forwarding(), ["1", "1"]);
    passes();
}

fn last_network(lab: &Lab) {
    let _servers = lan();
    space::sysctl("host", "net/ipv6/conf/uplink/accept_ra", "1");
    space::sysctl("host", "net/ipv6/conf/lan0/accept_ra", "2");
    let accept_ra =
        || ["uplink", "lan0"].map(|name| space::setting("host", &format!("net/ipv6/conf/{name}/accept_ra")).unwrap());
    lab.start_daemon();
    let before = ruleset();
    lab.netd("network create net2 --ipv6").ok();
    let web = net1(lab);
    assert_eq!((forwarding(), accept_ra()), (["1".into(), "1".into()], ["2".into(), "2".into()]));
    remove(lab);
    assert_eq!(forwarding(), ["1", "1"], "net2 needs it");
    let planned = lab.netd("network rm net2 --dry-run").ok().stdout;
    assert!(planned.contains("set net.ipv4.ip_forward, net.ipv6.conf.all.forwarding to 0"), "{planned}");
    lab.netd("network rm net2").ok();
    assert_eq!((forwarding(), accept_ra()), (["0".into(), "0".into()], ["1".into(), "2".into()]));
    assert_eq!(ruleset(), before);
    assert!(lab.log().contains("forwarding turned off"), "{}", lab.log());
    // The next ones turn it on again.
    drop(web);
    let _web = net1(lab);
    containers_go_on();
    passes_not();
}

fn healed(lab: &Lab) {
    let _servers = lan();
    lab.start_daemon();
    let _web = net1(lab);
    forward("0");
    until("forwarding is on again", || is(forwarding(), &["1", "1"]));
    containers_go_on();
    passes_not();
    lab.kill_daemon();
    passes_not();
    lab.start_daemon();
    containers_go_on();
    passes_not();
    // The network is removed while the record of who turned forwarding on is lost.
    lab.kill_daemon();
    fs::remove_file("/run/lab/runtime/endpoints.redb").unwrap();
    lab.start_daemon();
    passes_not();
    remove(lab);
    assert_eq!(forwarding(), ["0", "0"]);
}

/// A bridge like Docker's with a container.
fn docker0() {
    run("ip -n host link add docker0 type bridge").ok();
    run("ip -n host address add 172.17.0.1/16 dev docker0").ok();
    run("ip -n host link set docker0 up").ok();
    run("ip netns add docked").ok();
    run("ip -n host link add veth0 master docker0 type veth peer name eth0 netns docked").ok();
    run("ip -n host link set veth0 up").ok();
    run("ip -n docked address add 172.17.0.2/16 dev eth0").ok();
    run("ip -n docked link set eth0 up").ok();
    run("ip -n docked route add default via 172.17.0.1").ok();
}

fn other_engine(lab: &Lab) {
    let _servers = lan();
    lab.start_daemon();
    let _web = net1(lab);
    docker0();
    let reaches = || {
        until("its container reaches the outside", || {
            seen(answers("docked", Proto::Tcp, (OUTSIDE4, 9000)), Option::is_some)
        });
        assert_eq!(ask("docked", Proto::Tcp, (LAN[0], 9000)).who, "lan");
    };
    reaches();
    remove(lab);
    assert_eq!(forwarding(), ["1", "1"], "docker0 needs it");
    assert!(lab.log().contains("docker0 of another engine"), "{}", lab.log());
    reaches();
    passes_not();
    // Its bridge goes, and forwarding with it.
    run("ip -n host link del docker0").ok();
    run("ip netns del docked").ok();
    until_within(A_LOOK, "forwarding is off", || is(forwarding(), &["0", "0"]));
}

fn later(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    assert_eq!(set("uplinks4"), ["uplink"]);
    let _servers = lan();
    until("it is kept apart", || seen(set("uplinks6"), |names| *names == ["lan0", "uplink"]));
    passes_not();
    until("nothing differs", || is(lab.diff(), ""));
    run("ip -n host link set lan0 down").ok();
    run("ip -n host link set lan0 name lan1").ok();
    run("ip -n host link set lan1 up").ok();
    until("its new name is known", || seen(set("uplinks4"), |names| *names == ["lan1", "uplink"]));
    assert!(!lab.log().contains("repaired: table"), "{}", lab.log());
}

fn torn_down(lab: &Lab) {
    lab.start_daemon();
    let _web = net1(lab);
    let out = lab.netd("teardown --yes").ok().stdout;
    assert!(out.contains("set net.ipv4.ip_forward, net.ipv6.conf.all.forwarding to 0"), "{out}");
    assert_eq!(lab.daemon_status(), Some(3));
    assert_eq!((forwarding(), ruleset()), (["0".to_owned(), "0".to_owned()], String::new()));
}

fn frames(lab: &Lab) -> Completion {
    if let Err(why) = space::bridge_netfilter("1") {
        return Completion::ignored_with(why);
    }
    run("ip -n host link add br0 type bridge").ok();
    run("ip -n host link set br0 up").ok();
    for (ns, address) in [("left", "203.0.113.1"), ("right", "203.0.113.2")] {
        run(&format!("ip netns add {ns}")).ok();
        run(&format!("ip -n host link add v-{ns} type veth peer name eth0 netns {ns}")).ok();
        // A port that is no end of a pair: the bridge leads out of the host.
        run(&format!("ip -n host link add link v-{ns} name p-{ns} type macvlan mode passthru")).ok();
        run(&format!("ip -n host link set p-{ns} master br0")).ok();
        run(&format!("ip -n host link set v-{ns} up")).ok();
        run(&format!("ip -n host link set p-{ns} up")).ok();
        run(&format!("ip -n {ns} address add {address}/24 dev eth0")).ok();
        run(&format!("ip -n {ns} link set eth0 up")).ok();
    }
    lab.start_daemon();
    lab.netd("network create net1").ok();
    assert!(set("uplinks4").contains(&"br0".to_owned()), "{:?}", set("uplinks4"));
    let _server = Server::start("right", "right", 9000);
    assert_eq!(ask("left", Proto::Tcp, ("203.0.113.2", 9000)).who, "right");
    let allowed = run_words(&["ip", "netns", "exec", "host", "nft", "list", "set", "inet", "netd", "allowed"]).ok();
    assert!(allowed.stdout.contains("\"br0\" . \"br0\""), "{}", allowed.stdout);
    Completion::Completed
}
