//! Sockets of one interface for multicast: a tap that sees the datagrams that arrive there, and sockets that send there.
//!
//! The tap is a packet socket (packet(7)): other programs that use the same ports do not notice it, it takes no unicast
//! datagram away from them, it sees nothing that this host sends, and firewalls decide about copies for the host's own
//! programs only. What it does not see: datagrams in fragments, and IPv6 with extension headers.
#![allow(unsafe_code, reason = "the address of a packet socket and struct ip_mreqn have no safe wrapper")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc::{self, sock_filter};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, socket, sockopt};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::bpf;
use crate::model::address::Family;

/// Bytes that may wait in a tap, as the kernel counts them (some 1,000 messages): a burst of one sender must not push out those
/// of others before it is read.
const QUEUE: usize = 1 << 20;

/// The ports of the datagrams that a tap keeps.
#[derive(Debug, Clone)]
pub struct Ports<'a> {
    /// Single ones.
    pub single: &'a [u16],
    /// Those of own sockets.
    pub range: RangeInclusive<u16>,
}

/// The tap of an interface for one address family.
#[derive(Debug)]
pub struct Tap {
    socket: AsyncFd<OwnedFd>,
    interface: u32,
}

/// How a datagram was addressed on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// To this host.
    Unicast,
    /// To a group.
    Multicast,
}

impl Tap {
    /// Opens it, in a runtime; it sees whole UDP datagrams to these ports, each from its IP header on.
    pub fn open(interface: u32, family: Family, ports: &Ports<'_>) -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: three numbers go in, a descriptor or -1 comes out. Without a protocol it receives nothing yet.
        let descriptor = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened it, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        bpf::attach(&socket, &mut program(family, ports)?)?;
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)?;
        let protocol = match family {
            Family::V4 => libc::ETH_P_IP,
            Family::V6 => libc::ETH_P_IPV6,
        };
        // SAFETY: all zeros is a valid value of this C structure of numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex = index(interface)?;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address lives until the call returns, and the length is its own.
        if unsafe { libc::bind(descriptor, (&raw const address).cast(), length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is owned by `socket`, which stays in the AsyncFd until both are dropped.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, interface })
    }

    /// Waits for a datagram, as `receive_now`.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Cast)>> {
        self.socket.async_io(Interest::READABLE, |_| self.receive_now(buffer)).await
    }

    /// Receives a datagram into the buffer: how many bytes it has, and how it was addressed. `None`: it is not for this
    /// host, came over another interface (a VLAN on top of this one), or is longer than the buffer.
    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Cast)>> {
        // SAFETY: as above.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: pointers and lengths describe the buffer and live locals.
        let received = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                (&raw mut address).cast(),
                &raw mut length,
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let cast = match address.sll_pkttype {
            libc::PACKET_HOST => Cast::Unicast,
            libc::PACKET_MULTICAST => Cast::Multicast,
            _ => return Ok(None),
        };
        let is_here = u32::try_from(address.sll_ifindex) == Ok(self.interface);
        Ok((is_here && received <= buffer.len()).then_some((received, cast)))
    }
}

fn index(interface: u32) -> io::Result<i32> {
    i32::try_from(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))
}

/// A filter that keeps whole UDP datagrams to these ports. The data begins with the IP header.
fn program(family: Family, ports: &Ports<'_>) -> io::Result<Vec<sock_filter>> {
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const UDP: u32 = libc::IPPROTO_UDP as u32;
    /// More fragments, and the offset of one (RFC 791, 3.1).
    const FRAGMENT: u32 = 0x3fff;
    let jump = |what: u32, k: u32, jt: u8, jf: u8| sock_filter {
        code: (libc::BPF_JMP | what | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let drop = bpf::returns(0);
    let mut program = match family {
        Family::V4 => vec![
            bpf::statement(LOAD_BYTE, 9),
            bpf::if_equal(UDP, 1, 0),
            drop,
            bpf::statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 6),
            jump(libc::BPF_JSET, FRAGMENT, 0, 1),
            drop,
            bpf::statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0),
            bpf::statement(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 2),
        ],
        Family::V6 => vec![
            bpf::statement(LOAD_BYTE, 6),
            bpf::if_equal(UDP, 1, 0),
            drop,
            bpf::statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 42),
        ],
    };
    for port in ports.single {
        program.extend([bpf::if_equal(u32::from(*port), 0, 1), bpf::returns(u32::MAX)]);
    }
    program.extend([
        jump(libc::BPF_JGE, u32::from(*ports.range.start()), 1, 0),
        drop,
        jump(libc::BPF_JGT, u32::from(*ports.range.end()), 0, 1),
        drop,
        bpf::returns(u32::MAX),
    ]);
    Ok(program)
}

/// A socket that sends from this address and port to an interface, and receives nothing: with `hops` as the time to live
/// of all that it sends. Others may have the same port.
pub fn sender(name: &str, from: SocketAddr, hops: u8, shared: bool) -> io::Result<UdpSocket> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    bpf::drop_everything(&socket)?;
    setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
    setsockopt(&socket, sockopt::ReuseAddr, &shared)?;
    let (level, options) = match from {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, [libc::IP_TTL, libc::IP_MULTICAST_TTL]),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, [libc::IPV6_UNICAST_HOPS, libc::IPV6_MULTICAST_HOPS]),
    };
    if from.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    for option in options {
        set(&socket, level, option, &libc::c_int::from(hops))?;
    }
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    Ok(UdpSocket::from(socket))
}

/// Joins groups on an interface, as long as the socket exists, so that switches and bridges deliver what is sent to them.
pub fn join(interface: u32, groups: impl IntoIterator<Item = IpAddr>, family: Family) -> io::Result<UdpSocket> {
    let domain = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    // Not bound: nothing is delivered to it.
    let socket = UdpSocket::from(socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?);
    for group in groups {
        match group {
            IpAddr::V6(group) => socket.join_multicast_v6(&group, interface)?,
            IpAddr::V4(group) => {
                let address = |ip: Ipv4Addr| libc::in_addr { s_addr: u32::from(ip).to_be() };
                let request = libc::ip_mreqn {
                    imr_multiaddr: address(group),
                    imr_address: address(Ipv4Addr::UNSPECIFIED),
                    imr_ifindex: index(interface)?,
                };
                set(&socket, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request)?;
            }
        }
    }
    Ok(socket)
}

fn set<T>(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value lives until the call returns, and the length is its own; callers pass the type of the option.
    let result =
        unsafe { libc::setsockopt(fd, level, option, (&raw const *value).cast(), size_of::<T>() as libc::socklen_t) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
