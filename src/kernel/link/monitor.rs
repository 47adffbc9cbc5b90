//! Reports when a link of netd, or one that netd may use, disappears, and when veth pairs of other programs appear or
//! change: a thread that reads the kernel's link notifications. A second thread sends ticks, for checks of what the
//! kernel sends no notifications of.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Link;
use crate::base::deadline::Deadline;
use crate::kernel::netlink::socket::{Parts, ask_for_buffer, failed, parsed};
use crate::kernel::{KernelError, KernelEvent, Tell};

/// `RTNLGRP_LINK` (linux/rtnetlink.h).
const GROUP_LINK: u32 = 1;
/// `RTM_NEWLINK`, which also reports changes of a link, and `RTM_DELLINK`.
const CHANGED: u16 = 16;
const DELETED: u16 = 17;
/// Changes within this time are reported together: an engine changes a pair several times while making it.
const TOGETHER: Duration = Duration::from_millis(100);
/// How often checks run for changes without notifications.
const TICK: Duration = Duration::from_secs(10);
/// Bytes: some thousand links may be deleted at once.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Maximum bytes of one datagram.
const DATAGRAM: usize = 64 << 10;

/// Calls `tell` for every link of netd, and every pair and bridge of other programs, that is removed from the calling
/// thread's network namespace, whoever deleted it, and once for a group of pairs of other programs that appear or
/// change.
pub fn watch(tell: Tell) -> Result<(), KernelError> {
    let socket = subscribe().map_err(failed("listen to", "link notifications", "see `dmesg`"))?;
    let thread = std::thread::Builder::new().name("link-watch".into());
    thread.spawn(move || listen(&socket, &tell)).map_err(failed("start", "the link watcher", "see `ulimit -u`"))?;
    Ok(())
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

fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    ask_for_buffer(&socket, RECEIVE_BUFFER);
    socket.add_membership(GROUP_LINK)?;
    Ok(socket)
}

fn listen(socket: &Socket, tell: &Tell) {
    let mut buffer = Vec::with_capacity(DATAGRAM);
    // When a pending change is to be reported.
    let mut changed: Option<Deadline> = None;
    loop {
        if changed.is_some_and(|until| until.remaining().is_none()) {
            changed = None;
            tell(KernelEvent::LinksChanged);
        }
        if !is_readable(socket, changed) {
            continue;
        }
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => {
                deleted(&buffer).for_each(|event| tell(event));
                if changed.is_none() && has_changed(&buffer) {
                    changed = Some(Deadline::after(TOGETHER));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Notifications were lost.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => tell(KernelEvent::Changed),
            Err(error) => {
                tracing::error!(%error, "no longer told about links that disappear");
                return tell(KernelEvent::Changed);
            }
        }
    }
}

/// Waits for a notification until the deadline, if there is one.
fn is_readable(socket: &Socket, until: Option<Deadline>) -> bool {
    let left = until.map(|until| until.remaining().unwrap_or_default());
    // Rounded up, so as not to wake before the deadline.
    let timeout =
        left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX));
    // An error concerns the socket; the next read reports it.
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) != Ok(0)
}

/// Whether a pair of another program appeared or changed.
fn has_changed(datagram: &[u8]) -> bool {
    let mut parts = Parts(datagram).flatten().filter(|part| part.message_type() == CHANGED);
    parts.any(|part| match parsed(part.message_type(), part.payload()) {
        Some(RouteNetlinkMessage::NewLink(message)) => {
            let link = Link::read(&message);
            link.kind == "veth" && !link.ours()
        }
        _ => false,
    })
}

fn deleted(datagram: &[u8]) -> impl Iterator<Item = KernelEvent> {
    let parts = Parts(datagram).flatten().filter(|part| part.message_type() == DELETED);
    parts.filter_map(|part| match parsed(part.message_type(), part.payload())? {
        RouteNetlinkMessage::DelLink(message) => {
            let link = Link::read(&message);
            // When a bridge loses a port, the kernel sends a message without kind and group.
            let matters = link.ours() || matches!(link.kind.as_str(), "veth" | "bridge");
            matters.then(|| link.name.parse().ok().map(KernelEvent::LinkGone)).flatten()
        }
        _ => None,
    })
}
