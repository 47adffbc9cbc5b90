//! Blocking rtnetlink: one socket, several requests in one send, all their acknowledgements awaited together, dumps.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE, NLMSG_ERROR, ParseableParametrized,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

pub use super::client::NetlinkError;
pub(in crate::kernel) use super::client::Parts;

use super::client::{Client, refusal};
use crate::kernel::KernelError;

/// Requests per send: their answers must fit into the receive buffer, or the kernel drops them. A link takes some 5
/// KiB, and the buffer has 208 KiB (`net.core.rmem_default`) if [`RECEIVE_BUFFER`] is not granted.
const BATCH: usize = 32;
/// Bytes.
const RECEIVE_BUFFER: usize = 1 << 20;

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
pub struct Netlink(Client);

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").field("fd", &self.as_raw_fd()).finish_non_exhaustive()
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.0.socket.as_raw_fd()
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

impl Netlink {
    /// Opens a socket (close-on-exec) in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let client = Client::open(NETLINK_ROUTE)?;
        client.socket.set_ext_ack(true)?;
        client.socket.set_netlink_get_strict_chk(true)?;
        ask_for_buffer(&client.socket, RECEIVE_BUFFER);
        Ok(Self(client))
    }

    /// The port id that identifies the socket in notifications.
    pub fn port(&self) -> u32 {
        self.0.port
    }

    /// Sends the requests in order and returns the outcome of each; a refused one does not stop the others.
    pub fn send(&mut self, requests: &[Request]) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            let requests = batch.iter().map(|request| (request.message.clone(), request.flags | NLM_F_ACK));
            let first = self.0.send(requests)?;
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

    /// All objects of the message's kind that `read` takes. Repeated while the kernel reports that they changed meanwhile.
    /// `read` gets one message at a time: that of a link takes 5 KiB here, and a host may have thousands.
    pub fn dump<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        self.0.ask(message, NLM_F_DUMP, |part| read(parsed(part.message_type(), part.payload())?))
    }

    /// Receives until each of the `count` requests from sequence number `first` on is acknowledged or refused.
    fn collect(&mut self, first: u32, count: usize) -> io::Result<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = (0..count).map(|_| Ok(Vec::new())).collect();
        let mut open = count;
        while open > 0 {
            for part in self.0.receive()? {
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
}

/// Enlarges the receive buffer; without the capability in the initial user namespace it keeps its size.
pub(in crate::kernel) fn ask_for_buffer(socket: &Socket, bytes: usize) {
    if let Err(error) = setsockopt(socket, sockopt::RcvBufForce, &bytes) {
        tracing::debug!(%error, bytes, "cannot enlarge the receive buffer");
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
