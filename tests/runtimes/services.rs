//! Labels and health of containers come from their engines: services of compose appear by themselves.

use std::fs;

use libtest_mimic::Trial;
use netd_testing::wait::is;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dockerd::{self, Dockerd, docker};
use crate::lab::{Lab, daemon};
use crate::machine;
use crate::podman::{self, podman, podman_run, ready};
use crate::podman_service::Service;
use crate::world::{on_host_words, trial, until, until_nothing_left};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("services: of Podman's labels, with the health that Podman found", podman::NEEDS, of_podman),
        trial("services: of Docker's labels, with the health that Docker found", dockerd::NEEDS, of_docker),
        trial("services: an engine that hangs or restarts holds nothing up", dockerd::NEEDS, hanging),
    ]
}

const SHOP: &str = "--label com.docker.compose.project=shop --label com.docker.compose.service=web";
/// As the shell command of a health check.
const CHECK: &str = "test -e /healthy";

/// The members of the service `shop_web` with their states; none if there is no such service.
fn members(lab: &Lab) -> Vec<String> {
    let shown = lab.netd("service ps shop_web --json");
    if shown.code != Some(0) {
        return Vec::new();
    }
    let shown = shown.json();
    let line = |member: &serde_json::Value| {
        let [name, state] = [&member["container"]["name"], &member["state"]].map(|text| text.as_str().expect("a text"));
        format!("{name} {state}")
    };
    let mut members: Vec<String> = shown.as_array().expect("an array").iter().map(line).collect();
    members.sort();
    members
}

#[track_caller]
fn become_(lab: &Lab, expected: &[&str]) {
    until("the members of shop_web are as they should", || is(members(lab), expected));
}

fn of_podman(lab: &Lab) {
    ready(lab);
    podman_run(&format!("-d --name early {SHOP} lab sleep 1000"));
    // Without Podman's socket there is nobody to ask.
    assert_eq!(members(lab), [] as [String; 0]);
    let _service = Service::start();
    podman_run(&format!("-d --name web {SHOP} lab sleep 1000"));
    podman_run("-d --name other lab sleep 1000");
    become_(lab, &["early ready", "web ready"]);
    let cgroup = format!("/{}/podman", machine::cgroup());
    let words = ["podman", "run", "--cgroup-parent", &cgroup, "-d", "--name", "checked", "--health-cmd", CHECK];
    let more = ["--health-interval", "disable", "--health-retries", "1"];
    let labels: Vec<&str> = SHOP.split(' ').collect();
    on_host_words(&[&words[..], &more, &labels, &["lab", "sleep", "1000"]].concat()).ok();
    become_(lab, &["checked unhealthy", "early ready", "web ready"]);
    podman("exec checked busybox touch /healthy").ok();
    podman("healthcheck run checked").ok();
    become_(lab, &["checked ready", "early ready", "web ready"]);
    podman("exec checked busybox rm /healthy").ok();
    assert_ne!(podman("healthcheck run checked").code, Some(0));
    become_(lab, &["checked unhealthy", "early ready", "web ready"]);
    podman("rm -t 0 -f early web").ok();
    become_(lab, &["checked unhealthy"]);
    podman("rm -t 0 -f checked other").ok();
    become_(lab, &[]);
    until_nothing_left(lab);
}

fn with_docker(lab: &Lab) -> Dockerd {
    fs::write(daemon::CONFIG, "[docker_plugin]\nsocket = \"/run/docker/plugins/netd.sock\"\n").expect("a file");
    lab.start_daemon();
    let dockerd = Dockerd::start();
    docker("network create -d netd --ipam-driver netd net1").ok();
    dockerd
}

fn of_docker(lab: &Lab) {
    let _dockerd = with_docker(lab);
    docker(&format!("run -d --name web --network net1 {SHOP} lab sleep 1000")).ok();
    become_(lab, &["web ready"]);
    let words = ["/usr/bin/docker", "--host", "unix:///run/docker.sock", "run", "-d", "--name", "checked"];
    let check = ["--health-cmd", CHECK, "--health-interval", "200ms", "--health-retries", "1", "--network", "net1"];
    let labels: Vec<&str> = SHOP.split(' ').collect();
    on_host_words(&[&words[..], &check, &labels, &["lab", "sleep", "1000"]].concat()).ok();
    become_(lab, &["checked unhealthy", "web ready"]);
    docker("exec checked busybox touch /healthy").ok();
    become_(lab, &["checked ready", "web ready"]);
    docker("exec checked busybox rm /healthy").ok();
    become_(lab, &["checked unhealthy", "web ready"]);
    docker("restart -t 0 web").ok();
    become_(lab, &["checked unhealthy", "web ready"]);
    // Connected by netd, beside Docker's own network.
    docker(&format!("run -d --name plain {SHOP} lab sleep 1000")).ok();
    lab.netd("network create besides").ok();
    lab.netd("connect besides plain").ok();
    become_(lab, &["checked unhealthy", "plain ready", "web ready"]);
    docker("rm -f web checked plain").ok();
    become_(lab, &[]);
}

fn hanging(lab: &Lab) {
    let mut dockerd = with_docker(lab);
    docker(&format!("run -d --name plain {SHOP} lab sleep 1000")).ok();
    lab.netd("network create besides").ok();
    let process = fs::read_to_string("/run/lab/docker/pid").expect("its process id");
    let process = Pid::from_raw(process.trim().parse().expect("a number"));
    let sandbox = dockerd::sandbox("plain");
    kill(process, Signal::SIGSTOP).expect("dockerd runs");
    lab.container("other");
    lab.netd("connect besides other --label com.docker.compose.project=shop --label com.docker.compose.service=web")
        .ok();
    assert_eq!(members(lab), ["other ready"], "netd goes on");
    kill(process, Signal::SIGCONT).expect("dockerd runs");
    assert!(!sandbox.is_empty());
    lab.netd("connect besides plain").ok();
    become_(lab, &["other ready", "plain ready"]);
    dockerd.kill();
    lab.netd("service ls").ok();
    dockerd.start_again();
    docker("rm -f plain").ok();
    become_(lab, &["other ready"]);
}
