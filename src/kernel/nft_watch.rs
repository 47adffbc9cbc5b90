//! Who else changes the firewall: the kernel's notifications, without those that netd causes.
//!
//! A transaction ends with `NFT_MSG_NEWGEN`. It carries the port id of the socket that caused it, which is how our own
//! batches are known. A transaction of an `nft` process that we start is known by its generation: while one runs, its
//! caller holds the lock, and the notification waits for what comes of it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::KernelEvent;
use super::nfnetlink::{NFTABLES, Reply, messages, text};
use super::nft_shape::OBJECT_TABLE;
use crate::base::deadline::Deadline;
use crate::logic::rules::TABLE;

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;
/// `NFT_MSG_NEWGEN`, and its `NFTA_GEN_ID`.
const NEW_GENERATION: u8 = 15;
pub(super) const GENERATION_ID: u16 = 1;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// Room for the notifications of a large transaction, in bytes.
const RECEIVE: usize = 8 * 1024 * 1024;
/// Longest datagram of notifications the kernel builds (`NLMSG_GOODSIZE`, at most 8 KiB), with room.
const DATAGRAM: usize = 64 * 1024;
/// Foreign changes are told together: who reloads a firewall makes many, and ours stands in between.
const TOGETHER: Duration = Duration::from_millis(150);
/// Generations of our own that nobody has seen announced; more are kept by nobody who watches.
const KEPT: usize = 64;

/// What we do to the firewall ourselves.
#[derive(Debug, Default)]
pub(super) struct Own {
    generations: Mutex<BTreeSet<u32>>,
}

impl Own {
    /// To be held while an `nft` process of ours runs.
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        while generations.len() > KEPT {
            generations.pop_first();
        }
        generations
    }
}

/// A thread that listens until this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    /// Its other end wakes the thread when this one closes.
    _stop: UnixStream,
}

/// Listens in the network namespace of the calling thread. `port`: of the socket whose changes are ours.
pub(super) fn watch(own: Arc<Own>, port: u32, tell: Arc<dyn Fn(KernelEvent) + Send + Sync>) -> io::Result<Watch> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(GROUP)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE).is_err() {
        // Not privileged over the host: the usual limit, and a look at everything when it was too small.
        socket.set_rx_buf_sz(i32::try_from(RECEIVE).unwrap_or(i32::MAX))?;
    }
    let (stop, stopped) = UnixStream::pair()?;
    let mut listener = Listener { own, port, touched: false };
    std::thread::Builder::new().name("nft-watch".into()).spawn(move || {
        let mut buffer = vec![0; DATAGRAM];
        // Since when a foreign change waits to be told.
        let mut since: Option<Deadline> = None;
        loop {
            match wait(&socket, &stopped, since) {
                Woken::Stopped => return,
                Woken::Passed => {
                    since = None;
                    tell(KernelEvent::Changed);
                }
                Woken::Readable => {
                    let changed = match socket.recv(&mut buffer.as_mut_slice(), libc::MSG_DONTWAIT) {
                        Ok(len) => listener.hear(&buffer[..len]),
                        // Notifications were lost.
                        Err(error) => error.raw_os_error() == Some(libc::ENOBUFS),
                    };
                    if changed {
                        since = since.or_else(|| Some(Deadline::after(TOGETHER)));
                    }
                }
            }
        }
    })?;
    Ok(Watch { _stop: stop })
}

enum Woken {
    /// There is something to read.
    Readable,
    /// The deadline has passed.
    Passed,
    /// Nobody wants to know any more.
    Stopped,
}

fn wait(socket: &Socket, stopped: &UnixStream, until: Option<Deadline>) -> Woken {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    let timeout = match until.map(Deadline::remaining) {
        None => PollTimeout::NONE,
        Some(None) => return Woken::Passed,
        // Rounded up: not to wake before the deadline.
        Some(Some(left)) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
    };
    match poll(&mut fds, timeout) {
        Ok(0) | Err(nix::Error::EINTR) if until.is_some_and(|deadline| deadline.remaining().is_none()) => Woken::Passed,
        Ok(_) if fds[1].revents().is_none_or(|events| events.is_empty()) => Woken::Readable,
        Err(nix::Error::EINTR) => Woken::Readable,
        Ok(_) | Err(_) => Woken::Stopped,
    }
}

struct Listener {
    own: Arc<Own>,
    port: u32,
    /// Whether the transaction that is being announced changes our table.
    touched: bool,
}

impl Listener {
    /// Whether a foreign transaction that changed our table ended.
    fn hear(&mut self, datagram: &[u8]) -> bool {
        let mut foreign = false;
        for reply in messages(datagram).filter_map(|message| Reply::parse(&message)) {
            if reply.subsystem != NFTABLES {
                continue;
            }
            if reply.kind == NEW_GENERATION {
                foreign |= std::mem::take(&mut self.touched) && !self.is_own(&reply);
            } else if reply.family == INET {
                self.touched |= reply.attribute(OBJECT_TABLE).is_some_and(|table| text(&table) == TABLE);
            }
        }
        foreign
    }

    fn is_own(&self, reply: &Reply) -> bool {
        reply.port == self.port || generation(reply).is_some_and(|id| self.own.lock().remove(&id))
    }
}

/// The generation that a `NFT_MSG_NEWGEN` announces.
pub(super) fn generation(reply: &Reply) -> Option<u32> {
    reply.attribute(GENERATION_ID)?.first_chunk().map(|id| u32::from_be_bytes(*id))
}
