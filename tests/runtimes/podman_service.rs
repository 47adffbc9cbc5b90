//! Podman's API service on the laboratory's host.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use netd_testing::wait::{contains, until_within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::on_host;

/// Where it is, as for every user.
pub(crate) const SOCKET: &str = "/run/podman/podman.sock";

/// Podman's service; it ends with its value.
pub(crate) struct Service(Child);

impl Service {
    /// Starts it; it answers when this returns.
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
        until_within(Duration::from_secs(30), "Podman answers", || {
            contains(on_host(&format!("curl -s --unix-socket {SOCKET} http://podman/_ping")).stdout, "OK")
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
