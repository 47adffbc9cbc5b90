//! Detects firewall changes by other programs: the kernel's notifications, without those that netd causes.
//!
//! A transaction ends with `NFT_MSG_NEWGEN`. It carries the port id of the socket that caused it, which identifies
//! netd's own batches. A transaction of an `nft` process that netd started is identified by its generation: while the
//! process runs, its caller holds the lock, and the handling of the notification waits for the outcome.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::fingerprint::OBJECT_TABLE;
use crate::base::deadline::Deadline;
use crate::kernel::monitor::{Monitor, Received, Running, Woken, received, start, wait};
use crate::kernel::netlink::netfilter::{NFTABLES, Reply, text};
use crate::kernel::netlink::socket::Parts;
use crate::kernel::{KernelEvent, Tell};
use crate::model::host::element::Table;

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;
/// `NFT_MSG_NEWGEN`, and its `NFTA_GEN_ID`.
const NEW_GENERATION: u8 = 15;
pub(in crate::kernel) const GENERATION_ID: u16 = 1;
/// `NFPROTO_INET`, `NFPROTO_BRIDGE`.
const INET: u8 = 1;
const BRIDGE: u8 = 7;
/// Receive buffer for the notifications of a large transaction, in bytes.
const RECEIVE: usize = 8 * 1024 * 1024;
/// The longest notification datagram that the kernel builds (`NLMSG_GOODSIZE`, at most 8 KiB), with reserve.
const DATAGRAM: usize = 64 * 1024;
/// Foreign changes within this time are reported together: reloading a firewall makes many, with netd's own in between.
const TOGETHER: Duration = Duration::from_millis(150);
/// The same for other tables: on some hosts they change all the time, and evaluating them takes longer.
const ELSEWHERE: Duration = Duration::from_secs(1);
/// How many of netd's own unannounced generations are remembered; more occur only without a watch.
const KEPT: usize = 64;

/// netd's own changes of the firewall, and what the watch has heard of those of others.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Own {
    generations: Mutex<BTreeSet<u32>>,
    heard: Mutex<Heard>,
    hears: Condvar,
}

/// What the watch has heard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// The generation of the last transaction.
    pub(super) generation: u32,
    /// How many transactions of others changed netd's tables.
    pub(super) foreign: u64,
    /// How many of them changed other tables.
    pub(super) elsewhere: u64,
    /// How often notifications were lost.
    pub(super) lost: u64,
}

impl Own {
    /// To be held while an `nft` process of netd runs.
    pub(in crate::kernel) fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        while generations.len() > KEPT {
            generations.pop_first();
        }
        generations
    }

    /// What the watch has heard so far.
    pub(super) fn heard(&self) -> Heard {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same once it has heard of this generation, or when the time has passed.
    pub(super) fn heard_of(&self, generation: u32, patience: Duration) -> Heard {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |heard: &mut Heard| heard.generation != generation;
        *self.hears.wait_timeout_while(heard, patience, waits).unwrap_or_else(PoisonError::into_inner).0
    }

    fn note(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        self.hears.notify_all();
    }
}

/// Listens in the network namespace of the calling thread. `port`: the socket whose changes are netd's own.
pub(in crate::kernel) fn monitor(own: Arc<Own>, port: u32, tell: Tell) -> io::Result<Running> {
    let listener = Listener { own, port, touched: Touched::default() };
    start(Firewall { listener, buffer: vec![0; DATAGRAM] }, tell)
}

/// The monitor.
struct Firewall {
    listener: Listener,
    buffer: Vec<u8>,
}

impl Monitor for Firewall {
    type Source = Socket;
    const NAME: &'static str = "firewall";

