//! Sends the first packets of flows to strict ports again, from the host, where its output hook translates them.
//!
//! The firewall hands over only what the host's own rules let pass (`logic::firewall::strict`), one datagram for each
//! packet. What does not fit into the socket's buffer is lost, as with any queue of the network: clients try again. While
//! nobody reads, nothing is sent again, and existing flows go on.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use netlink_packet_netfilter::nflog::{ConfigCmd, ConfigMode, ConfigNla, ULogMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, setsockopt, socket,
    sockopt,
};

use super::again::{again, divided};
use super::{Nft, failed};
use crate::kernel::monitor::{Monitor, Received, Woken, received, start, wait};
use crate::kernel::netlink::netfilter::{Netfilter, Reply, text};
use crate::kernel::{KernelError, Tell};
use crate::logic::firewall::strict::{GROUP, MARK, MARK_OF_CONTAINERS, PREFIX, PREFIX_OF_CONTAINERS};
use crate::model::host::element::Element;

/// `NFNL_SUBSYS_ULOG`, and its `NFULNL_MSG_PACKET`.
const ULOG: u8 = 4;
const PACKET: u8 = 0;
/// `NFULA_PACKET_HDR`, `NFULA_PAYLOAD`, `NFULA_PREFIX` (linux/netfilter/nfnetlink_log.h).
const PACKET_HEADER: u16 = 1;
const PAYLOAD: u16 = 9;
const LOG_PREFIX: u16 = 10;
/// `NF_INET_LOCAL_IN`.
const INPUT: u8 = 1;
/// The longest payload (`NFULNL_COPY_RANGE_MAX`).
const WHOLE: u32 = 0xffff - 4;
/// The buffer that the kernel allocates for a packet, if that is not longer.
const SHORT: u32 = 768;
/// Receive buffer, in bytes: some 1,000 first packets.
const RECEIVE: usize = 2 << 20;
/// The longest datagram: a payload and its attributes.
const DATAGRAM: usize = 66 << 10;
/// Datagrams that are read before it is checked whether to stop.
const BATCH: usize = 64;

/// Whether the element is of a strict port.
fn is_strict(element: &Element) -> bool {
    matches!(element, Element::Strict(..) | Element::StrictAt(..))
}

impl Nft {
    /// Whether this kernel can hand packets to netd.
    pub(super) fn hands_over(&mut self) -> bool {
        // If that is not known, what needs it is tried.
        self.expected.hands_over().unwrap_or(true)
    }

    /// Sends first packets again from now on, if one of the elements is of a strict port and somebody watches.
    pub(super) fn resend_for<'a>(
        &mut self,
        elements: impl IntoIterator<Item = &'a Element>,
    ) -> Result<(), KernelError> {
        let Some(tell) = self.tell.0.clone().filter(|_| self.resending.is_none()) else { return Ok(()) };
        if elements.into_iter().any(is_strict) && self.hands_over() {
            let resending = start(Resend, tell).map_err(failed("open", "the log of packets to strict ports"))?;
            self.resending = Some(resending);
        }
        Ok(())
    }

    /// Why nobody reaches the strict ports among these elements, if that is so although the kernel can hand packets over.
    pub(super) fn resends_nothing(&mut self, elements: &BTreeSet<Element>) -> Option<String> {
        self.resend_for(elements).err().map(|error| error.to_string())
    }
}

/// The name of the monitor.
pub const RESENDING: &str = "resend";

struct Resend;

/// The sockets.
pub(super) struct Sockets {
    netfilter: Netfilter,
    others: Raw,
    containers: Raw,
}

/// Sockets that send packets with their headers, and with one mark.
struct Raw {
    v4: OwnedFd,
    /// `None` on a host without IPv6.
    v6: Option<OwnedFd>,
}

/// A packet that is sent again.
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) to: IpAddr,
    /// Whether a container has sent it.
    pub(super) of_a_container: bool,
}

impl Monitor for Resend {
    type Source = Sockets;
    const NAME: &'static str = RESENDING;

