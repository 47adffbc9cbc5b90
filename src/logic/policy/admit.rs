//! Whether policies let a client through a port at which netd's proxy receives. Only the proxy sees who the client is: the
//! container sees its gateway.

use std::net::{IpAddr, SocketAddr};

use crate::logic::target::services;
use crate::model::address::Family;
use crate::model::desired::Desired;
use crate::model::host::step::HostPort;
use crate::model::policy::ruling::Edge;
use crate::model::publication::{Protocol, Publication};

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arrival {
    /// The client's address.
    pub client: IpAddr,
    /// The address of this host to which it sent, if that is known.
    pub at: Option<IpAddr>,
}

/// Who is behind the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// A container, at its address and port.
    Container(SocketAddr, Protocol),
    /// The members of the service with this published port. All of them must let the client through, because netd does not
    /// choose one.
    Service(HostPort),
}

/// Whether no policy denies it.
pub fn admits(desired: &Desired, arrival: Arrival, behind: Behind) -> bool {
    if desired.policies().len() == 0 {
        return true;
    }
    match behind {
        Behind::Container(to, protocol) => passes(desired, arrival, to.ip(), (protocol, to.port())),
        Behind::Service(port) => {
            let has_it = |publication: &&Publication| {
                publication.protocol == port.protocol && publication.host.contains(port.port)
            };
            let led =
                desired.services().filter_map(|service| Some((service, service.publications.iter().find(has_it)?)));
            led.into_iter().all(|(service, publication)| {
                let to = (port.protocol, publication.container.first());
                let members = services::used(desired, service);
                let mut addresses = members.iter().flat_map(|member| &member.addresses);
                addresses.all(|address| passes(desired, arrival, address.ip(), to))
            })
        }
    }
}

fn passes(desired: &Desired, Arrival { client, at }: Arrival, to: IpAddr, port: (Protocol, u16)) -> bool {
    let ruling = desired.ruling();
    let decision = match desired.container_at(client) {
        // It may have sent from an address of another family than the receiver's.
        Some(sender) => {
            let addresses = sender.endpoints.iter().filter_map(|endpoint| endpoint.address(Family::of(to)));
            let mut decisions: Vec<_> = addresses.filter_map(|from| ruling.pair(from, to, Some(port))).collect();
            decisions.sort_by_key(|decision| decision.permit);
            decisions.first().copied()
        }
        None => {
            let is_host = client.is_loopback() || at == Some(client);
            let edge = if is_host { Edge::Host } else { Edge::Outside };
            ruling.received(edge, to, Some(port))
        }
    };
    decision.is_none_or(|decision| decision.permit)
}
