//! The socket of a connection. The connection and the checks of its other end share its single descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::socket::{Shutdown as How, setsockopt, shutdown, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

/// After this many seconds without data, the kernel asks whether the other end of a TCP connection is there.
const KEEP_ALIVE_AFTER: u32 = 60;
/// The seconds between such probes, and how many may remain unanswered before the connection is closed.
const KEEP_ALIVE_EVERY: u32 = 15;
const KEEP_ALIVE_PROBES: u32 = 4;

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Reads and writes, with a timeout for writes.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Arc<Socket>,
    /// How long the client may read nothing while something waits to be written.
    patience: Duration,
    /// Expires when the client has read nothing for too long. `None` if nothing waits to be written.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// An accepted TCP connection. Without keepalive, an event stream whose client has vanished would stay for ever.
    pub(super) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        setsockopt(&stream, sockopt::TcpKeepIdle, &KEEP_ALIVE_AFTER)?;
        setsockopt(&stream, sockopt::TcpKeepInterval, &KEEP_ALIVE_EVERY)?;
        setsockopt(&stream, sockopt::TcpKeepCount, &KEEP_ALIVE_PROBES)?;
        setsockopt(&stream, sockopt::KeepAlive, &true)?;
        Ok(Self::Tcp(stream))
    }

    /// The same connection with the lowest free descriptor number.
    pub(super) fn renumbered(self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => UnixStream::from_std(stream.into_std()?.try_clone()?).map(Self::Unix),
            Self::Tcp(stream) => TcpStream::from_std(stream.into_std()?.try_clone()?).map(Self::Tcp),
        }
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_read_ready(context),
            Self::Tcp(stream) => stream.poll_read_ready(context),
        }
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_write_ready(context),
            Self::Tcp(stream) => stream.poll_write_ready(context),
        }
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_read(into),
            Self::Tcp(stream) => stream.try_read(into),
        }
    }

    /// Writes as much as possible without waiting.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Wire {
    pub(super) fn new(socket: Arc<Socket>, patience: Duration) -> Self {
        Self { socket, patience, stuck: None }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_readable(context))?;
            match self.socket.try_read(buffer.initialize_unfilled()) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // Not readable after all: wait again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while let Poll::Ready(ready) = self.socket.poll_writable(context) {
            ready?;
            match self.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.stuck = None;
                    return Poll::Ready(written);
                }
            }
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stuck.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.socket.as_raw_fd(), How::Write).map_err(io::Error::from))
    }
}
