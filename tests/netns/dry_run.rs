//! `--dry-run`: shows what a verb would change, and changes nothing.

use libtest_mimic::Trial;

use crate::lab::look::links;
use crate::lab::{Lab, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("dry run: every changing verb shows its steps and changes nothing", changes_nothing),
        trial("dry run: refusals are the same as without it", refused_alike),
    ]
}

fn changes_nothing(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    let before = lab.everything();
    let plan = |line: &str, parts: &[&str]| {
        let before = lab.everything();
        let shown = lab.netd(&format!("{line} --dry-run")).ok().stdout;
        for part in parts {
            assert!(shown.contains(part), "`{line} --dry-run` does not show {part}:\n{shown}");
        }
        lab.unchanged_since(&before);
    };
    plan(
        "network create net1 --subnet 10.9.0.0/24",
        &["add bridge nd-net1 with 10.9.0.1/24", "answer DNS at 10.9.0.1"],
    );
    lab.unchanged_since(&before);
    lab.netd("network create net1 --subnet 10.9.0.0/24").ok();
    plan("network rm net1", &["delete bridge nd-net1"]);
    plan("network prune", &["delete bridge nd-net1"]);
    let parts = ["bind 0.0.0.0:4000/tcp", "ndv-web-net1", "10.9.0.2/24", "publish { 4000/tcp : 10.9.0.2:80 }"];
    plan("connect net1 web -p 4000:80", &parts);
    let steps = lab.netd("connect net1 web -p 4000:80 --dry-run --json").ok().json();
    let actions: Vec<&str> = steps.as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap()).collect();
    assert!(actions.contains(&"add-interface") && actions.contains(&"hold-ports"), "{actions:?}");
    lab.netd("connect net1 web -p 4000:80").ok();
    assert!(links("host").contains(&"ndv-web-net1".to_owned()), "as planned: {:?}", links("host"));
    plan("disconnect net1 web", &["delete interfaces ndv-web-net1", "release 0.0.0.0:4000/tcp"]);
}

fn refused_alike(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80");
    lab.container("db");
    for line in [
        "connect net1 db -p 4000:80",
        "connect nowhere db",
        "connect net1 nobody",
        "network rm net1",
        "network create net1",
        "disconnect net1 db",
    ] {
        let planned = lab.netd(&format!("{line} --dry-run")).refused();
        assert_eq!(planned, lab.netd(line).refused(), "{line}");
    }
}
