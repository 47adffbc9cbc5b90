//! Networks that Docker, Podman and CNI configurations define without an interface: netd does not use their subnets.

use std::fs;
use std::os::unix::net::UnixListener;

use libtest_mimic::Trial;
use netd_testing::request::{attach, network};

use crate::lab::daemon::CONFIG;
use crate::lab::{Lab, trial};
use crate::runtimes::serve;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("foreign networks: subnets defined by Docker and by files are avoided and named", defined),
        trial("foreign networks: an unresponsive API does not prevent the creation of a network", silent),
    ]
}

const NETWORKS: &str = r#"[
    {"Name":"app_default","Id":"1","Driver":"bridge","IPAM":{"Driver":"default","Config":[{"Subnet":"10.61.0.0/24","Gateway":"10.61.0.1"}]}},
    {"Name":"host","Id":"2","Driver":"host","IPAM":{"Driver":"default","Config":null}}]"#;

fn write(path: &str, text: &str) {
    let folder = std::path::Path::new(path).parent().unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(path, text).unwrap();
}

/// A pool of four subnets, of which others define three.
fn set_up() {
    let _ = fs::remove_dir_all("/etc/cni/net.d");
    write(CONFIG, "[pools]\nipv4 = [{ base = \"10.61.0.0/22\", size = 24 }]\n");
    write(
        "/etc/containers/networks/pod.json",
        r#"{"name":"pod","driver":"bridge","subnets":[{"subnet":"10.61.1.0/24"}]}"#,
    );
    write(
        "/etc/cni/net.d/87-cni.conflist",
        r#"{"cniVersion":"1.0.0","name":"k8s","plugins":[{"type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.61.2.0/24"}]]}}]}"#,
    );
}

fn defined(lab: &Lab) {
    set_up();
    serve("/run/docker.sock", |path| match path.ends_with("/networks") {
        true => ("200 OK", NETWORKS.to_owned()),
        false => ("404 Not Found", r#"{"message":"page not found"}"#.to_owned()),
    });
    lab.start_daemon();
    lab.netd("network create net1").ok();
    assert_eq!(lab.network("net1")["subnets"][0]["subnet"], "10.61.3.0/24", "the subnet without a definition");
    let before = lab.everything();
    assert!(lab.netd("network create net2").refused().contains("no free subnet"), "the others are taken");
    for (subnet, whose) in [
        ("10.61.0.0/24", "Docker's network app_default (10.61.0.0/24)"),
        ("10.61.1.128/25", "Podman's network pod (10.61.1.0/24)"),
        ("10.61.2.0/24", "the CNI network k8s of /etc/cni/net.d/87-cni.conflist (10.61.2.0/24)"),
    ] {
        let line = lab.netd(&format!("network create net2 --subnet {subnet}")).refused();
        assert!(line.contains(&format!("subnet {subnet} overlaps with {whose}")), "{line}");
    }
    lab.unchanged_since(&before);

    // The runtime's configuration of that name defines this very network.
    lab.container("web");
    let request = attach("k8s", "web").to(network("k8s").subnet("10.61.2.0/24"));
    let (status, body) = lab.http("PUT", "/v1/attachments/k8s/0123456789abcdef/eth0", &request.body());
    assert!(status < 300, "{status} {body}");
    let request = attach("other", "web").to(network("other").subnet("10.61.1.0/24"));
    let (status, body) = lab.http("PUT", "/v1/attachments/other/0123456789abcdef/eth1", &request.body());
    assert!(status == 409 && body.contains("Podman's network pod"), "{status} {body}");
}

fn silent(lab: &Lab) {
    set_up();
    // It never accepts a connection.
    let _silent = UnixListener::bind("/run/docker.sock").unwrap();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    assert_eq!(lab.network("net1")["subnets"][0]["subnet"], "10.61.0.0/24");
}
