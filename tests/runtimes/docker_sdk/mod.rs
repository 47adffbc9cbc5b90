//! SDKs and tools of Docker's Engine API against netd's socket of it: docker-py, docker-compose, bollard, and programs that
//! follow containers.

mod compose;
mod followers;
mod own;

use std::fs;
use std::net::SocketAddr;

use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::dockerd::{CLIENT, Dockerd};
use crate::lab::command::Out;
use crate::lab::upstream::Upstream;
use crate::lab::{HOST4, Lab, daemon};
use crate::world::{on_host, on_host_words, ours, trial, until, until_nothing_left};

/// netd's socket of the Engine API.
const SOCKET: &str = "/run/lab/runtime/docker.sock";
/// Debian's Python and, for what has it, docker-py: the laboratory's HOME has no packages of a user.
const PYTHON: &str = "/usr/bin/python3";
const DOCKER_PY: &str = "/usr/lib/python3/dist-packages/docker/__init__.py";
const COMPOSE: &str = "/usr/bin/docker-compose";
/// What each of these programs needs beside itself; see [`crate::dockerd::NEEDS`].
const WITH_DOCKER_PY: &[&str] = &["/usr/sbin/dockerd", CLIENT, "containerd", "runc", "iptables", PYTHON, DOCKER_PY];
const WITH_COMPOSE: &[&str] = &["/usr/sbin/dockerd", CLIENT, "containerd", "runc", "iptables", COMPOSE];
const WITH_PYTHON: &[&str] = &["/usr/sbin/dockerd", CLIENT, "containerd", "runc", "iptables", PYTHON];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("docker sdk: docker-py has what it has of Docker", WITH_DOCKER_PY, docker_py),
        trial("docker sdk: docker-compose brings up, scales and takes down", WITH_COMPOSE, compose::whole_life),
        trial("docker sdk: programs follow the containers of Docker", WITH_PYTHON, followers::with_docker_behind),
        trial("docker sdk: programs follow containers of no engine", &[PYTHON], followers::without_engine),
        trial("docker sdk: bollard reads and changes networks without an engine", &[], own::networks),
        trial("docker sdk: bollard sees containers and events without an engine", &[], own::containers_and_events),
    ]
}

/// netd with Docker behind it, and a resolver for names that neither knows; `api`: lines of `[docker_api]`.
fn with_docker(lab: &Lab, api: &str) -> (Upstream, Dockerd) {
    let plugin = "[docker_plugin]\nsocket = \"/run/docker/plugins/netd.sock\"\n";
    let engine = "[engine]\nsocket = \"/run/docker.sock\"\n";
    fs::write(daemon::CONFIG, format!("{plugin}{engine}[docker_api]\n{api}\n")).expect("a file");
    lab.start_daemon();
    let upstream = Upstream::start("host", SocketAddr::new(HOST4.parse().expect("an address"), 53));
    (upstream, Dockerd::start_with(&format!("--dns {HOST4}")))
}

/// netd, and no engine.
fn without_engine(lab: &Lab, api: &str) {
    fs::write(daemon::CONFIG, format!("[docker_api]\n{api}\n")).expect("a file");
    lab.start_daemon();
}

/// Docker's command line (split at white space) at netd's socket.
fn docker(line: &str) -> Out {
    on_host(&format!("{CLIENT} --host unix://{SOCKET} {line}"))
}

/// A program on the host that finds netd's socket where Docker's tools look for Docker's.
fn tool(words: &[&str]) -> Out {
    let host = format!("DOCKER_HOST=unix://{SOCKET}");
    on_host_words(&[&["env", &host][..], words].concat())
}

fn docker_py(lab: &Lab) {
    let _docker = with_docker(lab, "");
    let script = ours("tests/runtimes/docker_sdk/docker_py.py");
    let checks = tool(&[PYTHON, &script]).ok().stdout;
    assert!(checks.lines().count() > 5, "{checks}");
    for check in checks.lines() {
        tool(&[PYTHON, &script, check]).ok();
        until_nothing_left(lab);
        until(&format!("nothing differs after {check}"), || is(lab.diff(), ""));
    }
}
