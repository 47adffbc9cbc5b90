//! Docker's command line at netd's Engine API, with a real Docker and a real Podman as the engine behind it.

mod passed;
pub(crate) mod podman;

use std::fs;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is};
use serde_json::{Value, json};

use crate::dockerd::{Dockerd, NEEDS, SERVE};
use crate::lab::command::{Out, run_words};
use crate::lab::{HOST4, Lab, daemon};
use crate::world::{fetches_the_page, on_host, on_host_words, trial, until, until_nothing_left};

/// netd's Engine API.
const API: &str = "/run/lab/docker.sock";
/// The same, as clients name it.
const API_URL: &str = "unix:///run/lab/docker.sock";
const CLIENT: &str = "/usr/bin/docker";
const DOCKER: &str = "/run/docker.sock";

pub(crate) fn trials() -> Vec<Trial> {
    let own = vec![
        trial("engine api: docker run, ps, port, inspect and names through netd", NEEDS, job),
        trial("engine api: Docker's own networks and netd's keep apart", NEEDS, apart),
        trial("engine api: without an engine, networks and containers of netd", &[CLIENT], alone),
        trial("engine api: only root and the group may connect", &[CLIENT, "setpriv"], access),
    ];
    own.into_iter().chain(passed::trials()).chain(podman::trials()).collect()
}

/// netd with its Engine API, and Docker behind it.
fn with_docker(lab: &Lab) -> Dockerd {
    configure(&format!("[engine]\nsocket = {DOCKER:?}\n"));
    lab.start_daemon();
    Dockerd::start()
}

fn configure(more: &str) {
    let plugin = "[docker_plugin]\nsocket = \"/run/docker/plugins/netd.sock\"\n";
    fs::write(daemon::CONFIG, format!("{plugin}[docker_api]\nsocket = {API:?}\n{more}")).expect("a file");
}

/// `docker` through netd, with these words (split at white space).
fn docker(line: &str) -> Out {
    on_host(&format!("{CLIENT} --host {API_URL} {line}"))
}

/// The same with exactly these words.
fn docker_words(words: &[&str]) -> Out {
    on_host_words(&[&[CLIENT, "--host", API_URL], words].concat())
}

/// What a template of `docker inspect` gives.
fn told(name: &str, template: &str) -> String {
    docker_words(&["inspect", "-f", template, name]).ok().stdout.trim().to_owned()
}

/// A body of the API.
fn get(path: &str) -> Value {
    let url = format!("http://netd{path}");
    on_host_words(&["curl", "-sS", "--unix-socket", API, &url]).ok().json()
}

/// A container serves the page; its id.
fn serve(name: &str, options: &str) -> String {
    docker(&format!("run -d --name {name} {options} {SERVE}")).ok().stdout.trim().to_owned()
}

/// The page comes to a named namespace by that name.
#[track_caller]
fn finds_the_page(ns: &str, name: &str) {
    let found = run_words(&["ip", "netns", "exec", ns, "curl", "-sS", "--max-time", "3", &format!("http://{name}/")]);
    assert_eq!(found.ok().stdout.trim(), crate::world::PAGE);
}

fn job(lab: &Lab) {
    let _dockerd = with_docker(lab);
    docker("network create --label a=b net1").ok();
    let web = serve("web", "--network net1 --network-alias www -p 4000:80");
    // As in every tutorial: no network is named.
    let page = serve("friendlyname", "-p 4001:80");
    for port in [4000, 4001] {
        fetches_the_page("outside", &format!("{HOST4}:{port}"));
    }
    let listed = docker_words(&["ps", "--format", "{{.Names}} {{.Ports}} {{.Networks}}"]).ok().stdout;
    let expected =
        "friendlyname 0.0.0.0:4001->80/tcp, :::4001->80/tcp bridge\nweb 0.0.0.0:4000->80/tcp, :::4000->80/tcp net1\n";
    assert_eq!(listed, expected);
    assert_eq!(docker("port web 80").ok().stdout, "0.0.0.0:4000\n:::4000\n");
    assert_eq!(told("web", "{{.NetworkSettings.Networks.net1.IPAddress}}"), lab.address("net1", "web")[0].to_string());
    assert_eq!(
        told("friendlyname", "{{.NetworkSettings.IPAddress}}"),
        lab.address("bridge", "friendlyname")[0].to_string()
    );
    assert_eq!(told("friendlyname", "{{.HostConfig.NetworkMode}}"), "bridge");
    let id = docker_words(&["network", "inspect", "-f", "{{.Id}}", "net1"]).ok().stdout;
    assert_eq!(told("web", "{{.NetworkSettings.Networks.net1.NetworkID}}"), id.trim(), "netd's id, not Docker's");
    for (filter, expected) in
        [("network=net1", &web), ("network=bridge", &page), ("publish=4001", &page), ("name=^/web$", &web)]
    {
        let found = docker(&format!("ps --no-trunc -q --filter {filter}")).ok().stdout;
        assert_eq!(found.trim(), expected, "{filter}");
    }
    docker("network connect --alias store net1 friendlyname").ok();
    for name in ["web", "www", "store", "friendlyname"] {
        let found = docker(&format!("run --rm --network net1 lab wget -qO- http://{name}/")).ok().stdout;
        assert_eq!(found.trim(), crate::world::PAGE, "{name}");
    }
    let refused = docker("network rm net1");
    assert!(refused.code == Some(1) && refused.stderr.contains("has active endpoints"), "{refused:?}");
    docker("network disconnect net1 friendlyname").ok();
    docker("restart -t 0 web").ok();
    until("the port answers again", || {
        contains(crate::world::fetch("outside", &format!("{HOST4}:4000")), crate::world::PAGE)
    });
    let all = docker("container ls -aq").ok().stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    docker(&format!("rm -f {all}")).ok();
    docker("network rm net1").ok();
    until_nothing_left(lab);
    let theirs = on_host("/usr/bin/docker --host unix:///run/docker.sock network ls --format {{.Name}}").ok().stdout;
    assert!(!theirs.contains("net1"), "Docker has forgotten it, too: {theirs}");
}

