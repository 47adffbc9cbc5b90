//! Probes whether a container reaches the name service at its gateway, by sending a question from within the container.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::kernel::netlink::socket::{Netlink, failed};
use crate::kernel::{KernelError, netns};
use crate::model::endpoint::Netns;

/// How long the answer may take. It comes from this machine, within some tenths of a millisecond.
const PATIENCE: Duration = Duration::from_millis(250);
/// RFC 1035, 4.2.
const DNS_PORT: u16 = 53;
/// Errors of a machine that lacks file descriptors or memory.
const NO_MEANS: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
const LOOK: &str = "see `ulimit -n` and `dmesg`";
/// The question for the address of `localhost`, which is answered without an upstream (RFC 1035, 4.1).
const QUESTION: &[u8] = b"\x6e\x64\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01";

/// Whether the questions of each container to its gateway are answered, over UDP and over TCP; an error if it could not
/// be tried. All probes run at once.
pub fn reaches(asked: &[(Netns, IpAddr)]) -> Vec<Result<bool, KernelError>> {
    let begin = |(netns, server): &(Netns, IpAddr)| {
        let (target, at) = (netns.clone(), SocketAddr::new(*server, DNS_PORT));
        let namespace = netns::open_exactly(netns)?;
        let visit = netns::visit(namespace, move || {
            if !netns::same_cookie(&target, &Netlink::open()?) {
                return Ok(None);
            }
            Ok(Some(arrived(answers_udp(at))? && arrived(TcpStream::connect_timeout(&at, PATIENCE).map(drop))?))
        });
        visit.map_err(failed("ask for a name from", netns.path.display(), LOOK))
    };
    let visits: Vec<_> = asked.iter().map(begin).collect();
    let ends = asked.iter().zip(visits).map(|((netns, _), visit)| {
        let answered = visit?.end().map_err(failed("ask for a name from", netns.path.display(), LOOK))?;
        answered.ok_or_else(|| netns::another(netns))
    });
    ends.collect()
}

/// Whether there was an answer; an error if this machine had no means to ask, which says nothing about the way.
fn arrived(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error().is_some_and(|errno| NO_MEANS.contains(&errno)) => Err(error),
        Err(_) => Ok(false),
    }
}

fn answers_udp(at: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(QUESTION)?;
    // Any reply shows that the question arrived.
    socket.recv(&mut [0; 512]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_cannot_ask_has_not_been_refused() {
        for errno in NO_MEANS {
            assert!(arrived(Err(io::Error::from_raw_os_error(errno))).is_err());
        }
        for errno in [libc::EAGAIN, libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EPERM] {
            assert!(!arrived(Err(io::Error::from_raw_os_error(errno))).unwrap());
        }
        assert!(arrived(Ok(())).unwrap());
    }
}
