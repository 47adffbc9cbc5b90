//! Restarts, kills and removals, of Podman's containers and of netd.

use libtest_mimic::Trial;
use netd_testing::wait::is;

use super::{NEEDS, all_gone, podman_in, ready};
use crate::lab::{HOST4, Lab};
use crate::podman::{SERVE, page_comes_to, podman, podman_run};
use crate::world::{Traces, fetches_the_page, trial, until};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("netavark: a restarted container is connected again, a killed one is released", NEEDS, restarted),
        trial("netavark: netd is killed and started again, its containers stay", NEEDS, netd_killed),
        trial("netavark: a container removed while netd is dead is released after its restart", NEEDS, while_dead),
    ]
}

fn started(lab: &Lab) {
    ready(lab);
    podman("network create net1").ok();
    podman_run(&format!("-d --name web --network net1 -p 4000:80 {SERVE}"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
}

fn no_containers(lab: &Lab) {
    until("netd knows no container", || is(lab.netd("ps --json").ok().json(), &serde_json::json!([])));
}

fn restarted(lab: &Lab) {
    started(lab);
    podman("restart -t 0 web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    page_comes_to("net1", "web");
    let traces = Traces::of(lab, "net1", "web", &[4000]);
    // The container ends without a podman command, and conmon starts the cleanup.
    podman("kill -s KILL web").ok();
    no_containers(lab);
    traces.until_gone(lab);
    podman("start web").ok();
    page_comes_to("net1", "web");
    podman("rm -t 0 -f web").ok();
    all_gone(lab);
}

fn netd_killed(lab: &Lab) {
    started(lab);
    lab.kill_daemon();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    lab.start_daemon();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    page_comes_to("net1", "web");
    podman("network reload web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    podman("rm -t 0 -f web").ok();
    all_gone(lab);
}

fn while_dead(lab: &Lab) {
    started(lab);
    let traces = Traces::of(lab, "net1", "web", &[4000]);
    lab.kill_daemon();
    // It may report the failed netavark; the container is removed nevertheless.
    podman("rm -t 0 -f -a");
    assert_eq!(podman("ps -a -q").ok().stdout, "");
    lab.start_daemon();
    no_containers(lab);
    traces.until_gone(lab);
    all_gone(lab);
    podman_in("run", &format!("-d --name web --network net1 -p 4000:80 {SERVE}")).ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    podman("rm -t 0 -f web").ok();
    all_gone(lab);
}
