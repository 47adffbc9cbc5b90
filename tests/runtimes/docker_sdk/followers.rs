//! Programs that follow containers, as `followers.py` has them.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::{PYTHON, SOCKET, docker, tool, with_docker, without_engine as no_engine};
use crate::dockerd::{CLIENT, SERVE};
use crate::lab::{Lab, daemon};
use crate::world::{ours, root_file_system, until_nothing_left};

/// Traefik before 3.6 speaks the first of these; what is newer, and docker-gen, the second.
const VERSIONS: [&str; 2] = ["1.24", "1.41"];
/// The setting that lets old programs in.
const OLD_ONES: &str = "min_api_version = \"1.24\"";

/// Runs them while `start` and `end`, lines for the shell, start and end the container `web`.
fn follow(start: &str, end: &str) {
    let script = ours("tests/runtimes/docker_sdk/followers.py");
    for version in VERSIONS {
        tool(&[PYTHON, &script, SOCKET, version, start, end]).ok();
    }
}

pub(super) fn with_docker_behind(lab: &Lab) {
    let _docker = with_docker(lab, OLD_ONES);
    docker("network create net1").ok();
    docker(&format!("create --name web --network net1 -p 4000:80 --label traefik.enable=true {SERVE}")).ok();
    // Containers that do not run are nobody's business.
    docker("create --name other --network net1 --label traefik.enable=true lab").ok();
    follow(&format!("{CLIENT} start web"), &format!("{CLIENT} kill web"));
    docker("rm web other").ok();
    until_nothing_left(lab);
    docker("network rm net1").ok();
}

pub(super) fn without_engine(lab: &Lab) {
    no_engine(lab, OLD_ONES);
    lab.netd("network create net1").ok();
    lab.container("web");
    let _server = Page::serve("web");
    let netd = format!("NETD_SOCKET={} {}", daemon::SOCKET, daemon::netd());
    let options = "-p 4000:80 --label traefik.enable=true";
    follow(&format!("{netd} connect net1 web {options}"), &format!("{netd} disconnect net1 web"));
    until_nothing_left(lab);
}

/// A server of the page of `web` in a namespace; it ends when dropped.
struct Page(Child);

impl Page {
    fn serve(ns: &str) -> Self {
        let www = format!("{}/www", root_file_system());
        assert!(fs::exists(&www).expect("a look"));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{ns}")).args(["--", "busybox", "httpd", "-f", "-p", "80", "-h", &www]);
        Self(command.stdin(Stdio::null()).spawn().expect("a server"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
