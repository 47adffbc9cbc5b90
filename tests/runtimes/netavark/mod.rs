//! Podman with `netd-netavark` in the place of its netavark, and netavark itself as the peer.

mod drop_in;
mod input;
mod install;
mod life;
mod peer;

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::lab::command::{Out, run_words};
use crate::lab::daemon;
use crate::lab::look::{elements, ip_json};
use crate::machine;
use crate::podman::podman;
use crate::world::{layer, ours, until};

pub(crate) const NEEDS: &[&str] = &["podman", "runc", "conmon"];
/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_netd-netavark");
/// Netavark of the distribution.
pub(crate) const NETAVARK: &str = "/usr/lib/podman/netavark";
/// Where it is installed as netavark.
const FOLDER: &str = "/run/lab/helpers";
/// Podman's settings, besides those that the script installs.
const SETTINGS: &str = r#"[containers]
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "localhost/lab"
infra_command = "/bin/sleep 100000"
"#;

pub(crate) fn trials() -> Vec<Trial> {
    [drop_in::trials(), life::trials(), input::trials(), install::trials(), peer::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// The daemon runs where the program looks for it; Podman has an image, and `netd-netavark` as its netavark.
pub(crate) fn ready(lab: &Lab) {
    lab.start_daemon();
    install_for(lab);
}

/// The same where the daemon runs already.
pub(crate) fn install_for(_: &Lab) {
    fs::create_dir_all("/run/netd").expect("a folder");
    std::os::unix::fs::symlink(daemon::SOCKET, "/run/netd/netd.sock").expect("a link");
    install(&["--bin-dir", FOLDER, "--program", PROGRAM, "--force"]).ok();
    settings();
}

/// Podman's settings, which do not say where its helpers are, and an image, `lab`.
pub(crate) fn settings() {
    fs::create_dir_all("/etc/containers").expect("a folder");
    let _ = fs::remove_dir_all("/etc/containers/networks");
    fs::write("/etc/containers/containers.conf", SETTINGS).expect("a file");
    let storage =
        "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/lab/podman/run\"\ngraphroot = \"/run/lab/podman/graph\"\n";
    fs::write("/etc/containers/storage.conf", storage).expect("a file");
    podman(&format!("import {} lab", layer())).ok();
}

/// `scripts/install-netavark` with these arguments.
fn install(words: &[&str]) -> Out {
    let script = ours("scripts/install-netavark");
    let line: Vec<&str> = [script.as_str()].into_iter().chain(words.iter().copied()).collect();
    run_words(&line)
}

/// `podman` with these arguments, split at white space, in the cgroup of the tests.
fn podman_in(verb: &str, line: &str) -> Out {
    podman(&format!("{verb} --cgroup-parent /{}/podman {line}", machine::cgroup()))
}

/// Waits until netd has no networks and containers, and the host no interface but its own.
#[track_caller]
fn all_gone(lab: &Lab) {
    until("all that Podman asked for is gone", || left(lab));
}

fn left(lab: &Lab) -> Result<(), String> {
    let dump: Value = lab.netd("dump --json").ok().json();
    for kind in ["networks", "containers", "endpoints"] {
        if dump[kind] != json!([]) {
            return Err(format!("{kind} are left: {}", dump[kind]));
        }
    }
    let names = ip_json("host", "link show").into_iter().map(|link| link["ifname"].as_str().unwrap_or("?").to_owned());
    let others: Vec<String> = names.filter(|name| !["lo", "uplink"].contains(&name.as_str())).collect();
    if !others.is_empty() {
        return Err(format!("interfaces are left: {others:?}"));
    }
    let all = elements();
    if all.contains("podman") || all.contains("10.8") { Err(format!("elements are left: {all}")) } else { Ok(()) }
}
