//! The ends of Docker, of netd, of both, and of a container while nobody looks.

use std::time::Duration;

use netd_testing::wait::{contains, is, seen, until_within};

use super::{address, both, gone, network, resolved};
use crate::dockerd::{SERVE, docker, serve};
use crate::lab::{Dig, HOST4, Lab, run};
use crate::world::{fetches_the_page, until, until_nothing_left};

pub(super) fn restarts(lab: &Lab) {
    let mut dockerd = both(lab, "--live-restore");
    network(lab, "net1", "");
    lab.connected("net1", "plain", "");
    serve("web", "--network net1 -p 4000:80 --restart always");
    let works = |lab: &Lab, what: &str| {
        // Docker tells who the containers are once it has started those that it starts by itself.
        until(&format!("netd knows web after {what}"), || contains(lab.netd("ps").ok().stdout, "web "));
        fetches_the_page("outside", &format!("{HOST4}:4000"));
        until(&format!("plain finds web after {what}"), || {
            is(Dig::ask("plain", "web").answers, &[address(lab, "net1", "web")])
        });
        until(&format!("web finds plain after {what}"), || {
            is(resolved("web", "plain"), &[address(lab, "net1", "plain")])
        });
        until("nothing differs", || is(lab.diff(), ""));
    };
    works(lab, "the start");
    for round in 0..2 {
        docker("restart -t 0 web").ok();
        works(lab, "docker restart");
        lab.kill_daemon();
        fetches_the_page("outside", &format!("{HOST4}:4000"));
        lab.start_daemon();
        works(lab, "a kill of netd");
        dockerd.kill();
        fetches_the_page("outside", &format!("{HOST4}:4000"));
        dockerd.start_again();
        works(lab, "a kill of dockerd");
        dockerd.kill();
        lab.kill_daemon();
        if round == 0 {
            lab.start_daemon();
            dockerd.start_again();
        } else {
            dockerd.start_again();
            lab.start_daemon();
        }
        works(lab, "a kill of both");
        dockerd.restart();
        works(lab, "a restart of dockerd");
        lab.stop_daemon();
        lab.start_daemon();
        works(lab, "a restart of netd");
    }
    // The container ends while nobody looks.
    dockerd.kill();
    let pid = told_pid();
    run(&format!("kill -9 {pid}")).ok();
    dockerd.start_again();
    works(lab, "the container's end without dockerd");
    lab.netd("disconnect net1 plain").ok();
    gone(lab, "web");
    docker("network rm net1").ok();
}

/// The process of the only container of the laboratory's Docker, found without Docker.
fn told_pid() -> String {
    let found = run("pgrep -f httpd.-f.-p.80").stdout;
    found.split_whitespace().next().expect("the container runs").to_owned()
}

/// Whatever has been done when netd dies: Docker's own rollback and the next start leave nothing.
pub(super) fn killed(lab: &Lab) {
    let _dockerd = both(lab, "");
    network(lab, "net1", "");
    lab.connected("net1", "plain", "");
    for when in
        ["reserved network=net1 reservation=docker-address-", " reserved ", " connected ", " published ", "has taken"]
    {
        let before = times_logged(when);
        let running = std::thread::scope(|scope| {
            let run = scope.spawn(|| docker(&format!("run -d --name web --network net1 -p 4000:80 {SERVE}")));
            until(&format!("netd has logged {when:?}"), || seen(times_logged(when), |times| *times > before));
            lab.kill_daemon();
            lab.start_daemon();
            run.join().expect("docker ends")
        });
        let is_up = running.succeeded().is_ok();
        if is_up {
            fetches_the_page("outside", &format!("{HOST4}:4000"));
            until("plain finds it", || is(Dig::ask("plain", "web").answers, &[address(lab, "net1", "web")]));
        }
        docker("rm -f web").ok();
        until("only plain is left", || is(lab.netd("ps --json").ok().json().as_array().map(Vec::len), &Some(1)));
        until("nothing differs", || is(lab.diff(), ""));
    }
    lab.netd("disconnect net1 plain").ok();
    // What a request had reserved when netd died is released once Docker has said for 10 s that it has no such endpoint; an
    // address that Docker was never told of after a minute.
    until_within(Duration::from_secs(100), "nothing is reserved", || {
        is(lab.netd("reservation ls --json").ok().json(), &serde_json::json!([]))
    });
    docker("network rm net1").ok();
}

/// How often netd has logged this.
fn times_logged(what: &str) -> usize {
    std::fs::read_to_string("/run/lab/netd.log").unwrap_or_default().matches(what).count()
}

pub(super) fn absent(lab: &Lab) {
    let mut dockerd = both(lab, "");
    network(lab, "net1", "");
    serve("web", "--network net1 -p 4000:80 --restart always");
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    dockerd.stop();
    lab.stop_daemon();
    dockerd.start_again();
    // Docker knows its network, although nobody answers for it.
    assert!(docker("network ls").ok().stdout.contains("net1"));
    lab.start_daemon();
    docker("start web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    gone(lab, "web");
    docker("network rm net1").ok();
}

pub(super) fn forgotten(lab: &Lab) {
    let mut dockerd = both(lab, "");
    network(lab, "net1", "");
    serve("web", "--network net1 -p 4000:80");
    dockerd.kill();
    let pid = told_pid();
    run(&format!("kill -9 {pid}")).ok();
    // Docker's records of networks and containers are lost.
    run("rm -rf /run/lab/docker/root/network /run/lab/docker/root/containers").ok();
    dockerd.start_again();
    until_within(Duration::from_secs(60), "netd has released everything", || {
        is(lab.netd("network ls --json").ok().json(), &serde_json::json!([]))
    });
    until_nothing_left(lab);
}
