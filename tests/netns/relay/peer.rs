//! Programs that discover and are discovered: sockets in a namespace, and messages made by hand.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrStorage, recvmsg, setsockopt,
    socket, sockopt,
};

use crate::lab::space;

/// How long a message may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the relay needs at most from a new interface to its first message.
const BEGIN: Duration = Duration::from_secs(10);

pub(crate) const MDNS4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353);
pub(crate) const MDNS6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb)), 5353);
pub(crate) const SSDP4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900);
pub(crate) const SSDP6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc)), 1900);

/// A socket on an interface.
pub(crate) struct Peer {
    socket: UdpSocket,
    interface: u32,
    group: SocketAddr,
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) payload: Vec<u8>,
    pub(crate) from: SocketAddr,
    /// Its time to live or hop limit.
    pub(crate) hops: i32,
}

impl Peer {
    /// A member of the group that listens at its port, as a responder does.
    pub(crate) fn new(ns: &str, ifname: &str, group: SocketAddr) -> Self {
        Self::open(ns, ifname, group, group.port())
    }

    /// One with a port of its own, who gets answers by unicast only.
    pub(crate) fn asker(ns: &str, ifname: &str, group: SocketAddr) -> Self {
        Self::open(ns, ifname, group, 0)
    }

    /// One with this port of its own.
    pub(crate) fn asker_from(ns: &str, ifname: &str, group: SocketAddr, port: u16) -> Self {
        Self::open(ns, ifname, group, port)
    }

    fn open(ns: &str, ifname: &str, group: SocketAddr, port: u16) -> Self {
        space::inside(ns, || {
            let interface = if_nametoindex(ifname).unwrap_or_else(|error| panic!("{ifname} in {ns}: {error}"));
            let family = if group.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
            setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
            setsockopt(&socket, sockopt::BindToDevice, &ifname.into()).unwrap();
            let any: IpAddr = match group {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, port))).unwrap();
            match group {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvTtl, &true).unwrap(),
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true).unwrap(),
            }
            let peer = Self { socket: UdpSocket::from(socket), interface, group };
            if port != 0 {
                peer.join(ns, ifname);
            }
            peer
        })
    }

    fn join(&self, ns: &str, ifname: &str) {
        match self.group.ip() {
            IpAddr::V6(group) => self.socket.join_multicast_v6(&group, self.interface).unwrap(),
            // By the address: the standard library takes no index.
            IpAddr::V4(group) => {
                let own = nix::ifaddrs::getifaddrs().unwrap().find_map(|one| {
                    (one.interface_name == ifname).then(|| one.address?.as_sockaddr_in().map(SockaddrIn::ip))?
                });
                let own = own.unwrap_or_else(|| panic!("{ifname} in {ns} has no address"));
                self.socket.join_multicast_v4(&group, &own).unwrap();
            }
        }
        // It is no other than itself whom it hears.
        match self.group {
            SocketAddr::V4(_) => self.socket.set_multicast_loop_v4(false).unwrap(),
            SocketAddr::V6(_) => self.socket.set_multicast_loop_v6(false).unwrap(),
        }
    }

    /// Sends to the group.
    pub(crate) fn spread(&self, payload: &[u8]) {
        let to = match self.group {
            SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, self.interface).into(),
            v4 => v4,
        };
        self.send(payload, to);
    }

    /// Sends to one.
    pub(crate) fn send(&self, payload: &[u8], to: SocketAddr) {
        // Fails for a moment while an IPv6 address is new; callers repeat.
        let _ = self.socket.send_to(payload, to);
    }

    /// The next message, until this time.
    fn next(&self, until: Instant) -> Option<Got> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).unwrap();
        let mut buffer = [0; 9000];
        let mut control = cmsg_space!(i32);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let fd = self.socket.as_raw_fd();
        let got = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::empty()).ok()?;
        let from = got.address.as_ref().unwrap();
        let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
            (Some(v4), _) => SocketAddr::V4((*v4).into()),
            (_, Some(v6)) => SocketAddr::V6((*v6).into()),
            _ => panic!("{from:?}"),
        };
        let hops = got.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4Ttl(ttl) => Some(ttl),
            ControlMessageOwned::Ipv6HopLimit(limit) => Some(limit),
            _ => None,
        });
        let (bytes, hops) = (got.bytes, hops.expect("a time to live"));
        Some(Got { payload: buffer[..bytes].to_vec(), from, hops })
    }

    /// Waits for the message; others before it are left out.
    #[track_caller]
    pub(crate) fn expect(&self, payload: &[u8]) -> Got {
        let mut others = Vec::new();
        let until = Instant::now() + PATIENCE;
        while let Some(got) = self.next(until) {
            if got.payload == payload {
                return got;
            }
            others.push(got);
        }
        panic!("{:?} did not arrive; others: {others:#?}", String::from_utf8_lossy(payload));
    }

    /// All messages until this one arrives.
    #[track_caller]
    pub(crate) fn all_until(&self, payload: &[u8]) -> Vec<Vec<u8>> {
        let (mut before, until) = (Vec::new(), Instant::now() + PATIENCE);
        while let Some(got) = self.next(until) {
            if got.payload == payload {
                return before;
            }
            before.push(got.payload);
        }
        let others = &before[..before.len().min(10)];
        panic!("{:?} did not arrive; {} others: {others:?}", String::from_utf8_lossy(payload), before.len());
    }

    /// What arrives within this time.
    pub(crate) fn within(&self, time: Duration) -> Vec<Vec<u8>> {
        let until = Instant::now() + time;
        std::iter::from_fn(|| self.next(until)).map(|got| got.payload).collect()
    }
}

