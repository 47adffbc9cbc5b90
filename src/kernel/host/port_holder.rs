//! Held host ports: a bound socket for each, so that netd and another process cannot use the same port unnoticed.
//!
//! A TCP port is bound without `SO_REUSEADDR` and without listening: a process that binds it gets EADDRINUSE, and what
//! the firewall does not translate (`[::1]`) gets a reset, as it would without the socket. A UDP socket drops everything
//! that it receives. Where netd itself passes on what is not translated, the socket *serves* instead: TCP listens, UDP
//! receives.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen, setsockopt,
    shutdown, socket,
};

use super::kept_ports::KeptPorts;
use super::port_owner::{self, PortOwner, Tables};
use crate::kernel::netlink::socket::failed;
use crate::kernel::{KernelError, PortSocket};
use crate::model::host::step::HostPort;
use crate::model::ids::ContainerId;
use crate::model::publication::Protocol;
use crate::os::bpf;

/// Any port (RFC 863); nothing is sent there.
const DISCARD: u16 = 9;

/// Connections that wait until netd accepts them.
const BACKLOG: i32 = 1024;

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
    kept: KeptPorts,
}

impl Ports {
    /// Holds nothing yet; the sockets that the service manager has kept become those of their ports.
    pub fn new(kept: KeptPorts) -> Self {
        Self { held: BTreeMap::new(), kept }
    }

    /// Binds all ports or none; a port that is already held is no error.
    pub fn hold(&mut self, ports: &[HostPort]) -> Result<(), KernelError> {
        let (mut fresh, mut tables) = (BTreeMap::new(), Tables::default());
        for port in ports.iter().filter(|port| !self.held.contains_key(port)) {
            let held =
                self.kept.take(port).map_or_else(|| hold(*port, &mut tables), |bound| Ok(Hold::Socket { bound }));
            match held {
                Ok(held) => _ = fresh.insert(*port, held),
                Err(error) => {
                    let closed: Vec<HostPort> = std::mem::take(&mut fresh).into_keys().collect();
                    self.kept.forget(&closed);
                    return Err(error);
                }
            }
        }
        self.held.extend(fresh);
        Ok(())
    }

    /// Fails if a process other than the container's own has one of the ports. Afterwards netd holds no more of them
    /// than before.
    pub fn vacant(&self, ports: &[HostPort], container: &ContainerId) -> Result<(), KernelError> {
        let (mut taken, mut tables) = (Vec::new(), Tables::default());
        for port in ports.iter().filter(|port| !self.held.contains_key(port)) {
            match hold(*port, &mut tables) {
                Err(KernelError::PortTaken { port, owner: PortOwner::Socket(inode) }) => taken.push((port, inode)),
                other => drop(other?),
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let own = port_owner::sockets_for(container);
        match taken.into_iter().find(|(_, inode)| !own.contains(inode)) {
            None => Ok(()),
            Some((port, inode)) => Err(KernelError::PortTaken { port, owner: PortOwner::Socket(inode) }),
        }
    }

    /// Releases the ports; a port that is not held is no error.
    pub fn release(&mut self, ports: &[HostPort]) {
        for port in ports {
            self.held.remove(port);
        }
        self.kept.forget(ports);
    }

    /// Closes what the service manager gave to this daemon and no port needs.
    pub fn release_given(&mut self) {
        self.kept.forget_given();
    }

    /// Makes the port's socket receive, and returns a duplicate of it; `None` if no socket holds the port.
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
            // A socket that listened stays bound (tcp_disconnect in the kernel's net/ipv4/tcp.c).
            Protocol::Tcp => shutdown(bound.as_raw_fd(), Shutdown::Read)
                .and_then(|()| setsockopt(bound, ReuseAddr, &false))
                .map_err(io::Error::from),
            Protocol::Udp | Protocol::Sctp => bpf::drop_everything(bound),
        };
        let on = format!("{}/{} on {}", port.port, port.protocol, port.address);
        done.map_err(failed("stop receiving at port", on, "see `ss -lntu`"))
    }

    /// Every port that is held.
    pub fn held(&self) -> BTreeSet<HostPort> {
        self.held.keys().copied().collect()
    }
}

