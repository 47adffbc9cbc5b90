//! The sandbox of `netd run`: a process in its own network and mount namespace that waits to become the command.
//!
//! `netd` starts itself again with a hidden verb ([`VERB`]). That child makes its namespaces, reports ready, waits
//! until it is connected and has received its resolv.conf and hosts, covers the host's files with them (nothing is
//! written on the host) and becomes the command. They communicate through two pipes that are passed by number; if the
//! parent dies before it sends the start message, the child exits. [`Sandbox`] is the parent's side, [`child()`] the
//! child's.

mod child;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, pipe2};

use crate::kernel::KernelError;
use crate::kernel::netlink::socket::failed;
use crate::os::sys;

pub use child::{ChildFailure, child};

/// The hidden verb; the remaining arguments go to [`child()`].
pub const VERB: &str = "__sandbox";
/// The child's message once its namespaces exist; anything else is its error.
const READY: &str = "ready";
const LOOK: &str = "`netd run` needs root, to create namespaces";
/// The signals that are forwarded to the command.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT, Signal::SIGINT];
/// `si_code` of a signal that the terminal sent (asm-generic/siginfo.h): it went to the whole foreground process group.
const SI_KERNEL: i32 = 0x80;
/// The exit code of a command that a signal ended, as in a shell: this plus the signal's number.
const SIGNALLED: i32 = 128;

/// A process that waits in its own namespaces, or the command that it became. Killed if dropped before it ends.
#[derive(Debug)]
pub struct Sandbox {
    child: Child,
    go: Option<File>,
    signals: SignalFd,
    mask: SigSet,
    ended: bool,
}

impl Sandbox {
    /// Starts the child and returns when its namespaces exist. From then on the calling thread blocks the signals that
    /// [`Sandbox::wait`] forwards: call it on the program's only thread.
    pub fn start(command: &[OsString]) -> Result<Self, KernelError> {
        let mut netd = Command::new("/proc/self/exe");
        netd.arg0("netd");
        Self::start_as(netd, command)
    }

    /// `program`: runs [`child()`] with the arguments after [`VERB`].
    fn start_as(mut program: Command, command: &[OsString]) -> Result<Self, KernelError> {
        let on = || command.first().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut start = || -> io::Result<(Self, File)> {
            let (ready, ready_child) = pipe2(OFlag::O_CLOEXEC)?;
            let (go_child, go) = pipe2(OFlag::O_CLOEXEC)?;
            let numbers = [ready_child.as_raw_fd(), go_child.as_raw_fd()];
            sys::hand_down(&mut program, numbers);
            program.arg(VERB).args(numbers.map(|number| number.to_string())).arg("--").args(command);
            let forwarded: SigSet = FORWARDED.into_iter().collect();
            let signals = SignalFd::with_flags(&forwarded, SfdFlags::SFD_CLOEXEC)?;
            let mask = SigSet::thread_get_mask()?;
            forwarded.thread_block()?;
            let child = program.spawn().inspect_err(|_| restore(&mask))?;
            Ok((Self { child, go: Some(File::from(go)), signals, mask, ended: false }, File::from(ready)))
        };
        let (sandbox, mut ready) = start().map_err(failed("start the sandbox of", on(), LOOK))?;
        let mut reply = String::new();
        let read = ready.read_to_string(&mut reply).map(|_| reply);
        match read.map_err(failed("start the sandbox of", on(), LOOK))? {
            reply if reply == READY => Ok(sandbox),
            reply => Err(failed("start the sandbox of", on(), LOOK)(io::Error::other(if reply.is_empty() {
                "it ended at once".to_owned()
            } else {
                reply
            }))),
        }
    }

    /// The process id; the network namespace is `/proc/PID/ns/net`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets the child become the command, with these contents as its `/etc/resolv.conf` and `/etc/hosts`. The exit code
    /// of [`Sandbox::wait`] shows whether the command could be started, and whether it was killed before.
    pub fn go(&mut self, resolv_conf: &str, hosts: &str) -> Result<(), KernelError> {
        let Some(mut pipe) = self.go.take() else { return Ok(()) };
        let mut message = Vec::new();
        for text in [resolv_conf, hosts] {
            message.extend((text.len() as u64).to_ne_bytes());
            message.extend(text.as_bytes());
        }
        match pipe.write_all(&message) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(failed("tell", "the sandbox to go on", "see `ps`")(error))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the end of the command, forwarding signals to it, and returns its exit code as a shell does: 128 plus
    /// the signal's number if a signal ended it. A signal from the terminal is not forwarded, because the command
    /// receives it, too.
    pub fn wait(&mut self) -> Result<u8, KernelError> {
        let status = self.forward_until_end().map_err(failed("wait for", "the command", "see `ps`"))?;
        self.ended = true;
        let code = status.code().or_else(|| Some(SIGNALLED + status.signal()?));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
    }

    fn forward_until_end(&mut self) -> io::Result<ExitStatus> {
        let process = sys::pidfd(self.child.id())?;
        loop {
            let mut ready =
                [PollFd::new(process.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                outcome => outcome?,
            };
            let [ended, signalled] = ready.map(|fd| fd.any().unwrap_or(true));
            if ended {
                return self.child.wait();
            }
            if signalled {
                self.forward()?;
            }
        }
    }

    fn forward(&self) -> io::Result<()> {
        let Some(info) = self.signals.read_signal()? else { return Ok(()) };
        let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { return Ok(()) };
        if info.ssi_code == SI_KERNEL {
            return Ok(());
        }
        // The process has not been waited for, so its id cannot have been reused; it may have ended meanwhile.
        match kill(Pid::from_raw(self.child.id() as i32), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Kills it at once, if connecting failed.
    pub fn abort(self) {
        drop(self);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended already; then there is nothing to kill.
            let _ = self.child.kill().and_then(|()| self.child.wait());
        }
        restore(&self.mask);
    }
}

fn restore(mask: &SigSet) {
    if let Err(error) = mask.thread_set_mask() {
        tracing::warn!(%error, "cannot unblock signals");
    }
}

/// The command as shown in an error.
fn shown(command: &OsStr) -> std::borrow::Cow<'_, str> {
    command.to_string_lossy()
}

#[cfg(test)]
mod tests;
