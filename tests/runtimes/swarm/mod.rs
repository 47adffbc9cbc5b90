//! Docker's swarm commands at netd's Engine API, typed as a user types them: a swarm of one node, services, tasks and
//! stacks, whose containers a real Docker or a real Podman runs.

mod cluster;
mod lives;
mod stack;
mod without_docker;

use std::fs;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{Look, until_within};
use serde_json::Value;

use crate::dockerd::{Dockerd, NEEDS};
use crate::engine_api::podman;
use crate::lab::command::Out;
use crate::lab::{self, Lab, daemon};
use crate::netavark;
use crate::world::{find, on_host, on_host_words, private_folders, trial};

/// netd's Engine API.
const API_URL: &str = "unix:///run/lab/docker.sock";
const API: &str = "/run/lab/docker.sock";
const CLIENT: &str = "/usr/bin/docker";
/// A newer client, on machines that have one.
const NEWER: &str = "/usr/local/bin/docker";
/// The file that names the client of this laboratory, if it is not [`CLIENT`].
const CHOSEN: &str = "/run/lab/client";
const DOCKER: &str = "/run/docker.sock";
/// A task's command: its page is `hi`, and it says so before it listens.
const SERVE: &str = "busybox mkdir -p /w; echo hi > /w/index.html; echo begun; exec busybox httpd -f -p 80 -h /w";
/// How long a busy machine may need.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("swarm: one node is a swarm, and leaves it", NEEDS, cluster::one_node),
        trial("swarm: what netd cannot do is refused by name", NEEDS, cluster::refusals),
        trial("swarm: the stack of the tutorial on Docker", NEEDS, |lab| stack::tutorial(lab, &with_docker(lab))),
        trial("swarm: the stack of the tutorial on Podman", podman::NEEDS, |lab| {
            stack::tutorial(lab, &with_podman(lab));
        }),
        lab::skippable("swarm: the stack of the tutorial with a newer client", |lab| {
            if let Some(missing) = NEEDS.iter().chain(&[NEWER]).find(|program| find(program).is_none()) {
                return Completion::ignored_with(format!("{missing} is not there"));
            }
            private_folders();
            let engine = with_docker(lab);
            fs::write(CHOSEN, NEWER).expect("a file");
            stack::tutorial(lab, &engine);
            Completion::Completed
        }),
        trial("swarm: netd's own command line deploys the stack on Docker", NEEDS, |lab| {
            without_docker::stack(lab, &with_docker(lab));
        }),
        trial("swarm: netd's own command line deploys the stack on Podman", podman::NEEDS, |lab| {
            without_docker::stack(lab, &with_podman(lab));
        }),
        trial("swarm: netd's own command line makes a service on Docker", NEEDS, |lab| {
            without_docker::service(lab, &with_docker(lab));
        }),
        trial("swarm: netd's own command line makes a service on Podman", podman::NEEDS, |lab| {
            without_docker::service(lab, &with_podman(lab));
        }),
        trial("swarm: tasks that end are replaced, over restarts of netd and Docker", NEEDS, lives::replaced),
        trial("swarm: updates that fail are paused or rolled back", NEEDS, lives::failing),
        trial("swarm: a task is what its definition says", NEEDS, lives::defined),
    ]
}

/// The engine behind netd; it ends with its value.
enum Engine {
    Docker(Dockerd),
    Podman { _service: podman::Service },
}

fn with_docker(lab: &Lab) -> Engine {
    configure(lab, DOCKER);
    Engine::Docker(Dockerd::start())
}

fn with_podman(lab: &Lab) -> Engine {
    configure(lab, podman::SOCKET);
    netavark::install_for(lab);
    Engine::Podman { _service: podman::Service::start() }
}

fn configure(lab: &Lab, engine: &str) {
    let plugin = "[docker_plugin]\nsocket = \"/run/docker/plugins/netd.sock\"\n";
    let config = format!("{plugin}[docker_api]\nsocket = {API:?}\n[engine]\nsocket = {engine:?}\n");
    fs::write(daemon::CONFIG, config).expect("a file");
    lab.start_daemon();
}

/// `docker` through netd, with these words (split at white space).
fn docker(line: &str) -> Out {
    on_host(&format!("{} --host {API_URL} {line}", client()))
}

/// The same with exactly these words.
fn docker_words(words: &[&str]) -> Out {
    on_host_words(&[&[client().as_str(), "--host", API_URL], words].concat())
}

/// The client that a user of this laboratory types.
fn client() -> String {
    fs::read_to_string(CHOSEN).unwrap_or_else(|_| CLIENT.to_owned())
}

/// What it prints, without the line's end.
#[track_caller]
fn told(words: &[&str]) -> String {
    docker_words(words).ok().stdout.trim().to_owned()
}

/// Creates a service that serves `hi`, with these options.
#[track_caller]
fn serve(name: &str, options: &str) {
    let options: Vec<&str> = options.split_whitespace().collect();
    let words = [
        &["service", "create", "-d", "--no-resolve-image", "--name", name],
        options.as_slice(),
        &["lab", "sh", "-c", SERVE],
    ];
    docker_words(&words.concat()).ok();
}

/// Waits until so many tasks of a service run, of as many.
#[track_caller]
fn runs(name: &str, count: usize) {
    patiently(&format!("{name} has {count} tasks"), || {
        let replicas = told(&["service", "ls", "--filter", &format!("name={name}"), "--format", "{{.Replicas}}"]);
        let running = format!("{count}/{count}");
        if replicas.split_whitespace().next() == Some(&running) {
            return Ok(());
        }
        Err(format!("{replicas}\n{}", docker(&format!("service ps --no-trunc {name}")).stdout))
    });
}

/// Id and name of the running containers of a service.
fn containers(service: &str) -> Vec<(String, String)> {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let listed = told(&["ps", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Names}}"]);
    let pair = |line: &str| line.split_once(' ').map(|(id, name)| (id.to_owned(), name.to_owned()));
    listed.lines().filter_map(pair).collect()
}

#[track_caller]
fn patiently<L: Look>(what: &str, look: impl FnMut() -> L) {
    until_within(PATIENCE, what, look);
}

/// A body of the API.
fn get(path: &str) -> Value {
    on_host_words(&["curl", "-sS", "--unix-socket", API, &format!("http://netd{path}")]).ok().json()
}

/// Waits until netd has no network but Docker's default one, no container and no service.
#[track_caller]
fn nothing_left(lab: &Lab) {
    patiently("nothing is left", || {
        let dump = lab.netd("dump --json").ok().json();
        let networks = dump["networks"].as_array().into_iter().flatten();
        let others: Vec<&Value> = networks.map(|network| &network["name"]).filter(|name| **name != "bridge").collect();
        let all = docker("ps -aq").ok().stdout;
        if others.is_empty() && dump["containers"] == serde_json::json!([]) && all.trim().is_empty() {
            return Ok(());
        }
        Err(format!("networks {others:?}, containers {} and at the engine {all}", dump["containers"]))
    });
    assert_eq!(lab.diff(), "");
}

/// Whether it is this text, apart from white space around it.
fn same(got: impl AsRef<str>, expected: &str) -> Result<(), String> {
    let got = got.as_ref().trim();
    if got == expected { Ok(()) } else { Err(format!("{got:?} instead of {expected:?}")) }
}
