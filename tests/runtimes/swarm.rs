//! Docker's swarm commands at netd's Engine API: services, tasks and stacks, run by a real Docker and a real Podman.

use std::fs;

use libtest_mimic::Trial;

use crate::dockerd::{Dockerd, NEEDS};
use crate::lab::command::Out;
use crate::lab::{Lab, daemon};
use crate::world::{on_host, on_host_words, trial};

const API: &str = "/run/lab/docker.sock";
const API_URL: &str = "unix:///run/lab/docker.sock";
const CLIENT: &str = "/usr/bin/docker";
const DOCKER: &str = "/run/docker.sock";

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("swarm: a service has tasks, and Docker's commands show them", NEEDS, one)]
}

fn with_docker(lab: &Lab) -> Dockerd {
    let plugin = "[docker_plugin]\nsocket = \"/run/docker/plugins/netd.sock\"\n";
    fs::write(daemon::CONFIG, format!("log = \"debug\"\n{plugin}[docker_api]\nsocket = {API:?}\n[engine]\nsocket = {DOCKER:?}\n")).expect("a file");
    lab.start_daemon();
    Dockerd::start()
}

fn docker(line: &str) -> Out {
    let out = on_host(&format!("{CLIENT} --host {API_URL} {line}"));
    eprintln!("$ docker {line}\n{}{}", out.stdout, out.stderr);
    out
}

fn docker_words(words: &[&str]) -> Out {
    on_host_words(&[&[CLIENT, "--host", API_URL], words].concat())
}

fn one(lab: &Lab) {
    let _dockerd = with_docker(lab);
    docker("service ls");
    docker("swarm init").ok();
    docker("node ls").ok();
    docker("network create -d overlay net1").ok();
    docker("network ls").ok();
    docker("service create --name web --network net1 -p 4000:80 --replicas 1 lab busybox httpd -f -p 80 -h /www");
    docker("service ls").ok();
    docker("service ps web");
    docker("ps -a");
    docker("service inspect web");
    docker("service inspect --pretty web");
    docker("info");
    docker("service logs web");
    eprintln!("{}", lab.netd("ps").stdout);
    let names = docker_words(&["service", "ps", "-q", "web"]).stdout;
    docker(&format!("inspect {names}"));
    docker("service scale web=3");
    docker("service ps web");
    docker("service update --update-order start-first --env-add A=B web");
    docker("service ps web");
    docker("service rollback web");
    docker("service ps web");
    docker("service rm web").ok();
    std::thread::sleep(std::time::Duration::from_secs(3));
    docker("ps -a");
    docker("network rm net1");
    docker("network ls");
    docker("swarm leave --force");
    eprintln!("{}", fs::read_to_string("/run/lab/daemon.log").unwrap_or_default());
}
