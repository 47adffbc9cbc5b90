//! Sockets of gateways that the service manager keeps while no daemon runs (`FDSTORE`, sd_pid_notify_with_fds(3)):
//! questions that arrive meanwhile wait in them, and the next daemon answers.
//!
//! Each socket has a name, `dns-ADDRESS-udpN` or `dns-ADDRESS-tcpN`. `N` is the place of a shard in its group, and with
//! TCP the number of shards. Colons are not allowed in names, so IPv6 addresses have `_` instead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::socket::sockopt::{AcceptConn, SockType as Type};
use nix::sys::socket::{SockType, getsockopt};

use super::shards;
use crate::kernel::DnsSockets;
use crate::os::service::Manager;
use crate::os::sys;

const PREFIX: &str = "dns-";

/// The service manager, and what it keeps.
#[derive(Debug, Default)]
pub struct Kept {
    manager: Manager,
    /// What it gave to this daemon and what was not taken yet, by the gateway in the name.
    given: BTreeMap<IpAddr, Vec<(Place, OwnedFd)>>,
    /// The names of the sockets that it has, by gateway.
    names: BTreeMap<IpAddr, Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Udp(usize),
    /// Beside so many UDP sockets.
    Tcp(usize),
}

impl Kept {
    /// `given`: the descriptors with which this daemon was started, with their names. Others than these sockets are
    /// closed.
    pub fn new(manager: Manager, given: Vec<(String, OwnedFd)>) -> Self {
        let mut kept = Self { manager, ..Self::default() };
        for (name, descriptor) in given {
            if let Some((address, place)) = parse(&name) {
                kept.given.entry(address).or_default().push((place, descriptor));
                kept.names.entry(address).or_default().push(name);
            }
        }
        kept
    }

    /// The sockets of this gateway, if they are complete and bound to this port.
    pub(in crate::kernel) fn take(&mut self, address: IpAddr, port: u16) -> Option<DnsSockets> {
        let sockets = self.given.remove(&address)?;
        let taken = whole(address, port, sockets);
        if taken.is_none() {
            tracing::info!(%address, "the service manager's sockets of the name service are of no use here");
            self.forget(&[address]);
        }
        taken
    }

    /// Has the service manager keep them too. If it does not listen, the engine waits for it once, and the next daemon
    /// takes no part of a set.
    pub(in crate::kernel) fn keep(&mut self, sockets: &DnsSockets) {
        let udp = sockets.udp.iter().enumerate().map(|(place, socket)| (Place::Udp(place), socket.as_fd()));
        let mut names = Vec::new();
        for (place, descriptor) in udp.chain([(Place::Tcp(sockets.udp.len()), sockets.tcp.as_fd())]) {
            let name = name(sockets.address, place);
            let kept = self.manager.keep(&name, descriptor);
            names.push(name);
            if let Err(error) = kept {
                tracing::warn!(%error, address = %sockets.address, "the service manager keeps no sockets of the name service");
                break;
            }
        }
        self.names.insert(sockets.address, names);
    }

    /// Has the service manager close those of all other gateways. When it returns, their ports are free, as far as the
    /// service manager answers soon.
    pub(in crate::kernel) fn only(&mut self, gateways: &BTreeSet<IpAddr>) {
        let others: Vec<IpAddr> = self.names.keys().filter(|address| !gateways.contains(address)).copied().collect();
        if !others.is_empty() {
            self.forget(&others);
        }
    }

    fn forget(&mut self, addresses: &[IpAddr]) {
        self.given.retain(|address, _| !addresses.contains(address));
        let names = addresses.iter().filter_map(|address| self.names.remove(address)).flatten();
        if let Err(error) = self.manager.discard(names) {
            tracing::warn!(%error, "the service manager did not confirm that it closed sockets of the name service");
        }
    }
}

