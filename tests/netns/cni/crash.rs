//! The daemon is killed in the middle of its work, and interfaces are renamed by other programs.

use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use super::traces;
use crate::lab::cni::{Call, call};
use crate::lab::look::{default_routes, links};
use crate::lab::{Lab, addresses, ip_json, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cni: ADD again after kill -9 of the daemon at any moment of ADD", killed),
        trial("cni: a veth pair that a killed daemon left incomplete is recreated", half_made),
        trial("cni: DEL removes a renamed interface, and ADD works after the bridge was renamed", renamed),
        trial("cni: GC with a very long list of attachments", long_list),
    ]
}

fn with_everything(command: &'static str) -> Call {
    let limit = 8_000_000;
    let limits = json!({"ingressRate": limit, "ingressBurst": limit, "egressRate": limit, "egressBurst": limit});
    call(command, "web").conf(|conf| {
        let conf = conf.key("subnets", "10.1.0.0/24").key("ipv6", true);
        conf.port(4000, 80).udp_port(4000, 80).runtime("bandwidth", limits)
    })
}

fn killed(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    with_everything("ADD").run().ok();
    with_everything("DEL").run().ok();
    let before = traces(lab);
    for moment in 0..40u32 {
        let add = with_everything("ADD").start();
        // This sleep is no wait: it varies the moment of the kill.
        thread::park_timeout(Duration::from_micros(2_000 + u64::from(moment) * 250));
        lab.kill_daemon();
        add.wait_with_output().expect("it ends");
        lab.start_daemon();
        let result = with_everything("ADD").run().ok();
        with_everything("CHECK").prev_result(&result).run().ok();
        with_everything("DEL").run().ok();
        assert_eq!(traces(lab), before, "moment {moment}");
        assert_eq!(links("web"), ["lo"]);
    }
}

fn half_made(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    let result = with_everything("ADD").run().ok();
    let (address, routes) = (addresses("web", "eth0"), default_routes("web", 4));
    lab.kill_daemon();
    // The state after a kill before the daemon has entered the container.
    run("ip -n web link set eth0 down").ok();
    run("ip -n web address flush dev eth0").ok();
    let host_end = result["interfaces"][1]["name"].as_str().unwrap();
    run(&format!("ip -n host link set {host_end} group 28262")).ok();
    lab.start_daemon();
    assert_eq!((addresses("web", "eth0"), default_routes("web", 4)), (address, routes));
    assert_eq!(ip_json("host", &format!("link show {host_end}"))[0]["group"], "28260");
    with_everything("CHECK").prev_result(&result).run().ok();
}

fn renamed(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    with_everything("ADD").run().ok();
    with_everything("DEL").run().ok();
    let before = traces(lab);
    let rename = |from: &str, to: &str| {
        run(&format!("ip -n host link set {from} down")).ok();
        run(&format!("ip -n host link set {from} name {to}")).ok();
        // netd may have given it its name back.
        run(&format!("ip -n host link set {to} up"));
    };
    let result = with_everything("ADD").run().ok();
    rename(result["interfaces"][1]["name"].as_str().unwrap(), "elsewhere");
    with_everything("DEL").run().ok();
    assert_eq!((traces(lab), links("web")), (before.clone(), vec!["lo".to_owned()]));

    rename("nd-net1", "elsewhere");
    let result = with_everything("ADD").run().ok();
    with_everything("CHECK").prev_result(&result).run().ok();
    with_everything("DEL").run().ok();
    assert_eq!(traces(lab), before);
}

fn long_list(lab: &Lab) {
    lab.start_daemon();
    for name in ["web", "gone"] {
        lab.container(name);
        call("ADD", name).run().ok();
    }
    let others: Vec<String> = (0..20_000).map(|n| format!("{n:064}")).collect();
    let valid: Vec<_> = others.iter().map(String::as_str).chain(["web"]).map(|id| (id, "eth0")).collect();
    call("GC", "").conf(|conf| conf.valid(&valid)).run().ok();
    assert_eq!((links("web").len(), links("gone").len()), (2, 1));
}
