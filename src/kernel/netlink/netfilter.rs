//! A socket to the kernel's netfilter subsystems (linux/netfilter/nfnetlink.h): requests, dumps and batches.
//!
//! It belongs to the network namespace of the thread that opened it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlasIterator};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sys::socket::{setsockopt, sockopt};

use super::client::{Client, DATAGRAM, append, refusal};
use super::socket::ask_for_buffer;

/// `NFNL_SUBSYS_NFTABLES`.
pub(in crate::kernel) const NFTABLES: u8 = 10;

/// A message as it came: the low byte of its type, and what follows `struct nfgenmsg`.
#[derive(Debug)]
pub(in crate::kernel) struct Reply {
    /// `NFT_MSG_*` or `IPCTNL_MSG_CT_*`.
    pub(in crate::kernel) kind: u8,
    /// `NFNL_SUBSYS_*`.
    pub(in crate::kernel) subsystem: u8,
    /// Address family of `struct nfgenmsg`.
    pub(in crate::kernel) family: u8,
    /// Port id of the socket that caused a notification.
    pub(in crate::kernel) port: u32,
    /// Attributes.
    pub(in crate::kernel) attributes: Vec<u8>,
}

impl Reply {
    /// Parses one netlink message; `None` if it is too short for `struct nfgenmsg` (4 bytes).
    pub(in crate::kernel) fn parse(message: &NetlinkBuffer<&[u8]>) -> Option<Self> {
        let (header, attributes) = message.payload().split_at_checked(4)?;
        let [kind, subsystem] = message.message_type().to_le_bytes();
        let (family, port) = (*header.first()?, message.port_number());
        Some(Self { kind, subsystem, family, port, attributes: attributes.to_vec() })
    }

    /// The value of an attribute.
    pub(in crate::kernel) fn attribute(&self, kind: u16) -> Option<&[u8]> {
        attributes(&self.attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
    }
}

/// Attributes in order: the type without its flags, and the value. Stops at the first malformed one.
pub(in crate::kernel) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|nla| {
        let nla = nla.ok()?;
        let (kind, length) = (nla.kind(), nla.value_length());
        Some((kind, nla.into_inner().get(NLA_HEADER_SIZE..)?.get(..length)?))
    })
}

/// The value of a text attribute, without the final NUL.
pub(in crate::kernel) fn text(value: &[u8]) -> &str {
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(value).unwrap_or_default()
}

/// Messages that take effect together.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Batch {
    bytes: Vec<u8>,
    /// Offset of the last message.
    last: usize,
    /// Number of messages.
    pub(in crate::kernel) len: u32,
}

impl Batch {
    /// The messages, one after another.
    #[cfg(any(test, fuzzing))]
    pub(in crate::kernel) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a message. `kind` replaces the low byte of its type, for messages that the crate does not know.
    pub(in crate::kernel) fn push(&mut self, message: NetfilterMessage, flags: u16, kind: Option<u8>) {
        let start = self.bytes.len();
        (self.last, self.len) = (start, self.len + 1);
        append(&mut self.bytes, message, flags, self.len);
        if let Some(kind) = kind {
            // `nlmsg_type` follows `nlmsg_len` (4 bytes).
            let (at, typed) = (start + 4, (u16::from(NFTABLES) << 8) | u16::from(kind));
            self.bytes[at..at + 2].copy_from_slice(&typed.to_ne_bytes());
        }
    }
}

/// The kernel's refusal of one message of a batch.
#[derive(Debug)]
pub(in crate::kernel) struct Refused {
    /// The number of the message in the batch, from 1; 0 if the batch as a whole was refused.
    pub(in crate::kernel) message: u32,
    /// The reason.
    pub(in crate::kernel) error: io::Error,
}

/// A netfilter netlink socket.
pub(in crate::kernel) struct Netfilter(Client);

impl std::fmt::Debug for Netfilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netfilter").field("port", &self.0.port).finish_non_exhaustive()
    }
}

