//! Reservations: what a container is to have on a network, kept for it before there is a network namespace.

use std::fmt;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::address::{Family, Mac};
use super::endpoint::EndpointKey;
use super::names::{NetworkName, ReservationId, ServiceName};
use super::network::Network;
use super::publication::Publication;

/// Addresses, MAC address and host ports that nobody else gets. The endpoint that consumes the reservation has exactly
/// these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// The network's name.
    pub network: NetworkName,
    /// One per address family of the network, with the subnet's prefix.
    pub addresses: Vec<IpNetwork>,
    /// The MAC address of the interface in the container.
    pub mac: Mac,
    /// The ports to publish. Their host ports are held; nothing is forwarded as yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publications: Vec<Publication>,
    /// When it was made, in seconds since the Unix epoch.
    pub created: u64,
}

impl Reservation {
    /// Whether the endpoint that consumes it has a gateway in that family, and can be reached from outside.
    pub fn has_gateway(&self, network: &Network, family: Family) -> bool {
        let mut addresses = self.addresses.iter().map(IpNetwork::ip).filter(|ip| Family::of(*ip) == family);
        !network.internal && network.is_behind_host() && addresses.any(|ip| network.gateway_for(ip).is_some())
    }
}

/// Formats what is reserved, where and as what.
impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, network, addresses, mac, publications, .. } = self;
        let addresses = addresses.iter().map(ToString::to_string);
        let has: Vec<String> =
            addresses.chain([mac.to_string()]).chain(publications.iter().map(ToString::to_string)).collect();
        write!(f, "{} on network {network} as {id}", has.join(", "))
    }
}

/// Who has a MAC address or a host port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// An endpoint.
    Endpoint(EndpointKey),
    /// A reservation.
    Reservation(ReservationId),
    /// A service.
    Service(ServiceName),
}

impl Holder {
    /// The endpoint, if it is one.
    pub fn endpoint(&self) -> Option<&EndpointKey> {
        match self {
            Self::Endpoint(key) => Some(key),
            Self::Reservation(_) | Self::Service(_) => None,
        }
    }
}
