//! Datagrams with the address of this host to which they were sent, and datagrams that are sent from a given one: a
//! socket that is bound to all addresses must reply from the one that its client knows (ip(7), `IP_PKTINFO`; RFC 3542,
//! section 6).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrLike as _, SockaddrStorage, recvmsg, sendmsg,
};

/// The address of this host to which a datagram was sent, and the interface of a link-local one (else 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    interface: u32,
}

impl Local {
    /// This address with a port.
    pub fn with_port(self, port: u16) -> SocketAddr {
        match self.address {
            IpAddr::V4(address) => SocketAddrV4::new(address, port).into(),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, self.interface).into(),
        }
    }
}

/// Receives a datagram into the buffer. Returns its length, its source, and to which address it was sent; `None` if the
/// socket does not report it.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<Local>)> {
    let mut control = cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let from = message.address.as_ref().and_then(socket_address);
    let from = from.ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
    let at = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let address = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            Some(Local { address: address.into(), interface: 0 })
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let interface = if address.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
            Some(Local { address: address.into(), interface })
        }
        _ => None,
    });
    Ok((message.bytes, from, at))
}

/// Sends a datagram from that address of this host.
pub fn send(socket: impl AsFd, datagram: &[u8], to: SocketAddr, from: Option<Local>) -> io::Result<()> {
    let parts = [IoSlice::new(datagram)];
    let to = SockaddrStorage::from(to);
    let fd = socket.as_fd().as_raw_fd();
    let sent = match from {
        None => sendmsg(fd, &parts, &[], MsgFlags::MSG_DONTWAIT, Some(&to)),
        Some(Local { address: IpAddr::V4(address), .. }) => {
            let address = libc::in_addr { s_addr: u32::from(address).to_be() };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address };
            sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], MsgFlags::MSG_DONTWAIT, Some(&to))
        }
        Some(Local { address: IpAddr::V6(address), interface }) => {
            let address = libc::in6_addr { s6_addr: address.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: interface };
            sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], MsgFlags::MSG_DONTWAIT, Some(&to))
        }
    };
    sent.map(drop).map_err(io::Error::from)
}

/// The address; `None` of another family than IPv4 and IPv6.
pub fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => Some(SocketAddrV4::from(*address.as_sockaddr_in()?).into()),
        nix::sys::socket::AddressFamily::Inet6 => Some(SocketAddrV6::from(*address.as_sockaddr_in6()?).into()),
        _ => None,
    }
}
