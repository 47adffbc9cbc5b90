//! Test help: a thread with a network namespace of its own that plays the host, and further ones that play containers.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread in a fresh network namespace; a panic in it is the test's.
pub(super) fn in_own_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A network namespace, held by a parked thread until it is dropped.
pub(super) struct Parked {
    /// Leads to the namespace while the thread lives.
    pub(super) path: PathBuf,
    commands: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Parked {
    /// A fresh namespace.
    pub(super) fn new() -> Self {
        let (path, told) = mpsc::channel();
        let (commands, jobs) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
            let (pid, tid) = (std::process::id(), nix::unistd::gettid());
            path.send(PathBuf::from(format!("/proc/{pid}/task/{tid}/ns/net"))).expect("the test waits");
            jobs.into_iter().for_each(|job| job());
        });
        Self { path: told.recv().expect("the thread lives"), commands: Some(commands), thread: Some(thread) }
    }

    /// Runs something inside.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, answer) = mpsc::channel();
        let job = Box::new(move || sender.send(job()).expect("the test waits"));
        self.commands.as_ref().expect("held until drop").send(job).expect("the thread lives");
        answer.recv().expect("the job ran")
    }

    /// `ip -j ARGS` inside, as a value.
    pub(super) fn ip(&self, arguments: &str) -> serde_json::Value {
        let arguments = arguments.to_owned();
        self.run(move || ip(&arguments))
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.commands.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
            // The kernel wakes whoever joins a moment before the thread leaves /proc.
            while self.path.exists() {
                std::thread::yield_now();
            }
        }
    }
}

/// `ip -j ARGS` in the calling thread's namespace, as a value; null when it prints nothing.
pub(super) fn ip(arguments: &str) -> serde_json::Value {
    let output = Command::new("ip").arg("-j").args(arguments.split_whitespace()).output().expect("iproute2 is there");
    assert!(output.status.success(), "ip -j {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
