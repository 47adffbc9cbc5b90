//! The TCP socket that holds a port, as one that listens or refuses. Either way it stays bound, and all its duplicates
//! are in the same state.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::sys::socket::sockopt::{AcceptConn, ReuseAddr};
use nix::sys::socket::{Backlog, Shutdown, getsockopt, listen as begin, setsockopt, shutdown};

use crate::os::bpf;

/// Connections that wait until netd accepts them.
const BACKLOG: i32 = 1024;

/// Makes the socket accept connections from now on. One that listens already goes on, with what waits in it.
pub fn listen(bound: impl AsFd) -> io::Result<()> {
    let bound = bound.as_fd();
    // What it accepts inherits this: ended connections must not keep the port from being bound again. While it listens,
    // no other process can bind the port in spite of it.
    setsockopt(&bound, ReuseAddr, &true)?;
    begin(&bound, Backlog::new(BACKLOG)?)?;
    // One that was bound over ended connections drops everything so far.
    bpf::detach(bound)
}

/// Makes the kernel refuse connections with a reset from now on, and reset those that nobody has accepted as yet.
pub fn refuse(bound: impl AsFd) -> io::Result<()> {
    let bound = bound.as_fd();
    // First, because with it another process could bind the port of a socket that does not listen.
    setsockopt(&bound, ReuseAddr, &false)?;
    // What a socket accepts inherits that it was shut down while it did not listen: it could neither send nor receive.
    if getsockopt(&bound, AcceptConn)? {
        // It stays bound (tcp_disconnect in the kernel's net/ipv4/tcp.c).
        shutdown(bound.as_raw_fd(), Shutdown::Read)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};

    use super::*;
    use crate::kernel::testing::lab::{in_own_netns, ip};

    const AT: &str = "127.0.0.1:4000";

    fn refused() {
        assert_eq!(TcpStream::connect(AT).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_socket_listens_and_refuses_again_and_again_with_all_its_duplicates() {
        in_own_netns(|| {
            ip("link set lo up");
            let bound = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            bind(bound.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 4000)).unwrap();
            let duplicate: OwnedFd = bound.try_clone().unwrap();
            // Before it has ever listened, too.
            refuse(&bound).unwrap();
            for _ in 0..3 {
                refused();
                listen(&bound).unwrap();
                listen(&bound).unwrap();
                let mut client = TcpStream::connect(AT).unwrap();
                let (mut server, _) = TcpListener::from(duplicate.try_clone().unwrap()).accept().unwrap();
                client.write_all(b"x").unwrap();
                server.read_exact(&mut [0]).unwrap();
                server.write_all(b"y").unwrap();
                client.read_exact(&mut [0]).unwrap();
                let mut waits = TcpStream::connect(AT).unwrap();
                refuse(&duplicate).unwrap();
                refuse(&bound).unwrap();
                assert_eq!(waits.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
                refused();
                // Rust binds with SO_REUSEADDR.
                assert_eq!(TcpListener::bind(AT).unwrap_err().kind(), ErrorKind::AddrInUse);
                // The server closes first and keeps the port in TIME_WAIT.
                drop(server);
                drop(client);
            }
        });
    }
}
