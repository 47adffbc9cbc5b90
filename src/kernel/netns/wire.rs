//! Sockets for whole frames of an interface in a container (packet(7)): an interface without an address has no other way
//! to speak to a DHCP server.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, recv, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Visit, another, open_exactly, same_cookie, visit};
use crate::kernel::KernelError;
use crate::kernel::netlink::socket::failed;
use crate::model::endpoint::Netns;
use crate::model::names::IfName;
use crate::os::bpf;

const LOOK: &str = "see `ip link` in the container";
/// Bytes of the largest frame that is taken; answers of DHCP servers have at most 576 unless they are asked for more.
pub const LARGEST: usize = 2048;
/// The port of clients.
const CLIENT: u32 = 68;
/// Where Ethernet's header ends, and where IPv4 has its protocol.
const ETHERNET: u32 = 14;
const PROTOCOL: u32 = ETHERNET + 9;
/// How often a frame that cannot be sent for now is tried again.
const TRIES: usize = 3;

/// Opens a socket on the interface, which does not block and receives what comes for clients of DHCP. It keeps the
/// namespace alive.
pub fn open(netns: &Netns, ifname: &IfName) -> Result<OwnedFd, KernelError> {
    let namespace = open_exactly(netns)?;
    let (exactly, name) = (netns.clone(), ifname.clone());
    let opened = visit(namespace, move || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // No protocol: nothing is received until it is bound.
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        if !same_cookie(&exactly, &socket) {
            return Ok(None);
        }
        bpf::attach(&socket, &mut for_clients())?;
        bind(socket.as_raw_fd(), &on_interface(if_nametoindex(name.as_str())?)?)?;
        Ok(Some(socket))
    });
    let on = || format!("{ifname} in {}", netns.path.display());
    let opened = opened.and_then(Visit::end).map_err(failed("open a socket on", on(), LOOK))?;
    opened.ok_or_else(|| another(netns))
}

/// Has the runtime tell when something can be received. Must be called within it.
pub fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, and stays open and the same until it is dropped together with its registration:
    // nothing replaces what is within.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Sends one frame from the interface.
pub fn send(netns: &Netns, ifname: &IfName, frame: &[u8]) -> Result<(), KernelError> {
    let socket = open(netns, ifname)?;
    let on = || format!("{ifname} in {}", netns.path.display());
    send_on(&socket, frame).map_err(failed("send a frame from", on(), LOOK))
}

/// Sends a frame.
pub fn send_on(socket: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..TRIES {
        last = nix::sys::socket::send(socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT).map(drop);
        match last {
            Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EINTR) => {}
            _ => break,
        }
    }
    Ok(last?)
}

/// Receives a frame; one that is too large is cut off.
pub fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8; LARGEST]) -> io::Result<&'a [u8]> {
    let length = recv(socket.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
    Ok(&buffer[..length])
}

/// Keeps datagrams of UDP to the port of clients, and drops the rest before it is queued.
fn for_clients() -> [libc::sock_filter; 7] {
    [
        bpf::statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, PROTOCOL),
        bpf::if_equal(libc::IPPROTO_UDP.unsigned_abs(), 0, 4),
        // The length of IPv4's header.
        bpf::statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, ETHERNET),
        bpf::statement(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, ETHERNET + 2),
        bpf::if_equal(CLIENT, 0, 1),
        bpf::returns(LARGEST as u32),
        bpf::returns(0),
    ]
}

/// IPv4 on the interface with that index.
fn on_interface(index: u32) -> io::Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let size = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer leads to an address of that size, which is copied.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(size)) };
    address.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netns::identify;
    use crate::kernel::testing::lab::{Parked, ip};
    use crate::logic::dhcp::frame::{EVERYBODY, Ends, wrap};

    #[test]
    fn a_frame_to_a_client_arrives_and_no_other_one() {
        let container = Parked::new();
        container.run(|| {
            ip("link add eth0 type veth peer name eth1");
            ip("link set eth0 up");
            ip("link set eth1 up");
        });
        let netns = identify(&container.path).unwrap();
        let [one, other]: [IfName; 2] = ["eth0", "eth1"].map(|name| name.parse().unwrap());
        let socket = open(&netns, &one).unwrap();
        let (mac, nowhere) = ("02:00:00:00:00:01".parse().unwrap(), std::net::Ipv4Addr::UNSPECIFIED);
        let mut frame = wrap(Ends { mac, from: nowhere, to_mac: EVERYBODY, to: nowhere }, b"message");
        send(&netns, &other, &frame).unwrap();
        frame[37] = 68;
        send(&netns, &other, &frame).unwrap();
        let mut buffer = [0; LARGEST];
        let deadline = crate::base::deadline::Deadline::after(std::time::Duration::from_secs(5));
        let mut got = receive(&socket, &mut buffer).map(<[u8]>::to_vec);
        while got.is_err() && deadline.pause(std::time::Duration::from_millis(1)) {
            got = receive(&socket, &mut buffer).map(<[u8]>::to_vec);
        }
        assert_eq!(got.unwrap(), frame, "the one to a server was dropped");
        drop(container);
        assert!(matches!(open(&netns, &one), Err(KernelError::NoNetns { .. })));
    }
}