/// Puts the sockets of a gateway together.
fn whole(address: IpAddr, port: u16, mut sockets: Vec<(Place, OwnedFd)>) -> Option<DnsSockets> {
    let own = sys::netns_cookie(UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).ok()?);
    sockets.sort_by_key(|(place, _)| *place);
    let (mut udp, mut tcp) = (Vec::new(), None);
    for (place, descriptor) in sockets {
        let kind = getsockopt(&descriptor, Type).ok()?;
        if sys::netns_cookie(&descriptor) != own {
            return None;
        }
        match place {
            Place::Udp(place) if place == udp.len() && kind == SockType::Datagram => {
                udp.push(UdpSocket::from(descriptor));
            }
            // It comes after all of UDP.
            Place::Tcp(beside)
                if beside == udp.len() && kind == SockType::Stream && getsockopt(&descriptor, AcceptConn).ok()? =>
            {
                tcp = Some(TcpListener::from(descriptor));
            }
            _ => return None,
        }
    }
    let (tcp, at) = (tcp?, SocketAddr::new(address, port));
    let right = tcp.local_addr().ok()? == at && udp.iter().all(|socket| socket.local_addr().is_ok_and(|is| is == at));
    // Clients that were in quarantine are no longer known to this daemon.
    let steered = udp.len() > 1 && shards::steer(&udp[0], udp.len() - 1, &[]).is_ok();
    (right && steered).then_some(DnsSockets { address, port, udp, tcp, client: None, beside: None })
}

fn name(address: IpAddr, place: Place) -> String {
    let address = address.to_string().replace(':', "_");
    match place {
        Place::Udp(place) => format!("{PREFIX}{address}-udp{place}"),
        Place::Tcp(beside) => format!("{PREFIX}{address}-tcp{beside}"),
    }
}

fn parse(name: &str) -> Option<(IpAddr, Place)> {
    let (address, place) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let place = match place.split_at_checked(3)? {
        ("udp", place) => Place::Udp(place.parse().ok()?),
        ("tcp", beside) => Place::Tcp(beside.parse().ok()?),
        _ => return None,
    };
    Some((address.replace('_', ":").parse().ok()?, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::dns::sockets::{PORT, open};
    use crate::kernel::testing::lab::{Parked, in_own_netns, ip};

    /// What a service manager would give back.
    fn given(sockets: &DnsSockets) -> Vec<(String, OwnedFd)> {
        let udp = sockets.udp.iter().enumerate();
        let udp = udp.map(|(place, udp)| (name(sockets.address, Place::Udp(place)), udp.try_clone().unwrap().into()));
        let tcp = (name(sockets.address, Place::Tcp(sockets.udp.len())), sockets.tcp.try_clone().unwrap().into());
        std::iter::once(tcp).chain(udp.rev()).collect()
    }

    #[test]
    fn names_lead_back() {
        for address in ["10.77.0.1", "fd00:89::1"] {
            let address: IpAddr = address.parse().unwrap();
            for place in [Place::Udp(0), Place::Udp(16), Place::Tcp(17)] {
                let name = name(address, place);
                assert_eq!(parse(&name), Some((address, place)), "{name}");
                assert!(!name.contains(':'), "{name}");
            }
        }
        assert_eq!((parse("api"), parse("dns-10.77.0.1-sctp1"), parse("dns--tcp1")), (None, None, None));
    }

    #[test]
    fn a_whole_set_is_taken_in_its_order_and_any_other_is_not() {
        in_own_netns(|| {
            ip("link set lo up");
            let address: IpAddr = "127.0.0.1".parse().unwrap();
            let before = open(address, PORT, 4).unwrap();
            let take = |given: Vec<(String, OwnedFd)>, port| Kept::new(Manager::default(), given).take(address, port);
            let taken = take(given(&before), PORT).unwrap();
            assert_eq!(taken.udp.len(), before.udp.len());
            for number in 0..8u8 {
                let client = UdpSocket::bind((IpAddr::from([127, 0, 0, 10 + number]), 0)).unwrap();
                client.send_to(b"x", (address, PORT)).unwrap();
                let place = |sockets: &[UdpSocket]| sockets.iter().position(|one| one.peek_from(&mut [0]).is_ok());
                let (of_taken, of_before) = (place(&taken.udp), place(&before.udp));
                assert!(of_taken.is_some() && of_taken == of_before, "{of_taken:?} {of_before:?}");
                taken.udp[of_taken.unwrap()].recv_from(&mut [0]).unwrap();
            }
            assert!(take(given(&before), PORT + 1).is_none(), "another port is configured");
            for missing in 0..=before.udp.len() {
                let mut part = given(&before);
                part.remove(missing);
                assert!(take(part, PORT).is_none(), "{missing} is missing");
            }
        });
    }

    #[test]
    fn sockets_of_another_namespace_are_not_taken() {
        let elsewhere = Parked::new();
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        let given = elsewhere.run(move || {
            ip("link set lo up");
            given(&open(address, PORT, 1).unwrap())
        });
        in_own_netns(move || {
            ip("link set lo up");
            assert!(Kept::new(Manager::default(), given).take(address, PORT).is_none());
        });
    }
}
