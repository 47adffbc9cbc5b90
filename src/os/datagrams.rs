//! Datagrams in batches: one system call receives many from a socket (`recvmmsg(2)`), and another sends their answers
//! (`sendmmsg(2)`), each to the source of its question.
#![allow(unsafe_code, reason = "message headers are pointers; nix's wrapper cannot pair an answer with its question")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;

/// How many questions are received at once. With as many as a busy client has in flight (50), the client would wait
/// until all of them are answered, and then the server for the client: with 64, its rate was a sixth lower.
pub const BATCH: usize = 16;
/// Maximum bytes of a question. Longer ones are dropped; no valid question to the name service is as long.
pub const QUESTION_MAX: usize = 4096;
/// Maximum bytes of an answer.
pub const ANSWER_MAX: usize = 1232;
/// The distance between buffers: an odd number of cache lines, so that the buffers do not all map to the same few cache
/// sets.
const QUESTION_STRIDE: usize = QUESTION_MAX + 64;
const ANSWER_STRIDE: usize = 1344;

/// Buffers for one batch, and the headers that describe them to the kernel.
///
/// Invariant: the vectors never grow, so the pointers in `incoming` and `outgoing` stay valid; what they point to is
/// reached through these pointers only.
pub struct Batch {
    incoming: Vec<libc::mmsghdr>,
    outgoing: Vec<libc::mmsghdr>,
    received: usize,
    ready: usize,
    _buffers: Buffers,
}

struct Buffers {
    _questions: Vec<u8>,
    _answers: Vec<u8>,
    _sources: Vec<libc::sockaddr_storage>,
    _parts: Vec<libc::iovec>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("received", &self.received).field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Allocates all buffers in advance.
    pub fn new() -> Self {
        let mut questions = vec![0u8; BATCH * QUESTION_STRIDE];
        let mut answers = vec![0u8; BATCH * ANSWER_STRIDE];
        // SAFETY: all zeros is a valid value of these C structures: numbers and null pointers.
        let (zero_source, zero_part, zero_header) = unsafe {
            (std::mem::zeroed::<libc::sockaddr_storage>(), std::mem::zeroed::<libc::iovec>(), std::mem::zeroed())
        };
        let mut sources = vec![zero_source; BATCH];
        let mut parts = vec![zero_part; 2 * BATCH];
        let (questions_at, answers_at) = (questions.as_mut_ptr(), answers.as_mut_ptr());
        let (sources_at, parts_at) = (sources.as_mut_ptr(), parts.as_mut_ptr());
        let mut incoming: Vec<libc::mmsghdr> = vec![zero_header; BATCH];
        let mut outgoing: Vec<libc::mmsghdr> = vec![zero_header; BATCH];
        for slot in 0..BATCH {
            // SAFETY: `slot` is below BATCH, so each pointer stays within its vector (`parts` has two for each slot).
            unsafe {
                let (question, answer) = (parts_at.add(slot), parts_at.add(BATCH + slot));
                *question =
                    libc::iovec { iov_base: questions_at.add(slot * QUESTION_STRIDE).cast(), iov_len: QUESTION_MAX };
                *answer = libc::iovec { iov_base: answers_at.add(slot * ANSWER_STRIDE).cast(), iov_len: 0 };
                incoming[slot].msg_hdr.msg_iov = question;
                incoming[slot].msg_hdr.msg_name = sources_at.add(slot).cast();
                outgoing[slot].msg_hdr.msg_iov = answer;
            }
            incoming[slot].msg_hdr.msg_iovlen = 1;
            incoming[slot].msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            outgoing[slot].msg_hdr.msg_iovlen = 1;
        }
        let buffers = Buffers { _questions: questions, _answers: answers, _sources: sources, _parts: parts };
        Self { incoming, outgoing, received: 0, ready: 0, _buffers: buffers }
    }

