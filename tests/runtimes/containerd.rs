//! containerd, driven by `ctr run --cni`.
//!
//! `ctr` takes the first file of its configuration folder, calls the container NAMESPACE-ID, and sends no `CNI_ARGS`
//! and no capabilities. `ctr` never calls DEL for a detached container: netd notices the end of its namespace.

use std::fs;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, lacks};

use crate::lab::Lab;
use crate::lab::command::Out;
use crate::machine;
use crate::world::{
    PAGE, Traces, docker_archive, fetches_the_page, nothing_left, on_host, start, trial, until, until_nothing_left,
};

pub(crate) const NEEDS: &[&str] = &["containerd", "ctr", "runc", "containerd-shim-runc-v2"];
pub(crate) const ADDRESS: &str = "/run/lab/containerd/containerd.sock";
pub(crate) const IMAGE: &str = "docker.io/library/lab:latest";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("containerd: tasks find each other by name, and nothing remains", NEEDS, tasks),
        trial("containerd: a task that ends by itself is detached", NEEDS, foreground),
    ]
}

/// A containerd of its own; it ends when dropped.
pub(crate) struct Containerd(Child);

impl Containerd {
    pub(crate) fn start() -> Self {
        Self::with(&["io.containerd.grpc.v1.cri"], "", "default")
    }

    /// Without those plugins, with these settings of others, and with the image in a namespace of containerd's.
    pub(crate) fn with(disabled: &[&str], plugins: &str, namespace: &str) -> Self {
        let settings = format!(
            r#"version = 2
root = "/run/lab/containerd/root"
state = "/run/lab/containerd/state"
disabled_plugins = {disabled:?}
[grpc]
address = "{ADDRESS}"
[plugins."io.containerd.internal.v1.opt"]
path = "/run/lab/containerd/opt"
{plugins}"#
        );
        fs::write("/run/lab/containerd.toml", settings).expect("a file");
        let log = fs::File::create("/run/lab/containerd.log").expect("a file");
        let mut command = Command::new("nsenter");
        command.args(["--net=/run/netns/host", "--", "containerd", "--config", "/run/lab/containerd.toml"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let containerd = Self(child.expect("containerd starts"));
        until("containerd answers", || ctr("version").succeeded());
        let image = docker_archive(IMAGE);
        ctr(&format!("--namespace {namespace} image import --snapshotter native {image}")).ok();
        containerd
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Its shims survive it, and end with the tests' process namespace.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ctr(line: &str) -> Out {
    on_host(&format!("ctr --address {ADDRESS} {line}"))
}

/// `ctr run --cni` of a container; its cgroup ends with the tests.
fn ctr_run(options: &str, id: &str, command: &str) -> Out {
    let cgroup = machine::cgroup();
    ctr(&format!("run --cni --snapshotter native --cgroup /{cgroup}/ctr-{id} {options} {IMAGE} {id} {command}"))
}

/// A command in a running task, as `ctr` starts it: it has no resolv.conf of netd, so names are queried explicitly.
fn exec(id: &str, command: &str) -> Out {
    ctr(&format!("task exec --exec-id probe {id} busybox {command}"))
}

fn tasks(lab: &Lab) {
    start(lab, &["10-netd.conflist"]);
    let _containerd = Containerd::start();
    ctr_run("-d", "web", "busybox httpd -f -p 80 -h /www").ok();
    ctr_run("-d", "client", "busybox sleep 1000").ok();
    let address = lab.address("netd", "default-web")[0].to_string();
    let interface = exec("web", "ip -o address show eth0").ok().stdout;
    assert!(interface.contains(&format!("inet {address}/")), "{interface}");
    fetches_the_page("host", &address);
    let gateway = lab.endpoint("netd", "default-web")["gateways"][0].as_str().expect("a gateway").to_owned();
    let looked_up = exec("client", &format!("nslookup default-web {gateway}")).ok().stdout;
    assert!(looked_up.contains(&address), "{looked_up}");
    // ctr gives a container no resolv.conf: a user mounts this one.
    fs::write("/run/lab/resolv.conf", format!("nameserver {gateway}\n")).expect("a file");
    let mount = "--mount type=bind,src=/run/lab/resolv.conf,dst=/etc/resolv.conf,options=rbind:ro";
    let page = ctr_run(&format!("--rm {mount}"), "fetcher", "wget -qO- http://default-web/").ok();
    assert_eq!(page.stdout.trim(), PAGE);

    let traces = Traces::of(lab, "netd", "default-web", &[]);
    ctr("task kill -s KILL web").ok();
    until("the task has ended", || contains(ctr("task ls").ok().stdout, "STOPPED"));
    // Its exit code is the task's.
    ctr("task rm web");
    ctr("container rm web").ok();
    until("netd released it", || lacks(lab.netd("ps --json").ok().stdout, "default-web"));
    traces.until_gone(lab);
    let looked_up = exec("client", &format!("nslookup default-web {gateway}"));
    assert!(looked_up.code != Some(0), "the name outlives its container: {looked_up:?}");
    ctr("task rm -f client");
    ctr("container rm client").ok();
    until("netd released the other", || is(lab.netd("ps --json").ok().json(), &serde_json::json!([])));
    until_nothing_left(lab);
}

fn foreground(lab: &Lab) {
    start(lab, &["10-netd.conflist"]);
    let _containerd = Containerd::start();
    let out = ctr_run("--rm", "short", "busybox ip -o address show eth0").ok();
    assert!(out.stdout.contains("inet 10."), "{out:?}");
    nothing_left(lab);
    // The same id again, at once.
    ctr_run("--rm", "short", "busybox ip -o address show eth0").ok();
    nothing_left(lab);
}
