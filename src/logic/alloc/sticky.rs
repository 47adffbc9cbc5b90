//! Sticky addresses: the former holders of addresses, on networks that keep addresses for names.
//!
//! An address is kept for at most one name, so a network keeps at most as many as it has addresses. It is assigned to
//! another name only if no other address is free: see `engine::decide::address`.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::model::names::{ContainerName, NetworkName};

/// Maximum number of sticky addresses of a network: four times the ports of a bridge. An IPv6 subnet has no other
/// limit.
pub const MOST: usize = 4096;

/// The sticky addresses of all networks, in use or not.
#[derive(Debug, Clone, Default)]
pub struct Sticky {
    networks: HashMap<NetworkName, Kept>,
}

/// Container names are compared without case.
#[derive(Debug, Clone, Default)]
struct Kept {
    names: BTreeMap<IpAddr, String>,
    /// The inverse of `names`; no list is empty.
    addresses: HashMap<String, Vec<IpAddr>>,
}

impl Sticky {
    /// Keeps the address for the name and for no other; returns whether that is new.
    pub fn keep(&mut self, network: &NetworkName, address: IpAddr, name: &ContainerName) -> bool {
        let name = name.as_str().to_ascii_lowercase();
        if self.name_of(network, address) == Some(name.as_str()) {
            return false;
        }
        self.forget(network, address);
        let entry = self.networks.entry(network.clone()).or_default();
        entry.addresses.entry(name.clone()).or_default().push(address);
        entry.names.insert(address, name);
        true
    }

    /// Stops keeping the address.
    pub fn forget(&mut self, network: &NetworkName, address: IpAddr) {
        let Some(entry) = self.networks.get_mut(network) else { return };
        let Some(name) = entry.names.remove(&address) else { return };
        if let Some(addresses) = entry.addresses.get_mut(&name) {
            addresses.retain(|other| *other != address);
            if addresses.is_empty() {
                entry.addresses.remove(&name);
            }
        }
    }

    /// Removes all sticky addresses of a network.
    pub fn remove_network(&mut self, network: &NetworkName) {
        self.networks.remove(network);
    }

    /// The addresses that are kept for the name, in the order in which they were added.
    pub fn addresses(&self, network: &NetworkName, name: &ContainerName) -> &[IpAddr] {
        let name = name.as_str().to_ascii_lowercase();
        let entry = self.networks.get(network).and_then(|entry| entry.addresses.get(&name));
        entry.map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the address is kept for another name than this.
    pub fn is_anothers(&self, network: &NetworkName, address: IpAddr, name: Option<&ContainerName>) -> bool {
        let kept_for = self.name_of(network, address);
        kept_for.is_some_and(|kept_for| name.is_none_or(|name| !name.as_str().eq_ignore_ascii_case(kept_for)))
    }

    /// All sticky addresses of a network.
    pub fn of_network(&self, network: &NetworkName) -> impl ExactSizeIterator<Item = IpAddr> {
        self.networks.get(network).map(|entry| entry.names.keys().copied()).unwrap_or_default()
    }

    /// All sticky addresses of a network, with the names for which they are kept.
    pub fn named(&self, network: &NetworkName) -> impl Iterator<Item = (IpAddr, ContainerName)> {
        let kept = self.networks.get(network).into_iter().flat_map(|entry| &entry.names);
        kept.filter_map(|(address, name)| Some((*address, name.parse().ok()?)))
    }

    fn name_of(&self, network: &NetworkName, address: IpAddr) -> Option<&str> {
        self.networks.get(network)?.names.get(&address).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_for_one_name_in_any_case() {
        let (network, [one, two]): (NetworkName, [IpAddr; 2]) =
            ("net1".parse().unwrap(), ["10.0.0.2", "10.0.0.3"].map(|ip| ip.parse().unwrap()));
        let [web, again, db] = ["web", "WEB", "db"].map(|name| name.parse::<ContainerName>().unwrap());
        let mut sticky = Sticky::default();
        assert!(sticky.keep(&network, one, &web) && !sticky.keep(&network, one, &again));
        assert!(sticky.keep(&network, two, &again));
        assert_eq!(sticky.addresses(&network, &web), [one, two]);
        assert!(sticky.is_anothers(&network, one, Some(&db)) && sticky.is_anothers(&network, one, None));
        assert!(!sticky.is_anothers(&network, one, Some(&again)));
        assert!(sticky.keep(&network, one, &db));
        assert_eq!((sticky.addresses(&network, &web), sticky.addresses(&network, &db)), (&[two][..], &[one][..]));
        sticky.forget(&network, two);
        assert_eq!((sticky.addresses(&network, &web).len(), sticky.of_network(&network).len()), (0, 1));
        sticky.remove_network(&network);
        assert_eq!(sticky.of_network(&network).len(), 0);
    }
}