    fn subscribe(&mut self) -> io::Result<Sockets> {
        let mut netfilter = Netfilter::open()?;
        netfilter.make_room(DATAGRAM, RECEIVE);
        netfilter.ask(&subscription(), 0)?;
        Ok(Sockets { netfilter, others: Raw::open(MARK)?, containers: Raw::open(MARK_OF_CONTAINERS)? })
    }

    fn listen(&mut self, sockets: &mut Sockets, stop: BorrowedFd<'_>, _: &Tell) -> io::Result<()> {
        loop {
            match wait(&[stop, sockets.netfilter.as_fd()], None)? {
                Woken::By(0) => return Ok(()),
                Woken::By(_) => sockets.read()?,
                Woken::Passed | Woken::Interrupted => {}
            }
        }
    }
}

/// Each packet at once and whole, to this socket.
fn subscription() -> NetfilterMessage {
    let attributes = vec![
        ConfigNla::Cmd(ConfigCmd::Bind),
        ConfigNla::Mode(ConfigMode::new_packet(WHOLE)),
        ConfigNla::NlBufSiz(SHORT),
        ConfigNla::QThresh(1),
    ];
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, GROUP), ULogMessage::Config(attributes))
}

fn raw(family: AddressFamily, mark: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let raw = socket(family, SockType::Raw, flags, SockProtocol::Raw)?;
    setsockopt(&raw, sockopt::Mark, &mark)?;
    Ok(raw)
}

impl Sockets {
    fn read(&mut self) -> io::Result<()> {
        for _ in 0..BATCH {
            let mut replies = Vec::new();
            let read = self.netfilter.heard().map(|heard| {
                replies = heard;
                replies.len()
            });
            match received(read)? {
                Received::Datagram(_) => replies.iter().for_each(|reply| self.send(reply)),
                Received::Lost => {}
                Received::Nothing => break,
            }
        }
        Ok(())
    }

    /// A packet that cannot be sent is lost: the host's output rules may refuse it.
    fn send(&self, reply: &Reply) {
        let Some(Packet { bytes, to, of_a_container }) = packet(reply) else { return };
        let raw = if of_a_container { &self.containers } else { &self.others };
        for part in divided(bytes, rand::random()) {
            if let Err(error) = raw.send_to(&part, to) {
                tracing::debug!(%to, %error, "cannot send a packet to a strict port again");
            }
        }
    }
}

impl Raw {
    fn open(mark: u32) -> io::Result<Self> {
        Ok(Self { v4: raw(AddressFamily::Inet, mark)?, v6: raw(AddressFamily::Inet6, mark).ok() })
    }

    fn send_to(&self, packet: &[u8], to: IpAddr) -> nix::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT;
        match (to, &self.v6) {
            (IpAddr::V4(to), _) => {
                sendto(self.v4.as_raw_fd(), packet, &SockaddrIn::from(SocketAddrV4::new(to, 0)), flags)
            }
            (IpAddr::V6(to), Some(v6)) => {
                sendto(v6.as_raw_fd(), packet, &SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0)), flags)
            }
            (IpAddr::V6(_), None) => Err(nix::Error::EAFNOSUPPORT),
        }
    }
}

/// The packet, if netd's own rule at the input hook has handed it over.
pub(super) fn packet(reply: &Reply) -> Option<Packet> {
    let is_packet = (reply.subsystem, reply.kind) == (ULOG, PACKET);
    // `struct nfulnl_msg_packet_hdr`: the protocol, then the hook.
    let is_at_input = || reply.attribute(PACKET_HEADER).and_then(|header| header.get(2)) == Some(&INPUT);
    if !is_packet || !is_at_input() {
        return None;
    }
    let of_a_container = match text(reply.attribute(LOG_PREFIX)?) {
        PREFIX => false,
        PREFIX_OF_CONTAINERS => true,
        _ => return None,
    };
    let mut bytes = reply.attribute(PAYLOAD)?.to_vec();
    let to = again(&mut bytes)?;
    Some(Packet { bytes, to, of_a_container })
}
