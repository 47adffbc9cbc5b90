//! Leaving the machine: mount, network and process namespaces that end with the tests, and the control groups that
//! runtimes make.
//!
//! Runtimes leave processes behind on purpose (conmon, shims). In a process namespace of its own they end with its first
//! process, whatever happened to the test. So `main` runs three times: on the machine, as that first process, which only
//! waits, and inside, where the tests are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};

use crate::lab::space;

/// The stage of the process; absent on the machine.
const STAGE: &str = "NETD_TESTS_STAGE";
/// The name under which all control groups of this run are made.
const CGROUP: &str = "NETD_TESTS_CGROUP";
/// Where the machine's own `/proc` can be seen from inside: it knows the processes by the ids that users see.
const MACHINE_PROC: &str = "/mnt";

/// What became of the attempt to leave the machine.
pub(crate) enum Entered {
    /// This process is inside: run the tests.
    Here,
    /// Another process ran them; this one is to end with its code.
    Ended(ExitCode),
    /// It could not be done.
    Not(String),
}

/// Leaves the machine; must be called while the process has one thread.
pub(crate) fn enter() -> Entered {
    let done = match std::env::var(STAGE).as_deref() {
        Ok("first") => first().map(Entered::Ended),
        Ok("inside") => space::leave_the_machine(netd_testing::programs!()).map(|()| Entered::Here),
        _ if !nix::unistd::geteuid().is_root() => Err("container runtimes need real root".to_owned()),
        _ => outside().map(Entered::Ended),
    };
    done.unwrap_or_else(Entered::Not)
}

/// The control group, below the root of each hierarchy, that all containers of this run belong to.
pub(crate) fn cgroup() -> String {
    std::env::var(CGROUP).expect("the stage before this one named it")
}

fn outside() -> Result<ExitCode, String> {
    let cgroup = format!("netd-tests-{}", std::process::id());
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS).map_err(|error| format!("unshare: {error}"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|error| format!("private mounts: {error}"))?;
    let status = again("first").env(CGROUP, &cgroup).status().map_err(|error| format!("start itself: {error}"))?;
    remove_cgroups(&cgroup);
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The first process of the namespace: whatever is orphaned becomes its child, and everything ends with it.
fn first() -> Result<ExitCode, String> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("end with the parent: {error}"))?;
    let bind = mount(Some("/proc"), MACHINE_PROC, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>);
    bind.map_err(|error| format!("bind /proc to {MACHINE_PROC}: {error}"))?;
    let proc = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>);
    proc.map_err(|error| format!("mount /proc: {error}"))?;
    let tests = again("inside").env(space::MACHINE_PROC, MACHINE_PROC).spawn();
    Ok(reap_until_ended(&tests.map_err(|error| format!("start itself: {error}"))?))
}

fn reap_until_ended(tests: &Child) -> ExitCode {
    let tests = i32::try_from(tests.id()).expect("a process id");
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == tests => {
                return u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from);
            }
            Ok(WaitStatus::Signaled(pid, ..)) if pid.as_raw() == tests => return ExitCode::FAILURE,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

fn again(stage: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).env(STAGE, stage);
    command
}

/// Removes what runtimes made in the hierarchies; by now no process is left in them.
fn remove_cgroups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let mut places = vec![root.join(name)];
    places.extend(fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path().join(name)));
    places.iter().filter(|place| place.is_dir()).for_each(remove_cgroup);
}

fn remove_cgroup(place: &PathBuf) {
    let below = fs::read_dir(place).into_iter().flatten().flatten();
    below.map(|entry| entry.path()).filter(|path| path.is_dir()).for_each(|path| remove_cgroup(&path));
    // Its files go with it; one that cannot go yet is the kernel's to tell, not a test's failure.
    let _ = fs::remove_dir(place);
}
