//! What runtimes need on top of ring 3's laboratory: private folders where they write, the plugins, a conflist, an image
//! made of busybox, and a look at whether anything of a container is left.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{Look, is, until_within};
use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::harness::cannot_run;
use crate::lab::command::{Out, run_words};
use crate::lab::look::{elements, ip_json};
use crate::lab::{self, Lab, daemon, run, space};
use crate::libcni::Runtime;

/// Where runtimes look for plugins by default, here private.
pub(crate) const PLUGIN_DIR: &str = "/opt/cni/bin";
/// Where Debian keeps the reference plugins.
pub(crate) const REFERENCE_DIR: &str = "/usr/lib/cni";
/// Where runtimes look for networks by default, here private.
pub(crate) const CONF_DIR: &str = "/etc/cni/net.d";
/// How long what a real engine does may take beside a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The page that `web` serves.
pub(crate) const PAGE: &str = "hello from web";
/// The image's root, and what is made of it.
const IMAGE: &str = "/run/lab/image";
/// The plugin under test.
const PLUGIN: &str = env!("CARGO_BIN_EXE_netd-cni");
/// One of the reference plugins, which come together.
pub(crate) const REFERENCE_PLUGINS: &str = "/usr/lib/cni/bridge";

/// A trial that needs these programs (names, or absolute paths).
pub(crate) fn trial(
    name: &'static str,
    needs: &'static [&'static str],
    test: impl FnOnce(&Lab) + Send + 'static,
) -> Trial {
    lab::skippable(name, move |lab| {
        if let Some(program) = needs.iter().find(|program| find(program).is_none()) {
            let why = format!("{program} is not installed (scripts/test installs it)");
            return cannot_run(&why).unwrap_or_else(|_| panic!("{why}"));
        }
        private_folders();
        test(lab);
        Completion::Completed
    })
}

/// Where a program is; an absolute path stands for itself.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut places = path.split(':').chain(["/usr/sbin", "/sbin"]).map(|dir| Path::new(dir).join(program));
    places.find(|place| place.exists())
}

/// The folders of the machine that runtimes write to, private to this laboratory.
pub(crate) fn private_folders() {
    shadow("/opt", &["cni"]);
    shadow("/var/lib", &["cni", "containers", "containerd"]);
    if fs::exists("/usr/share/containers").expect("a look") {
        shadow("/usr/share/containers", &["oci"]);
    }
    // Podman's locks.
    mount(Some("lab"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), Some("mode=1777")).expect("a tmpfs on /dev/shm");
    let _ = fs::remove_dir_all("/etc/cni");
    for folder in [PLUGIN_DIR, CONF_DIR, "/run/lab/tmp"] {
        fs::create_dir_all(folder).expect("a folder");
    }
}

/// Puts an empty file system over a folder, with links to all that was there but these, which are empty folders.
fn shadow(folder: &str, fresh: &[&str]) {
    let kept = format!("/run/lab/machine{folder}");
    fs::create_dir_all(&kept).expect("a folder");
    let recursive = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(folder), kept.as_str(), None::<&str>, recursive, None::<&str>).expect("a second view of the folder");
    mount(Some("lab"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).expect("a tmpfs");
    for entry in fs::read_dir(&kept).expect("its entries").flatten() {
        let name = entry.file_name();
        if !fresh.iter().any(|fresh| name == *fresh) {
            std::os::unix::fs::symlink(entry.path(), Path::new(folder).join(&name)).expect("a link");
        }
    }
    fresh.iter().for_each(|name| fs::create_dir(Path::new(folder).join(name)).expect("a folder"));
}

