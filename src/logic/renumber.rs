//! Renumbering: the addresses of a network in other subnets, each at the place that it had in its own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::model::Invalid;
use crate::model::address::{Family, Subnet, address, number};
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::network::{Network, NetworkSubnet};
use crate::model::reservation::Reservation;
use crate::model::service::Service;

/// The subnets that change: from each to another of the same family and length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moves(Vec<(Subnet, Subnet)>);

impl Moves {
    /// Each subnet with the one that takes its place. Those of other lengths or families move nothing.
    pub fn new(moves: impl IntoIterator<Item = (Subnet, Subnet)>) -> Self {
        let same = |(from, to): &(Subnet, Subnet)| from.family() == to.family() && from.prefix() == to.prefix();
        Self(moves.into_iter().filter(same).collect())
    }

    /// Where the address is then.
    pub fn address(&self, old: IpAddr) -> IpAddr {
        let Some((from, to)) = self.0.iter().find(|(from, _)| from.contains(old)) else { return old };
        address(number(to.network()) + (number(old) - number(from.network())), Family::of(old))
    }

    fn interface(&self, old: IpNetwork) -> IpNetwork {
        // The prefix is one of the family.
        IpNetwork::new(self.address(old.ip()), old.prefix()).unwrap_or(old)
    }

    fn subnet(&self, old: Subnet) -> Subnet {
        Subnet::containing(self.address(old.network()), old.prefix()).unwrap_or(old)
    }

    /// The network then.
    pub fn network(&self, network: &Network) -> Network {
        let subnet = |old: &NetworkSubnet| NetworkSubnet {
            subnet: self.subnet(old.subnet),
            gateway: old.gateway.map(|gateway| self.address(gateway)),
            range: old.range.map(|range| self.subnet(range)),
        };
        Network { subnets: network.subnets.iter().map(subnet).collect(), ..network.clone() }
    }

    /// A container's endpoint on it then.
    pub fn endpoint(&self, endpoint: &Endpoint) -> Endpoint {
        let mut moved = endpoint.clone();
        moved.addresses.iter_mut().for_each(|address| *address = self.interface(*address));
        moved.gateways.iter_mut().for_each(|gateway| *gateway = self.address(*gateway));
        for route in &mut moved.routes {
            route.gateway = route.gateway.map(|gateway| self.address(gateway));
        }
        moved
    }

    /// A reservation on it then.
    pub fn reservation(&self, reservation: &Reservation) -> Reservation {
        let addresses = reservation.addresses.iter().map(|address| self.interface(*address)).collect();
        Reservation { addresses, ..reservation.clone() }
    }

    /// A service on it then.
    pub fn service(&self, service: &Service, network: &NetworkName) -> Service {
        let mut moved = service.clone();
        for on in moved.networks.iter_mut().filter(|on| on.network == *network) {
            on.addresses.iter_mut().for_each(|address| *address = self.address(*address));
        }
        moved
    }
}

impl fmt::Display for Moves {
    /// `FROM TO`, for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(from, to)| format!("{from} {to}")).collect();
        f.write_str(&pairs.join(" "))
    }
}

impl FromStr for Moves {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let subnets: Vec<Subnet> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self::new(subnets.chunks_exact(2).map(|pair| (pair[0], pair[1]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;

    #[test]
    fn everything_keeps_its_place() {
        let pair = |from: &str, to: &str| (from.parse().unwrap(), to.parse().unwrap());
        let moves = Moves::new([
            pair("10.77.0.0/24", "10.201.3.0/24"),
            pair("fd00:1::/64", "fd00:2::/64"),
            // Neither is possible.
            pair("10.78.0.0/24", "10.202.0.0/16"),
            pair("10.79.0.0/24", "fd00:3::/64"),
        ]);
        assert_eq!(moves.to_string(), "10.77.0.0/24 10.201.3.0/24 fd00:1::/64 fd00:2::/64");
        assert_eq!(moves.to_string().parse(), Ok(moves.clone()));
        for (old, new) in [
            ("10.77.0.1", "10.201.3.1"),
            ("10.77.0.254", "10.201.3.254"),
            ("10.77.1.1", "10.77.1.1"),
            ("fd00:1::2", "fd00:2::2"),
            ("192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(moves.address(old.parse().unwrap()), new.parse::<IpAddr>().unwrap(), "{old}");
        }
        let network = samples::network("net1", &["10.77.0.0/24", "fd00:1::/64"]);
        let moved = moves.network(&network);
        let shown: Vec<String> = moved.subnets.iter().map(|s| format!("{} {:?}", s.subnet, s.gateway)).collect();
        assert_eq!(shown, ["10.201.3.0/24 Some(10.201.3.1)", "fd00:2::/64 Some(fd00:2::1)"]);
        let endpoint = samples::endpoint(&network, "web", 1, &["10.77.0.2", "fd00:1::2"], &[]);
        let addresses: Vec<String> = moves.endpoint(&endpoint).addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.201.3.2/24", "fd00:2::2/64"]);
        let service = samples::service("front", &[("net1", &["10.77.0.9"]), ("net2", &["10.77.0.9"])], &[]);
        let service = moves.service(&service, &network.name);
        let addresses: Vec<String> = service.addresses().map(|address| address.to_string()).collect();
        assert_eq!(addresses, ["10.201.3.9", "10.77.0.9"]);
    }
}
