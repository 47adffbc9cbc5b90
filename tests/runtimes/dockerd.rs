//! A real dockerd on the laboratory's host, with the image `lab`, made of busybox: started, restarted, killed, and
//! driven by Docker's own command line.
//!
//! `/run` is private to the laboratory, so its socket and its namespaces are where users (and netd) find them:
//! `/run/docker.sock`, `/run/docker/netns`. It starts a containerd of its own. Containers end at once when asked to
//! (the image says so), and their cgroups end with the tests.

use std::fs::{self, OpenOptions};
use std::process::{Child, Command, Stdio};

use netd_testing::wait::{Look, until_within, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::command::Out;
use crate::lab::run;
use crate::machine;
use crate::world::{PATIENCE, docker_archive, on_host};

/// What dockerd's tests need; Docker's command line by its path, because another `docker` may come first in PATH.
pub(crate) const NEEDS: &[&str] = &["/usr/sbin/dockerd", CLIENT, "containerd", "runc", "iptables"];
/// Arguments of `docker run` after its options: the image, serving the page of `web` on port 80.
pub(crate) const SERVE: &str = "lab busybox httpd -f -p 80 -h /www";
/// See [`NEEDS`].
pub(crate) const CLIENT: &str = "/usr/bin/docker";
const SOCKET: &str = "unix:///run/docker.sock";
const PID_FILE: &str = "/run/lab/docker/pid";
const LOG: &str = "/run/lab/dockerd.log";

/// A running dockerd; it ends with its containers when dropped.
pub(crate) struct Dockerd {
    process: Option<Child>,
    options: Vec<String>,
}

impl Dockerd {
    /// Starts it and loads the image.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with further options of dockerd (split at white space).
    pub(crate) fn start_with(options: &str) -> Self {
        let options = options.split_whitespace().map(str::to_owned).collect();
        let mut dockerd = Self { process: None, options };
        dockerd.start_again();
        docker(&format!("load -q -i {}", docker_archive("lab:latest"))).ok();
        dockerd
    }

    /// Starts the one that was stopped or killed; it has its images, networks and containers as before.
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "dockerd is running");
        fs::create_dir_all("/run/lab/docker/root").expect("a folder");
        // A killed dockerd leaves the file behind.
        let _ = fs::remove_file(PID_FILE);
        let log = || OpenOptions::new().create(true).append(true).open(LOG).expect("a log file");
        let mut command = Command::new("nsenter");
        // `nsenter` replaces itself with dockerd, so the child's process id is dockerd's.
        command.args(["--net=/run/netns/host", "--", "/usr/sbin/dockerd", "--host", SOCKET, "--pidfile", PID_FILE]);
        command.args(["--data-root", "/run/lab/docker/root", "--storage-driver", "vfs"]);
        command.args(["--cgroup-parent", &format!("/{}/docker", machine::cgroup())]).args(&self.options);
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        command.env_remove("DOCKER_HOST").stdin(Stdio::null()).stdout(log()).stderr(log());
        self.process = Some(command.spawn().expect("dockerd starts"));
        patiently("dockerd answers", || docker("version").succeeded());
    }

    /// Ends it as a service manager would; its containers end too.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.wait();
    }

    /// Kills it with SIGKILL; its containers keep running.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// [`Dockerd::stop`] and [`Dockerd::start_again`].
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    fn signal(&self, signal: Signal) {
        kill(id_of(self.process.as_ref().expect("dockerd runs")), signal).expect("dockerd runs");
    }

    fn wait(&mut self) {
        let mut process = self.process.take().expect("dockerd runs");
        patiently("dockerd ends", || process.try_wait().expect("a child"));
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else {
            // The containerd of a killed dockerd keeps running.
            let containerd = fs::read_to_string("/run/docker/containerd/containerd.pid").unwrap_or_default();
            if let Ok(pid) = containerd.trim().parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            return;
        };
        // Otherwise a container would run until the last test of this run.
        for id in docker("ps -q").stdout.split_whitespace() {
            docker(&format!("kill {id}"));
        }
        let _ = kill(id_of(&process), Signal::SIGTERM);
        let ended = within(PATIENCE, || process.try_wait().ok().flatten()).is_ok();
        if !ended {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn id_of(process: &Child) -> Pid {
    Pid::from_raw(i32::try_from(process.id()).expect("a process id"))
}

/// Waits, and shows what dockerd wrote if that takes too long.
#[track_caller]
fn patiently<L: Look>(what: &str, mut look: impl FnMut() -> L) {
    until_within(PATIENCE, what, || look().judge().map_err(|there| format!("{there}\nlog of dockerd:\n{}", log())));
}

/// The last 40 lines of dockerd's log.
pub(crate) fn log() -> String {
    let text = fs::read_to_string(LOG).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// `docker` with these words (split at white space) as a user on the host.
pub(crate) fn docker(line: &str) -> Out {
    on_host(&format!("{CLIENT} --host {SOCKET} {line}"))
}

/// `docker run -d --name NAME` with these options, serving the page of `web`; its id.
#[track_caller]
pub(crate) fn serve(name: &str, options: &str) -> String {
    docker(&format!("run -d --name {name} {options} {SERVE}")).ok().stdout.trim().to_owned()
}

/// The network namespace of a running container, as Docker tells it.
#[track_caller]
pub(crate) fn sandbox(container: &str) -> String {
    docker(&format!("inspect -f {{{{.NetworkSettings.SandboxKey}}}} {container}")).ok().stdout.trim().to_owned()
}

/// A program in a container's network namespace; its files are the host's.
pub(crate) fn in_sandbox(container: &str, line: &str) -> Out {
    run(&format!("nsenter --net={} -- {line}", sandbox(container)))
}
