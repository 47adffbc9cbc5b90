//! The netlink client of every family: sequence numbers, sends, receives with a timeout, refusals, dumps and their
//! repetition.
//!
//! The kernel processes a request inside `send` (linux/net/netlink/af_netlink.c, `netlink_unicast_kernel`), so the
//! answers are available when it returns; a receive waits only for the next part of a dump.
//!
//! A client belongs to the network namespace of the thread that opened it. An overrun of the receive buffer is an error
//! of the request; what is left of its answers is dropped, because they have an earlier sequence number. The messages of
//! a batch are numbered from 1: its answers are read to the end, also after an overrun.

use std::fmt;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Bytes; the kernel fills at most 32 KiB per datagram of a dump (`netlink_dump`).
pub(super) const DATAGRAM: usize = 64 << 10;
/// If the kernel does not answer for this long, an error is reported: it must not stop its caller for ever.
const PATIENCE_SECONDS: i64 = 30;
/// How often a dump is repeated because its objects changed while it was read.
const DUMP_ATTEMPTS: usize = 20;
/// Sequence numbers of requests begin here, those of a batch's messages at 1.
const FIRST: u32 = 1 << 31;
/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG`: the kernel's error message, NUL-terminated.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel's refusal of a request, with the kernel's error message if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetlinkError {
    /// The error number (`EEXIST`, …).
    pub errno: i32,
    /// The message of the extended acknowledgement.
    pub text: Option<String>,
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno).fmt(f)?;
        self.text.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

impl std::error::Error for NetlinkError {}

impl From<io::Error> for NetlinkError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self { errno, text: None },
            None if error.kind() == io::ErrorKind::TimedOut => {
                Self { errno: libc::ETIMEDOUT, text: Some(error.to_string()) }
            }
            None => Self { errno: libc::EIO, text: Some(error.to_string()) },
        }
    }
}

impl From<NetlinkError> for io::Error {
    fn from(error: NetlinkError) -> Self {
        let plain = io::Error::from_raw_os_error(error.errno);
        if error.text.is_none() { plain } else { io::Error::new(plain.kind(), error) }
    }
}

/// A connection to one netlink family of the kernel.
pub(super) struct Client {
    pub(super) socket: Socket,
    /// The port id, which identifies the socket in notifications.
    pub(super) port: u32,
    /// The next sequence number.
    next: u32,
    buffer: Vec<u8>,
}

impl Client {
    /// Opens a socket (close-on-exec) in the calling thread's network namespace.
    pub(super) fn open(family: isize) -> io::Result<Self> {
        let mut socket = Socket::new(family)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        Ok(Self { socket, port, next: FIRST, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Prepares for datagrams of this many bytes.
    pub(super) fn make_room(&mut self, bytes: usize) {
        self.buffer.clear();
        self.buffer.reserve(bytes);
    }

    /// Sends the requests, each with flags besides `NLM_F_REQUEST`, as one datagram. Returns the sequence number of the
    /// first; each of the others has the one after it.
    pub(super) fn send<M: NetlinkSerializable>(
        &mut self,
        requests: impl ExactSizeIterator<Item = (M, u16)>,
    ) -> io::Result<u32> {
        let first = self.numbers(requests.len() as u32);
        let mut bytes = Vec::new();
        for ((message, flags), sequence) in requests.zip(first..) {
            append(&mut bytes, message, NLM_F_REQUEST | flags, sequence);
        }
        self.socket.send(&bytes, 0)?;
        Ok(first)
    }

    /// The first of that many consecutive sequence numbers that no earlier request has.
    fn numbers(&mut self, count: u32) -> u32 {
        let first = if self.next.checked_add(count).is_some() { self.next } else { FIRST };
        self.next = first + count;
        first
    }

    /// Waits for the next datagram and returns its messages.
    pub(super) fn receive(&mut self) -> io::Result<Parts<'_>> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(Parts(&self.buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let silent = format!("the kernel did not answer within {PATIENCE_SECONDS} s");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, silent));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The messages of the next datagram if one has arrived; else an error.
    pub(super) fn receive_now(&mut self) -> io::Result<Parts<'_>> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT)?;
        Ok(Parts(&self.buffer))
    }

    /// Requests one object, or all of them with [`NLM_F_DUMP`]; `read` reads a reply, or skips it. A dump is repeated
    /// while the kernel reports that the objects changed meanwhile.
    pub(super) fn ask<M: NetlinkSerializable + Clone, T>(
        &mut self,
        message: &M,
        flags: u16,
        read: impl Fn(&NetlinkBuffer<&[u8]>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let flags = if flags & NLM_F_DUMP == NLM_F_DUMP { flags } else { flags | NLM_F_ACK };
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.send([(message.clone(), flags)].into_iter())?;
            let mut replies = Replies::default();
            while !replies.add(self.receive()?, sequence, &read)? {}
            if !replies.torn {
                return Ok(replies.list);
            }
        }
        Err(NetlinkError {
            errno: libc::EBUSY,
            text: Some(format!("the dump was still inconsistent after {DUMP_ATTEMPTS} attempts")),
        })
    }
}

/// The replies to one request, as far as they have come.
#[derive(Debug)]
pub(in crate::kernel) struct Replies<T> {
    pub(in crate::kernel) list: Vec<T>,
    /// The objects changed meanwhile: the replies do not fit together.
    torn: bool,
}

impl<T> Default for Replies<T> {
    fn default() -> Self {
        Self { list: Vec::new(), torn: false }
    }
}

impl<T> Replies<T> {
    /// Adds the messages of a datagram that reply to the request of this sequence number. True at the end of the replies.
    /// Fails when the kernel refuses the request, or ends a dump because of an error.
    pub(in crate::kernel) fn add(
        &mut self,
        parts: Parts<'_>,
        sequence: u32,
        read: impl Fn(&NetlinkBuffer<&[u8]>) -> Option<T>,
    ) -> Result<bool, NetlinkError> {
        for part in parts {
            let part = part?;
            if part.sequence_number() != sequence {
                continue;
            }
            self.torn |= part.flags() & NLM_F_DUMP_INTR != 0;
            if !matches!(part.message_type(), NLMSG_DONE | NLMSG_ERROR) {
                self.list.extend(read(&part));
                continue;
            }
            // A dump ends with its errno as well (netlink_dump_done in net/netlink/af_netlink.c).
            match refusal(&part) {
                Some(NetlinkError { errno: libc::EINTR, .. }) => self.torn = true,
                Some(refusal) => return Err(refusal),
                None => {}
            }
            return Ok(true);
        }
        Ok(false)
    }
}

/// Appends a message to a datagram.
pub(super) fn append<M: NetlinkSerializable>(bytes: &mut Vec<u8>, message: M, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (flags, sequence);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let start = bytes.len();
    let length = message.buffer_len();
    // NLMSG_ALIGN: messages begin at a multiple of 4.
    bytes.resize(start + length.next_multiple_of(4), 0);
    if let Some(place) = bytes.get_mut(start..start + length) {
        message.serialize(place);
    }
}

/// The messages of one datagram.
pub(in crate::kernel) struct Parts<'a>(pub(in crate::kernel) &'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = io::Result<NetlinkBuffer<&'a [u8]>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.len() < HEADER {
            return None;
        }
        let rest = self.0;
        match NetlinkBuffer::new_checked(rest) {
            Ok(whole) => {
                let length = whole.length() as usize;
                self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                Some(Ok(NetlinkBuffer::new(rest.get(..length).unwrap_or(rest))))
            }
            Err(error) => {
                self.0 = &[];
                Some(Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())))
            }
        }
    }
}

/// The refusal in an `NLMSG_ERROR` or `NLMSG_DONE`; `None` for an acknowledgement.
pub(super) fn refusal(part: &NetlinkBuffer<&[u8]>) -> Option<NetlinkError> {
    let payload = part.payload();
    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return None;
    }
    let text = (part.flags() & NLM_F_ACK_TLVS != 0)
        .then(|| extended_message(part.message_type(), part.flags(), payload))
        .flatten();
    Some(NetlinkError { errno: code.checked_neg().unwrap_or(libc::EIO), text })
}

/// The text attribute. In `NLMSG_ERROR` it follows the code and the header of the request, or the whole request if it
/// is not capped; in `NLMSG_DONE` it follows the code.
fn extended_message(kind: u16, flags: u16, payload: &[u8]) -> Option<String> {
    let start = match kind {
        NLMSG_DONE => 4,
        _ if flags & NLM_F_CAPPED != 0 => 4 + HEADER,
        _ => 4 + NetlinkBuffer::new_checked(payload.get(4..)?).ok()?.length().next_multiple_of(4) as usize,
    };
    let attributes = NlasIterator::new(payload.get(start..)?);
    let text = attributes.flatten().find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)?;
    Some(String::from_utf8_lossy(text.value()).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_ROUTE;

    use super::*;

    /// `RTM_NEWLINK`; any type of a reply will do.
    const OBJECT: u16 = 16;

    /// A message of these parts, its payload one number.
    fn message(kind: u16, flags: u16, sequence: u32, code: i32) -> Vec<u8> {
        let header = [20u32.to_ne_bytes().to_vec(), kind.to_ne_bytes().to_vec(), flags.to_ne_bytes().to_vec()];
        [header.concat(), sequence.to_ne_bytes().to_vec(), 0u32.to_ne_bytes().to_vec(), code.to_ne_bytes().to_vec()]
            .concat()
    }

    /// A dump that the kernel gave up was taken for a whole one: what it lacked counted as missing.
    #[test]
    fn a_dump_that_ends_with_an_error_is_no_dump() {
        let add = |parts: &[Vec<u8>]| {
            let mut replies = Replies::default();
            replies.add(Parts(&parts.concat()), 7, |_| Some(())).map(|end| (end, replies.list.len(), replies.torn))
        };
        let object = message(OBJECT, 0, 7, 0);
        assert_eq!(add(&[object.clone(), message(NLMSG_DONE, 0, 7, 0)]).unwrap(), (true, 1, false));
        let refused = add(&[object.clone(), message(NLMSG_DONE, 0, 7, -libc::ENOMEM)]).unwrap_err();
        assert_eq!(refused.errno, libc::ENOMEM);
        for torn in [message(NLMSG_DONE, 0, 7, -libc::EINTR), message(NLMSG_DONE, NLM_F_DUMP_INTR, 7, 0)] {
            assert_eq!(add(&[object.clone(), torn]).unwrap(), (true, 1, true));
        }
        let late = [message(OBJECT, 0, 6, 0), message(NLMSG_ERROR, 0, 6, -libc::ENOENT), object];
        assert_eq!(add(&late).unwrap(), (false, 1, false), "replies to an earlier request");
    }

    #[test]
    fn sequence_numbers_of_requests_are_consecutive_and_never_those_of_a_batch() {
        let mut client = Client::open(NETLINK_ROUTE).unwrap();
        assert_eq!((client.numbers(1), client.numbers(3), client.numbers(1)), (FIRST, FIRST + 1, FIRST + 4));
        client.next = u32::MAX - 2;
        assert_eq!((client.numbers(3), client.numbers(1)), (FIRST, FIRST + 3));
    }
}
