//! Processes that are measured: what processor time they took, and on which processor they run.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Servers run on this processor...
pub(crate) const SERVER_CPU: usize = 0;
/// ...and who asks them on this one.
pub(crate) const CLIENT_CPU: usize = 1;

/// Processor time of a process, all its threads together, dead ones too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Spent {
    /// So far, for the process of that id (proc(5), `/proc/PID/stat`).
    pub(crate) fn by(pid: Pid) -> Self {
        Self::read(&format!("/proc/{pid}/stat")).unwrap_or_else(|| panic!("process {pid} is gone"))
    }

    fn read(path: &str) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        // The second field, the name, may hold anything, but it is the only one in parentheses.
        let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11).map_while(|field| field.parse::<u64>().ok());
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
        let mut next = || Some(Duration::from_secs(fields.next()?) / u32::try_from(ticks).ok()?);
        Some(Self { user: next()?, system: next()? })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }

    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }
}

/// The threads of a process that took at least a tick so far, by name.
pub(crate) fn threads(pid: Pid) -> Vec<(String, Duration)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let of = |task: fs::DirEntry| {
        let path = task.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        Some((name.trim().to_owned(), Spent::read(path.join("stat").to_str()?)?.total()))
    };
    tasks.flatten().filter_map(of).filter(|(_, spent)| !spent.is_zero()).collect()
}

/// A server that is ended with this.
pub(crate) struct Running(Pid);

impl Running {
    /// Starts a program in the namespace that plays the host, on the servers' processor.
    #[expect(clippy::zombie_processes, reason = "it ends with the benchmark")]
    pub(crate) fn start(words: &[&str]) -> Self {
        let child = spawn(words);
        Self(Pid::from_raw(i32::try_from(child.id()).expect("a process id")))
    }

    /// The same for a program that goes to the background by itself and writes down its process id.
    pub(crate) fn start_in_background(words: &[&str], pid_file: &str) -> Self {
        let status = spawn(words).wait().expect("it was started");
        assert!(status.success(), "{words:?}: {status}");
        Self(netd_testing::lab::until(&format!("{pid_file} is there"), || pid_in(pid_file)))
    }

    pub(crate) fn pid(&self) -> Pid {
        self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

fn spawn(words: &[&str]) -> Child {
    let cpu = SERVER_CPU.to_string();
    let mut command = Command::new("nsenter");
    // `nsenter` and `taskset` replace themselves, so the child's process id is the server's.
    command.args(["--net=/run/netns/host", "--", "taskset", "-c", &cpu]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("start {words:?}: {error}"))
}

fn pid_in(file: &str) -> Option<Pid> {
    fs::read_to_string(file).ok()?.trim().parse().ok().map(Pid::from_raw)
}

/// Moves every thread of a running process to a processor.
pub(crate) fn pin(pid: Pid, cpu: usize) {
    netd_testing::lab::run(&format!("taskset -a -c -p {cpu} {pid}")).ok();
}
