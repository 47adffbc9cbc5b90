//! Another resolver in a container, at the address that netd answers on there: whether there is one, and sockets that
//! reach it past netd's table.
//!
//! Docker's resolver listens on ports that the kernel chooses, and connection-tracking rules of Docker or another
//! program direct port 53 there; both change while the container runs. netd therefore does not search for the port: its
//! queries carry a mark that netd's table lets pass, and take the path that they would take without netd.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::Mark;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket};

use crate::kernel::netns;
use crate::kernel::netns::Visit;
use crate::model::endpoint::Netns;
use crate::model::inside::AT;

/// RFC 1035, 4.2.
const DNS_PORT: u16 = 53;
/// The mark of packets that netd's table in the container lets pass ("nd"; any number that is not otherwise used
/// there).
pub(in crate::kernel) const MARK: u32 = 0x6e64;

/// A resolver in a container, queried from within.
#[derive(Debug)]
pub struct Resolver {
    namespace: File,
}

impl Resolver {
    pub(in crate::kernel) fn new(namespace: File) -> Self {
        Self { namespace }
    }

    /// The address at which it is queried.
    pub fn address(&self) -> (Ipv4Addr, u16) {
        (AT, DNS_PORT)
    }

    /// Returns a non-blocking socket for queries to it. Takes as long as starting a thread.
    pub fn udp(&self) -> io::Result<UdpSocket> {
        self.reach(SockType::Datagram).map(UdpSocket::from)
    }

    /// The same over TCP; the connection may not be established yet.
    pub fn tcp(&self) -> io::Result<TcpStream> {
        self.reach(SockType::Stream).map(TcpStream::from)
    }

    fn reach(&self, kind: SockType) -> io::Result<OwnedFd> {
        let to = SockaddrIn::from(SocketAddrV4::new(AT, DNS_PORT));
        let visit = netns::visit(self.namespace.try_clone()?, move || {
            let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
            setsockopt(&socket, Mark, &MARK)?;
            match connect(socket.as_raw_fd(), &to) {
                Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
                Err(error) => Err(error.into()),
            }
        });
        visit.and_then(Visit::end)
    }
}

/// Whether a socket other than netd's answers UDP questions there. Only sockets of root count, so that no other program
/// in the container can change where its questions go.
pub(in crate::kernel) fn is_there(netns: &Netns, own: Option<u16>) -> bool {
    let Ok(namespace) = netns::open_exactly(netns) else { return false };
    let table = netns::visit(namespace, || fs::read_to_string("/proc/thread-self/net/udp")).and_then(Visit::end);
    table.is_ok_and(|table| table.lines().skip(1).any(|line| answers(line, own)))
}

/// Whether a line of `/proc/net/udp` (proc_net(5)) describes such a socket.
fn answers(line: &str, own: Option<u16>) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (Some(local), Some(user)) = (words.get(1), words.get(7)) else { return false };
    let Some((address, port)) = local.split_once(':') else { return false };
    // In the machine's byte order.
    let there = address == format!("{:08X}", u32::from_ne_bytes(AT.octets()));
    there && *user == "0" && u16::from_str_radix(port, 16).ok() != own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_socket_of_root_at_the_address_is_a_resolver() {
        let line = |local: &str, user: u32| {
            format!(
                "  12: {local} 00000000:0000 07 00000000:00000000 00:00000000 00000000 {user:5}        0 4711 2 0 0"
            )
        };
        let at = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 11]));
        assert!(answers(&line(&format!("{at}:9FBF"), 0), Some(61053)));
        assert!(answers(&line(&format!("{at}:9FBF"), 0), None));
        assert!(!answers(&line(&format!("{at}:EE7D"), 0), Some(61053)), "our own");
        assert!(!answers(&line(&format!("{at}:9FBF"), 1000), None), "anybody's");
        let other = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        assert!(!answers(&line(&format!("{other}:0035"), 0), None));
        assert!(!answers("  sl  local_address", None));
    }
}
