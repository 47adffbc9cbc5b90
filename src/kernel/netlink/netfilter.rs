//! A socket to the kernel's netfilter subsystems (linux/netfilter/nfnetlink.h): requests, dumps and batches.
//!
//! It belongs to the network namespace of the thread that opened it.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};
use netlink_packet_core::{NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// `NFNL_SUBSYS_NFTABLES`.
pub(in crate::kernel) const NFTABLES: u8 = 10;
/// Longest datagram the kernel builds for a dump (`netlink_dump`: 32 KiB), doubled.
const RECEIVE: usize = 64 * 1024;
/// How often a dump is restarted because the table changed while it was read.
const DUMP_TRIES: usize = 20;

/// A kernel that does not reply within this time will not: it must not stop its caller for ever.
const PATIENCE_SECONDS: i64 = 30;
/// Sequence numbers of requests begin here, those of a batch's messages at 1.
const FIRST: u32 = 1 << 31;

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
    pub(in crate::kernel) fn attribute(&self, kind: u16) -> Option<Vec<u8>> {
        attributes(&self.attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
    }
}

/// Attributes in order: the type without its flags, and the value. Stops at the first malformed one.
pub(in crate::kernel) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, Vec<u8>)> + '_ {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla| (nla.kind(), nla.value().to_vec()))
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
#[derive(Debug)]
pub(in crate::kernel) struct Netfilter {
    socket: Socket,
    port: u32,
    /// Of the last request: replies to an earlier one, which came too late, are dropped.
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netfilter {
    /// Opens a socket in the network namespace of the calling thread.
    pub(in crate::kernel) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        Ok(Self { socket, port, sequence: FIRST, buffer: vec![0; RECEIVE] })
    }

    /// The port id that identifies the socket in notifications.
    pub(in crate::kernel) fn port(&self) -> u32 {
        self.port
    }

    /// Requests one object, or all of them with [`NLM_F_DUMP`].
    pub(in crate::kernel) fn ask(&mut self, message: &NetfilterMessage, flags: u16) -> io::Result<Vec<Reply>> {
        let flags = NLM_F_REQUEST | if flags & NLM_F_DUMP == NLM_F_DUMP { flags } else { flags | NLM_F_ACK };
        for _ in 0..DUMP_TRIES {
            let mut request = Vec::new();
            self.sequence = self.sequence.checked_add(1).unwrap_or(FIRST);
            append(&mut request, message.clone(), flags, self.sequence);
            self.socket.send(&request, 0)?;
            if let Some(replies) = self.replies()? {
                return Ok(replies);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "it changes faster than it can be read"))
    }

    /// `None`: the kernel's state changed during the dump.
    fn replies(&mut self) -> io::Result<Option<Vec<Reply>>> {
        let mut dump = Dump::default();
        loop {
            let len = self.socket.recv(&mut self.buffer.as_mut_slice(), 0).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => {
                    let silent = format!("the kernel did not reply within {PATIENCE_SECONDS} s");
                    io::Error::new(io::ErrorKind::TimedOut, silent)
                }
                _ => error,
            })?;
            if dump.add(&self.buffer[..len], self.sequence)? {
                return Ok((!dump.torn).then_some(dump.replies));
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
        // The last message requests an acknowledgement; `nlmsg_flags` follows `nlmsg_len` and `nlmsg_type` (6 bytes).
        for (byte, flag) in bytes[last + 6..last + 8].iter_mut().zip(NLM_F_ACK.to_ne_bytes()) {
            *byte |= flag;
        }
        append(&mut bytes, control(ControlMessage::BatchEnd), NLM_F_REQUEST, batch.len + 1);
        // A batch is one datagram. Only a privileged process may exceed the usual buffer limit; if it cannot, the send
        // fails.
        let room = bytes.len().saturating_mul(2).max(RECEIVE);
        if setsockopt(&self.socket, sockopt::SndBufForce, &room).is_err() {
            setsockopt(&self.socket, sockopt::SndBuf, &room).map_err(|error| whole(error.into()))?;
        }
        self.socket.send(&bytes, 0).map_err(whole)?;
        self.verdict(batch.len)
    }

