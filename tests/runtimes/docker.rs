//! Containers of a real dockerd on networks of netd: names, interfaces and routes of both, and the end of either
//! daemon.

use std::net::SocketAddr;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is};

use crate::dockerd::{Dockerd, NEEDS, docker, in_sandbox, serve};
use crate::lab::look::default_routes;
use crate::lab::upstream::{ANSWER, Upstream};
use crate::lab::{Dig, HOST4, Lab, run};
use crate::world::{fetch, fetches_the_page, on_host, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("docker: a published port is reachable from outside, also after a restart of dockerd", NEEDS, works),
        trial("docker: a container resolves names of Docker and of netd", NEEDS, both_names),
        trial("docker: a container connected to a network of Docker later resolves names of both", NEEDS, later),
        trial("docker: a container on the default bridge resolves netd's names with --dns", NEEDS, default_bridge),
        trial("docker: docker network connect and disconnect work, and ports answer", NEEDS, interfaces),
        trial("docker: a restarted container is released and can be connected again", NEEDS, restarted),
    ]
}

/// The laboratory's dockerd works as on a user's host.
fn works(_: &Lab) {
    let mut dockerd = Dockerd::start();
    serve("web", "-p 8080:80 --restart always");
    fetches_the_page("outside", &format!("{HOST4}:8080"));
    dockerd.restart();
    fetches_the_page("outside", &format!("{HOST4}:8080"));
    let addresses = in_sandbox("web", "ip -o -4 address show eth0").ok().stdout;
    assert!(addresses.contains("172.17.0."), "{addresses}");
    dockerd.kill();
    dockerd.start_again();
    docker("rm -f web").ok();
}

/// The addresses that a container's own resolver gets for a name, as busybox has them.
fn resolved(container: &str, name: &str) -> Vec<String> {
    let out = docker(&format!("exec {container} nslookup {name}")).stdout;
    // The name server's own address has its port behind it.
    let addresses = out.lines().filter_map(|line| line.strip_prefix("Address: "));
    addresses.filter(|address| !address.contains("127.0.0.11")).map(str::to_owned).collect()
}

/// A container's address on a network of Docker's.
fn docker_address(container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    let words = ["/usr/bin/docker", "--host", "unix:///run/docker.sock", "inspect", "-f", &format, container];
    crate::world::on_host_words(&words).ok().stdout.trim().to_owned()
}

/// The first address of a container on a network of netd's.
fn address(lab: &Lab, network: &str, container: &str) -> String {
    lab.address(network, container)[0].to_string()
}

/// A resolver that Docker asks for unknown names; it gives one answer to every question.
fn docker_asks() -> (Upstream, Dockerd, String) {
    let upstream = Upstream::start("host", SocketAddr::new(HOST4.parse().expect("an address"), 53));
    let dockerd = Dockerd::start_with(&format!("--dns {HOST4}"));
    (upstream, dockerd, std::net::Ipv4Addr::from(ANSWER).to_string())
}

fn both_names(lab: &Lab) {
    lab.start_daemon();
    let (upstream, _dockerd, elsewhere) = docker_asks();
    docker("network create theirs").ok();
    serve("first", "--network theirs");
    let client = serve("client", "--network theirs --network-alias alias");
    // Independent of where the name service of the network listens.
    for (network, options) in [("within", "-o dns.listen=container"), ("net1", ""), ("quiet", "--internal")] {
        lab.netd(&format!("network create {network} {options}")).ok();
        lab.connected(network, "plain", "--alias store");
        lab.netd(&format!("connect {network} client")).ok();
        let (plain, first) = (address(lab, network, "plain"), docker_address("first", "theirs"));
        for name in ["plain", &format!("plain.{network}"), &format!("plain.{network}.internal"), "store"] {
            assert_eq!(resolved("client", name), [plain.as_str()], "{name}");
        }
        for name in ["first", "first.theirs"] {
            assert_eq!(resolved("client", name), [first.as_str()], "{name}");
            let over_tcp = in_sandbox("client", &format!("dig +tcp +short @127.0.0.11 {name}")).ok().stdout;
            assert_eq!(over_tcp.trim(), first, "{name}");
        }
        // Also on internal networks only: Docker forwards those questions.
        for name in ["nobody", "www.example.com"] {
            assert_eq!(resolved("client", name), [elsewhere.as_str()], "{name}");
        }
        assert!(!upstream.asked().contains(&"plain".to_owned()));
        // Other containers of netd's network find it by its name and by Docker's id; other containers of Docker do not
        // see netd's names.
        let own = address(lab, network, "client");
        for name in ["client", &client[..12]] {
            Dig::expect("plain", name, &[&own]);
        }
        Dig::expect_none("plain", "first", "NXDOMAIN");
        assert_eq!(resolved("first", "plain.internal"), [elsewhere.as_str()]);
        // Docker's names do not depend on netd.
        lab.kill_daemon();
        assert_eq!(resolved("client", "first"), [first.as_str()], "netd is dead");
        lab.start_daemon();
        assert_eq!(resolved("client", "plain"), [plain.as_str()]);
        assert_eq!(resolved("client", "first"), [first.as_str()]);
        lab.netd(&format!("disconnect {network} client")).ok();
        assert_eq!(resolved("client", "plain.internal"), [elsewhere.as_str()]);
        assert_eq!(resolved("client", "first"), [first.as_str()]);
        lab.netd(&format!("disconnect {network} plain")).ok();
    }
    let rules = in_sandbox("client", "nft list tables").ok().stdout;
    assert!(!rules.contains("netd"), "{rules}");
}

