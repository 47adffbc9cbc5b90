//! Detects changes of netd's table within containers (`ip netd_dns`), which directs their questions to the name service
//! there. A separate socket: a container that changes its firewall all the time must not fill the receive buffer of the
//! host's notifications.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::fingerprint::OBJECT_TABLE;
use crate::base::deadline::Deadline;
use crate::kernel::dns::table::TABLE;
use crate::kernel::monitor::{Monitor, Received, Running, Woken, received, start, wait};
use crate::kernel::netlink::netfilter::{NFTABLES, Reply, text};
use crate::kernel::netlink::socket::{Parts, ask_for_buffer};
use crate::kernel::{KernelEvent, Tell};
use crate::os::sys;

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;
/// Bytes.
const RECEIVE_BUFFER: usize = 1 << 20;
const DATAGRAM: usize = 64 << 10;
/// Changes within this time are reported together.
const TOGETHER: Duration = Duration::from_millis(100);

/// Listens in the network namespace of the calling thread, to all namespaces that it has numbers for.
pub(in crate::kernel) fn monitor(tell: Tell) -> io::Result<Running> {
    start(ContainerTables { buffer: Vec::with_capacity(DATAGRAM) }, tell)
}

/// The monitor.
struct ContainerTables {
    buffer: Vec<u8>,
}

impl Monitor for ContainerTables {
    type Source = Socket;
    const NAME: &'static str = "container-firewall";

    fn subscribe(&mut self) -> io::Result<Socket> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_listen_all_namespaces(true)?;
        ask_for_buffer(&socket, RECEIVE_BUFFER);
        socket.add_membership(GROUP)?;
        Ok(socket)
    }

    fn listen(&mut self, socket: &mut Socket, stop: BorrowedFd<'_>, tell: &Tell) -> io::Result<()> {
        let mut changed = BTreeSet::new();
        let mut pending: Option<Deadline> = None;
        loop {
            match wait(&[stop, socket.as_fd()], pending)? {
                Woken::By(0) => return Ok(()),
                Woken::By(_) => {}
                Woken::Passed => {
                    pending = None;
                    tell(KernelEvent::ContainerTablesChanged(std::mem::take(&mut changed)));
                    continue;
                }
                Woken::Interrupted => continue,
            }
            let mut netns = None;
            let read = sys::receive_with_netns(&*socket, &mut self.buffer).map(|from| {
                netns = from;
                self.buffer.len()
            });
            match (received(read)?, netns) {
                (Received::Datagram(_), Some(netns)) if is_about_table(&self.buffer) => _ = changed.insert(netns),
                (Received::Lost, _) => tell(KernelEvent::ContainerTablesChanged(BTreeSet::new())),
                _ => {}
            }
            if pending.is_none() && !changed.is_empty() {
                pending = Some(Deadline::after(TOGETHER));
            }
        }
    }
}

pub(super) fn is_about_table(datagram: &[u8]) -> bool {
    let mut replies = Parts(datagram).flatten().filter_map(|message| Reply::parse(&message));
    replies.any(|reply| {
        reply.subsystem == NFTABLES && reply.attribute(OBJECT_TABLE).is_some_and(|table| text(table) == TABLE)
    })
}
