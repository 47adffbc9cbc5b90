//! One daemon per network namespace: two would delete each other's interfaces. The lock is an abstract unix socket,
//! whose name is unique in the network namespace and which ends with its process.
//!
//! Any user may bind such a name. A user who is neither root nor the daemon's cannot keep netd from starting: that is a
//! problem in `netd status`, and netd takes the name as soon as it is free.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, socket, sockopt,
};
use nix::unistd::{Pid, geteuid};
use tokio::time::{MissedTickBehavior, interval};

use crate::base::deadline::Deadline;
use crate::engine::{Handle, Subject};

/// The name, as in `ss -xl`: `@netd-owns-this-network-namespace`.
const NAME: &[u8] = b"netd-owns-this-network-namespace";
/// How often processes that asked who has the name are dismissed, or a name that another user has is tried again.
const PERIOD: Duration = Duration::from_secs(1);
/// How often a name is tried again whose owner ended, or had not begun to listen, in this moment.
const TRIES: u32 = 100;
/// How long a process that was started by an owner that has ended may hold its name: until it has become its program.
const INHERITED: Duration = Duration::from_secs(5);

/// Who has the name.
#[derive(Debug)]
enum Claim {
    /// This process.
    Ours(UnixListener),
    /// Another daemon. What is known of it.
    Daemon(String),
    /// A user who may not run netd: pid and user id.
    User(i32, u32),
}

/// The lock; dropping it releases it.
#[derive(Debug)]
pub(super) struct Owner {
    name: Vec<u8>,
    /// `None`: another user has the name.
    socket: Option<UnixListener>,
    problem: Option<String>,
}

impl Owner {
    /// Takes the lock of the calling thread's network namespace. The error says who has it.
    pub(super) fn claim() -> Result<Self, String> {
        Self::claim_name(NAME)
    }

    fn claim_name(name: &[u8]) -> Result<Self, String> {
        let (socket, problem) = match claim(name) {
            Ok(Claim::Ours(socket)) => (Some(socket), None),
            Ok(Claim::Daemon(who)) => {
                return Err(format!(
                    "another netd ({who}) works in this network namespace: stop it first, or start this one in another \
                     network namespace (`ip netns exec`)"
                ));
            }
            Ok(Claim::User(pid, uid)) => (None, Some(squatted(pid, uid))),
            Err(error) => return Err(format!("bind the abstract socket {}: {error}", shown(name))),
        };
        Ok(Self { name: name.to_owned(), socket, problem })
    }

    /// Keeps the lock until the future is dropped, and reports a name that another user has.
    pub(super) async fn keep(mut self, handle: Handle) {
        let mut reported = self.problem.is_some();
        if let Some(problem) = self.problem.take() {
            handle.report(Subject::Owner, Some(problem)).await;
        }
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(socket) = &self.socket {
                // Who connected has learned enough from the kernel: pid and user of this process.
                while socket.accept().is_ok() {}
                continue;
            }
            let problem = match claim(&self.name) {
                Ok(Claim::Ours(socket)) => {
                    self.socket = Some(socket);
                    None
                }
                Ok(Claim::User(pid, uid)) => Some(squatted(pid, uid)),
                Ok(Claim::Daemon(who)) => Some(format!(
                    "another netd ({who}) works in this network namespace too, and each deletes what the other makes: \
                     stop one of them"
                )),
                Err(error) => Some(format!("bind the abstract socket {}: {error}", shown(&self.name))),
            };
            if problem.is_some() || reported {
                reported = problem.is_some();
                handle.report(Subject::Owner, problem).await;
            }
        }
    }
}

fn squatted(pid: i32, uid: u32) -> String {
    format!(
        "process {pid} of user {uid} has the abstract socket {}, by which netd recognizes a second daemon in its network \
         namespace: end that process",
        shown(NAME)
    )
}

fn shown(name: &[u8]) -> String {
    format!("@{}", String::from_utf8_lossy(name))
}

fn claim(name: &[u8]) -> io::Result<Claim> {
    let address = SocketAddr::from_abstract_name(name)?;
    let inherited = Deadline::after(INHERITED);
    for _ in 0..TRIES {
        match UnixListener::bind_addr(&address) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                return Ok(Claim::Ours(socket));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        let (stream, peer) = match peer(name) {
            Ok(peer) => peer,
            Err(Errno::ECONNREFUSED) => continue,
            // Nobody dismisses those who ask it, so far: it has just started, or it is flooded.
            Err(Errno::EAGAIN) => break,
            Err(error) => return Err(error.into()),
        };
        let has_ended = peer.pid() > 0 && kill(Pid::from_raw(peer.pid()), None) == Err(Errno::ESRCH);
        let Some(left) = inherited.remaining().filter(|_| has_ended) else {
            return Ok(judge(peer, geteuid().as_raw()));
        };
        // The connection ends with the socket.
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], left)?;
    }
    Ok(Claim::Daemon(format!("it does not answer: see `ss -xlp src '{}'`", shown(name))))
}

/// Connects to the process that listens; its credentials.
fn peer(name: &[u8]) -> nix::Result<(OwnedFd, UnixCredentials)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    let credentials = getsockopt(&stream, sockopt::PeerCredentials)?;
    Ok((stream, credentials))
}

/// `own`: the user id of this process.
fn judge(peer: UnixCredentials, own: u32) -> Claim {
    match (peer.uid(), peer.pid()) {
        (uid, pid) if uid != 0 && uid != own => Claim::User(pid, uid),
        // The kernel gives no id for a process that is outside of this process namespace.
        (_, 0) => Claim::Daemon("in another process namespace".into()),
        (_, pid) => Claim::Daemon(format!("pid {pid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Vec<u8> {
        format!("netd-test-{}", rand::random::<u64>()).into_bytes()
    }

    #[test]
    fn the_second_is_refused_until_the_first_ends() {
        let name = name();
        let first = Owner::claim_name(&name).unwrap();
        let refused = Owner::claim_name(&name).unwrap_err();
        assert!(refused.contains(&format!("another netd (pid {})", std::process::id())), "{refused}");
        drop(first);
        Owner::claim_name(&name).unwrap();
    }

    #[test]
    fn a_first_one_that_answers_nobody_still_counts() {
        let name = name();
        let first = Owner::claim_name(&name).unwrap();
        let asked: Vec<_> = std::iter::repeat_with(|| peer(&name)).take(10_000).take_while(Result::is_ok).collect();
        assert!(asked.len() < 10_000, "its queue is bounded");
        let refused = Owner::claim_name(&name).unwrap_err();
        assert!(refused.contains("another netd (it does not answer"), "{refused}");
        drop(first);
    }

    #[test]
    fn a_name_without_a_listener_is_no_endless_loop() {
        let name = name();
        let bound = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        nix::sys::socket::bind(bound.as_raw_fd(), &UnixAddr::new_abstract(&name).unwrap()).unwrap();
        assert!(Owner::claim_name(&name).is_err());
    }

    #[test]
    fn a_user_who_may_not_run_netd_is_no_daemon() {
        let of = |uid: u32, pid: i32| UnixCredentials::from(libc::ucred { pid, uid, gid: 0 });
        assert!(matches!(judge(of(1000, 7), 0), Claim::User(7, 1000)));
        assert!(matches!(judge(of(1000, 7), 1000), Claim::Daemon(who) if who == "pid 7"));
        assert!(matches!(judge(of(0, 7), 1000), Claim::Daemon(_)));
        assert!(matches!(judge(of(0, 0), 0), Claim::Daemon(who) if who.contains("process namespace")));
    }
}