    /// Receives the waiting datagrams of a non-blocking socket, up to [`BATCH`], and discards answers that were not
    /// sent. Returns how many were received; 0 if none waited.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.ready = 0;
        // Resets only the headers that the kernel has written: resetting all would cost more than a small batch does.
        for header in &mut self.incoming[..std::mem::take(&mut self.received)] {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        loop {
            // SAFETY: BATCH headers, whose pointers and lengths describe memory that this struct owns.
            let count = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    self.incoming.as_mut_ptr(),
                    BATCH as libc::c_uint,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            if let Ok(count) = usize::try_from(count) {
                self.received = count;
                return Ok(count);
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            }
        }
    }

    /// Passes every question with its source and a buffer of [`ANSWER_MAX`] bytes to `answer`, which returns how many
    /// bytes of the buffer it filled; 0: send nothing.
    pub fn answer(&mut self, mut answer: impl FnMut(&[u8], SocketAddr, &mut [u8]) -> usize) {
        for slot in 0..self.received {
            let header = self.incoming[slot];
            let Some(source) = (header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0).then(|| source(&header)).flatten()
            else {
                continue;
            };
            let (length, part) = (header.msg_len as usize, self.outgoing[self.ready].msg_hdr.msg_iov);
            // SAFETY: the kernel wrote `length` bytes, at most QUESTION_MAX, to the question's buffer; the answer's
            // buffer has ANSWER_MAX bytes. Nothing else refers to either while the closure runs.
            let (question, buffer) = unsafe {
                let question = (*header.msg_hdr.msg_iov).iov_base.cast::<u8>();
                (
                    std::slice::from_raw_parts(question, length.min(QUESTION_MAX)),
                    std::slice::from_raw_parts_mut((*part).iov_base.cast::<u8>(), ANSWER_MAX),
                )
            };
            let filled = answer(question, source, buffer).min(ANSWER_MAX);
            if filled > 0 {
                // SAFETY: the part belongs to this struct, and no reference to it exists.
                unsafe { (*part).iov_len = filled };
                let out = &mut self.outgoing[self.ready].msg_hdr;
                (out.msg_name, out.msg_namelen) = (header.msg_hdr.msg_name, header.msg_hdr.msg_namelen);
                self.ready += 1;
            }
        }
    }

    /// Sends the answers. Returns how many the kernel did not accept, because the client no longer exists or a queue is
    /// full; it does not wait.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        let ready = std::mem::take(&mut self.ready);
        let (mut done, mut lost) = (0, 0);
        while done < ready {
            let rest = &mut self.outgoing[done..ready];
            // SAFETY: `rest.len()` headers, whose pointers and lengths describe memory that this struct owns.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                _ => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return lost + ready - done,
                    // The first of the rest cannot be sent, but those after it can.
                    _ => (done, lost) = (done + 1, lost + 1),
                },
            }
        }
        lost
    }
}

/// The state of a socket's receive queue.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    /// Bytes in the queue, as the kernel counts them.
    pub waits: u32,
    /// The maximum of `waits`.
    pub may: u32,
    /// Datagrams that the kernel has dropped because the queue was full; the counter wraps around.
    pub dropped: u32,
}

/// Queries the kernel for the state of a socket's queue (sock_diag(7), `SK_MEMINFO`).
pub fn backlog(socket: &UdpSocket) -> io::Result<Backlog> {
    /// From linux/sock_diag.h: indices in the array, and its length.
    const RMEM_ALLOC: usize = 0;
    const RCVBUF: usize = 1;
    const DROPS: usize = 8;
    let mut info = [0u32; 9];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to the array.
    let done = unsafe {
        let to = info.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, to, &raw mut length)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Backlog { waits: info[RMEM_ALLOC], may: info[RCVBUF], dropped: info[DROPS] })
}

