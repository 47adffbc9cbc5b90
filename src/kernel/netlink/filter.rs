//! A filter of notifications: messages of other types are neither queued nor wake the reader.

use std::io;
use std::os::fd::AsFd;

use nix::libc;

use crate::os::bpf;

/// Where a message states its type (`struct nlmsghdr`, linux/netlink.h), in bytes.
const TYPE_AT: u32 = 4;

/// Lets the socket receive only datagrams whose first message has one of these types; a notification of rtnetlink is a
/// datagram with one message. What is queued already stays.
pub(in crate::kernel) fn keep_types(socket: impl AsFd, types: &[u16]) -> io::Result<()> {
    let mut program = vec![bpf::statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, TYPE_AT)];
    for kind in types {
        // The program reads numbers in network byte order, and netlink writes them in that of the machine.
        let read = u16::from_be_bytes(kind.to_ne_bytes());
        program.extend([bpf::if_equal(read.into(), 0, 1), bpf::returns(u32::MAX)]);
    }
    program.push(bpf::returns(0));
    bpf::attach(socket, &mut program)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn only_the_named_types_are_received() {
        let (one, other) = UnixDatagram::pair().unwrap();
        keep_types(&other, &[16, 0x1234]).unwrap();
        for kind in [15u16, 16, 17, 0x1234, 0x3412] {
            let [low, high] = kind.to_ne_bytes();
            // A filter of a Unix socket makes the sender fail.
            let _ = one.send(&[20, 0, 0, 0, low, high, 0, 0]);
        }
        one.send(&[20, 0, 0, 0]).unwrap_or_default();
        other.set_nonblocking(true).unwrap();
        let mut buffer = [0; 64];
        let received: Vec<u16> =
            std::iter::from_fn(|| other.recv(&mut buffer).ok().map(|_| u16::from_ne_bytes([buffer[4], buffer[5]])))
                .collect();
        assert_eq!(received, [16, 0x1234], "and a datagram too short for a header is dropped");
    }
}
