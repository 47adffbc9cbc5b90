//! Networks that a real Docker or Podman defines: netd does not use their subnets, and names their owner.

use libtest_mimic::Trial;

use crate::dockerd::{self, Dockerd, docker};
use crate::lab::Lab;
use crate::podman::{self, podman};
use crate::world::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("docker: the subnet of a Docker network is avoided and named", dockerd::NEEDS, of_docker),
        trial("podman: the subnet of a Podman network is avoided and named", podman::NEEDS, of_podman),
    ]
}

/// Another program defines the first subnet of netd's pool.
fn avoids(lab: &Lab, whose: &str) {
    lab.netd("network create net1").ok();
    assert_eq!(lab.network("net1")["subnets"][0]["subnet"], "10.77.1.0/24");
    let line = lab.netd("network create net2 --subnet 10.77.0.128/25").refused();
    assert!(line.contains("overlaps with") && line.contains(whose) && line.contains("(10.77.0.0/24)"), "{line}");
}

fn of_docker(lab: &Lab) {
    let _dockerd = Dockerd::start();
    docker("network create --subnet 10.77.0.0/24 app").ok();
    lab.start_daemon();
    avoids(lab, "Docker's network app");
}

fn of_podman(lab: &Lab) {
    podman::ready(lab);
    // Its bridge does not exist as long as no container is on it.
    podman("network create --subnet 10.77.0.0/24 pod").ok();
    avoids(lab, "the CNI network pod");
}