/// The path of a file of this repository.
pub(crate) fn ours(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// `scripts/install-cni` with these arguments, split at white space.
pub(crate) fn install_cni(words: &str) -> Out {
    let script = ours("scripts/install-cni");
    let mut line = vec![script.as_str()];
    line.extend(words.split_whitespace());
    run_words(&line)
}

/// Starts the daemon where programs look for it.
pub(crate) fn start_daemon_at_the_usual_place(lab: &Lab) {
    lab.start_daemon();
    fs::create_dir_all("/run/netd").expect("a folder");
    std::os::unix::fs::symlink(daemon::SOCKET, "/run/netd/netd.sock").expect("a link");
}

/// Starts the daemon where plugins look for it, and installs the plugin with these files of `cni-conf`.
pub(crate) fn start(lab: &Lab, conflists: &[&str]) {
    start_daemon_at_the_usual_place(lab);
    let files: Vec<String> = conflists.iter().map(|name| ours(&format!("cni-conf/{name}"))).collect();
    install_cni(&format!("--plugin {PLUGIN} {}", files.join(" "))).ok();
}

/// The runtime that [`crate::libcni`] implements.
pub(crate) fn runtime() -> Runtime {
    Runtime { ns: "host".to_owned(), path: [PLUGIN_DIR, REFERENCE_DIR].map(str::to_owned).to_vec() }
}

/// A program on the host (split at white space), with the cgroups in sight and nothing of the user's own settings.
pub(crate) fn on_host(line: &str) -> Out {
    on_host_words(&line.split_whitespace().collect::<Vec<_>>())
}

/// The same with exactly these arguments.
pub(crate) fn on_host_words(words: &[&str]) -> Out {
    let path = format!("PATH={}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut line = vec!["nsenter", "--net=/run/netns/host", "--", "env", "-i", &path];
    line.extend(["HOME=/run/lab/tmp", "TMPDIR=/run/lab/tmp", "LC_ALL=C"]);
    line.extend(words);
    run_words(&line)
}

/// What a machine in this namespace gets from `http://ADDRESS/`; empty when there is no answer.
pub(crate) fn fetch(ns: &str, address: &str) -> String {
    let url = format!("http://{address}/");
    let line = ["nsenter", &format!("--net=/run/netns/{ns}"), "--", "curl", "-sS", "--max-time", "3", &url];
    run_words(&line).stdout.trim().to_owned()
}

/// Waits until the page of `web` comes from there.
#[track_caller]
pub(crate) fn fetches_the_page(ns: &str, address: &str) {
    until(&format!("{ns} gets the page from {address}"), || is(fetch(ns, address), PAGE));
}

/// A root file system of busybox with a page to serve; its path.
pub(crate) fn root_file_system() -> String {
    let root = format!("{IMAGE}/root");
    for folder in ["bin", "www", "tmp", "etc"] {
        fs::create_dir_all(format!("{root}/{folder}")).expect("a folder");
    }
    fs::copy(find("busybox").expect("the laboratory has looked"), format!("{root}/bin/busybox")).expect("busybox");
    for name in ["sh", "httpd", "wget", "sleep", "ip", "cat", "nslookup"] {
        let link = format!("{root}/bin/{name}");
        if !fs::exists(&link).expect("a look") {
            std::os::unix::fs::symlink("busybox", link).expect("a link");
        }
    }
    fs::write(format!("{root}/www/index.html"), format!("{PAGE}\n")).expect("a page");
    root
}

/// The root file system as one layer; its path.
pub(crate) fn layer() -> String {
    let layer = format!("{IMAGE}/layer.tar");
    run(&format!("tar -C {} -cf {layer} .", root_file_system())).ok();
    layer
}

/// The same as an image that `docker load` would take, under this name; its path.
pub(crate) fn docker_archive(name: &str) -> String {
    let layer = layer();
    let sum = run(&format!("sha256sum {layer}")).ok().stdout;
    let sum = sum.split_whitespace().next().expect("a sum");
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["busybox", "sleep", "100000"], "StopSignal": "SIGKILL"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(format!("{IMAGE}/config.json"), config.to_string()).expect("a file");
    fs::write(format!("{IMAGE}/manifest.json"), manifest.to_string()).expect("a file");
    let archive = format!("{IMAGE}/image.tar");
    run(&format!("tar -C {IMAGE} -cf {archive} manifest.json config.json layer.tar")).ok();
    archive
}

/// The traces of a container on the host, to be searched after its removal.
pub(crate) struct Traces {
    words: Vec<String>,
    ports: Vec<u16>,
}

impl Traces {
    /// The container's addresses, interfaces and names as netd tells them; it must be there, and in nft with its ports.
    #[track_caller]
    pub(crate) fn of(lab: &Lab, network: &str, container: &str, ports: &[u16]) -> Self {
        let endpoint = lab.endpoint(network, container);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let mut words: Vec<String> =
            lab.address(network, container).iter().map(|ip| format!("{:?}", ip.to_string())).collect();
        words.extend([text(&endpoint["mac"]), text(&endpoint["host_ifname"]), text(&endpoint["container"]["id"])]);
        let dump = lab.netd("dump").ok().stdout;
        assert!(dump.contains(words.last().expect("an id")), "the dump knows {container}: {dump}");
        let all = elements();
        for word in ports.iter().flat_map(|port| [port.to_string(), words[0].clone()]) {
            assert!(all.contains(&word), "{word} is in no set or map: {all}");
        }
        Self { words, ports: ports.to_vec() }
    }

    /// Fails when anything of it is left.
    #[track_caller]
    pub(crate) fn are_gone(&self, lab: &Lab) {
        self.gone(lab).unwrap_or_else(|left| panic!("{left}"));
    }

    /// Waits until nothing of it is left: where netd notices by itself that a container has ended, its name goes first.
    #[track_caller]
    pub(crate) fn until_gone(&self, lab: &Lab) {
        until("nothing of it is left", || self.gone(lab));
    }

    /// The error says what is left.
    fn gone(&self, lab: &Lab) -> Result<(), String> {
        let dump = lab.netd("dump").ok().stdout;
        let links = on_host("ip -j address").ok().stdout;
        for (place, text) in [("the dump", dump), ("nft", elements()), ("ip", links)] {
            for word in self.words.iter().map(|word| word.trim_matches('"')) {
                if text.contains(&format!("\"{word}\"")) || text.contains(&format!("{word}/")) {
                    return Err(format!("{place} still shows {word}:\n{text}"));
                }
            }
        }
        match self.ports.iter().find(|port| is_held(**port)) {
            Some(port) => Err(format!("port {port} is still held")),
            None => Ok(()),
        }
    }
}

/// Looks until it finds what is waited for, or for [`PATIENCE`].
#[track_caller]
pub(crate) fn until<L: Look>(what: &str, look: impl FnMut() -> L) -> L::Found {
    until_within(PATIENCE, what, look)
}

/// Whether a program of the host could not take the port.
fn is_held(port: u16) -> bool {
    space::inside("host", || TcpListener::bind(("0.0.0.0", port)).is_err())
}

/// Fails unless netd knows no container, and the host has no interface but its own and netd's bridges.
#[track_caller]
pub(crate) fn nothing_left(lab: &Lab) {
    left(lab).unwrap_or_else(|left| panic!("{left}"));
}

/// The same, where netd notices by itself that a container has ended: its name goes first.
#[track_caller]
pub(crate) fn until_nothing_left(lab: &Lab) {
    until("nothing is left", || left(lab));
}

/// The error says what is left.
fn left(lab: &Lab) -> Result<(), String> {
    let containers = lab.netd("ps --json").ok().json();
    if containers != serde_json::json!([]) {
        return Err(format!("containers are left: {containers}"));
    }
    for link in ip_json("host", "-d link show") {
        let kind = link["linkinfo"]["info_kind"].as_str().unwrap_or_default();
        let name = link["ifname"].as_str().expect("a name");
        if !["lo", "uplink"].contains(&name) && kind != "bridge" {
            return Err(format!("{name} ({kind}) is left: {link}"));
        }
    }
    let files: Vec<_> = fs::read_dir("/etc/netns").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    if files.is_empty() { Ok(()) } else { Err(format!("{files:?} are left")) }
}
