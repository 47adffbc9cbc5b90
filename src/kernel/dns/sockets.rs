//! The name service's sockets at a gateway.
//!
//! They are not bound to port 53: that would block every server of the host that listens on all addresses, and every
//! container that publishes that port. The firewall redirects questions to them (`logic::firewall`, chain `dns`).
//!
//! UDP has several sockets, the shards (`kernel::dns::shards`), so that a flood of one client fills one receive queue
//! only.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::socket::sockopt::{IpFreebind, Ipv6V6Only, RcvBuf, RcvBufForce, ReuseAddr, ReusePort};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};

use super::shards;
use crate::kernel::netlink::socket::failed;
use crate::kernel::{DnsSockets, KernelError};

/// The default port of the name service: above the range from which Linux assigns ports
/// (`net.ipv4.ip_local_port_range`).
pub const PORT: u16 = 61053;
/// How many ports are tried, starting with [`PORT`], if the configured one is taken.
const TRIES: u16 = 64;
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;
/// Bytes of queries that may wait at each UDP socket. The kernel allows twice as many, and counts some 800 for each
/// query. The usual 208 KiB is full after 500 queries; a burst of containers that start together must not lose any.
/// With all shards full, a gateway uses 34 MiB.
const QUERIES_WAIT: usize = 1 << 20;

/// Opens the sockets at a gateway, with as many shards as the descriptors allow.
pub fn open_at_gateway(address: IpAddr, port: u16) -> Result<DnsSockets, KernelError> {
    open(address, port, shards::per_gateway())
}

/// Opens the sockets, non-blocking and close-on-exec, at this port, or at another one if it is taken. The address need
/// not exist yet (`IP_FREEBIND`). UDP gets `shards` address-selected shards and the quarantine; with 0 it gets a single
/// socket, for a single client.
pub fn open(address: IpAddr, port: u16, shards: usize) -> Result<DnsSockets, KernelError> {
    let mut taken = None;
    for port in std::iter::once(port).chain(PORT..PORT + TRIES) {
        match pair(SocketAddr::new(address, port), shards) {
            Ok((udp, tcp)) => return Ok(DnsSockets { address, port, udp, tcp, client: None, beside: None }),
            Err((_, error)) if error.kind() == io::ErrorKind::AddrInUse => taken = Some(error),
            Err((attempted, error)) => return Err(refused(attempted, address, port)(error)),
        }
    }
    let taken = taken.unwrap_or_else(|| io::ErrorKind::AddrInUse.into());
    Err(refused("find a free port on", address, port)(taken))
}

/// Opens the sockets at exactly this port.
pub fn open_exactly(address: IpAddr, port: u16, shards: usize) -> Result<DnsSockets, KernelError> {
    let (udp, tcp) = pair(SocketAddr::new(address, port), shards)
        .map_err(|(attempted, error)| refused(attempted, address, port)(error))?;
    Ok(DnsSockets { address, port, udp, tcp, client: None, beside: None })
}

fn refused(attempted: &'static str, address: IpAddr, port: u16) -> impl Fn(io::Error) -> KernelError {
    move |error| failed(attempted, SocketAddr::new(address, port), "see `ss -lnptu` and `ulimit -n`")(error)
}

/// Opens UDP and TCP sockets on the same port. The error includes what was attempted.
fn pair(at: SocketAddr, shards: usize) -> Result<(Vec<UdpSocket>, TcpListener), (&'static str, io::Error)> {
    let udp = if shards == 0 { datagrams(at, false).map(|one| vec![one]) } else { shards::open(at, shards, datagrams) };
    let udp = udp.map_err(|error| ("listen on UDP", error))?;
    let tcp = bound(SockType::Stream, at, false).and_then(|tcp| {
        listen(&tcp, Backlog::new(BACKLOG)?)?;
        Ok(tcp)
    });
    let tcp = tcp.map_err(|error| ("listen on TCP", error))?;
    Ok((udp, TcpListener::from(tcp)))
}

fn datagrams(at: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let udp = bound(SockType::Datagram, at, shared)?;
    // May exceed net.core.rmem_max if the process is privileged, otherwise limited by it; a smaller buffer is no error.
    if setsockopt(&udp, RcvBufForce, &QUERIES_WAIT).is_err() {
        let _ = setsockopt(&udp, RcvBuf, &QUERIES_WAIT);
    }
    Ok(UdpSocket::from(udp))
}

fn bound(kind: SockType, at: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if at.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        // Connections of a stopped daemon may linger. A second listener is refused all the same.
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    if shared {
        setsockopt(&socket, ReusePort, &true)?;
    }
    setsockopt(&socket, IpFreebind, &true)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(at))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use netd_testing::wait::{is, until};

    use super::*;
    use crate::kernel::netlink::socket::Netlink;
    use crate::kernel::testing::lab::{in_own_netns, ip};
    use std::io::{Read as _, Write as _};

    #[test]
    fn a_burst_waits_until_it_is_taken() {
        in_own_netns(|| {
            ip("link set lo up");
            let sockets = open("127.0.0.1".parse().unwrap(), PORT, 0).unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..1000 {
                client.send_to(&[0; 60], ("127.0.0.1", PORT)).unwrap();
            }
            let waiting = std::iter::from_fn(|| sockets.udp[0].recv_from(&mut [0; 64]).ok()).count();
            assert_eq!(waiting, 1000);
        });
    }

    #[test]
    fn they_answer_at_an_address_that_comes_later() {
        in_own_netns(|| {
            ip("link set lo up");
            for (address, command) in [
                ("10.77.0.1", "address add 10.77.0.1/32 dev lo"),
                ("fd00:89::1", "address add fd00:89::1/128 dev lo nodad"),
            ] {
                let address: IpAddr = address.parse().unwrap();
                let sockets = open(address, PORT, 0).unwrap();
                ip(command);
                crate::kernel::link::route::settle_address(&mut Netlink::open().unwrap(), 1, address);
                let mut client = std::net::TcpStream::connect((address, PORT)).unwrap();
                sockets.tcp.set_nonblocking(false).unwrap();
                let (mut server, _) = sockets.tcp.accept().unwrap();
                client.write_all(b"x").unwrap();
                server.read_exact(&mut [0]).unwrap();
                let client = UdpSocket::bind((address, 0)).unwrap();
                client.send_to(b"x", (address, PORT)).unwrap();
                assert_eq!(sockets.udp[0].recv_from(&mut [0; 8]).unwrap().1, client.local_addr().unwrap());
            }
        });
    }

    #[test]
    fn who_is_on_every_address_keeps_its_port_and_is_in_nobodys_way() {
        in_own_netns(|| {
            ip("link set lo up");
            let address: IpAddr = "127.0.0.1".parse().unwrap();
            let udp = UdpSocket::bind("0.0.0.0:53").unwrap();
            let beside = open(address, 53, 4).unwrap();
            assert_eq!(beside.port, PORT);
            let tcp = TcpListener::bind(("0.0.0.0", PORT + 1)).unwrap();
            assert_eq!(open(address, PORT, 4).unwrap().port, PORT + 2, "neither UDP nor TCP alone");
            drop((udp, tcp));
            // Until it executes its program, a child that another test starts has copies of the sockets.
            until("port 53 is taken", || is(open(address, 53, 4).unwrap().port, &53));
        });
    }
}
