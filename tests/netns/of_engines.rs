//! Containers of another engine that has its own interfaces, default route and resolver in them. `ip` and `nft` stand
//! for the engine; the real ones are in ring 4. Podman's namespaces are known by their names.

use std::net::SocketAddr;

use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::lab::command::run_words;
use crate::lab::look::default_routes;
use crate::lab::upstream::{ANSWER, Upstream};
use crate::lab::{Dig, Lab, OUTSIDE4, Proto, Server, addresses, ask, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("of engines: netd leaves interface names and the default route to the engine", names_and_routes),
        trial("of engines: unknown names are forwarded to the container's own resolver", beside),
        trial("of engines: a resolver that appears later is found", comes_later),
    ]
}

/// A namespace as Podman calls its own.
const CONTAINER: &str = "netns-1";

/// An interface as engines make them, with a default route, by a bridge of the host's.
fn engine_connects(ifname: &str, octet: u8) {
    let bridge = format!("br-{octet}");
    run(&format!("ip -n host link add {bridge} type bridge")).ok();
    run(&format!("ip -n host address add 172.30.{octet}.1/24 dev {bridge}")).ok();
    run(&format!("ip -n host link set {bridge} up")).ok();
    run(&format!("ip -n host link add v-{octet} type veth peer name {ifname} netns {CONTAINER}")).ok();
    run(&format!("ip -n host link set v-{octet} master {bridge} up")).ok();
    run(&format!("ip -n {CONTAINER} address add 172.30.{octet}.2/24 dev {ifname}")).ok();
    run(&format!("ip -n {CONTAINER} link set {ifname} up")).ok();
    run(&format!("ip -n {CONTAINER} route add default via 172.30.{octet}.1")).ok();
}

fn names_and_routes(lab: &Lab) {
    lab.start_daemon();
    let _outside = Server::start("outside", "outside", 80);
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2").ok();
    lab.container(CONTAINER);
    engine_connects("eth0", 1);
    lab.connected("net1", CONTAINER, "-p 4000:80");
    lab.connected("net2", CONTAINER, "");
    let own = lab.address("net1", CONTAINER);
    assert_eq!(addresses(CONTAINER, "nd0"), own);
    assert_eq!(addresses(CONTAINER, "nd1"), lab.address("net2", CONTAINER));
    // The engine adds its next network.
    engine_connects_second();
    let gateway = lab.endpoint("net1", CONTAINER)["gateways"][0].as_str().unwrap().to_owned();
    let behind = (gateway, "nd0".to_owned());
    let first = ("172.30.1.1".to_owned(), "eth0".to_owned());
    assert_eq!(default_routes(CONTAINER, 4), [first, behind.clone()], "the engine's own comes first");
    // The engine removes its network; netd does not know that network.
    lab.kill_daemon();
    run("ip -n host link delete v-1").ok();
    assert_eq!(default_routes(CONTAINER, 4), std::slice::from_ref(&behind));
    assert_eq!(ask(CONTAINER, Proto::Tcp, (OUTSIDE4, 80)).who, "outside");
    let _server = Server::start(CONTAINER, "container", 80);
    assert_eq!(ask("outside", Proto::Tcp, (crate::lab::HOST4, 4000)).who, "container");
    lab.start_daemon();
    run(&format!("ip -n {CONTAINER} route delete default dev nd0")).ok();
    lab.kill_daemon();
    lab.start_daemon();
    // It looks into containers once it is ready.
    until("it is restored", || is(default_routes(CONTAINER, 4), std::slice::from_ref(&behind)));
    // A requested interface name is used.
    lab.netd(&format!("disconnect net2 {CONTAINER}")).ok();
    lab.connected("net2", CONTAINER, "--ifname eth7");
    assert_eq!(addresses(CONTAINER, "eth7"), lab.address("net2", CONTAINER));
    lab.connected("net2", "plain", "");
    assert_eq!(addresses("plain", "eth0"), lab.address("net2", "plain"), "as in all other containers");
}

/// `docker network connect`: the next number, and no default route, because there is one of the engine's.
fn engine_connects_second() {
    run(&format!("ip -n host link add v-2 type veth peer name eth1 netns {CONTAINER}")).ok();
}