    /// The first refusal. The kernel processes a batch during the send, so all answers have arrived.
    fn verdict(&mut self, last: u32) -> Result<(), Refused> {
        let (mut refused, mut done) = (None, false);
        let silent = loop {
            let len = match self.socket.recv(&mut self.buffer.as_mut_slice(), libc::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(error) => break error,
            };
            for message in messages(&self.buffer[..len]) {
                if message.message_type() != NLMSG_ERROR {
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

/// The replies to one request, as far as they have come.
#[derive(Debug, Default)]
struct Dump {
    replies: Vec<Reply>,
    /// The kernel's state changed meanwhile: the replies do not fit together.
    torn: bool,
}

impl Dump {
    /// Adds the messages of a datagram that reply to the request of this sequence number. True at the end of the replies.
    /// Fails when the kernel refuses the request, or ends a dump because of an error.
    fn add(&mut self, datagram: &[u8], sequence: u32) -> io::Result<bool> {
        for message in messages(datagram).filter(|message| message.sequence_number() == sequence) {
            self.torn |= message.flags() & NLM_F_DUMP_INTR != 0;
            match (message.message_type(), code(&message)) {
                // A dump ends with its errno as well (netlink_dump_done in net/netlink/af_netlink.c).
                (NLMSG_DONE | NLMSG_ERROR, 0) => return Ok(true),
                (NLMSG_DONE, libc::EINTR) => {
                    self.torn = true;
                    return Ok(true);
                }
                (NLMSG_ERROR, libc::EINTR) => self.torn = true,
                (NLMSG_DONE | NLMSG_ERROR, code) => return Err(io::Error::from_raw_os_error(code)),
                _ => self.replies.extend(Reply::parse(&message)),
            }
        }
        Ok(false)
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

/// Iterates over the messages of a datagram.
pub(in crate::kernel) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let len = usize::try_from(message.length()).ok()?.next_multiple_of(4);
        bytes = bytes.get(len..).unwrap_or_default();
        Some(message)
    })
}

/// The errno of `NLMSG_ERROR` or `NLMSG_DONE`, positive; 0 is success.
fn code(message: &NetlinkBuffer<&[u8]>) -> i32 {
    let code = message.payload().first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    code.checked_neg().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of these parts, its payload one number.
    fn message(kind: u16, sequence: u32, code: i32) -> Vec<u8> {
        let header = [20u32.to_ne_bytes().to_vec(), kind.to_ne_bytes().to_vec(), 0u16.to_ne_bytes().to_vec()];
        [header.concat(), sequence.to_ne_bytes().to_vec(), 0u32.to_ne_bytes().to_vec(), code.to_ne_bytes().to_vec()]
            .concat()
    }

    /// A dump that the kernel gave up was taken for a whole one: what it lacked counted as missing.
    #[test]
    fn a_dump_that_ends_with_an_error_is_no_dump() {
        const ELEMENT: u16 = (NFTABLES as u16) << 8;
        let add = |parts: &[Vec<u8>]| {
            let mut dump = Dump::default();
            dump.add(&parts.concat(), 7).map(|end| (end, dump.replies.len(), dump.torn))
        };
        let element = message(ELEMENT, 7, 0);
        assert_eq!(add(&[element.clone(), message(NLMSG_DONE, 7, 0)]).unwrap(), (true, 1, false));
        let refused = add(&[element.clone(), message(NLMSG_DONE, 7, -libc::ENOMEM)]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(add(&[message(NLMSG_DONE, 7, -libc::EINTR)]).unwrap(), (true, 0, true));
        let late = [message(ELEMENT, 6, 0), message(NLMSG_ERROR, 6, -libc::ENOENT), element];
        assert_eq!(add(&late).unwrap(), (false, 1, false), "replies to an earlier request");
    }
}
