//! The monitor of rtnetlink notifications, of the host and of the containers: reports when a link disappears that netd
//! made or may use, when another program changes what netd made, and when veth pairs of other programs appear or change.
//! Another thread sends ticks, for checks of what the kernel sends no notifications of.
//!
//! A second socket on the host receives the notifications of all namespaces that a veth pair connects to the host
//! (`NETLINK_LISTEN_ALL_NSID`). A socket within a container would keep its namespace alive, and a container that changes
//! its routes all the time must not fill the receive buffer of the host's notifications.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::changes::{CONTAINER_TYPES, Changes, HOST_TYPES};
use super::inner::Followed;
use crate::base::deadline::Deadline;
use crate::kernel::link;
use crate::kernel::monitor::{Monitor, Received, Running, Woken, received, start, wait};
use crate::kernel::netlink::filter::keep_types;
use crate::kernel::netlink::socket::{Netlink, ask_for_buffer, failed};
use crate::kernel::{KernelError, KernelEvent, Tell};
use crate::os::sys;

/// Multicast groups (`RTNLGRP_…`, linux/rtnetlink.h): links, queueing disciplines, addresses and routes of both
/// families, and their configuration (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`).
const HOST_GROUPS: [u32; 8] = [1, 4, 5, 7, 9, 11, 24, 25];
/// Links, addresses and routes.
const CONTAINER_GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// After the first notification, this much time passes before any is read: making an endpoint sends some twenty, and
/// each would otherwise wake this thread while the engine needs the processor.
const GATHER: Duration = Duration::from_millis(10);
/// Changes within this time are reported together: an engine changes a pair several times while making it.
const TOGETHER: Duration = Duration::from_millis(90);
/// How many notifications are read from one socket before the other's turn.
const READ_AT_ONCE: usize = 4096;
/// How often checks run for changes without notifications.
const TICK: Duration = Duration::from_secs(10);
/// Bytes: some thousand links may be deleted at once.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Maximum bytes of one datagram.
const DATAGRAM: usize = 64 << 10;

/// Calls `tell` for every link of netd, and every pair and bridge of other programs, that is removed from the calling
/// thread's network namespace, whoever deleted it; and once for a group of changes that another program made to links of
/// netd, or to pairs of its own. `own`: the port id of netd's socket, whose limits nobody else has changed. `followed`: the
/// interfaces in containers that have no other end.
pub(in crate::kernel) fn monitor(own: u32, followed: Followed, tell: Tell) -> Result<Running, KernelError> {
    let links = Links { own, followed, changes: Changes::default(), buffer: Vec::with_capacity(DATAGRAM) };
    start(links, tell).map_err(failed("listen to", "link notifications", "see `dmesg` and `ulimit -u`"))
}

/// Calls `tell` periodically until the returned sender is dropped.
pub fn tick(tell: Tell) -> Result<Sender<()>, KernelError> {
    let (stop, stopped) = channel::<()>();
    let tick = move || {
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            tell(KernelEvent::Tick);
        }
    };
    let thread = std::thread::Builder::new().name("tick".into());
    thread.spawn(tick).map_err(failed("start", "the clock", "see `ulimit -u`"))?;
    Ok(stop)
}

/// The sockets, both on the host.
struct Source {
    host: Socket,
    containers: Socket,
}

/// The monitor.
struct Links {
    own: u32,
    followed: Followed,
    changes: Changes,
    buffer: Vec<u8>,
}

impl Monitor for Links {
    type Source = Source;
    const NAME: &'static str = "link";

    fn subscribe(&mut self) -> io::Result<Source> {
        let socket = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            ask_for_buffer(&socket, RECEIVE_BUFFER);
            Ok(socket)
        };
        let (host, containers) = (socket()?, socket()?);
        keep_types(&host, &HOST_TYPES)?;
        keep_types(&containers, &CONTAINER_TYPES)?;
        containers.set_listen_all_namespaces(true)?;
        for group in HOST_GROUPS {
            host.add_membership(group)?;
        }
        for group in CONTAINER_GROUPS {
            containers.add_membership(group)?;
        }
        // After the subscription, so that no link is missed.
        let links = link::list(&mut Netlink::open()?).map_err(io::Error::other)?;
        self.changes = Changes::of_settled(&links, self.own, self.followed.clone());
        Ok(Source { host, containers })
    }

    fn listen(&mut self, source: &mut Source, stop: BorrowedFd<'_>, tell: &Tell) -> io::Result<()> {
        // When pending changes are to be reported.
        let mut pending: Option<Deadline> = None;
        loop {
            match wait(&[stop, source.host.as_fd(), source.containers.as_fd()], pending)? {
                Woken::By(0) => return Ok(()),
                Woken::By(_) => {
                    if let Woken::By(_) = wait(&[stop], Some(Deadline::after(GATHER)))? {
                        return Ok(());
                    }
                    self.read(source, tell)?;
                }
                Woken::Passed => {
                    pending = None;
                    self.read(source, tell)?;
                    self.changes.settle().into_iter().for_each(|event| tell(event));
                }
                Woken::Interrupted => continue,
            }
            if pending.is_none() && self.changes.is_pending() {
                pending = Some(Deadline::after(TOGETHER));
            }
        }
    }
}

impl Links {
    /// Reads what has arrived: first from the host, whose notifications say what number a container's namespace has.
    fn read(&mut self, source: &Source, tell: &Tell) -> io::Result<()> {
        for _ in 0..READ_AT_ONCE {
            if !self.read_host(source, tell)? {
                break;
            }
        }
        for _ in 0..READ_AT_ONCE {
            if !self.read_containers(source)? {
                break;
            }
        }
        Ok(())
    }

    /// Returns false if there was nothing to read.
    fn read_host(&mut self, source: &Source, tell: &Tell) -> io::Result<bool> {
        self.buffer.clear();
        match received(source.host.recv(&mut self.buffer, libc::MSG_DONTWAIT))? {
            Received::Datagram(_) => self.changes.hear_host(&self.buffer).into_iter().for_each(|event| tell(event)),
            Received::Lost => tell(KernelEvent::Changed),
            Received::Nothing => return Ok(false),
        }
        Ok(true)
    }

    /// Returns false if there was nothing to read.
    fn read_containers(&mut self, source: &Source) -> io::Result<bool> {
        let mut netns = None;
        let read = sys::receive_with_netns(&source.containers, &mut self.buffer).map(|from| {
            netns = from;
            self.buffer.len()
        });
        match (received(read)?, netns) {
            (Received::Datagram(_), Some(netns)) => self.changes.hear_container(&self.buffer, netns),
            (Received::Lost, _) => self.changes.lost(),
            // The host's own, which the other socket receives too.
            (Received::Datagram(_), None) => {}
            (Received::Nothing, _) => return Ok(false),
        }
        Ok(true)
    }
}