/// A resolver as Docker gives its containers: on a port of its own, to which a rule for connection tracking leads.
fn resolver(container: &str) -> Upstream {
    let upstream = Upstream::start(container, SocketAddr::from(([127, 0, 0, 11], 40_053)));
    let enter = ["ip", "netns", "exec", container, "nft"];
    for rule in [
        "add table ip docker",
        "add chain ip docker output { type nat hook output priority -100; }",
        "add rule ip docker output ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40053",
    ] {
        run_words(&[&enter[..], &[rule]].concat()).ok();
    }
    upstream
}

/// Asserts the container's answer from 127.0.0.11.
#[track_caller]
fn expect_inside(container: &str, name: &str, address: &str) {
    Dig::expect(container, &format!("@127.0.0.11 {name}"), &[address]);
}

fn beside(lab: &Lab) {
    let theirs = std::net::Ipv4Addr::from(ANSWER).to_string();
    lab.start_daemon();
    lab.netd("network create net1 -o dns.listen=container").ok();
    lab.netd("network create quiet --internal").ok();
    lab.connected("net1", "web", "");
    lab.container("client");
    let resolver = resolver("client");
    lab.connected("net1", "client", "");
    let web = lab.address("net1", "web")[0].to_string();
    let holds = || {
        expect_inside("client", "web", &web);
        Dig::expect("client", "@127.0.0.11 +tcp web", &[&web]);
        // Names that netd itself would not forward.
        for name in ["theirs", "theirs.net1", "theirs.internal", "theirs.their-network", "www.example.com"] {
            expect_inside("client", name, &theirs);
        }
        Dig::expect_none("client", "@127.0.0.11 web AAAA", "NOERROR");
    };
    holds();
    assert!(!resolver.asked().contains(&"web".to_owned()), "netd answers the names that it knows");
    Dig::expect_none("web", "theirs", "NXDOMAIN");
    // It does not depend on netd.
    lab.kill_daemon();
    expect_inside("client", "theirs", &theirs);
    lab.start_daemon();
    holds();
    lab.stop_daemon();
    expect_inside("client", "theirs", &theirs);
    lab.start_daemon();
    // On internal networks only: the resolver is not netd's upstream.
    lab.connected("quiet", "client", "");
    lab.netd("disconnect net1 client").ok();
    expect_inside("client", "theirs", &theirs);
    lab.netd("disconnect quiet client").ok();
    expect_inside("client", "web", &theirs);
    let ruleset = lab.exec("client", "nft list ruleset").ok().stdout;
    assert!(!ruleset.contains("netd_dns"), "{ruleset}");
}

fn comes_later(lab: &Lab) {
    let theirs = std::net::Ipv4Addr::from(ANSWER).to_string();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create within -o dns.listen=container").ok();
    lab.netd("network create apart -o dns.listen=gateway").ok();
    lab.connected("net1", "web", "");
    lab.container("netns-2");
    lab.connected("within", "netns-2", "");
    for container in [CONTAINER, "netns-2", "netns-3"] {
        lab.connected(if container == "netns-3" { "apart" } else { "net1" }, container, "");
    }
    let web = lab.address("net1", "web")[0].to_string();
    let _resolvers = [CONTAINER, "netns-2", "netns-3"].map(resolver);
    for container in [CONTAINER, "netns-2", "netns-3"] {
        // The network that the engine gives it the resolver for.
        run(&format!("ip -n host link add v-{container} type veth peer name eth0 netns {container}")).ok();
    }
    for container in [CONTAINER, "netns-2"] {
        let answers = |name: &str| Dig::ask(container, &format!("@127.0.0.11 +time=1 {name}")).answers;
        until(&format!("{container} finds names of both"), || {
            is((answers("web"), answers("theirs")), &(vec![web.clone()], vec![theirs.clone()]))
        });
    }
    expect_inside("netns-3", "web", &theirs);
    assert!(
        !lab.exec("netns-3", "nft list ruleset").ok().stdout.contains("netd_dns"),
        "the user configured the gateway"
    );
}
