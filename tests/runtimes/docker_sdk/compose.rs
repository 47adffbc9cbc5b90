//! docker-compose with the application of `compose.yaml`.

use netd_testing::wait::{contains, is};

use super::{COMPOSE, docker, tool, with_docker};
use crate::docker_driver::answers;
use crate::dockerd;
use crate::lab::command::Out;
use crate::lab::look::{links, ruleset, until_same};
use crate::lab::{HOST4, Lab};
use crate::world::{PAGE, fetch, fetches_the_page, ours, until, until_nothing_left};

/// docker-compose with these words, split at white space. Newer ones call containers as older ones do, if they are asked.
fn compose(line: &str) -> Out {
    let file = ours("tests/runtimes/docker_sdk/compose.yaml");
    let mut words = vec![COMPOSE, "--ansi", "never", "--compatibility", "-f", &file, "-p", "shop"];
    words.extend(line.split_whitespace());
    tool(&words)
}

/// Waits until one service gets the page of another by this name.
#[track_caller]
fn finds(service: &str, name: &str) {
    until(&format!("{service} gets the page of {name}"), || {
        is(compose(&format!("exec -T {service} wget -qO- http://{name}/")).stdout.trim().to_owned(), PAGE)
    });
}

/// The addresses that a service gets for a name.
fn resolved(service: &str, name: &str) -> Vec<String> {
    let mut found = answers(&compose(&format!("exec -T {service} nslookup {name}")).stdout);
    found.sort();
    found
}

/// The names of the networks, at netd's socket and at Docker's own.
fn networks() -> [String; 2] {
    let line = "network ls --format {{.Name}}";
    [docker(line), dockerd::docker(line)].map(|out| out.ok().stdout)
}

/// The host's ports of the workers, as `docker-compose port` has them.
fn worker_ports(count: usize) -> Vec<String> {
    let port = |index| compose(&format!("port --index={index} worker 80")).ok().stdout.trim().to_owned();
    let ports = (1..=count).map(port);
    ports.map(|at| at.strip_prefix("0.0.0.0:").unwrap_or_else(|| panic!("{at}")).to_owned()).collect()
}

pub(super) fn whole_life(lab: &Lab) {
    let _docker = with_docker(lab, "");
    let known = || lab.netd("network ls --json").ok().json();
    let (listed, own) = (networks(), known());
    // Docker drops what it does not forward itself; netd lets its networks through as soon as there is one.
    until("netd's networks are let through", || contains(ruleset(), "NETD-FORWARD"));
    let before = (links("host"), ruleset());
    compose("up -d").ok();
    works(lab);
    scales(lab);
    // A second `up` finds everything as it is asked for.
    let ids = || compose("ps -q").ok().stdout;
    let running = ids();
    compose("up -d").ok();
    assert_eq!(ids(), running);
    compose("restart -t 1 web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4080"));
    let once = compose("run --rm -T worker wget -qO- http://www/").ok();
    assert_eq!(once.stdout.trim(), PAGE);
    compose("down -t 1").ok();
    assert_eq!((networks(), known()), (listed, own));
    until_nothing_left(lab);
    assert_eq!(links("host"), before.0);
    until_same("the ruleset", &before.1, ruleset);
    assert_eq!(fetch("outside", &format!("{HOST4}:4080")), "");
}

fn works(lab: &Lab) {
    let shown = compose("ps").ok().stdout;
    let row = shown.lines().find(|line| line.starts_with("shop_web_1 ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(row.contains(" Up ") && row.contains("0.0.0.0:4080->80/tcp"), "{shown}");
    assert_eq!(compose("port web 80").ok().stdout.trim(), "0.0.0.0:4080");
    assert_eq!(lab.address("shop_front", "shop_web_1"), [std::net::IpAddr::from([10, 62, 0, 40])]);
    for (service, name) in [("worker", "web"), ("worker", "www"), ("web", "worker"), ("web", "store"), ("store", "api")]
    {
        finds(service, name);
    }
    assert_eq!(resolved("worker", "www"), ["10.62.0.40"]);
    let store = lab.address("shop_back", "shop_store_1")[0].to_string();
    assert_eq!(resolved("web", "store"), std::slice::from_ref(&store));
    assert_ne!(resolved("worker", "store"), [store], "it is on another network");
    let routes = compose("exec -T store ip route").ok().stdout;
    assert!(!routes.contains("default"), "the network is internal: {routes}");
    fetches_the_page("outside", &format!("{HOST4}:4080"));
    fetches_the_page("host", "127.0.0.1:4081");
    assert_eq!(fetch("outside", &format!("{HOST4}:4081")), "");
    for port in worker_ports(1) {
        fetches_the_page("outside", &format!("{HOST4}:{port}"));
    }
    let listed = networks()[0].clone();
    assert!(["shop_back", "shop_front"].into_iter().all(|name| listed.contains(name)), "{listed}");
    assert_eq!(lab.network("shop_front")["subnets"][0]["subnet"], "10.62.0.0/24");
    assert_eq!(lab.network("shop_back")["internal"], true);
}

fn scales(lab: &Lab) {
    compose("up -d --scale worker=3").ok();
    let all: Vec<String> =
        (1..=3).map(|n| lab.address("shop_front", &format!("shop_worker_{n}"))[0].to_string()).collect();
    until("web finds three workers", || {
        let mut expected = all.clone();
        expected.sort();
        is(resolved("web", "worker"), &expected)
    });
    let ports = worker_ports(3);
    for port in &ports {
        fetches_the_page("outside", &format!("{HOST4}:{port}"));
    }
    compose("up -d -t 1 --scale worker=1").ok();
    until("web finds one worker", || is(resolved("web", "worker"), &all[..1]));
    until("the ports of the others are closed", || {
        let open = ports.iter().filter(|port| fetch("outside", &format!("{HOST4}:{port}")) == PAGE);
        is(open.collect::<Vec<_>>(), &[&ports[0]][..])
    });
    until("one worker is listed", || contains(lab.netd("ps").ok().stdout, "shop_worker_1"));
}
