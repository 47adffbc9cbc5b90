//! Held host ports: a bound socket for each, so that netd and another process cannot use the same port unnoticed. Long
//! ranges have none: other processes' sockets are looked for when the range is taken, and each time the host is observed.
//!
//! A TCP port is bound without `SO_REUSEADDR` and without listening: a process that binds it gets EADDRINUSE, and what
//! the firewall does not translate (`[::1]`) gets a reset, as it would without the socket. A UDP socket drops everything
//! that it receives. Where netd itself passes on what is not translated, the socket *serves* instead: UDP receives, and
//! TCP listens while somebody listens in the container ([`super::listener`]); the proxy decides when.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};

use super::kept_ports::KeptPorts;
use super::listener;
use super::port_owner::{self, PortOwner, Tables};
use super::port_range;
use crate::kernel::netlink::socket::failed;
use crate::kernel::{KernelError, PortSocket};
use crate::model::host::step::{HostPort, HostPorts};
use crate::model::ids::ContainerId;
use crate::model::publication::Protocol;
use crate::os::bpf;

/// Any port (RFC 863); nothing is sent there.
const DISCARD: u16 = 9;

/// What holds a port.
#[derive(Debug)]
enum Hold {
    /// A bound socket.
    Socket { bound: OwnedFd },
    /// Nothing: the kernel lacks the protocol, so no process can take the port.
    Nobody,
}

/// The ports that this process holds.
#[derive(Debug, Default)]
pub struct Ports {
    held: BTreeMap<HostPort, Hold>,
    /// The ranges in which nobody had a port when they were taken.
    watched: BTreeSet<HostPorts>,
    kept: KeptPorts,
}

impl Ports {
    /// Holds nothing yet; the sockets that the service manager has kept become those of their ports.
    pub fn new(kept: KeptPorts) -> Self {
        Self { kept, ..Self::default() }
    }

    /// Takes all ports or none; what is already held is no error.
    pub fn hold(&mut self, ports: &[HostPorts]) -> Result<(), KernelError> {
        let (mut fresh, mut tables) = (BTreeMap::new(), Tables::default());
        let ranges: Vec<HostPorts> = ranges(ports).filter(|range| !self.watched.contains(range)).collect();
        if let Some((port, inode)) = in_ranges(&ranges)?.first() {
            return Err(KernelError::PortTaken { port: *port, owner: PortOwner::Socket(*inode) });
        }
        for port in singles(ports).filter(|port| !self.held.contains_key(port)) {
            let held =
                self.kept.take(&port).map_or_else(|| hold(port, &mut tables), |bound| Ok(Hold::Socket { bound }));
            match held {
                Ok(held) => _ = fresh.insert(port, held),
                Err(error) => {
                    let closed: Vec<HostPort> = std::mem::take(&mut fresh).into_keys().collect();
                    self.kept.forget(&closed);
                    return Err(error);
                }
            }
        }
        self.held.extend(fresh);
        self.watched.extend(ranges);
        Ok(())
    }

