//! A service manager as far as the daemon knows one: the socket that it tells its state, the descriptors that are kept for
//! it (sd_pid_notify_with_fds(3)), and how they are given back (sd_listen_fds(3)).
#![allow(unsafe_code, reason = "descriptors come as numbers with a message")]

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::{Lab, daemon};

/// Where the daemon tells its state, for `NOTIFY_SOCKET`.
pub const NOTIFY: &str = "/run/lab/notify";
/// Where descriptors are out of the way while they get their numbers.
const ASIDE: usize = 700;
/// The number of the first one (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

type Store = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// It reads messages on a thread until it is dropped.
pub struct Manager {
    told: Receiver<(Instant, String)>,
    store: Store,
    /// Ends the thread.
    end: Arc<()>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// Listens from now on.
    #[expect(clippy::new_without_default, reason = "it starts a thread")]
    pub fn new() -> Self {
        let _ = std::fs::remove_file(NOTIFY);
        let socket = UnixDatagram::bind(NOTIFY).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        let (tell, told) = channel();
        let (store, end) = (Store::default(), Arc::new(()));
        let (kept, ended) = (store.clone(), Arc::downgrade(&end));
        let thread = thread::spawn(move || {
            while ended.strong_count() > 0 {
                // An error is the time limit.
                let Some((message, descriptors)) = receive(&socket) else { continue };
                handle(&message, descriptors, &kept, &tell);
            }
        });
        Self { told, store, end, thread: Some(thread) }
    }

    /// Waits for a message with this line, at most that long; returns when it came.
    pub fn told(&self, line: &str, patience: Duration) -> Option<Instant> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (when, message) = self.told.recv_timeout(left).ok()?;
            if message.lines().any(|told| told == line) {
                return Some(when);
            }
        }
    }

    /// The names of the descriptors that it keeps.
    pub fn names(&self) -> Vec<String> {
        self.store.lock().expect("a lock").iter().map(|(name, _)| name.clone()).collect()
    }

    /// Keeps a descriptor as if the daemon had sent it.
    pub fn keep(&self, name: &str, descriptor: impl Into<OwnedFd>) {
        self.store.lock().expect("a lock").push((name.to_owned(), descriptor.into()));
    }

    /// Starts the laboratory's daemon with all that is kept, and waits until it is ready.
    pub fn start(&self, lab: &Lab) {
        let store = self.store.lock().expect("a lock");
        // The last first, as systemd does.
        let mut script = String::new();
        for (at, (_, descriptor)) in store.iter().rev().enumerate() {
            let number = descriptor.as_raw_fd();
            script.push_str(&format!("exec {}<&{number} {number}<&-\n", ASIDE + at));
        }
        for at in 0..store.len() {
            script.push_str(&format!("exec {}<&{} {}<&-\n", FIRST + at, ASIDE + at, ASIDE + at));
        }
        let names: Vec<&str> = store.iter().rev().map(|(name, _)| name.as_str()).collect();
        script.push_str(&format!(
            "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}\n",
            names.len(),
            names.join(":")
        ));
        script.push_str("exec \"$@\"");
        let mut command = daemon::command_behind(&["bash", "-c", &script, "bash"], daemon::netd());
        command.env("NOTIFY_SOCKET", NOTIFY);
        inheritable(&store, FdFlag::empty());
        lab.launch(command);
        inheritable(&store, FdFlag::FD_CLOEXEC);
        drop(store);
        self.told("READY=1", Duration::from_secs(10)).expect("the daemon becomes ready");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.end = Arc::new(());
        self.thread.take().map(JoinHandle::join);
    }
}

fn inheritable(store: &[(String, OwnedFd)], flags: FdFlag) {
    for (_, descriptor) in store {
        fcntl(descriptor, FcntlArg::F_SETFD(flags)).expect("an open descriptor");
    }
}

fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let (mut bytes, mut space) = ([0; 4096], cmsg_space!([i32; 4]));
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs().expect("whole control messages") {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just opened them for this process, and nobody else knows them.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let length = message.bytes;
    Some((String::from_utf8_lossy(&bytes[..length]).into_owned(), descriptors))
}

fn handle(message: &str, descriptors: Vec<OwnedFd>, store: &Store, tell: &Sender<(Instant, String)>) {
    let has = |line: &str| message.lines().any(|told| told == line);
    let name = message.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
    if has("FDSTOREREMOVE=1") {
        store.lock().expect("a lock").retain(|(kept, _)| kept != name);
    } else if has("FDSTORE=1") {
        let named = descriptors.into_iter().map(|descriptor| (name.to_owned(), descriptor));
        store.lock().expect("a lock").extend(named);
    }
    // With `BARRIER=1`, closing the descriptor is the answer.
    let _ = tell.send((Instant::now(), message.to_owned()));
}
