//! Probes whether containers reach the name service at their gateway: sends questions from containers, and from
//! namespaces of netd's own on the networks' bridges.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::sockopt::{Linger, Mark, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::resolver::MARK;
use crate::kernel::link::stand_in::{Leaving, StandIns};
use crate::kernel::netlink::socket::{Netlink, failed};
use crate::kernel::netns::Visit;
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, netns};
use crate::model::endpoint::Netns;
use crate::model::host::probe::{Asker, Probe};

/// RFC 1035, 4.2.
const DNS_PORT: u16 = 53;
/// Errors of a machine that lacks file descriptors or memory.
const NO_MEANS: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
const LOOK: &str = "see `ulimit -n` and `dmesg`";
/// The question for the address of `localhost`, which is answered without an upstream (RFC 1035, 4.1).
const QUESTION: &[u8] = b"\x6e\x64\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01";

/// For each probe, the first gateway that does not answer; an error if it could not be tried. All probes run at once.
/// `host`: a socket of the host. The pairs of stand-ins are `leaving` afterwards.
pub(in crate::kernel) fn reaches(
    host: &mut Netlink,
    sysctl: &Sysctl,
    probes: &[Probe],
    leaving: &mut Leaving,
) -> Vec<Result<Option<IpAddr>, KernelError>> {
    // The names of their interfaces are used again.
    leaving.wait_for(|name| {
        probes.iter().any(|probe| matches!(&probe.asker, Asker::StandIn(stand_in) if stand_in.host_ifname == *name))
    });
    let mut jobs = Vec::new();
    let visits: Vec<_> = probes
        .iter()
        .map(|probe| {
            let (gateways, patience) = (probe.gateways.clone(), probe.patience);
            match &probe.asker {
                Asker::Container(netns) => Some((netns, visit(netns, gateways, patience))),
                Asker::StandIn(stand_in) => {
                    jobs.push((stand_in.clone(), move || silent(&gateways, patience)));
                    None
                }
            }
        })
        .collect();
    let stand_ins = StandIns::begin(host, sysctl, jobs);
    let visited: Vec<_> = visits.into_iter().map(|visit| visit.map(|(netns, visit)| end(netns, visit))).collect();
    let mut stand_ins = stand_ins.end(host, leaving).into_iter();
    let or_of_stand_in = |visited: Option<_>| visited.or_else(|| stand_ins.next());
    visited.into_iter().filter_map(or_of_stand_in).collect()
}

/// Asks from within the container. `None`: another namespace is there now.
fn visit(
    netns: &Netns,
    gateways: Vec<IpAddr>,
    patience: Duration,
) -> Result<Visit<Option<Option<IpAddr>>>, KernelError> {
    let (target, namespace) = (netns.clone(), netns::open_exactly(netns)?);
    let visit = netns::visit(namespace, move || {
        if !netns::same_cookie(&target, &Netlink::open()?) {
            return Ok(None);
        }
        silent(&gateways, patience).map(Some)
    });
    visit.map_err(failed("ask for a name from", netns.path.display(), LOOK))
}

fn end(
    netns: &Netns,
    visit: Result<Visit<Option<Option<IpAddr>>>, KernelError>,
) -> Result<Option<IpAddr>, KernelError> {
    let answered = visit?.end().map_err(failed("ask for a name from", netns.path.display(), LOOK))?;
    answered.ok_or_else(|| netns::another(netns))
}

/// The first gateway that does not answer over UDP and over TCP.
fn silent(gateways: &[IpAddr], patience: Duration) -> io::Result<Option<IpAddr>> {
    for gateway in gateways {
        let at = SocketAddr::new(*gateway, DNS_PORT);
        if !arrived(answers_udp(at, patience))? || !arrived(answers_tcp(at, patience))? {
            return Ok(Some(*gateway));
        }
    }
    Ok(None)
}

/// Whether there was an answer; an error if this machine had no means to ask, which says nothing about the way.
fn arrived(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error().is_some_and(|errno| NO_MEANS.contains(&errno)) => Err(error),
        Err(_) => Ok(false),
    }
}

fn answers_udp(at: SocketAddr, patience: Duration) -> io::Result<()> {
    let any: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    mark(&socket);
    socket.connect(at)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(QUESTION)?;
    // Any reply shows that the question arrived.
    socket.recv(&mut [0; 512]).map(drop)
}

fn answers_tcp(at: SocketAddr, patience: Duration) -> io::Result<()> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    mark(&socket);
    // The other end must not go on closing the connection with an address that somebody else may have by then.
    setsockopt(&socket, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    // It limits how long connecting may take, too (socket(7)).
    setsockopt(&socket, SendTimeout, &TimeVal::milliseconds(patience.as_millis().try_into().unwrap_or(i64::MAX)))?;
    Ok(connect(socket.as_raw_fd(), &SockaddrStorage::from(at))?)
}

/// netd's own table in a container that is served within lets the question pass to the gateway. A socket that cannot be
/// marked asks all the same.
fn mark(socket: &impl std::os::fd::AsFd) {
    if let Err(error) = setsockopt(socket, Mark, &MARK) {
        tracing::debug!(%error, "a question to a gateway has no mark");
    }
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