fn later(lab: &Lab) {
    lab.start_daemon();
    let (_upstream, _dockerd, elsewhere) = docker_asks();
    docker("network create theirs").ok();
    serve("first", "--network theirs");
    serve("client", "");
    lab.connected_to_new("net1", "plain");
    lab.netd("connect net1 client").ok();
    let (plain, first) = (address(lab, "net1", "plain"), docker_address("first", "theirs"));
    docker("network connect theirs client").ok();
    until("the client finds names of both", || {
        is((resolved("client", "plain"), resolved("client", "first")), &(vec![plain.clone()], vec![first.clone()]))
    });
    // Docker gives out an address again, and its resolver says so at once.
    docker("rm -f first").ok();
    assert_eq!(resolved("client", "first"), [elsewhere]);
    serve("other", "--network theirs --network-alias first");
    assert_eq!(resolved("client", "first"), [docker_address("other", "theirs")]);
}

fn default_bridge(lab: &Lab) {
    let upstream = Upstream::start("host", SocketAddr::from(([127, 0, 0, 1], 53)));
    lab.start_daemon();
    let _dockerd = Dockerd::start();
    lab.connected_to_new("net1", "plain");
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().expect("text").to_owned();
    serve("asks", &format!("--dns {gateway}"));
    lab.netd("connect net1 asks").ok();
    assert_eq!(resolved("asks", "plain"), [address(lab, "net1", "plain")]);
    Dig::expect("plain", "asks", &[&address(lab, "net1", "asks")]);
    // On a network of Docker the same gateway is an upstream of Docker's resolver: questions do not loop.
    docker("network create theirs").ok();
    serve("first", "--network theirs");
    docker("network connect theirs asks").ok();
    until("names of both", || {
        let expected = (vec![docker_address("first", "theirs")], vec![address(lab, "net1", "plain")]);
        is((resolved("asks", "first"), resolved("asks", "plain")), &expected)
    });
    let asked = upstream.asked().len();
    assert_eq!(resolved("asks", "www.example.com"), [std::net::Ipv4Addr::from(ANSWER).to_string()]);
    // A and AAAA, each once.
    assert_eq!(upstream.asked().len(), asked + 2);
}

/// Docker drops traffic that it does not forward itself, unless DOCKER-USER accepts it.
fn let_docker_pass() {
    on_host("iptables -I DOCKER-USER -j ACCEPT").ok();
}

fn interfaces(lab: &Lab) {
    lab.start_daemon();
    let _dockerd = Dockerd::start();
    let_docker_pass();
    lab.netd("network create net1").ok();
    ["one", "two"].into_iter().for_each(|network| drop(docker(&format!("network create {network}")).ok()));
    serve("web", "--network one");
    lab.netd("connect net1 web -p 4000:80").ok();
    run(&format!("ip netns attach web {}", pid("web"))).ok();
    let (gateway, at) = (lab.endpoint("net1", "web")["gateways"][0].clone(), format!("{HOST4}:4000"));
    let behind = (gateway.as_str().expect("text").to_owned(), "nd0".to_owned());
    docker("network connect two web").ok();
    let links = in_sandbox("web", "ip -o link").ok().stdout;
    assert!(["eth0", "eth1", "nd0"].into_iter().all(|name| links.contains(&format!("{name}@"))), "{links}");
    assert_eq!(default_routes("web", 4).len(), 2, "Docker's, and netd's behind it");
    ["one", "two"].into_iter().for_each(|network| drop(docker(&format!("network disconnect {network} web")).ok()));
    assert_eq!(default_routes("web", 4), std::slice::from_ref(&behind));
    fetches_the_page("outside", &at);
    docker("network connect two web").ok();
    let routes = default_routes("web", 4);
    assert!(routes.len() == 2 && routes[1] == behind, "Docker's own comes first again: {routes:?}");
    docker("network disconnect two web").ok();
    fetches_the_page("outside", &at);
    lab.netd("disconnect net1 web").ok();
    assert_eq!(default_routes("web", 4), []);
    assert_eq!(fetch("outside", &at), "");
    // A container that has no network of Docker's at all.
    serve("none", "--network none");
    lab.netd("connect net1 none -p 4001:80").ok();
    fetches_the_page("outside", &format!("{HOST4}:4001"));
}

fn pid(container: &str) -> String {
    docker(&format!("inspect -f {{{{.State.Pid}}}} {container}")).ok().stdout.trim().to_owned()
}

fn restarted(lab: &Lab) {
    lab.start_daemon();
    let mut dockerd = Dockerd::start();
    docker("network create theirs").ok();
    serve("web", "--network theirs --restart always");
    lab.connected_to_new("net1", "plain");
    let restarts: [(&str, &mut dyn FnMut()); 2] = [
        ("docker restart", &mut || drop(docker("restart web").ok())),
        ("a restart of dockerd", &mut || dockerd.restart()),
    ];
    for (what, restart) in restarts {
        lab.netd("connect net1 web -p 4000:80").ok();
        Dig::expect("plain", "web", &[&address(lab, "net1", "web")]);
        restart();
        until(&format!("it is released after {what}"), || is(Dig::ask("plain", "web").status, "NXDOMAIN"));
        assert!(!lab.netd("ps").ok().stdout.contains("web"), "{what}");
        until("it runs", || contains(docker("inspect -f {{.State.Running}} web").stdout, "true"));
    }
    lab.netd("connect net1 web -p 4000:80").ok();
    Dig::expect("plain", "web", &[&address(lab, "net1", "web")]);
}
