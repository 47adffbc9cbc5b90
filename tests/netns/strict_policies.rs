//! Strict ports of containers that policies are about, and strict ports asked from internal networks: a packet that the
//! host's own rules let pass must pass the policies too, although netd sends it again from the host.

use std::net::SocketAddr;

use libtest_mimic::Trial;

use crate::lab::{HOST4, HOST6, Lab, Server, trial};
use crate::strict::{BOTH, Cell, accepts, all_hold, host_accepts};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("strict: policies decide too, with clients' own addresses", policies),
        trial("strict: nobody reaches them from an internal network", internal),
    ]
}

/// From these namespaces to the strict port: who reaches it.
fn cells(reaching: &[&'static str], others: &[&'static str]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (who, reaches) in reaching.iter().map(|who| (who, true)).chain(others.iter().map(|who| (who, false))) {
        for proto in BOTH {
            let at = |host: &str| SocketAddr::new(host.parse().unwrap(), 4000);
            cells.extend([HOST4, HOST6].map(|host| Cell { ns: who, to: at(host), proto, reaches, saw: None }));
        }
    }
    cells
}

fn lab_with_a_strict_port(lab: &Lab, other: &str) -> Server {
    host_accepts(&accepts(4000));
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o publish=strict").ok();
    lab.netd(&format!("network create net2 --ipv6 {other}")).ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    lab.connected("net2", "other", "");
    Server::start("web", "web", 80)
}

fn policies(lab: &Lab) {
    let _server = lab_with_a_strict_port(lab, "");
    all_hold(&cells(&["outside", "other", "host"], &[]));
    let sides = [("outside", ["other", "host"]), ("other", ["outside", "host"]), ("host", ["outside", "other"])];
    for (number, (who, others)) in sides.into_iter().enumerate() {
        lab.netd(&format!("policy deny {who} web")).ok();
        all_hold(&cells(&others, &[who]));
        lab.netd(&format!("policy rm {}", number + 1)).ok();
        all_hold(&cells(&["outside", "other", "host"], &[]));
    }
    lab.netd("policy default-deny net1").ok();
    all_hold(&cells(&[], &["outside", "other", "host"]));
    for port in ["80", "80/udp"] {
        lab.netd(&format!("policy allow outside web:{port}")).ok();
    }
    all_hold(&cells(&["outside"], &["other", "host"]));
    for port in ["80", "80/udp"] {
        lab.netd(&format!("policy allow other web:{port}")).ok();
    }
    all_hold(&cells(&["outside", "other"], &["host"]));
    host_accepts("");
    all_hold(&cells(&[], &["outside", "other", "host"]));
    assert_eq!(lab.diff(), "");
}

fn internal(lab: &Lab) {
    let _server = lab_with_a_strict_port(lab, "--internal");
    all_hold(&cells(&["outside", "host"], &["other"]));
    // With policies the network has other chains.
    lab.netd("policy deny other host").ok();
    all_hold(&cells(&["outside", "host"], &["other"]));
    assert_eq!(lab.diff(), "");
}