/// A duplicate of the bound socket, which receives from now on.
fn serving(bound: &OwnedFd, port: &HostPort) -> io::Result<PortSocket> {
    match port.protocol {
        Protocol::Tcp => {
            // What it accepts inherits this: ended connections must not keep the port from being bound again. While it
            // listens, no other process can bind the port in spite of it.
            setsockopt(bound, ReuseAddr, &true)?;
            listen(bound, Backlog::new(BACKLOG)?)?;
            // One that was bound over ended connections drops everything so far.
            bpf::detach(bound)?;
            let listener = TcpListener::from(bound.try_clone()?);
            listener.set_nonblocking(true)?;
            Ok(PortSocket::Tcp(listener))
        }
        Protocol::Udp => {
            match port.address {
                IpAddr::V4(_) => setsockopt(bound, Ipv4PacketInfo, &true)?,
                IpAddr::V6(_) => setsockopt(bound, Ipv6RecvPacketInfo, &true)?,
            }
            bpf::detach(bound)?;
            let socket = UdpSocket::from(bound.try_clone()?);
            socket.set_nonblocking(true)?;
            Ok(PortSocket::Udp(socket))
        }
        Protocol::Sctp => Err(Errno::EPROTONOSUPPORT.into()),
    }
}

fn hold(port: HostPort, tables: &mut Tables) -> Result<Hold, KernelError> {
    match bound(port, false) {
        // The kernel permits the bind, but a broadcast address is not an address of a host.
        Ok(_) if is_broadcast(port.address) => Err(KernelError::NoAddress { address: port.address }),
        Ok(bound) => Ok(Hold::Socket { bound }),
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) if port.protocol == Protocol::Sctp => Ok(Hold::Nobody),
        Err(Errno::EAFNOSUPPORT) => Ok(Hold::Nobody),
        Err(Errno::EADDRNOTAVAIL) => Err(KernelError::NoAddress { address: port.address }),
        Err(Errno::EADDRINUSE) => match tables.socket_of(port) {
            Some(inode) => Err(KernelError::PortTaken { port, owner: PortOwner::Socket(inode) }),
            // Only connections that have ended and are still in TIME_WAIT block the port.
            None => bound(port, true).map(|bound| Hold::Socket { bound }).map_err(|_| {
                let owner = PortOwner::Process("a process that netd cannot see".to_owned());
                KernelError::PortTaken { port, owner }
            }),
        },
        Err(error) => {
            let on = format!("{}/{} on {}", port.port, port.protocol, port.address);
            Err(failed("bind port", on, "see `ss -lntu` and `ulimit -n`")(io::Error::from(error)))
        }
    }
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

