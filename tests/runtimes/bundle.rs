//! OCI bundles of busybox whose hooks are `netd hook`, and the runtimes that start them: runc and crun.

use std::fs;

use netd_testing::wait::is;
use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use crate::lab::command::{Out, run_with_input};
use crate::lab::daemon;
use crate::machine;
use crate::world::{on_host, on_host_words, root_file_system, until};

/// The arguments of a container that serves the page.
pub(crate) const SERVE: &[&str] = &["httpd", "-f", "-p", "80", "-h", "/www"];
/// The arguments of one that waits.
pub(crate) const WAIT: &[&str] = &["sleep", "1000"];

/// A runtime by its program's name, with containers of its own.
#[derive(Clone, Copy)]
pub(crate) struct Oci(pub(crate) &'static str);

/// A bundle.
pub(crate) struct Bundle {
    pub(crate) folder: String,
    pub(crate) config: Value,
}

impl Bundle {
    /// Its container has this command and these annotations.
    pub(crate) fn new(id: &str, command: &[&str], annotations: &[(&str, &str)]) -> Self {
        let folder = format!("/run/lab/bundles/{id}");
        let root = format!("{folder}/rootfs");
        fs::create_dir_all(&root).expect("a folder");
        let source = root_file_system();
        crate::lab::run(&format!("cp -a {source}/. {root}/")).ok();
        ["proc", "dev"].iter().for_each(|name| fs::create_dir_all(format!("{root}/{name}")).expect("a folder"));
        // crun shows nothing that a hook prints, unless this names a file for it.
        let crun = ("run.oci.hooks.stderr", &*format!("{folder}/hook"));
        let annotations: Value = annotations
            .iter()
            .chain([&crun])
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let capabilities = json!(["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"]);
        let hook = json!([{"path": daemon::netd(), "args": ["netd", "hook"], "env": [format!("NETD_SOCKET={}", daemon::SOCKET)]}]);
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0}, "args": command, "env": ["PATH=/bin"], "cwd": "/",
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            },
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                       {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
            "annotations": annotations,
            "hooks": {"createRuntime": hook, "poststop": hook},
            "linux": {
                "cgroupsPath": format!("/{}/oci-{id}", machine::cgroup()),
                "namespaces": (["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}))),
            },
        });
        Self { folder, config }
    }

    /// With this change of its config.json.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    fn write(&self) {
        fs::write(format!("{}/config.json", self.folder), self.config.to_string()).expect("a file");
    }
}

impl Oci {
    /// For the mounts of this laboratory: crun refuses to work where both versions of control groups are mounted.
    pub(crate) fn make_usable(self) {
        if self.0 == "crun" {
            // Not there where only one version is.
            let _ = umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH);
        }
    }

    /// The runtime with these arguments.
    pub(crate) fn run(self, line: &str) -> Out {
        on_host(&format!("{} {line}", self.program()))
    }

    /// The program and what it always gets.
    fn program(self) -> String {
        let more = if self.0 == "crun" { " --cgroup-manager=disabled" } else { "" };
        format!("{0}{more} --root /run/lab/oci-{0}", self.0)
    }

    /// Starts a container in the background.
    #[track_caller]
    pub(crate) fn start(self, id: &str, bundle: &Bundle) {
        let out = self.try_to_start(id, bundle);
        assert!(out.code == Some(0), "{out:?}");
    }

    /// The same; it may fail. What runtime and container print is in the result's standard output.
    pub(crate) fn try_to_start(self, id: &str, bundle: &Bundle) -> Out {
        bundle.write();
        // A container in the background keeps the streams of its runtime.
        let line = format!("exec {} run -d --bundle {1} {id} </dev/null >{1}/out 2>&1", self.program(), bundle.folder);
        let out = on_host_words(&["sh", "-c", &line]);
        let printed =
            ["out", "hook"].map(|name| fs::read_to_string(format!("{}/{name}", bundle.folder)).unwrap_or_default());
        Out { stdout: printed.concat(), ..out }
    }

    /// Runs a container until it ends.
    pub(crate) fn foreground(self, id: &str, bundle: &Bundle) -> Out {
        bundle.write();
        self.run(&format!("run --bundle {} {id}", bundle.folder))
    }

    /// A shell line in a new container with these annotations; what it prints.
    #[track_caller]
    pub(crate) fn prints(self, id: &str, line: &str, annotations: &[(&str, &str)]) -> String {
        self.foreground(id, &Bundle::new(id, &["sh", "-c", line], annotations)).ok().stdout
    }

    /// The state as the runtime tells it.
    pub(crate) fn state(self, id: &str) -> Value {
        self.run(&format!("state {id}")).ok().json()
    }

    /// Kills the container and waits for its end; the runtime still has it.
    pub(crate) fn kill(self, id: &str) {
        self.run(&format!("kill {id} KILL")).ok();
        until("it has stopped", || is(self.state(id)["status"].clone(), "stopped"));
    }

    /// Removes it, running or not.
    pub(crate) fn delete(self, id: &str) -> Out {
        self.run(&format!("delete --force {id}"))
    }
}

/// `netd hook` with this input, as a runtime starts it.
pub(crate) fn hook(input: &str) -> Out {
    let line = ["nsenter", "--net=/run/netns/host", "--", daemon::netd(), "hook"];
    run_with_input(&line, input)
}
