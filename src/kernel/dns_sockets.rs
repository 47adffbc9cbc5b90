//! The name service's sockets at a gateway.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::socket::sockopt::{IpFreebind, Ipv6V6Only, RcvBuf, RcvBufForce, ReuseAddr};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};

use super::netlink::failed;
use super::{DnsSockets, KernelError};

/// RFC 1035, 4.2.
const PORT: u16 = 53;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Bytes of queries that may wait; each takes some 800 of the kernel's. The usual 208 KiB is full after 250: a burst of
/// containers that start together must not lose any.
const QUERIES_WAIT: usize = 2 << 20;

/// Opens them, non-blocking and close-on-exec. They need not wait for the address: it may appear later (`IP_FREEBIND`).
pub fn open(address: IpAddr) -> Result<DnsSockets, KernelError> {
    let look = "another name server may listen there: see `ss -lnptu sport = :53`";
    let at = SocketAddr::new(address, PORT);
    let udp = bound(SockType::Datagram, at).map_err(failed("listen on UDP", at, look))?;
    // Beyond net.core.rmem_max where that is allowed, up to it elsewhere; less than asked for is no failure.
    if setsockopt(&udp, RcvBufForce, &QUERIES_WAIT).is_err() {
        let _ = setsockopt(&udp, RcvBuf, &QUERIES_WAIT);
    }
    let tcp = bound(SockType::Stream, at)
        .and_then(|tcp| {
            listen(&tcp, Backlog::new(BACKLOG)?)?;
            Ok(tcp)
        })
        .map_err(failed("listen on TCP", at, look))?;
    Ok(DnsSockets { address, udp: UdpSocket::from(udp), tcp: TcpListener::from(tcp) })
}

fn bound(kind: SockType, at: SocketAddr) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if at.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        // Connections of a daemon that stopped may linger; a second listener is refused all the same.
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    setsockopt(&socket, IpFreebind, &true)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(at))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::lab::{in_own_netns, ip};
    use crate::kernel::netlink::Netlink;
    use std::io::{Read as _, Write as _};

    #[test]
    fn a_burst_waits_until_it_is_taken() {
        in_own_netns(|| {
            ip("link set lo up");
            let sockets = open("127.0.0.1".parse().unwrap()).unwrap();
            let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..1000 {
                asker.send_to(&[0; 60], ("127.0.0.1", PORT)).unwrap();
            }
            let waiting = std::iter::from_fn(|| sockets.udp.recv_from(&mut [0; 64]).ok()).count();
            assert_eq!(waiting, 1000);
        });
    }

    #[test]
    fn they_answer_at_an_address_that_comes_later() {
        in_own_netns(|| {
            ip("link set lo up");
            for (address, command) in [
                ("10.89.0.1", "address add 10.89.0.1/32 dev lo"),
                ("fd00:89::1", "address add fd00:89::1/128 dev lo nodad"),
            ] {
                let address: IpAddr = address.parse().unwrap();
                let sockets = open(address).unwrap();
                ip(command);
                crate::kernel::route::settle_address(&mut Netlink::open().unwrap(), 1, address);
                let mut client = std::net::TcpStream::connect((address, PORT)).unwrap();
                sockets.tcp.set_nonblocking(false).unwrap();
                let (mut server, _) = sockets.tcp.accept().unwrap();
                client.write_all(b"x").unwrap();
                server.read_exact(&mut [0]).unwrap();
                let asker = UdpSocket::bind((address, 0)).unwrap();
                asker.send_to(b"x", (address, PORT)).unwrap();
                assert_eq!(sockets.udp.recv_from(&mut [0; 8]).unwrap().1, asker.local_addr().unwrap());
                let error = open(address).unwrap_err().to_string();
                assert!(error.starts_with(&format!("listen on UDP {}", SocketAddr::new(address, PORT))), "{error}");
            }
        });
    }
}
