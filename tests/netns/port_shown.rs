//! What `netd ps`, `netd port` and the JSON show of a container that a runtime publishes on several networks, and how
//! tables fit a terminal.

use libtest_mimic::Trial;
use netd_testing::request;
use serde_json::{Value, json};

use crate::lab::{Lab, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("ps and port: each publication is listed once, and tables fit 80 columns", shown)]
}

/// Requests the port on both networks, as Podman does.
fn attach(lab: &Lab, network: &str, ifname: &str) {
    let request = request::attach(network, "web").name("web").publish("4000:80").publish("127.0.0.1:5000:53/udp");
    let path = format!("/v1/attachments/{network}/0123456789abcdef/{ifname}");
    let (status, body) = lab.http("PUT", &path, &request.body());
    assert!(status < 300, "{status} {body}");
}

fn shown(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    for (network, ifname) in [("front", "eth0"), ("back", "eth1")] {
        lab.netd(&format!("network create {network}")).ok();
        attach(lab, network, ifname);
    }
    let ports = lab.netd("port web --json").ok().json();
    let of = |port: &Value| (port["network"].clone(), port["host_port"].clone());
    let ports: Vec<_> = ports.as_array().unwrap().iter().map(of).collect();
    assert_eq!(
        ports,
        [(json!("front"), json!(4000)), (json!("front"), json!(5000))],
        "the network of its default route"
    );
    let containers = lab.netd("ps --json").ok().json();
    assert_eq!(containers[0]["endpoints"][0]["ports"].as_array().unwrap().len(), 2, "{containers}");
    assert_eq!(containers[0]["endpoints"][1]["ports"], json!([]), "{containers}");
    assert_eq!(lab.netd("status --json").ok().json()["publications"], 2);

    let full = lab.netd("ps").ok().stdout;
    assert_eq!((full.lines().count(), full.matches("*:4000->80/tcp").count()), (2, 1), "a row is a line: {full}");
    for columns in [80, 120] {
        let netd = crate::lab::daemon::netd();
        let line = format!("script -qec 'stty cols {columns}; {netd} ps' /dev/null");
        let text = lab.shell("host", &line).ok().stdout.replace('\r', "");
        assert!(
            (text.lines().count() > 2) == (columns == 80) && text.lines().all(|line| line.chars().count() <= columns),
            "{text}"
        );
        for part in ["web", "0123456789ab", "front,", "back", "*:4000->80/tcp", "127.0.0.1:5000->53/udp"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}