/// Waits until what one spreads reaches the other.
#[track_caller]
pub(crate) fn until_relayed(from: &Peer, to: &Peer) {
    let end = Instant::now() + BEGIN;
    let mut sent = Vec::new();
    while Instant::now() < end {
        let message = match from.group.port() {
            5353 => question(&name("begin"), 1),
            _ => notify(&name("begin")),
        };
        from.spread(&message);
        sent.push(message);
        let got = to.next(Instant::now() + Duration::from_millis(100));
        if got.is_some_and(|got| sent.contains(&got.payload)) {
            return;
        }
    }
    panic!("nothing is relayed within {BEGIN:?}");
}

/// A name that no other message has.
pub(crate) fn name(what: &str) -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn record(name: &str, class: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in [name, "local"] {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1]);
    bytes.extend(class.to_be_bytes());
    bytes
}

/// A question for the address of `NAME.local`.
pub(crate) fn question(name: &str, class: u16) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(record(name, class));
    message
}

/// The response that it is 192.0.2.99.
pub(crate) fn response(name: &str) -> Vec<u8> {
    let mut message = vec![0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    message.extend(record(name, 0x8001));
    message.extend([0, 0, 0, 120, 0, 4, 192, 0, 2, 99]);
    message
}

/// The announcement of a device.
pub(crate) fn notify(name: &str) -> Vec<u8> {
    format!(
        "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nNT: upnp:rootdevice\r\nNTS: ssdp:alive\r\n\
         USN: uuid:{name}::upnp:rootdevice\r\nLOCATION: http://192.0.2.99/{name}.xml\r\n\r\n"
    )
    .into_bytes()
}

/// A search for devices.
pub(crate) fn search(name: &str, mx: u8) -> Vec<u8> {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: {mx}\r\nST: {name}\r\n\r\n"
    )
    .into_bytes()
}

/// The answer of a device to a search.
pub(crate) fn found(name: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nST: {name}\r\nUSN: uuid:{name}\r\nLOCATION: http://192.0.2.99/{name}.xml\r\n\r\n")
        .into_bytes()
}
