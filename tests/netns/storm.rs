//! Storms: hundreds of connects and disconnects at once while namespaces end, and thousands of them one after the other.
//! Every error is true, and nothing stays: links, elements, ports, files, descriptors, memory.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{is, seen};

use crate::lab::daemon::SOCKET;
use crate::lab::look::{elements, links, until_same};
use crate::lab::{Lab, run, trial, until_within};

/// Together 500 endpoints.
const NETWORKS: usize = 5;
const CONTAINERS: usize = 100;
/// Connects and disconnects after which memory and descriptors are compared; `NETD_STORM_CYCLES` overrides it.
const CYCLES: usize = 300;
/// KiB by which the resident memory may grow over the cycles: a leak of half a kilobyte in each of 10,000 is more.
const GROWTH: u64 = 4096;
/// How long hundreds of containers may take to be released on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("storm: 500 connects and 500 disconnects at once, and namespaces that end meanwhile", at_once),
        trial("storm: connects and disconnects leave no memory and no descriptor behind", cycles),
    ]
}

fn at_once(lab: &Lab) {
    lab.start_daemon();
    for network in 0..NETWORKS {
        lab.netd(&format!("network create n{network} --subnet 10.9{network}.0.0/16")).ok();
    }
    let names: Vec<String> = (0..CONTAINERS).map(|number| format!("c{number}")).collect();
    names.iter().for_each(|name| drop(run(&format!("ip netns add {name}")).ok()));
    let before = (links("host"), elements());

    let (first, second) = (&names[..10], &names[10..20]);
    let connects = all_at_once(&names, "POST", || end(first));
    judge(&connects, first);
    let living = NETWORKS * (CONTAINERS - first.len());
    until_within(PATIENCE, "the ended containers are released", || is(count(lab), &living));
    let left = &names[10..];
    let all: BTreeSet<String> = left.iter().flat_map(|name| connected(lab, name)).collect();
    assert_eq!(all.len(), NETWORKS * left.len(), "each has an address of its own on each network");
    assert_eq!(lab.netd("diff").ok().stdout, "");

    let disconnects = all_at_once(left, "DELETE", || end(second));
    judge(&disconnects, second);
    until_within(PATIENCE, "nothing is connected", || is(count(lab), &0));
    until_same("links and elements", &format!("{before:?}"), || format!("{:?}", (links("host"), elements())));
    assert_eq!(std::fs::read_dir("/etc/netns").expect("/etc/netns").count(), 0, "files of nobody");
    assert_eq!(lab.netd("diff").ok().stdout, "");
    assert_eq!(lab.netd("status --json").ok().json()["problems"], serde_json::json!([]));
}

fn end(names: &[String]) {
    names.iter().for_each(|name| drop(run(&format!("ip netns del {name}")).ok()));
}

/// How many endpoints there are.
fn count(lab: &Lab) -> usize {
    let endpoints = &lab.netd("status --json").ok().json()["endpoints"];
    usize::try_from(endpoints.as_u64().expect("a number")).expect("few")
}

/// The container's addresses, each with its network.
fn connected(lab: &Lab, name: &str) -> Vec<String> {
    let shown = lab.netd(&format!("inspect {name} --json")).ok().json();
    let endpoints = shown[0]["endpoints"].as_array().expect("an array").clone();
    endpoints.iter().map(|endpoint| format!("{} {}", endpoint["network"], endpoint["addresses"])).collect()
}

/// Only requests for containers that ended may fail, and they say why.
fn judge(replies: &[(String, u16, String)], ended: &[String]) {
    for (name, status, reply) in replies {
        let is_true = ended.contains(name) && (reply.contains("namespace") || reply.contains("not_found"));
        assert!((200..300).contains(status) || is_true, "{name}: {status} {reply}");
    }
}

/// One request for each container and network, all at once: (container, status, reply).
fn all_at_once(names: &[String], method: &'static str, meanwhile: impl FnOnce()) -> Vec<(String, u16, String)> {
    let pairs = names.iter().flat_map(|name| (0..NETWORKS).map(move |network| (name, network)));
    thread::scope(|scope| {
        let start = |(name, network): (&String, usize)| {
            let name = name.clone();
            scope.spawn(move || {
                let path = format!("/v1/networks/n{network}/endpoints");
                let (status, reply) = match method {
                    "POST" => {
                        request("POST", &path, &format!(r#"{{"container":"{name}","netns":"/run/netns/{name}"}}"#))
                    }
                    _ => request(method, &format!("{path}/{name}"), ""),
                };
                (name, status, reply)
            })
        };
        let running: Vec<_> = pairs.map(start).collect();
        meanwhile();
        running.into_iter().map(|thread| thread.join().expect("it asked")).collect()
    })
}

/// One request on a connection of its own: the status and the body.
fn request(method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(SOCKET).expect("the daemon listens");
    let head = "Host: netd\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .expect("the daemon reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("the daemon replies");
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no reply: {reply}")), reply)
}

fn cycles(lab: &Lab) {
    let cycles = std::env::var("NETD_STORM_CYCLES").map_or(CYCLES, |text| text.parse().expect("a number"));
    lab.start_daemon();
    lab.netd("network create n0 --ipv6").ok();
    lab.container("c0");
    let path = "/v1/networks/n0/endpoints";
    let ports = r#"[{"host_port":4000,"container_port":80,"protocol":"tcp"}]"#;
    let body = format!(r#"{{"container":"c0","netns":"/run/netns/c0","ports":{ports}}}"#);
    let cycle = || {
        let (status, reply) = request("POST", path, &body);
        assert!((200..300).contains(&status), "{reply}");
        let (status, reply) = request("DELETE", &format!("{path}/c0"), "");
        assert!((200..300).contains(&status), "{reply}");
    };
    // Until caches and pools have their size.
    (0..CYCLES).for_each(|_| cycle());
    let before = (memory(lab), descriptors(lab));
    (0..cycles).for_each(|_| cycle());
    let now = (memory(lab), descriptors(lab));
    assert!(now.0 < before.0 + GROWTH, "{} KiB of memory, then {} after {cycles} cycles", before.0, now.0);
    until_within(PATIENCE, "as many descriptors as before", || seen(descriptors(lab), |now| *now <= before.1));
}

/// The daemon's resident memory in KiB.
fn memory(lab: &Lab) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", lab.daemon_pid())).expect("the daemon runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

fn descriptors(lab: &Lab) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", lab.daemon_pid())).expect("the daemon runs").count()
}
