//! `dist/hooks.d/netd.json`, installed for this build: Podman calls `netd hook` for containers with annotations for netd.

use libtest_mimic::Trial;

use crate::lab::command::run_words;
use crate::lab::{HOST4, Lab, daemon};
use crate::machine;
use crate::podman::{self, podman};
use crate::world::{PAGE, Traces, fetches_the_page, nothing_left, ours, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("hook of Podman: a container without a network of Podman's joins netd's", podman::NEEDS, with_podman)]
}

fn with_podman(lab: &Lab) {
    podman::ready(lab);
    let script = ours("scripts/install-hook");
    run_words(&[&script, "--netd", daemon::netd()]).ok();
    lab.netd("network create net1").ok();
    let podman_run = |line: &str| {
        let cgroup = machine::cgroup();
        podman(&format!("run --cgroup-parent /{cgroup}/podman --network none {line}"))
    };
    let serve = "lab busybox httpd -f -p 80 -h /www";
    let asks = "--annotation netd.network=net1 --annotation netd.publish=4000:80 --annotation netd.name=web";
    for _ in 0..2 {
        podman_run(&format!("-d --name web {asks} {serve}")).ok();
        fetches_the_page("outside", &format!("{HOST4}:4000"));
        let client = podman_run("--rm --annotation netd.network=net1 lab wget -qO- http://web/").ok();
        assert_eq!(client.stdout.trim(), PAGE);
        let traces = Traces::of(lab, "net1", "web", &[4000]);
        podman("restart -t 0 web").ok();
        fetches_the_page("outside", &format!("{HOST4}:4000"));
        podman("rm -t 0 -f web").ok();
        traces.are_gone(lab);
        nothing_left(lab);
    }
    let refused = podman_run(&format!("-d --name web --annotation netd.network=nowhere {serve}"));
    assert!(refused.code != Some(0) && refused.stderr.contains("netd network ls"), "{refused:?}");
    podman("rm -f web");
    // Without annotations the hook is not called.
    assert!(podman_run("--rm lab ip -o link").ok().stdout.lines().count() == 1);
    nothing_left(lab);
}
