//! Waits for many sockets at once on one thread (`epoll(7)`), until one is readable or another thread wakes it.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// The key of a wake-up; sockets have other keys.
pub const WOKEN: u64 = u64::MAX;
/// How many sockets one call reports; the next call reports the others.
const EVENTS: usize = 64;

/// The sockets of one thread.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    woken: Arc<EventFd>,
    events: Vec<EpollEvent>,
}

/// Wakes the waiting thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// Makes the current or the next [`Poller::wait`] return.
    pub fn wake(&self) {
        // Fails only if the counter is full: then the thread wakes up in any case.
        let _ = self.0.write(1);
    }
}

impl Poller {
    /// Creates a poller that waits only for its [`Waker`].
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let woken = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        epoll.add(&*woken, EpollEvent::new(EpollFlags::EPOLLIN, WOKEN))?;
        Ok(Self { epoll, woken, events: vec![EpollEvent::empty(); EVENTS] })
    }

    /// The handle that wakes it.
    pub fn waker(&self) -> Waker {
        Waker(self.woken.clone())
    }

    /// Waits for the socket from now on, with this key (not [`WOKEN`]).
    pub fn add(&self, socket: &UdpSocket, key: u64) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, key))?)
    }

    /// Stops waiting for it until [`Self::resume`]; it keeps its key.
    pub fn pause(&self, socket: &UdpSocket, key: u64) -> io::Result<()> {
        Ok(self.epoll.modify(socket, &mut EpollEvent::new(EpollFlags::empty(), key))?)
    }

    /// Waits for it again.
    pub fn resume(&self, socket: &UdpSocket, key: u64) -> io::Result<()> {
        Ok(self.epoll.modify(socket, &mut EpollEvent::new(EpollFlags::EPOLLIN, key))?)
    }

    /// Removes the socket. Call it before the socket is closed: a copy of the descriptor would keep it registered.
    pub fn remove(&self, socket: &UdpSocket) -> io::Result<()> {
        Ok(self.epoll.delete(socket)?)
    }

    /// Waits, at most this many milliseconds, and returns the keys of what is readable. A socket is reported until its
    /// queue is empty.
    pub fn wait(&mut self, patience: Option<u8>) -> io::Result<impl Iterator<Item = u64>> {
        let patience = patience.map_or(EpollTimeout::NONE, EpollTimeout::from);
        let count = loop {
            match self.epoll.wait(&mut self.events, patience) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        let ready = &self.events[..count];
        if ready.iter().any(|event| event.data() == WOKEN) {
            // Resets the counter; fails only if it is already zero.
            let _ = self.woken.read();
        }
        Ok(ready.iter().map(EpollEvent::data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is ready within ten seconds: on a busy machine the kernel delivers a datagram after the send has returned.
    fn ready(poller: &mut Poller) -> Vec<u64> {
        let mut tries = (0..50).map(|_| poller.wait(Some(200)).unwrap().collect::<Vec<_>>());
        tries.find(|keys| !keys.is_empty()).unwrap_or_default()
    }

    #[test]
    fn it_tells_what_can_be_read_until_it_is_removed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut poller = Poller::new().unwrap();
        let waker = poller.waker();
        poller.add(&socket, 7).unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            assert_eq!(ready(&mut poller), [7], "as long as something waits");
        }
        poller.pause(&socket, 7).unwrap();
        assert_eq!(poller.wait(Some(1)).unwrap().collect::<Vec<_>>(), [] as [u64; 0], "not while it is paused");
        poller.resume(&socket, 7).unwrap();
        assert_eq!(ready(&mut poller), [7]);
        poller.remove(&socket).unwrap();
        waker.wake();
        waker.wake();
        assert_eq!(ready(&mut poller), [WOKEN]);
        let other = std::thread::spawn(move || waker.wake());
        assert_eq!(ready(&mut poller), [WOKEN]);
        other.join().unwrap();
        assert_eq!(poller.wait(Some(1)).unwrap().count(), 0, "woken once is told once");
    }
}
