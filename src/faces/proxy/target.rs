//! Where a port's connections and datagrams are passed on: to a container, or to the host itself for a service, whose
//! members the kernel chooses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::gate::Gate;
use crate::engine::Arrival;
use crate::engine::proxy::Way;

/// Where a port leads, and whom.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Where it leads.
    pub(super) to: To,
    /// Whom.
    pub(super) gate: Gate,
}

/// Where a port leads.
#[derive(Debug, Clone)]
pub(super) enum To {
    /// A container's address and port.
    Container(SocketAddr),
    /// A service's port, at the address of the host where the kernel translates it now.
    Service { way: Way, port: u16 },
}

/// The ends of a socket that passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// Its own address.
    pub(super) from: SocketAddr,
    /// Where it connects to.
    pub(super) to: SocketAddr,
}

impl Target {
    /// The container's address.
    pub(super) fn container(&self) -> Option<IpAddr> {
        match &self.to {
            To::Container(at) => Some(at.ip()),
            To::Service { .. } => None,
        }
    }

    /// The ends for what arrived; `None`: it is to be refused. What netd itself sent to
    /// a service and the kernel did not translate, because another program has just deleted the table, would go round in
    /// circles.
    pub(super) fn ends(&self, arrival: Arrival) -> Option<Ends> {
        let Arrival { client, at } = arrival;
        if !self.gate.admits(arrival) {
            return None;
        }
        let to = match &self.to {
            To::Container(to) => *to,
            To::Service { way, port } => {
                let address = (*way.borrow()).filter(|address| at != Some(*address))?;
                SocketAddr::new(address, *port)
            }
        };
        let from: IpAddr = match to.ip() {
            IpAddr::V4(to) if to.is_loopback() => of_client(client).into(),
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Some(Ends { from: SocketAddr::new(from, 0), to })
    }
}

/// An address of the loopback for each client, so that a service with affinity leads each to a member of its own. The members
/// see the gateway of their network instead.
fn of_client(client: IpAddr) -> Ipv4Addr {
    let octets: &[u8] = match &client {
        IpAddr::V4(client) => &client.octets(),
        IpAddr::V6(client) => &client.octets(),
    };
    // FNV-1a.
    let hash = octets.iter().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
    let [_, b, c, d] = hash.to_be_bytes();
    // Neither the network's address nor its broadcast address.
    Ipv4Addr::new(127, b, c, d.clamp(1, 254))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::sync::watch;

    use super::*;
    use crate::engine::Behind;
    use crate::model::host::step::HostPort;
    use crate::model::publication::Protocol;

    #[test]
    fn a_service_has_the_way_that_leads_to_its_members_now() {
        let (tell, way) = watch::channel(None);
        let port = "[::]:4000".parse().map(|at: SocketAddr| HostPort {
            address: at.ip(),
            protocol: Protocol::Tcp,
            port: at.port(),
        });
        let gate = Gate::new(None, Behind::Service(port.unwrap()));
        let target = Target { to: To::Service { way, port: 4000 }, gate };
        let clients = |at: Option<&str>| {
            let at = at.map(|at| at.parse().unwrap());
            (1..200).map(move |n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])).map(move |client| (client, at))
        };
        let ends = |at| clients(at).filter_map(|(client, at)| target.ends(Arrival { client, at })).collect::<Vec<_>>();
        assert_eq!(ends(None), []);
        tell.send_replace(Some(Ipv4Addr::LOCALHOST.into()));
        let all = ends(Some("2001:db8::1"));
        assert!(all.iter().all(|ends| ends.from.ip().is_loopback() && ends.to == "127.0.0.1:4000".parse().unwrap()));
        let own: BTreeSet<IpAddr> = all.iter().map(|ends| ends.from.ip()).collect();
        assert!(own.len() > 190, "nearly every client has its own: {}", own.len());
        tell.send_replace(Some("fd00::1".parse().unwrap()));
        assert!(ends(Some("::1")).iter().all(|ends| ends.from.ip().is_unspecified()));
        assert_eq!(ends(Some("fd00::1")), [], "netd itself");
    }
}
