//! Who sends a request, as far as the kernel knows it without being told.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::{TcpListener, UnixListener};

/// The other end of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller(Option<Arc<OwnedFd>>);

impl Caller {
    /// Whether the other end was closed, as it is as soon as its process has ended, before anything that was sent is
    /// read. Over TCP nobody knows that.
    pub(super) fn is_gone(&self) -> bool {
        let Some(socket) = &self.0 else { return false };
        // A hang-up is told without being asked for (poll(2)).
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        let told = poll(&mut polled, PollTimeout::ZERO);
        let events = polled[0].revents().unwrap_or(PollFlags::empty());
        told.is_ok() && events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().as_fd().try_clone_to_owned().ok().map(Arc::new))
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Caller {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_closed_end_is_gone_and_one_that_has_said_all_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let caller = Caller(Some(Arc::new(ours.into())));
        assert!(!caller.is_gone());
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!caller.is_gone(), "it waits for the answer");
        drop(theirs);
        assert!(caller.is_gone());
        assert!(!Caller::default().is_gone());
    }
}
