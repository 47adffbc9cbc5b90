//! A socket to the kernel's netfilter subsystems (linux/netfilter/nfnetlink.h): requests, dumps and batches.
//!
//! It belongs to the network namespace of the thread that opened it.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

/// `NFNL_SUBSYS_NFTABLES`.
pub(in crate::kernel) const NFTABLES: u8 = 10;
/// Longest datagram the kernel builds for a dump (`netlink_dump`: 32 KiB), doubled.
const RECEIVE: usize = 64 * 1024;
/// How often a dump is begun anew when the table changed under it.
const DUMP_TRIES: usize = 20;

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
    /// From one netlink message; `None` when it is too short for `struct nfgenmsg` (4 bytes).
    pub(in crate::kernel) fn parse(message: &NetlinkBuffer<&[u8]>) -> Option<Self> {
        let (header, attributes) = message.payload().split_at_checked(4)?;
        let [kind, subsystem] = message.message_type().to_le_bytes();
        let (family, port) = (*header.first()?, message.port_number());
        Some(Self { kind, subsystem, family, port, attributes: attributes.to_vec() })
    }

    /// The value of an attribute.
    pub(in crate::kernel) fn attribute(&self, kind: u16) -> Option<Vec<u8>> {
        attributes(&self.attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
    }
}

/// Attributes in their order: type without its flags, and value. Stops at the first malformed one.
pub(in crate::kernel) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, Vec<u8>)> + '_ {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla| (nla.kind(), nla.value().to_vec()))
}

/// A text attribute, without its final zero.
pub(in crate::kernel) fn text(value: &[u8]) -> &str {
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(value).unwrap_or_default()
}

/// Messages that take effect together.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Batch {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
    /// How many messages.
    pub(in crate::kernel) len: u32,
}

impl Batch {
    /// Appends a message. `kind` replaces the low byte of its type, for messages that the crate does not know.
    pub(in crate::kernel) fn push(&mut self, message: NetfilterMessage, flags: u16, kind: Option<u8>) {
        let start = self.bytes.len();
        (self.last, self.len) = (start, self.len + 1);
        append(&mut self.bytes, message, flags, self.len);
        if let Some(kind) = kind {
            // `nlmsg_type` stands after `nlmsg_len` (4 bytes).
            let (at, typed) = (start + 4, (u16::from(NFTABLES) << 8) | u16::from(kind));
            self.bytes[at..at + 2].copy_from_slice(&typed.to_ne_bytes());
        }
    }
}

/// What the kernel said about one message of a batch.
#[derive(Debug)]
pub(in crate::kernel) struct Refused {
    /// Which message of the batch, from 1; 0 when the batch as a whole was refused.
    pub(in crate::kernel) message: u32,
    /// Why.
    pub(in crate::kernel) error: io::Error,
}

/// The socket.
#[derive(Debug)]
pub(in crate::kernel) struct Netfilter {
    socket: Socket,
    port: u32,
    buffer: Vec<u8>,
}

impl Netfilter {
    /// Opens it in the network namespace of the calling thread.
    pub(in crate::kernel) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        Ok(Self { socket, port, buffer: vec![0; RECEIVE] })
    }

    /// The port id by which notifications name it.
    pub(in crate::kernel) fn port(&self) -> u32 {
        self.port
    }

    /// Asks for one thing, or for everything with [`NLM_F_DUMP`].
    pub(in crate::kernel) fn ask(&mut self, message: &NetfilterMessage, flags: u16) -> io::Result<Vec<Reply>> {
        let flags = NLM_F_REQUEST | if flags & NLM_F_DUMP == NLM_F_DUMP { flags } else { flags | NLM_F_ACK };
        for _ in 0..DUMP_TRIES {
            let mut request = Vec::new();
            append(&mut request, message.clone(), flags, 1);
            self.socket.send(&request, 0)?;
            if let Some(replies) = self.replies()? {
                return Ok(replies);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "it changes faster than it can be read"))
    }

    /// `None`: it changed while it was read.
    fn replies(&mut self) -> io::Result<Option<Vec<Reply>>> {
        let (mut replies, mut torn) = (Vec::new(), false);
        loop {
            let len = self.socket.recv(&mut self.buffer.as_mut_slice(), 0)?;
            for message in messages(&self.buffer[..len]) {
                torn |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    netlink_packet_core::NLMSG_DONE => return Ok((!torn).then_some(replies)),
                    netlink_packet_core::NLMSG_ERROR => match code(&message) {
                        0 => return Ok(Some(replies)),
                        libc::EINTR => torn = true,
                        code => return Err(io::Error::from_raw_os_error(code)),
                    },
                    _ => replies.extend(Reply::parse(&message)),
                }
            }
        }
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
        // The last message asks for an answer; `nlmsg_flags` stands after `nlmsg_len` and `nlmsg_type` (6 bytes).
        for (byte, flag) in bytes[last + 6..last + 8].iter_mut().zip(NLM_F_ACK.to_ne_bytes()) {
            *byte |= flag;
        }
        append(&mut bytes, control(ControlMessage::BatchEnd), NLM_F_REQUEST, batch.len + 1);
        // A batch is one datagram. Beyond the usual limit only for the privileged; the send says so if it did not work.
        let room = bytes.len().saturating_mul(2).max(RECEIVE);
        if setsockopt(&self.socket, sockopt::SndBufForce, &room).is_err() {
            setsockopt(&self.socket, sockopt::SndBuf, &room).map_err(|error| whole(error.into()))?;
        }
        self.socket.send(&bytes, 0).map_err(whole)?;
        self.verdict(batch.len)
    }

    /// The first refusal. The kernel works a batch off while it is sent, so every answer is there by now.
    fn verdict(&mut self, last: u32) -> Result<(), Refused> {
        let (mut refused, mut done) = (None, false);
        let silent = loop {
            let len = match self.socket.recv(&mut self.buffer.as_mut_slice(), libc::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(error) => break error,
            };
            for message in messages(&self.buffer[..len]) {
                if message.message_type() != netlink_packet_core::NLMSG_ERROR {
                    continue;
                }
                let (code, message) = (code(&message), message.sequence_number());
                done |= code == 0 && message == last;
                if code != 0 && refused.is_none() {
                    refused = Some(Refused { message, error: io::Error::from_raw_os_error(code) });
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

fn control(message: ControlMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, u16::from(NFTABLES)), message)
}

fn append(bytes: &mut Vec<u8>, message: NetfilterMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (flags, sequence);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    // Every attribute is padded to 4 bytes (NLA_ALIGNTO), so the next message is aligned.
    bytes.resize(start + message.buffer_len(), 0);
    message.serialize(&mut bytes[start..]);
}

/// The messages of a datagram.
pub(in crate::kernel) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let len = usize::try_from(message.length()).ok()?.next_multiple_of(4);
        bytes = bytes.get(len..).unwrap_or_default();
        Some(message)
    })
}

/// The errno of `NLMSG_ERROR`, positive; 0 acknowledges.
fn code(message: &NetlinkBuffer<&[u8]>) -> i32 {
    let code = message.payload().first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    code.checked_neg().unwrap_or(libc::EIO)
}
