//! The sockets that hold ports: bound, and deaf.
#![allow(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use nix::unistd::close;

use crate::model::publication::Protocol;
use crate::model::step::HostPort;

/// A bound socket. TCP does not listen, so that connections are refused as if nothing were there; UDP keeps a datagram
/// or two and drops the rest (a filter that drops all would cost 20 us per port, most of it for translating it).
pub(super) fn bound(port: HostPort) -> Result<OwnedFd, Errno> {
    let socket = open(port)?;
    if port.protocol == Protocol::Udp {
        setsockopt(&socket, sockopt::RcvBuf, &0)?;
    }
    attach(&socket, port)?;
    Ok(socket)
}

/// Makes room for that many more descriptors at once: the table of a process with threads grows by doubling, and waits
/// for all processors each time. Without room, opening says so.
pub(super) fn make_room(descriptors: usize) {
    let Ok(any) = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None) else { return };
    let highest = any.as_raw_fd().saturating_add(i32::try_from(descriptors).unwrap_or(i32::MAX));
    if let Ok(copy) = fcntl(&any, FcntlArg::F_DUPFD_CLOEXEC(highest)) {
        _ = close(copy);
    }
}

/// A TCP socket that takes a port over from connections in TIME-WAIT. It must listen, or another that allows reuse
/// could do so; it answers nobody.
pub(super) fn deaf_listener(port: HostPort) -> Result<OwnedFd, Errno> {
    let socket = open(port)?;
    drop_everything(&socket)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    attach(&socket, port)?;
    listen(&socket, Backlog::new(1)?)?;
    Ok(socket)
}

fn open(port: HostPort) -> Result<OwnedFd, Errno> {
    let family = match port.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    if port.address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(socket)
}

fn attach(socket: &OwnedFd, port: HostPort) -> Result<(), Errno> {
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(port.address, port.port)))
}

/// Attaches a filter that lets no packet through (socket(7), `SO_ATTACH_FILTER`).
fn drop_everything(socket: &impl AsFd) -> Result<(), Errno> {
    // BPF_RET | BPF_K: keep 0 bytes of each packet (linux/filter.h).
    let mut program = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: the descriptor is open while it is borrowed; `filter` is a sock_fprog of the size that is given and points
    // to one instruction; the kernel copies both before it returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}
