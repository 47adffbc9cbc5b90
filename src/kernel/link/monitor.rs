//! Reports when a link of netd, or one that netd may use, disappears, and when veth pairs of other programs appear or
//! change: the monitor of the kernel's link notifications. Another thread sends ticks, for checks of what the kernel
//! sends no notifications of.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::Link;
use crate::base::deadline::Deadline;
use crate::kernel::monitor::{Monitor, Received, Running, Woken, received, start, wait};
use crate::kernel::netlink::socket::{Parts, ask_for_buffer, failed, parsed};
use crate::kernel::{KernelError, KernelEvent, Tell};
use crate::model::host::observed::ObservedKind;

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
pub(in crate::kernel) fn watch(tell: Tell) -> Result<Running, KernelError> {
    start(Links { buffer: Vec::with_capacity(DATAGRAM) }, tell).map_err(failed(
        "listen to",
        "link notifications",
        "see `dmesg` and `ulimit -u`",
    ))
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

/// The monitor.
struct Links {
    buffer: Vec<u8>,
}

impl Monitor for Links {
    type Source = Socket;
    const NAME: &'static str = "link";

    fn subscribe(&mut self) -> io::Result<Socket> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        ask_for_buffer(&socket, RECEIVE_BUFFER);
        socket.add_membership(GROUP_LINK)?;
        Ok(socket)
    }

    fn listen(&mut self, socket: &mut Socket, stop: BorrowedFd<'_>, tell: &Tell) -> io::Result<()> {
        // When a pending change is to be reported.
        let mut changed: Option<Deadline> = None;
        loop {
            match wait(&[stop, socket.as_fd()], changed)? {
                Woken::By(0) => return Ok(()),
                Woken::By(_) => {}
                Woken::Passed => {
                    changed = None;
                    tell(KernelEvent::LinksChanged);
                    continue;
                }
                Woken::Interrupted => continue,
            }
            self.buffer.clear();
            match received(socket.recv(&mut self.buffer, libc::MSG_DONTWAIT))? {
                Received::Datagram(_) => {
                    deleted(&self.buffer).for_each(|event| tell(event));
                    if changed.is_none() && has_changed(&self.buffer) {
                        changed = Some(Deadline::after(TOGETHER));
                    }
                }
                Received::Lost => tell(KernelEvent::Changed),
                Received::Nothing => {}
            }
        }
    }
}

/// Whether a pair of another program appeared or changed.
fn has_changed(datagram: &[u8]) -> bool {
    let mut parts = Parts(datagram).flatten().filter(|part| part.message_type() == CHANGED);
    parts.any(|part| match parsed(part.message_type(), part.payload()) {
        Some(RouteNetlinkMessage::NewLink(message)) => {
            let link = Link::read(&message);
            link.kind == ObservedKind::Veth && !link.ours()
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
            let matters = link.ours() || matches!(link.kind, ObservedKind::Veth | ObservedKind::Bridge);
            matters.then(|| link.name.parse().ok().map(KernelEvent::LinkGone)).flatten()
        }
        _ => None,
    })
}