/// The source of a question; `None` if an answer cannot be sent there.
fn source(header: &libc::mmsghdr) -> Option<SocketAddr> {
    let name = header.msg_hdr.msg_name;
    // SAFETY: the name points to a whole sockaddr_storage, of which the kernel filled in what belongs to the family.
    let source = unsafe {
        match libc::c_int::from((*name.cast::<libc::sockaddr_storage>()).ss_family) {
            libc::AF_INET => {
                let v4 = *name.cast::<libc::sockaddr_in>();
                let address = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                SocketAddr::V4(SocketAddrV4::new(address, u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 => {
                let v6 = *name.cast::<libc::sockaddr_in6>();
                let (address, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
                SocketAddr::V6(SocketAddrV6::new(address, port, v6.sin6_flowinfo, v6.sin6_scope_id))
            }
            _ => return None,
        }
    };
    (source.port() != 0 && !source.ip().is_unspecified()).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let (server, client) = (UdpSocket::bind((address, 0)).unwrap(), UdpSocket::bind((address, 0)).unwrap());
        server.set_nonblocking(true).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        (server, client)
    }

    #[test]
    fn each_answer_goes_to_its_client() {
        for address in ["127.0.0.1", "::1"] {
            let (server, one) = pair(address);
            let two = UdpSocket::bind((address, 0)).unwrap();
            two.connect(server.local_addr().unwrap()).unwrap();
            let mut batch = Batch::new();
            assert_eq!(batch.receive(&server).unwrap(), 0, "nothing waits");
            for _ in 0..3 {
                one.send(b"one").unwrap();
                two.send(b"silent").unwrap();
                two.send(b"two").unwrap();
                assert_eq!(batch.receive(&server).unwrap(), 3);
                let mut sources = Vec::new();
                batch.answer(|question, source, buffer| {
                    sources.push(source);
                    if question == b"silent" {
                        return 0;
                    }
                    buffer[..question.len()].copy_from_slice(question);
                    question.len()
                });
                assert_eq!(sources[0], one.local_addr().unwrap());
                assert_eq!(batch.send(&server), 0);
                for (client, expected) in [(&one, &b"one"[..]), (&two, b"two")] {
                    let mut received = [0; 16];
                    let length = client.recv(&mut received).unwrap();
                    assert_eq!(&received[..length], expected);
                }
            }
        }
    }

    #[test]
    fn a_long_question_is_not_shown_and_a_batch_has_an_end() {
        let (server, client) = pair("127.0.0.1");
        client.send(&[1; QUESTION_MAX + 1]).unwrap();
        client.send(&[2; QUESTION_MAX]).unwrap();
        for _ in 0..BATCH {
            client.send(b"3").unwrap();
        }
        let backlog = backlog(&server).unwrap();
        assert!(backlog.waits > QUESTION_MAX as u32 && backlog.waits < backlog.may, "{backlog:?}");
        assert_eq!(backlog.dropped, 0);
        let mut batch = Batch::new();
        assert_eq!(batch.receive(&server).unwrap(), BATCH);
        let mut lengths = Vec::new();
        batch.answer(|question, _, buffer| {
            lengths.push(question.len());
            buffer.len()
        });
        assert_eq!(lengths[..2], [QUESTION_MAX, 1]);
        assert_eq!(lengths.len(), BATCH - 1);
        assert_eq!(batch.send(&server), 0);
        assert_eq!(client.recv(&mut [0; 2048]).unwrap(), ANSWER_MAX);
        assert_eq!(batch.receive(&server).unwrap(), 2, "the rest");
    }

    #[test]
    fn an_answer_that_cannot_go_out_holds_back_no_other() {
        let (server, client) = pair("127.0.0.1");
        let mut batch = Batch::new();
        for text in [b"1", b"2", b"3"] {
            client.send(text).unwrap();
        }
        assert_eq!(batch.receive(&server).unwrap(), 3);
        batch.answer(|question, _, buffer| {
            buffer[0] = question[0];
            1
        });
        // An address of another family than the socket's.
        let odd = batch.outgoing[1].msg_hdr.msg_name.cast::<libc::sockaddr_storage>();
        // SAFETY: it points into the batch's own addresses.
        unsafe { (*odd).ss_family = libc::AF_UNIX as libc::sa_family_t };
        assert_eq!(batch.send(&server), 1);
        for expected in [b"1", b"3"] {
            let mut received = [0];
            client.recv(&mut received).unwrap();
            assert_eq!(&received, expected);
        }
    }
}
