//! The sender of a request, as the kernel identifies it.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::socket::Socket;

/// Identifies the client for the limits of connections, bodies and streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// The client could not be determined.
    #[default]
    Unknown,
    /// The user of the process at the other end of a unix socket.
    User(u32),
    /// The address at the other end of a TCP connection.
    Address(IpAddr),
}

/// The other end of a connection.
#[derive(Debug, Clone, Default)]
pub(in crate::faces) struct Caller(Option<Arc<Socket>>);

impl Caller {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Self(Some(socket))
    }

    /// The process at the other end of a unix socket.
    pub(in crate::faces) fn process(&self) -> Option<u32> {
        match self.0.as_deref()? {
            Socket::Unix(stream) => stream.peer_cred().ok()?.pid()?.try_into().ok(),
            Socket::Tcp(_) => None,
        }
    }

    /// Whether the other end has been closed, which happens as soon as its process has ended, even before the data that
    /// it sent has been read. Always false for TCP, where this cannot be determined.
    pub(in crate::faces) fn is_gone(&self) -> bool {
        self.0.as_deref().is_some_and(|socket| matches!(socket, Socket::Unix(_)) && is_gone(socket))
    }
}

impl Socket {
    /// The client of the connection.
    pub(super) fn client(&self) -> Client {
        match self {
            Self::Unix(stream) => stream.peer_cred().map_or(Client::Unknown, |peer| Client::User(peer.uid())),
            Self::Tcp(stream) => stream.peer_addr().map_or(Client::Unknown, |peer| Client::Address(peer.ip())),
        }
    }
}

fn is_gone(socket: &impl AsFd) -> bool {
    // poll(2) reports a hang-up even if it is not requested.
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    let polled_ok = poll(&mut polled, PollTimeout::ZERO);
    let events = polled[0].revents().unwrap_or(PollFlags::empty());
    polled_ok.is_ok() && events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_closed_end_is_gone_and_one_that_has_said_all_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(!is_gone(&ours));
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!is_gone(&ours), "it waits for the answer");
        drop(theirs);
        assert!(is_gone(&ours));
        assert!(!Caller::default().is_gone());
    }
}
