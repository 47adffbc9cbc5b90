//! Sockets of published ports that the service manager keeps while no daemon runs (`FDSTORE`,
//! sd_pid_notify_with_fds(3)): connections and datagrams that the kernel does not translate wait in them, and the next
//! daemon passes them on.
//!
//! Each socket has a name, `port-ADDRESS-PORT-PROTOCOL`. Colons are not allowed in names, so IPv6 addresses have `_`
//! instead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::sys::socket::sockopt::SockType as Type;
use nix::sys::socket::{SockType, SockaddrStorage, getsockname, getsockopt};

use crate::model::host::step::HostPort;
use crate::model::publication::Protocol;
use crate::os::addressed::socket_address;
use crate::os::service::Manager;
use crate::os::sys;

const PREFIX: &str = "port-";

/// The service manager, and what it keeps.
#[derive(Debug, Default)]
pub struct KeptPorts {
    manager: Manager,
    /// What it gave to this daemon and what was not taken yet.
    given: BTreeMap<HostPort, OwnedFd>,
    /// What it has.
    names: BTreeSet<HostPort>,
}

impl KeptPorts {
    /// Takes the sockets of ports out of `given`: the descriptors with which this daemon was started, with their names.
    pub fn new(manager: Manager, given: &mut Vec<(String, OwnedFd)>) -> Self {
        let mut kept = Self { manager, ..Self::default() };
        for (name, socket) in given.extract_if(.., |(name, _)| parse(name).is_some()) {
            let Some(port) = parse(&name) else { continue };
            kept.names.insert(port);
            kept.given.insert(port, socket);
        }
        kept
    }

    /// The socket of that port, if it is bound to it in this network namespace.
    pub(super) fn take(&mut self, port: &HostPort) -> Option<OwnedFd> {
        let socket = self.given.remove(port)?;
        if is_bound(&socket, port) {
            // The proxy does not wait for it. The service manager may have changed the flag, and any type of socket has it.
            let socket = UdpSocket::from(socket);
            return socket.set_nonblocking(true).is_ok().then(|| socket.into());
        }
        tracing::info!(%port, "the service manager's socket of a published port is of no use here");
        self.forget(&[*port]);
        None
    }

    /// Has the service manager keep it too.
    pub(super) fn keep(&mut self, port: &HostPort, socket: &OwnedFd) {
        if self.names.contains(port) {
            return;
        }
        match self.manager.keep(&name(port), socket.as_fd()) {
            Ok(()) => _ = self.names.insert(*port),
            Err(error) => {
                tracing::warn!(%error, %port, "the service manager does not keep the socket of a published port");
            }
        }
    }

    /// Has the service manager close those of these ports. When it returns, they are free, as far as the service manager
    /// answers soon.
    pub(super) fn forget(&mut self, ports: &[HostPort]) {
        let known: Vec<&HostPort> = ports.iter().filter(|port| self.names.remove(port)).collect();
        if known.is_empty() {
            return;
        }
        self.given.retain(|port, _| !ports.contains(port));
        if let Err(error) = self.manager.discard(known.into_iter().map(name)) {
            tracing::warn!(%error, "the service manager did not confirm that it closed sockets of published ports");
        }
    }

    /// The same with what it gave and what was not taken.
    pub(super) fn forget_given(&mut self) {
        let given: Vec<HostPort> = self.given.keys().copied().collect();
        self.forget(&given);
    }
}

/// A socket may come from another daemon's time, or from a manager that mixed names up.
fn is_bound(socket: &OwnedFd, port: &HostPort) -> bool {
    let kind = match port.protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
        Protocol::Sctp => return false,
    };
    let here = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(sys::netns_cookie);
    let at = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok().as_ref().and_then(socket_address);
    at == Some(SocketAddr::new(port.address, port.port))
        && getsockopt(socket, Type).is_ok_and(|is| is == kind)
        && here.is_ok_and(|here| here == sys::netns_cookie(socket))
}

fn name(port: &HostPort) -> String {
    let address = port.address.to_string().replace(':', "_");
    format!("{PREFIX}{address}-{}-{}", port.port, port.protocol)
}

fn parse(name: &str) -> Option<HostPort> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let address: IpAddr = parts.next()?.replace('_', ":").parse().ok()?;
    let (port, protocol) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(HostPort { address, protocol, port })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::kernel::testing::lab::{Parked, in_own_netns, ip};

    fn port(address: &str, protocol: Protocol, port: u16) -> HostPort {
        HostPort { address: address.parse().unwrap(), protocol, port }
    }

    #[test]
    fn names_lead_back() {
        for port in
            [port("::", Protocol::Tcp, 4000), port("192.0.2.1", Protocol::Udp, 53), port("fe80::1", Protocol::Udp, 1)]
        {
            let name = name(&port);
            assert_eq!(parse(&name), Some(port), "{name}");
            assert!(!name.contains(':'), "{name}");
        }
        for other in ["api", "dns-10.77.0.1-udp0", "port-", "port-::-0-tcp-1", "port-__-70000-tcp", "port-__-1-icmp"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_socket_of_that_port_in_this_namespace_is_taken() {
        in_own_netns(|| {
            ip("link set lo up");
            let here = port("127.0.0.1", Protocol::Tcp, 4000);
            let taken = |as_port: HostPort, socket: OwnedFd| {
                let mut given = vec![("api".to_owned(), socket.try_clone().unwrap()), (name(&as_port), socket)];
                let mut kept = KeptPorts::new(Manager::default(), &mut given);
                assert_eq!(given.len(), 1, "what is not a port stays");
                kept.take(&as_port).is_some()
            };
            let socket = || OwnedFd::from(TcpListener::bind("127.0.0.1:4000").unwrap());
            assert!(taken(here, socket()));
            assert!(!taken(port("127.0.0.1", Protocol::Tcp, 4001), socket()), "another port");
            assert!(!taken(port("127.0.0.1", Protocol::Udp, 4000), socket()), "another protocol");
            let elsewhere = Parked::new();
            let foreign = elsewhere.run(|| {
                ip("link set lo up");
                OwnedFd::from(TcpListener::bind("127.0.0.1:4000").unwrap())
            });
            assert!(!taken(here, foreign), "another namespace");
        });
    }
}