impl Netfilter {
    /// Opens a socket in the network namespace of the calling thread.
    pub(in crate::kernel) fn open() -> io::Result<Self> {
        Client::open(NETLINK_NETFILTER).map(Self)
    }

    /// The port id that identifies the socket in notifications.
    pub(in crate::kernel) fn port(&self) -> u32 {
        self.0.port
    }

    /// Requests one object, or all of them with `NLM_F_DUMP`.
    pub(in crate::kernel) fn ask(&mut self, message: &NetfilterMessage, flags: u16) -> io::Result<Vec<Reply>> {
        Ok(self.0.ask(message, flags, Reply::parse)?)
    }

    /// Prepares for messages that come without a request: the bytes of the longest one, and of all that wait.
    pub(in crate::kernel) fn make_room(&mut self, longest: usize, waiting: usize) {
        self.0.make_room(longest);
        ask_for_buffer(&self.0.socket, waiting);
    }

    /// The messages of the next datagram, if one has arrived; else an error.
    pub(in crate::kernel) fn heard(&mut self) -> io::Result<Vec<Reply>> {
        Ok(self.0.receive_now()?.flatten().filter_map(|message| Reply::parse(&message)).collect())
    }

    /// Sends messages that take effect together or not at all.
    pub(in crate::kernel) fn commit(&mut self, batch: &Batch) -> Result<(), Refused> {
        if batch.len == 0 {
            return Ok(());
        }
        let whole = |error| Refused { message: 0, error };
        let mut bytes = Vec::with_capacity(batch.bytes.len() + 64);
        append(&mut bytes, control(ControlMessage::BatchBegin), NLM_F_REQUEST, 0);
        let last = bytes.len() + batch.last;
        bytes.extend_from_slice(&batch.bytes);
        // The last message requests an acknowledgement; `nlmsg_flags` follows `nlmsg_len` and `nlmsg_type` (6 bytes).
        for (byte, flag) in bytes[last + 6..last + 8].iter_mut().zip(NLM_F_ACK.to_ne_bytes()) {
            *byte |= flag;
        }
        append(&mut bytes, control(ControlMessage::BatchEnd), NLM_F_REQUEST, batch.len + 1);
        // A batch is one datagram. Only a privileged process may exceed the usual buffer limit; if it cannot, the send
        // fails.
        let room = bytes.len().saturating_mul(2).max(DATAGRAM);
        if setsockopt(&self.0.socket, sockopt::SndBufForce, &room).is_err() {
            setsockopt(&self.0.socket, sockopt::SndBuf, &room).map_err(|error| whole(error.into()))?;
        }
        self.0.socket.send(&bytes, 0).map_err(whole)?;
        self.verdict(batch.len)
    }

    /// The first refusal. The kernel processes a batch during the send, so all answers have arrived.
    fn verdict(&mut self, last: u32) -> Result<(), Refused> {
        let (mut refused, mut done, mut overrun) = (None, false, None);
        let silent = loop {
            let parts = match self.0.receive_now() {
                Ok(parts) => parts,
                // The answers that fitted into the buffer are still to be read: the next batch has the same numbers.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    overrun = Some(error);
                    continue;
                }
                Err(error) => break overrun.unwrap_or(error),
            };
            for part in parts.flatten().filter(|part| part.message_type() == NLMSG_ERROR) {
                let message = part.sequence_number();
                match refusal(&part) {
                    Some(error) if refused.is_none() => refused = Some(Refused { message, error: error.into() }),
                    Some(_) => {}
                    None => done |= message == last,
                }
            }
        };
        match refused {
            Some(refused) => Err(refused),
            None if done => Ok(()),
            None => Err(Refused { message: 0, error: silent }),
        }
    }
}

impl AsFd for Netfilter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

fn control(message: ControlMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, u16::from(NFTABLES)), message)
}
