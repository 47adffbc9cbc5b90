//! Blocking rtnetlink: one socket, several requests in one send, all their acknowledgements awaited together, dumps.
//!
//! The kernel processes a request inside `send` (linux/net/netlink/af_netlink.c, `netlink_unicast_kernel`), so the
//! answers are available when it returns; a receive waits only for the next part of a dump.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_EXCL,
    NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::kernel::KernelError;

/// Requests per send: their answers must fit into the receive buffer, or the kernel drops them. A link takes some 5
/// KiB, and the buffer has 208 KiB (`net.core.rmem_default`) if [`RECEIVE_BUFFER`] is not granted.
const BATCH: usize = 32;
/// Bytes.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Bytes; the kernel fills at most 32 KiB per datagram of a dump.
const DATAGRAM: usize = 64 << 10;
/// If the kernel does not answer for this long, an error is reported.
const PATIENCE_SECONDS: i64 = 30;
/// How often a dump that the kernel marks as inconsistent is repeated.
const DUMP_ATTEMPTS: usize = 16;
/// `NLMSG_ERROR` and `NLMSG_DONE` (linux/netlink.h).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
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

/// Turns the kernel's error into a [`KernelError::Io`]: `.map_err(failed("create bridge", name, "see `dmesg`"))`.
pub fn failed<E: Into<io::Error>>(
    attempted: &'static str,
    on: impl fmt::Display,
    look: &'static str,
) -> impl FnOnce(E) -> KernelError {
    move |error| KernelError::Io { attempted, on: on.to_string(), source: error.into(), look }
}

/// One request and its flags besides `NLM_F_REQUEST | NLM_F_ACK`.
#[derive(Debug, Clone)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
}

impl Request {
    /// Create; refused with `EEXIST` if the object exists.
    pub fn create(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: NLM_F_CREATE | NLM_F_EXCL }
    }

    /// Create, or replace the existing object.
    pub fn replace(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: NLM_F_CREATE | NLM_F_REPLACE }
    }

    /// Change, delete or get an existing object.
    pub fn plain(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: 0 }
    }

    /// Get an object that the kernel otherwise sends to listeners only (`qdisc_notify`, net/sched/sch_api.c, before
    /// Linux 6.13).
    pub fn echoed(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: NLM_F_ECHO }
    }
}

/// The outcome of one request: the reply messages, or the refusal.
pub type Outcome = Result<Vec<RouteNetlinkMessage>, NetlinkError>;

/// An rtnetlink socket. It works in the network namespace in which it was opened, wherever it is used.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").field("fd", &self.socket.as_raw_fd()).finish_non_exhaustive()
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// Opens a socket (close-on-exec) in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        ask_for_buffer(&socket, RECEIVE_BUFFER);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Sends the requests in order and returns the outcome of each; a refused one does not stop the others.
    pub fn send(&mut self, requests: &[Request]) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            for request in batch {
                self.append(&mut bytes, request.message.clone(), request.flags | NLM_F_ACK);
            }
            self.socket.send(&bytes, 0)?;
            outcomes.extend(self.collect(first, batch.len())?);
        }
        Ok(outcomes)
    }

    /// Sends the requests in order; the first refusal is the error.
    pub fn all(&mut self, requests: &[Request]) -> Result<(), NetlinkError> {
        self.send(requests)?.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    /// Sends one request.
    pub fn one(&mut self, request: Request) -> Outcome {
        self.send(&[request])?.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Returns all objects of the message's kind. Repeated while the kernel reports that they changed meanwhile.
    pub fn dump(&mut self, message: &RouteNetlinkMessage) -> Outcome {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(messages) = self.dump_once(message.clone())? {
                return Ok(messages);
            }
        }
        Err(NetlinkError { errno: libc::EAGAIN, text: Some("it changed while it was read, again and again".into()) })
    }

    fn dump_once(&mut self, message: RouteNetlinkMessage) -> Result<Option<Vec<RouteNetlinkMessage>>, NetlinkError> {
        let mut bytes = Vec::new();
        self.append(&mut bytes, message, NLM_F_DUMP);
        self.socket.send(&bytes, 0)?;
        let sequence = self.sequence;
        let (mut messages, mut consistent) = (Vec::new(), true);
        loop {
            self.receive()?;
            for part in Parts(&self.buffer) {
                let part = part?;
                if part.sequence_number() != sequence {
                    continue;
                }
                consistent &= part.flags() & NLM_F_DUMP_INTR == 0;
                match part.message_type() {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return refusal(&part).map_or(Ok(consistent.then_some(messages)), Err);
                    }
                    kind => messages.extend(parsed(kind, part.payload())),
                }
            }
        }
    }

    fn append(&mut self, bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = bytes.len();
        let length = message.buffer_len();
        // NLMSG_ALIGN: messages begin at a multiple of 4.
        bytes.resize(start + length.next_multiple_of(4), 0);
        if let Some(place) = bytes.get_mut(start..start + length) {
            message.serialize(place);
        }
    }

    /// Receives until each of the `count` requests from sequence number `first` on is acknowledged or refused.
    fn collect(&mut self, first: u32, count: usize) -> io::Result<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = (0..count).map(|_| Ok(Vec::new())).collect();
        let mut open = count;
        while open > 0 {
            self.receive()?;
            for part in Parts(&self.buffer) {
                let part = part?;
                let place = part.sequence_number().wrapping_sub(first) as usize;
                // Answers to a request whose caller gave up have another number.
                let Some(outcome) = outcomes.get_mut(place) else { continue };
                if part.message_type() == NLMSG_ERROR {
                    open = open.saturating_sub(1);
                    if let Some(error) = refusal(&part) {
                        *outcome = Err(error);
                    }
                } else if let Ok(messages) = outcome {
                    messages.extend(parsed(part.message_type(), part.payload()));
                }
            }
        }
        Ok(outcomes)
    }

    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer"));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Enlarges the receive buffer; without the capability in the initial user namespace it keeps its size.
