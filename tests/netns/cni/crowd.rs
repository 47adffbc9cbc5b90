//! Many at once, and a plugin that is killed at any moment.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;

use super::traces;
use crate::lab::cni::call;
use crate::lab::{Dig, Lab, run, trial};

/// The number of containers that are attached and detached together.
const CROWD: usize = 200;
/// The number of concurrent calls.
const THREADS: usize = 50;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cni: 200 ADDs at once, then 200 DELs", crowd),
        trial("cni: kill -9 of the plugin at any moment of ADD", killed),
        trial("cni: GC releases exactly the other attachments", collected),
    ]
}

/// Runs the work for each number on that many threads.
fn all_at_once<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let chunk = |thread: usize| (thread..CROWD).step_by(THREADS).map(&work).collect::<Vec<T>>();
    let chunk = &chunk;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || chunk(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread of the crowd")).collect()
    })
}

fn crowd(lab: &Lab) {
    lab.start_daemon();
    lab.connected_to_new("net1", "watcher");
    let before = traces(lab);
    for number in 0..CROWD {
        lab.container(&format!("box{number}"));
    }
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let added = all_at_once(|number| {
        let name = format!("box{number}");
        let answer = call("ADD", &name).port(10_000 + number as u16, 80).run();
        let resolved = Dig::ask("watcher", &format!("@{gateway} {name}")).answers;
        (answer, resolved)
    });
    let mut seen = BTreeSet::new();
    for (answer, resolved) in added {
        let result = answer.ok();
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        assert_eq!(resolved, std::slice::from_ref(&address), "the name resolves when its ADD has returned");
        assert!(seen.insert(address), "an address twice: {result:#}");
        assert!(seen.insert(result["interfaces"][2]["mac"].as_str().unwrap().to_owned()), "a MAC twice: {result:#}");
    }
    let gone = all_at_once(|number| call("DEL", &format!("box{number}")).run());
    gone.into_iter().for_each(|answer| drop(answer.ok()));
    assert_eq!(traces(lab), before);
}

fn killed(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let before = traces(lab);
    for moment in 0..60u32 {
        let name = format!("box{moment}");
        lab.container(&name);
        let mut plugin = call("ADD", &name).port(4000, 80).start();
        // This sleep is no wait: it varies the moment of the kill.
        thread::park_timeout(Duration::from_micros(u64::from(moment) * 150));
        plugin.kill().expect("it was started");
        plugin.wait().expect("it ends");
        if moment % 2 == 0 {
            call("DEL", &name).run().ok();
        } else {
            call("GC", "").conf(|conf| conf.valid(&[])).run().ok();
        }
        // A request in transit was handled before this, or is cancelled.
        assert_eq!(traces(lab), before, "moment {moment}");
        run(&format!("ip netns delete {name}")).ok();
    }
}

fn collected(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "hand", "");
    for name in ["a", "b", "c", "gone"] {
        lab.container(name);
        call("ADD", name).run().ok();
    }
    call("ADD", "a").ifname("net0").run().ok();
    lab.container("other");
    call("ADD", "other").conf(|conf| conf.key("name", "other").key("network", "net1")).run().ok();
    run("ip netns delete gone").ok();
    call("GC", "").conf(|conf| conf.valid(&[("a", "net0"), ("b", "eth0")])).run().ok();
    let names = |lab: &Lab| -> Vec<String> {
        let shown = lab.netd("dump --json").ok().json();
        let shown = if shown.is_array() { shown[0].clone() } else { shown };
        let endpoints = shown["endpoints"].as_array().unwrap().clone();
        let mut names: Vec<String> = endpoints
            .iter()
            .map(|e| format!("{} {}", e["container"]["name"].as_str().unwrap(), e["ifname"].as_str().unwrap()))
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(lab), ["a net0", "b eth0", "hand eth0", "other eth0"]);
    call("GC", "").conf(|conf| conf.valid(&[])).run().ok();
    assert_eq!(names(lab), ["hand eth0", "other eth0"]);
}
