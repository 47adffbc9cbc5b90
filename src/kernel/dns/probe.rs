//! Probes whether a container reaches the name service at its gateway, by sending a question from within the container.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::kernel::netlink::socket::Netlink;
use crate::kernel::netns;
use crate::model::endpoint::Netns;

/// How long the answer may take. It comes from this machine, within some tenths of a millisecond.
const PATIENCE: Duration = Duration::from_millis(250);
/// RFC 1035, 4.2.
const DNS_PORT: u16 = 53;
/// The question for the address of `localhost`, which is answered without an upstream (RFC 1035, 4.1).
const QUESTION: &[u8] = b"\x6e\x64\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01";

/// Whether the questions of each container to its gateway are answered, over UDP and over TCP; `None` if the container
/// no longer exists or cannot be entered. All probes run at once.
pub fn reaches(asked: &[(Netns, IpAddr)]) -> Vec<Option<bool>> {
    let begin = |(netns, server): &(Netns, IpAddr)| {
        let (target, at) = (netns.clone(), SocketAddr::new(*server, DNS_PORT));
        let namespace = netns::open_exactly(netns).ok()?;
        netns::visit(namespace, move || {
            let right = netns::same_cookie(&target, &Netlink::open()?);
            Ok(right.then(|| answers_udp(at).is_ok() && TcpStream::connect_timeout(&at, PATIENCE).is_ok()))
        })
        .ok()
    };
    let visits: Vec<_> = asked.iter().map(begin).collect();
    visits.into_iter().map(|visit| visit?.end().ok().flatten()).collect()
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
