//! Tells when a link of netd, or one that netd may build on, disappears: a thread on the kernel's link notifications.

use std::io;
use std::sync::Arc;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::link::Link;
use super::netlink::{Parts, ask_for_buffer, failed, parsed};
use super::{KernelError, KernelEvent};

/// `RTNLGRP_LINK` (linux/rtnetlink.h).
const GROUP_LINK: u32 = 1;
/// `RTM_DELLINK`.
const DELETED: u16 = 17;
/// Bytes: some thousand links may go at once.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes, of one datagram.
const DATAGRAM: usize = 64 << 10;

/// Whom to tell.
pub type Tell = Arc<dyn Fn(KernelEvent) + Send + Sync>;

/// Calls `tell` for every link of ours, and every pair and bridge of other programs, that goes from the calling thread's network namespace, whoever deleted it.
pub fn watch(tell: Tell) -> Result<(), KernelError> {
    let socket = subscribe().map_err(failed("listen to", "link notifications", "see `dmesg`"))?;
    let thread = std::thread::Builder::new().name("link-watch".into());
    thread.spawn(move || listen(&socket, &tell)).map_err(failed("start", "the link watcher", "see `ulimit -u`"))?;
    Ok(())
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
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => deleted(&buffer).for_each(|event| tell(event)),
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

fn deleted(datagram: &[u8]) -> impl Iterator<Item = KernelEvent> {
    let parts = Parts(datagram).flatten().filter(|part| part.message_type() == DELETED);
    parts.filter_map(|part| match parsed(part.message_type(), part.payload())? {
        RouteNetlinkMessage::DelLink(message) => {
            let link = Link::read(&message);
            // A bridge that loses a port tells so with a message without kind and group.
            let matters = link.ours() || matches!(link.kind.as_str(), "veth" | "bridge");
            matters.then(|| link.name.parse().ok().map(KernelEvent::LinkGone)).flatten()
        }
        _ => None,
    })
}
