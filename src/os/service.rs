//! The service manager that started this process, such as systemd: it is told the state of the service, and keeps
//! descriptors for the next daemon (sd_notify(3), sd_pid_notify_with_fds(3), sd_listen_fds(3)).
#![allow(unsafe_code, reason = "descriptors that the service manager opened come as numbers")]

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use nix::unistd::pipe2;

use super::sys;
use crate::base::deadline::Deadline;

/// How long a message waits for room in the queue of the service manager, and for its confirmation.
const PATIENCE: Duration = Duration::from_secs(1);
/// The number of the first descriptor that it gives (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// It does not give more.
const GIVEN_MAX: usize = 65_536;

/// What the service manager has put into the environment of this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Where it receives messages (`NOTIFY_SOCKET`).
    pub notify: Option<OsString>,
    /// How often it wants a sign of life (`WATCHDOG_USEC`).
    pub watchdog: Option<Duration>,
    /// The names of the descriptors that it has given to this process (`LISTEN_FDNAMES`), in their order.
    pub given: Vec<String>,
}

/// Takes the descriptors that the service manager has given to this process, which have these names. Works once, before
/// this process opens anything.
pub fn take(names: Vec<String>) -> io::Result<Vec<(String, OwnedFd)>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let count = RawFd::try_from(names.len().min(GIVEN_MAX)).map_err(io::Error::other)?;
    let numbers: Vec<RawFd> = (FIRST..FIRST + count).collect();
    // SAFETY: the service manager has opened them for this process (LISTEN_PID), which has opened nothing yet.
    let descriptors = unsafe { sys::inherited(&numbers) }?;
    Ok(names.into_iter().zip(descriptors).collect())
}

/// The service manager; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Manager(Option<Arc<OsString>>);

impl Manager {
    /// The service manager that receives messages at this address: a path, or `@` and an abstract name. Without one,
    /// messages go nowhere.
    pub fn new(notify: Option<OsString>) -> Self {
        Self(notify.map(Arc::new))
    }

    /// Tells the state of the service, such as `READY=1`. A failure is of no consequence for the service itself.
    pub fn tell(&self, state: &str) {
        if let Err(error) = self.send(state, None) {
            tracing::debug!(%error, state, "the service manager was not told");
        }
    }

    /// Has it keep a descriptor under this name, and give it to the next process of the service.
    pub fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        // It keeps the descriptor also after an error on it, which concerns only one client.
        self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), Some(descriptor))
    }

    /// Has it close the descriptors with these names. Returns when they are closed, or when it does not answer in time.
    pub fn discard(&self, mut names: impl Iterator<Item = String>) -> io::Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        names.try_for_each(|name| self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None))?;
        self.barrier()
    }

    /// Waits until it has read all messages so far: it closes the pipe that comes with `BARRIER=1`.
    fn barrier(&self) -> io::Result<()> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        self.send("BARRIER=1", Some(theirs.as_fd()))?;
        drop(theirs);
        wait(ours.as_fd(), PollFlags::empty(), Deadline::after(PATIENCE))
    }

    fn send(&self, message: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let Some(address) = self.0.as_deref() else { return Ok(()) };
        let socket = connected(address)?;
        let deadline = Deadline::after(PATIENCE);
        let numbers = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
        let rights = numbers.as_ref().map(|numbers| ControlMessage::ScmRights(numbers));
        let (text, flags) = ([IoSlice::new(message.as_bytes())], MsgFlags::MSG_NOSIGNAL);
        loop {
            match sendmsg(socket.as_raw_fd(), &text, rights.as_slice(), flags, None::<&UnixAddr>) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => wait(socket.as_fd(), PollFlags::POLLOUT, deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A new connection for each message: the service manager may have made its socket anew.
fn connected(address: &OsStr) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(address)?,
    };
    connect(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Waits until the descriptor is ready for that.
fn wait(descriptor: BorrowedFd<'_>, for_what: PollFlags, deadline: Deadline) -> io::Result<()> {
    loop {
        let left = deadline.remaining().ok_or(io::ErrorKind::TimedOut)?;
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(descriptor, for_what)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn it_is_told_by_path_and_by_name_and_a_silent_one_delays_little() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::new(Some(path.into()));
        manager.tell("READY=1");
        let mut message = [0; 16];
        assert_eq!(receiver.recv(&mut message).unwrap(), 7);
        assert_eq!(&message[..7], b"READY=1");
        // Until its queue is full.
        while manager.send("WATCHDOG=1", None).is_ok() {}
        receiver.recv(&mut message).unwrap();
        manager.send("STOPPING=1", None).unwrap();
        drop(receiver);
        manager.tell("READY=1");
        Manager::default().send("READY=1", None).unwrap();

        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("netd-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        Manager::new(Some(format!("@{name}").into())).send("READY=1", None).unwrap();
        assert_eq!(receiver.recv(&mut message).unwrap(), 7);
    }
}