pub(in crate::kernel) fn ask_for_buffer(socket: &Socket, bytes: usize) {
    if let Err(error) = setsockopt(socket, sockopt::RcvBufForce, &bytes) {
        tracing::debug!(%error, bytes, "the receive buffer keeps its size");
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

/// A message that this build cannot parse (a newer kernel's) is skipped and logged once per message.
pub(in crate::kernel) fn parsed(kind: u16, payload: &[u8]) -> Option<RouteNetlinkMessage> {
    match RouteNetlinkMessage::parse_with_param(payload, kind) {
        Ok(message) => Some(message),
        Err(error) => {
            tracing::warn!(kind, %error, "cannot read an rtnetlink message");
            None
        }
    }
}

/// The refusal in an `NLMSG_ERROR` or `NLMSG_DONE`; `None` for an acknowledgement.
fn refusal(part: &NetlinkBuffer<&[u8]>) -> Option<NetlinkError> {
    let payload = part.payload();
    let code = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code == 0 {
        return None;
    }
    let text = (part.flags() & NLM_F_ACK_TLVS != 0).then(|| said(part.message_type(), part.flags(), payload)).flatten();
    Some(NetlinkError { errno: -code, text })
}

/// The text attribute. In `NLMSG_ERROR` it follows the code and the header of the request, or the whole request if it
/// is not capped; in `NLMSG_DONE` it follows the code.
fn said(kind: u16, flags: u16, payload: &[u8]) -> Option<String> {
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
    use super::*;
    use rtnetlink::LinkUnspec;

    #[test]
    fn each_request_of_a_batch_gets_its_own_answer() {
        let mut netlink = Netlink::open().unwrap();
        let get = |name: &str| Request::plain(RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(name).build()));
        let outcomes = netlink.send(&[get("lo"), get("no-such-link"), get("lo")]).unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap().len(), 1);
        assert_eq!(outcomes[1].as_ref().unwrap_err().errno, libc::ENODEV);
        assert_eq!(outcomes[2].as_ref().unwrap().len(), 1);
    }

    #[test]
    fn the_kernels_own_words_are_in_the_error() {
        crate::kernel::testing::lab::in_own_netns(|| {
            let mut netlink = Netlink::open().unwrap();
            let route = crate::kernel::link::route::add_default(1, "192.0.2.1".parse().unwrap(), None);
            let error = netlink.one(route).unwrap_err();
            assert_eq!(error.errno, libc::ENETUNREACH);
            let text = io::Error::from(error.clone()).to_string();
            assert!(error.text.as_deref().is_some_and(|words| text.contains(words)), "{text}");
        });
    }
}
