//! With Podman as the engine: its networks are netd's by `netd-netavark`.

use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::{contains, until_within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{CLIENT, configure, docker, docker_words, finds_the_page, told};
use crate::lab::{HOST4, Lab};
use crate::netavark;
use crate::world::{PAGE, fetches_the_page, trial, until_nothing_left};

pub(crate) const NEEDS: &[&str] = &["podman", "runc", "conmon", CLIENT];
pub(crate) const SOCKET: &str = "/run/podman/podman.sock";

pub(super) fn trials() -> Vec<Trial> {
    vec![trial("engine api: docker's command line with Podman as the engine", NEEDS, job)]
}

/// Podman's service; it ends with its value.
pub(crate) struct Service(Child);

impl Service {
    pub(crate) fn start() -> Self {
        std::fs::create_dir_all("/run/podman").expect("a folder");
        let mut command = Command::new("nsenter");
        command.args([
            "--net=/run/netns/host",
            "--",
            "podman",
            "system",
            "service",
            "-t",
            "0",
            &format!("unix://{SOCKET}"),
        ]);
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("podman starts");
        let service = Self(process);
        until_within(std::time::Duration::from_secs(30), "Podman answers", || {
            contains(crate::world::on_host(&format!("curl -s --unix-socket {SOCKET} http://podman/_ping")).stdout, "OK")
        });
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

fn job(lab: &Lab) {
    configure(&format!("[engine]\nsocket = {SOCKET:?}\n"));
    lab.start_daemon();
    netavark::install_for(lab);
    let _service = Service::start();
    docker("network create --subnet 10.99.0.0/24 net1").ok();
    let listed = docker_words(&["network", "ls", "--format", "{{.Name}}"]).ok().stdout;
    assert_eq!(listed, "bridge\nhost\nnet1\nnone\n");
    let cgroup = format!("--cgroup-parent /{}/podman", crate::machine::cgroup());
    let serve = "lab busybox httpd -f -p 80 -h /www";
    docker(&format!("run -d {cgroup} --name web -p 4000:80 --network net1 --ip 10.99.0.7 --network-alias www {serve}"))
        .ok();
    docker(&format!("run -d {cgroup} --name friendlyname -p 4001:80 {serve}")).ok();
    for port in [4000, 4001] {
        fetches_the_page("outside", &format!("{HOST4}:{port}"));
    }
    let shown = docker_words(&["ps", "--format", "{{.Names}} {{.Ports}} {{.Networks}}"]).ok().stdout;
    for line in
        ["web 0.0.0.0:4000->80/tcp, :::4000->80/tcp net1", "friendlyname 0.0.0.0:4001->80/tcp, :::4001->80/tcp bridge"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(
        told("web", "{{.HostConfig.NetworkMode}} {{.NetworkSettings.Networks.net1.IPAddress}}"),
        "net1 10.99.0.7"
    );
    assert_eq!(
        told("friendlyname", "{{.NetworkSettings.IPAddress}}"),
        lab.address("podman", "friendlyname")[0].to_string()
    );
    docker("network connect --alias store net1 friendlyname").ok();
    for name in ["web", "www", "store"] {
        let found = docker(&format!("run --rm {cgroup} --network net1 lab wget -qO- http://{name}/")).ok().stdout;
        assert_eq!(found.trim(), PAGE, "{name}");
    }
    // A container that Podman does not know.
    lab.container("plain");
    docker("network connect net1 plain").ok();
    finds_the_page("plain", "www");
    assert_eq!(told("plain", "{{.Name}}"), "/plain");
    docker("network disconnect net1 plain").ok();
    assert_eq!(docker("exec web busybox echo hi").ok().stdout, "hi\n");
    let refused = docker("network rm net1");
    assert!(refused.stderr.contains("has active endpoints"), "{refused:?}");
    docker("rm -f web friendlyname").ok();
    docker("network rm net1").ok();
    let listed = docker_words(&["network", "ls", "--format", "{{.Name}}"]).ok().stdout;
    assert_eq!(listed, "bridge\nhost\nnone\n");
    until_nothing_left(lab);
}