    fn subscribe(&mut self) -> io::Result<Socket> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(GROUP)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE).is_err() {
            // netd may be unprivileged on the host: then the usual limit applies, and an overflow causes a full
            // reconcile.
            socket.set_rx_buf_sz(i32::try_from(RECEIVE).unwrap_or(i32::MAX))?;
        }
        self.listener.touched = Touched::default();
        // What happened before.
        self.listener.own.note(|heard| heard.lost += 1);
        Ok(socket)
    }

    fn listen(&mut self, socket: &mut Socket, stop: BorrowedFd<'_>, tell: &Tell) -> io::Result<()> {
        // When pending foreign changes of netd's table, or of another one, are to be reported.
        let (mut ours, mut others): (Option<Deadline>, Option<Deadline>) = (None, None);
        loop {
            let heard = match wait(&[stop, socket.as_fd()], earlier(ours, others))? {
                Woken::By(0) => return Ok(()),
                Woken::By(_) => self.read(socket)?,
                Woken::Passed => {
                    for (until, event) in
                        [(&mut ours, KernelEvent::Changed), (&mut others, KernelEvent::FirewallChanged)]
                    {
                        if until.is_some_and(|until| until.remaining().is_none()) {
                            *until = None;
                            tell(event);
                        }
                    }
                    continue;
                }
                Woken::Interrupted => continue,
            };
            if heard.ours {
                ours = ours.or_else(|| Some(Deadline::after(TOGETHER)));
            }
            if heard.others {
                others = others.or_else(|| Some(Deadline::after(ELSEWHERE)));
            }
        }
    }
}

impl Firewall {
    fn read(&mut self, socket: &Socket) -> io::Result<Touched> {
        match received(socket.recv(&mut self.buffer.as_mut_slice(), libc::MSG_DONTWAIT))? {
            Received::Datagram(len) => Ok(self.listener.hear(&self.buffer[..len])),
            Received::Lost => {
                self.listener.own.note(|heard| heard.lost += 1);
                Ok(Touched { ours: true, others: true })
            }
            Received::Nothing => Ok(Touched::default()),
        }
    }
}

fn earlier(one: Option<Deadline>, other: Option<Deadline>) -> Option<Deadline> {
    let both = one.into_iter().chain(other);
    both.min_by_key(|until| until.remaining())
}

pub(super) struct Listener {
    pub(super) own: Arc<Own>,
    pub(super) port: u32,
    /// The tables that the transaction being announced changes.
    pub(super) touched: Touched,
}

/// Which tables are changed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Touched {
    pub(super) ours: bool,
    pub(super) others: bool,
}

impl Listener {
    /// Returns what the completed foreign transactions in the datagram changed.
    pub(super) fn hear(&mut self, datagram: &[u8]) -> Touched {
        let mut foreign = Touched::default();
        for reply in Parts(datagram).flatten().filter_map(|message| Reply::parse(&message)) {
            if reply.subsystem != NFTABLES {
                continue;
            }
            if reply.kind == NEW_GENERATION {
                let Touched { ours, others } = std::mem::take(&mut self.touched);
                let is_foreign = (ours || others) && !self.is_own(&reply);
                if is_foreign {
                    foreign.ours |= ours;
                    foreign.others |= others;
                }
                self.own.note(|heard| {
                    heard.generation = generation(&reply).unwrap_or(heard.generation);
                    heard.foreign += u64::from(is_foreign && ours);
                    heard.elsewhere += u64::from(is_foreign && others);
                });
            } else if let Some(table) = reply.attribute(OBJECT_TABLE) {
                let is_ours = Table::ALL.iter().any(|own| family(*own) == reply.family && own.name() == text(table));
                self.touched.ours |= is_ours;
                self.touched.others |= !is_ours;
            }
        }
        foreign
    }

    fn is_own(&self, reply: &Reply) -> bool {
        reply.port == self.port || generation(reply).is_some_and(|id| self.own.lock().remove(&id))
    }
}

/// The family in the header of messages about this table.
fn family(table: Table) -> u8 {
    match table {
        Table::Inet | Table::Services => INET,
        Table::Bridge => BRIDGE,
    }
}

/// The generation that a `NFT_MSG_NEWGEN` announces.
pub(in crate::kernel) fn generation(reply: &Reply) -> Option<u32> {
    reply.attribute(GENERATION_ID)?.first_chunk().map(|id| u32::from_be_bytes(*id))
}
