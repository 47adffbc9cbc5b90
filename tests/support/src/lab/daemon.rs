//! The real daemon, in the namespace that represents the host.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::programs;

/// The socket of a laboratory's daemon.
pub const SOCKET: &str = "/run/lab/netd.sock";
/// The configuration file, which a test may write before it starts the daemon.
pub const CONFIG: &str = "/run/lab/netd.toml";
const LOG: &str = "/run/lab/netd.log";

/// The program under test.
pub fn netd() -> &'static str {
    programs::current().netd
}

/// A running daemon.
pub struct Daemon {
    pid: Pid,
    ended: Receiver<ExitStatus>,
}

impl Daemon {
    /// Starts it; it is not ready yet.
    pub fn start(mut command: Command) -> Self {
        Self::watch(command.spawn().expect("the daemon starts"))
    }

    fn watch(mut child: Child) -> Self {
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        let (tell, ended) = channel();
        thread::spawn(move || {
            if let Ok(status) = child.wait() {
                // There is no receiver once the daemon was dropped.
                let _ = tell.send(status);
            }
        });
        Self { pid, ended }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills it with SIGKILL.
    pub fn kill(self) {
        if self.ended.try_recv().is_err() {
            // It may have ended on its own in this moment.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.ended.recv_timeout(Duration::from_secs(10));
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        kill(self.pid, Signal::SIGTERM).expect("the daemon runs");
    }

    /// Waits for its end, which must come soon.
    pub fn ends(self) -> ExitStatus {
        self.ended.recv_timeout(Duration::from_secs(15)).expect("the daemon ends within 15 s")
    }
}

/// The command that starts this file of the program as the laboratory's daemon.
pub fn command(program: &str) -> Command {
    command_behind(&[], program)
}

/// The same, started by the program with these arguments.
pub fn command_behind(starter: &[&str], program: &str) -> Command {
    let log = || OpenOptions::new().create(true).append(true).open(LOG).expect("a log file");
    // `nsenter` replaces itself with the daemon, as a starter must, so the child's process id is the daemon's.
    let words = ["nsenter", "--net=/run/netns/host", "--", program, "daemon", "--socket", SOCKET];
    let mut words = starter.iter().chain(&words);
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command.args(["--state-dir", "/run/lab/state", "--runtime-dir", "/run/lab/runtime"]);
    if fs::exists(CONFIG).unwrap_or(false) {
        command.args(["--config", CONFIG]);
    }
    command.stdin(Stdio::null()).stdout(log()).stderr(log()).env("RUST_BACKTRACE", "1").env_remove("RUST_LOG");
    command.env_remove("DBUS_SYSTEM_BUS_ADDRESS").env_remove("NOTIFY_SOCKET");
    command
}

/// The last 60 lines of the log of this laboratory's daemons.
pub fn log() -> String {
    let text = File::open(LOG).and_then(std::io::read_to_string).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// One request to the daemon's API, on a connection of its own as programs make it; it must succeed.
#[track_caller]
pub fn call(method: &str, path: &str, body: &str) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: netd\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = UnixStream::connect(SOCKET).expect("the daemon listens");
    stream.write_all(request.as_bytes()).expect("the daemon reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("the daemon replies");
    assert!(reply.starts_with("HTTP/1.1 2"), "{reply}");
}