/// `over_ended`: bind despite connections in TIME_WAIT. Such a socket must listen to exclude others, and drops every
/// connection.
fn bound(port: HostPort, over_ended: bool) -> Result<OwnedFd, Errno> {
    let at = SocketAddr::new(port.address, port.port);
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SockType::Stream, None),
        Protocol::Udp => (SockType::Datagram, None),
        Protocol::Sctp => (SockType::Stream, Some(SockProtocol::Sctp)),
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    if at.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    if port.protocol == Protocol::Udp || over_ended {
        bpf::drop_everything(&socket).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    }
    if over_ended && port.protocol == Protocol::Tcp {
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    if over_ended && port.protocol == Protocol::Tcp {
        listen(&socket, Backlog::new(1)?)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use netd_testing::wait::until;

    use super::*;
    use crate::kernel::testing::lab::{in_own_netns, ip};

    fn port(address: &str, protocol: Protocol, port: u16) -> HostPort {
        HostPort { address: address.parse().unwrap(), protocol, port }
    }

    fn kind(error: &io::Error) -> io::ErrorKind {
        error.kind()
    }

    #[test]
    fn a_held_port_is_nobody_elses_until_it_is_released() {
        in_own_netns(|| {
            ip("link set lo up");
            let mut ports = Ports::default();
            let held = [port("0.0.0.0", Protocol::Tcp, 4000), port("::", Protocol::Udp, 4000)];
            ports.hold(&held).unwrap();
            ports.hold(&held).unwrap();
            assert_eq!(kind(&TcpListener::bind("127.0.0.1:4000").unwrap_err()), io::ErrorKind::AddrInUse);
            assert_eq!(kind(&UdpSocket::bind("[::1]:4000").unwrap_err()), io::ErrorKind::AddrInUse);
            assert_eq!(kind(&TcpStream::connect("127.0.0.1:4000").unwrap_err()), io::ErrorKind::ConnectionRefused);
            ports.release(&held);
            freed(|| TcpListener::bind("127.0.0.1:4000"));
            freed(|| UdpSocket::bind("[::1]:4000"));
        });
    }

    fn owner(error: &mut KernelError) -> &mut PortOwner {
        match error {
            KernelError::PortTaken { owner, .. } => owner,
            other => panic!("{other}"),
        }
    }

    /// Who asks for many ports costs one search: the owner is named later, and not on the engine's thread.
    #[test]
    fn the_ports_of_the_containers_own_process_are_vacant_to_it() {
        in_own_netns(|| {
            ip("link set lo up");
            let asked: Vec<HostPort> = (4010..4014).map(|number| port("127.0.0.1", Protocol::Tcp, number)).collect();
            let listener = |port: &HostPort| TcpListener::bind((port.address, port.port)).unwrap();
            let sockets = || asked[..3].iter().map(listener).map(|socket| Stdio::from(OwnedFd::from(socket)));
            // A process that has them, as Podman's conmon does.
            let mut command = Command::new("sh");
            command.args(["-c", "kill -STOP $$", "conmon", "0123456789abcdef"]);
            let mut sockets = sockets();
            let mut next = || sockets.next().unwrap();
            let mut process = command.stdin(next()).stdout(next()).stderr(next()).spawn().unwrap();
            drop(command);
            // Its command line is readable some time after the exec that `spawn` waits for.
            let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap());
            nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).unwrap();
            let vacant = |container: &str| Ports::default().vacant(&asked, &container.parse().unwrap());
            let (own, others) = (vacant("0123456789abcdef"), vacant("fedcba9876543210"));
            let mut error = others.unwrap_err();
            assert!(matches!(owner(&mut error), PortOwner::Socket(_)), "not searched for as yet: {error}");
            port_owner::find(&mut [owner(&mut error)]);
            process.kill().unwrap();
            process.wait().unwrap();
            own.unwrap();
            let error = error.to_string();
            let named = error.starts_with("port 4010/tcp on 127.0.0.1 is in use by ") && error.contains(" (pid ");
            assert!(named, "{error}");
        });
    }

    /// Programs that other tests start have copies of these sockets between fork and exec.
    fn freed<T>(bind: impl Fn() -> io::Result<T>) {
        until("the port is free", bind);
    }

    #[test]
    fn a_taken_port_names_its_owner_and_holds_none_of_the_others() {
        in_own_netns(|| {
            ip("link set lo up");
            let _process = TcpListener::bind("127.0.0.1:4001").unwrap();
            let _dual = UdpSocket::bind("[::]:4002").unwrap();
            let mut ports = Ports::default();
            let asked = [port("0.0.0.0", Protocol::Tcp, 4000), port("0.0.0.0", Protocol::Tcp, 4001)];
            let mut first = ports.hold(&asked).unwrap_err();
            let mut second = ports.hold(&[port("127.0.0.1", Protocol::Udp, 4002)]).unwrap_err();
            assert!(!second.to_string().contains("(pid"), "no search as yet: {second}");
            let mut owners = [owner(&mut first), owner(&mut second)];
            port_owner::find(&mut owners);
            let error = first.to_string();
            let me = format!("(pid {})", std::process::id());
            assert!(error.starts_with("port 4001/tcp on 0.0.0.0 is in use by ") && error.contains(&me), "{error}");
            freed(|| TcpListener::bind("127.0.0.1:4000"));
            assert!(second.to_string().contains(&me), "one search names both: {second}");
            ip("link add up0 type bridge");
            ip("address add 192.0.2.1/24 dev up0");
            ip("link set up0 up");
            for absent in ["192.0.2.77", "192.0.2.255"] {
                let error = ports.hold(&[port(absent, Protocol::Tcp, 80)]).unwrap_err();
                assert!(matches!(error, KernelError::NoAddress { .. }), "{error}");
            }
            ports.hold(&[port("192.0.2.1", Protocol::Tcp, 80)]).unwrap();
        });
    }

    #[test]
    fn ended_connections_do_not_stand_in_the_way() {
        in_own_netns(|| {
            ip("link set lo up");
            let listener = TcpListener::bind("127.0.0.1:4003").unwrap();
            let client = TcpStream::connect("127.0.0.1:4003").unwrap();
            let (server, _) = listener.accept().unwrap();
            // The side that closes first keeps the port in TIME_WAIT.
            drop(server);
            drop((client, listener));
            let mut ports = Ports::default();
            ports.hold(&[port("0.0.0.0", Protocol::Tcp, 4003)]).unwrap();
            assert_eq!(kind(&TcpListener::bind("127.0.0.1:4003").unwrap_err()), io::ErrorKind::AddrInUse);
        });
    }
}