fn apart(lab: &Lab) {
    let _dockerd = with_docker(lab);
    on_host("/usr/bin/docker --host unix:///run/docker.sock network create taken").ok();
    let listed = docker_words(&["network", "ls", "--format", "{{.Name}}"]).ok().stdout;
    assert_eq!(listed, "bridge\nhost\nnone\n", "Docker's own networks are not netd's");
    let refused = docker("run --rm --network taken lab busybox true");
    assert!(refused.code == Some(125) && refused.stderr.contains("network taken not found"), "{refused:?}");
    // A network of netd may have the name of one of Docker's.
    docker("network create taken").ok();
    serve("web", "--network taken");
    assert_eq!(told("web", "{{.HostConfig.NetworkMode}} {{json .NetworkSettings.Ports}}"), "taken {}");
    lab.connected("taken", "plain", "");
    finds_the_page("plain", "web");
    let found =
        docker_words(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "taken"]).ok().stdout;
    assert_eq!(found.split_whitespace().count(), 2, "{found}");
    for mode in ["host", "none"] {
        docker(&format!("run --rm --network {mode} lab busybox true")).ok();
    }
    docker("rm -f web").ok();
    lab.netd("disconnect taken plain").ok();
    docker("network prune -f").ok();
    until_nothing_left(lab);
}

fn alone(lab: &Lab) {
    configure("");
    lab.start_daemon();
    docker("network create --subnet 10.66.0.0/24 net1").ok();
    lab.container("web");
    docker("network connect --ip 10.66.0.9 --alias www net1 web").ok();
    lab.netd("port add web 4000:80").ok();
    let listed = docker_words(&["ps", "--format", "{{.Names}} {{.Ports}} {{.Networks}}"]).ok().stdout;
    assert_eq!(listed, "web 0.0.0.0:4000->80/tcp, :::4000->80/tcp net1\n");
    assert_eq!(told("web", "{{.NetworkSettings.Networks.net1.IPAddress}}"), "10.66.0.9");
    let stats = get("/containers/web/stats?stream=0");
    assert!(stats["networks"]["eth0"]["tx_packets"].is_u64(), "{stats}");
    let refused = docker("run lab busybox true");
    assert!(refused.code == Some(125) && refused.stderr.contains("[engine]"), "{refused:?}");
    let missing = docker("inspect nope");
    assert!(missing.code == Some(1) && missing.stderr.contains("No such object: nope"), "{missing:?}");
    docker("network disconnect net1 web").ok();
    assert_eq!(told_events(), "network create, network connect, container start, network disconnect, container die");
    docker("network rm net1").ok();
    until("nothing is left", || is(lab.netd("network ls --json").ok().json(), &json!([])));
}

/// Type and action of all events until now, which the command line would round to the second.
fn told_events() -> String {
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs_f64();
    let url = format!("http://netd/events?since=1&until={now}");
    let lines = on_host_words(&["curl", "-sS", "--unix-socket", API, &url]).ok().stdout;
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let events: Vec<String> = events.map(|event| format!("{} {}", event["Type"], event["Action"])).collect();
    events.join(", ").replace('"', "")
}

fn access(lab: &Lab) {
    configure("group = \"games\"\n");
    lab.start_daemon();
    let ask = |who: &str| on_host(&format!("setpriv {who} curl -sS --unix-socket {API} http://netd/_ping"));
    // Whoever reaches the laboratory's folder: the socket decides.
    on_host("chmod 0755 /run/lab").ok();
    let denied = ask("--reuid 65534 --regid 65534 --clear-groups");
    assert!(denied.code == Some(7), "{denied:?}");
    assert_eq!(ask("--reuid 65534 --regid 65534 --groups games").ok().stdout, "OK");
}