    /// Fails if a process other than the container's own and that of its runtime, which started the plugin, has one of
    /// the ports. Afterwards netd holds no more of them than before.
    pub fn vacant(&self, ports: &[HostPorts], container: &ContainerId, plugin: Option<u32>) -> Result<(), KernelError> {
        let ranges: Vec<HostPorts> = ranges(ports).filter(|range| !self.watched.contains(range)).collect();
        let (mut taken, mut tables) = (in_ranges(&ranges)?, Tables::default());
        for port in singles(ports).filter(|port| !self.held.contains_key(port)) {
            match hold(port, &mut tables) {
                Err(KernelError::PortTaken { port, owner: PortOwner::Socket(inode) }) => taken.push((port, inode)),
                other => drop(other?),
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let mut own = port_owner::sockets_for(container);
        own.extend(plugin.into_iter().flat_map(port_owner::sockets_of_runtime));
        match taken.into_iter().find(|(_, inode)| !own.contains(inode)) {
            None => Ok(()),
            Some((port, inode)) => Err(KernelError::PortTaken { port, owner: PortOwner::Socket(inode) }),
        }
    }

    /// Releases the ports; a port that is not held is no error.
    pub fn release(&mut self, ports: &[HostPorts]) {
        for port in singles(ports) {
            self.held.remove(&port);
        }
        for range in ranges(ports) {
            self.watched.remove(&range);
        }
        self.kept.forget(&singles(ports).collect::<Vec<_>>());
    }

    /// Closes what the service manager gave to this daemon and no port needs.
    pub fn release_given(&mut self) {
        self.kept.forget_given();
    }

    /// Makes the port's socket receive if it is a UDP socket, and returns a duplicate of it; `None` if no socket holds
    /// the port.
    pub fn serve(&mut self, port: &HostPort) -> Result<Option<PortSocket>, KernelError> {
        let Some(Hold::Socket { bound }) = self.held.get(port) else { return Ok(None) };
        let on = || format!("{}/{} on {}", port.port, port.protocol, port.address);
        let socket = serving(bound, port).map_err(|error| {
            failed("receive what is not translated at port", on(), "see `ss -lntu` and `ulimit -n`")(error)
        })?;
        self.kept.keep(port, bound);
        Ok(Some(socket))
    }

    /// Makes the port's socket refuse everything again.
    pub fn idle(&mut self, port: &HostPort) -> Result<(), KernelError> {
        let Some(Hold::Socket { bound }) = self.held.get(port) else { return Ok(()) };
        let done = match port.protocol {
            Protocol::Tcp => listener::refuse(bound),
            Protocol::Udp | Protocol::Sctp => bpf::drop_everything(bound),
        };
        let on = format!("{}/{} on {}", port.port, port.protocol, port.address);
        done.map_err(failed("stop receiving at port", on, "see `ss -lntu`"))
    }

    /// Everything that is held. A range in which another process has taken a port is not any more.
    pub fn held(&mut self) -> Result<BTreeSet<HostPorts>, KernelError> {
        if !self.watched.is_empty() {
            let watched: Vec<HostPorts> = self.watched.iter().copied().collect();
            let taken = port_range::users(&watched)?;
            self.watched.retain(|range| !taken.iter().any(|(port, _)| port_range::contains(range, port)));
        }
        Ok(self.held.keys().filter_map(|port| port.alone()).chain(self.watched.iter().copied()).collect())
    }
}

/// A duplicate of the bound socket. UDP receives from now on; TCP stays as it is.
fn serving(bound: &OwnedFd, port: &HostPort) -> io::Result<PortSocket> {
    match port.protocol {
        Protocol::Tcp => Ok(PortSocket::Tcp(TcpListener::from(bound.try_clone()?))),
        Protocol::Udp => {
            match port.address {
                IpAddr::V4(_) => setsockopt(bound, Ipv4PacketInfo, &true)?,
                IpAddr::V6(_) => setsockopt(bound, Ipv6RecvPacketInfo, &true)?,
            }
            bpf::detach(bound)?;
            Ok(PortSocket::Udp(UdpSocket::from(bound.try_clone()?)))
        }
        Protocol::Sctp => Err(Errno::EPROTONOSUPPORT.into()),
    }
}

/// The ports that a socket each holds.
fn singles(ports: &[HostPorts]) -> impl Iterator<Item = HostPort> {
    ports.iter().filter_map(|ports| ports.single())
}

/// The ranges without sockets.
fn ranges(ports: &[HostPorts]) -> impl Iterator<Item = HostPorts> {
    ports.iter().filter(|ports| ports.single().is_none()).copied()
}

/// The ports of the ranges that other processes have. Fails if the host lacks one of the addresses.
fn in_ranges(ranges: &[HostPorts]) -> Result<Vec<(HostPort, u64)>, KernelError> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    for HostPorts { address, protocol, .. } in ranges.iter().filter(|range| !range.address.is_unspecified()) {
        // Any free port of the address.
        hold(HostPort { address: *address, protocol: *protocol, port: 0 }, &mut Tables::default())?;
    }
    port_range::users(ranges)
}

fn hold(port: HostPort, tables: &mut Tables) -> Result<Hold, KernelError> {
    match bound(port, false) {
        // The kernel permits the bind, but a broadcast address is not an address of a host.
        Ok(_) if is_broadcast(port.address) => Err(KernelError::NoAddress { address: port.address }),
        Ok(bound) => Ok(Hold::Socket { bound }),
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) if port.protocol == Protocol::Sctp => Ok(Hold::Nobody),
        Err(Errno::EAFNOSUPPORT) => Ok(Hold::Nobody),
        Err(Errno::EADDRNOTAVAIL) => Err(KernelError::NoAddress { address: port.address }),
        Err(Errno::EADDRINUSE) => {
            over_connections(port, tables).map_err(|owner| KernelError::PortTaken { port, owner })
        }
        Err(error) => {
            let on = format!("{}/{} on {}", port.port, port.protocol, port.address);
            Err(failed("bind port", on, "see `ss -lntu` and `ulimit -n`")(io::Error::from(error)))
        }
    }
}

/// Holds a port which connections only block: those that have ended and are still in TIME_WAIT, and those that the proxy
/// goes on passing on after the port was published before. Else returns who has it.
fn over_connections(port: HostPort, tables: &mut Tables) -> Result<Hold, PortOwner> {
    let sockets = tables.sockets_at(port);
    if !sockets.is_empty() {
        let own: BTreeSet<u64> = port_owner::sockets_of(std::process::id()).collect();
        if let Some(other) = sockets.iter().find(|inode| !own.contains(inode)) {
            return Err(PortOwner::Socket(*other));
        }
    }
    // The kernel refuses it if there is more than connections.
    bound(port, true).map(|bound| Hold::Socket { bound }).map_err(|_| match sockets.first() {
        Some(own) => PortOwner::Socket(*own),
        None => PortOwner::Process("a process that netd cannot see".to_owned()),
    })
}

/// Whether it is the broadcast address of one of the host's subnets. Nothing is sent for this check.
fn is_broadcast(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    if address.is_unspecified() || address.is_loopback() {
        return false;
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    // udp(7): connecting to a broadcast address needs SO_BROADCAST.
    let connected = socket.and_then(|socket| socket.connect((address, DISCARD)));
    connected.is_err_and(|error| error.raw_os_error() == Some(libc::EACCES))
}

/// `over`: bind despite connections. Such a TCP socket must listen to exclude others, and drops every connection.
fn bound(port: HostPort, over: bool) -> Result<OwnedFd, Errno> {
    let at = SocketAddr::new(port.address, port.port);
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SockType::Stream, None),
        Protocol::Udp => (SockType::Datagram, None),
        Protocol::Sctp => (SockType::Stream, Some(SockProtocol::Sctp)),
    };
    // The proxy does not wait for a duplicate of it.
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?;
    if at.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    if port.protocol == Protocol::Udp || over {
        bpf::drop_everything(&socket).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    }
    if over {
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    match port.protocol {
        Protocol::Tcp if over => listen(&socket, Backlog::new(1)?)?,
        // From now on nobody shares the port.
        Protocol::Udp if over => setsockopt(&socket, ReuseAddr, &false)?,
        _ => {}
    }
    Ok(socket)
}

#[cfg(test)]
mod tests;
