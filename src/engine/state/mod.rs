//! The state that the engine's thread owns: desired state and the indices that decisions need.
//!
//! It changes through records only (`State::apply`), the same that the store commits; the functions behind it keep the
//! indices consistent with the desired state.

pub(super) mod agenda;
pub(super) mod foreign_tables;
pub(super) mod instance;
pub(super) mod problems;
pub mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::logic::alloc::ipam::Ipam;
use crate::logic::alloc::ports::PortTable;
use crate::logic::alloc::sticky::Sticky;
use crate::logic::alloc::{interfaces, sticky};
use crate::logic::target::Blocked;
use crate::model::address::{Mac, Subnet};
use crate::model::desired::Desired;
use crate::model::endpoint::{Container, Endpoint, EndpointKey, Netns};
use crate::model::ids::NetnsId;
use crate::model::names::{IfName, NetworkName};
use crate::model::network::Network;
use crate::store::{Record, Stored};

/// The key of the random ULA prefix in the store.
const ULA_SETTING: &str = "ula-prefix";
/// The key of the networks that are served within their containers; the names are separated by spaces.
const BLOCKED_SETTING: &str = "dns-blocked";

/// Desired state with the indices for decisions.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) desired: Desired,
    pub(crate) ipam: Ipam,
    /// Invariant: sticky addresses that are not in use are released in `ipam`, so that they never count as unused.
    pub(crate) sticky: Sticky,
    pub(crate) ports: PortTable,
    /// Host interface to endpoint.
    pub(crate) host_ifnames: HashMap<IfName, EndpointKey>,
    /// The device that limits what an endpoint sends, to endpoint.
    pub(crate) limited: HashMap<IfName, EndpointKey>,
    /// The endpoints with a MAC address on a network: one, except where another program assigns the addresses.
    pub(crate) macs: HashMap<(NetworkName, Mac), Vec<EndpointKey>>,
    /// The endpoints in a namespace: those of one container, except where an earlier release took it for two.
    pub(crate) namespaces: HashMap<NetnsId, Vec<EndpointKey>>,
    /// Number of endpoints per network.
    pub(crate) used: BTreeMap<NetworkName, usize>,
    /// The last sequence number assigned.
    pub(crate) sequence: u64,
    /// The host's ULA /48, once drawn.
    pub(crate) ula: Option<Subnet>,
    /// Networks whose containers are served within their namespaces, because the host's firewall blocks their gateway.
    pub(crate) gateway_blocked: Arc<Blocked>,
}

impl State {
    /// Builds the state from the store. Endpoints of networks that no longer exist are left out.
    pub(crate) fn from_stored(stored: Stored) -> Self {
        let mut state = Self::default();
        for (key, value) in &stored.settings {
            state.set(key, value);
        }
        for network in stored.networks {
            state.put_network(network);
        }
        for (network, address, order) in stored.released {
            state.ipam.release(&network, address, order);
        }
        for endpoint in stored.endpoints {
            if state.desired.network(&endpoint.network).is_some() {
                state.put_endpoint(endpoint);
            }
        }
        for (network, address, name) in stored.sticky {
            if state.desired.network(&network).is_some_and(|network| network.sticky) {
                state.sticky.keep(&network, address, &name);
                if state.desired.at_address(address).is_none() && state.ipam.released(&network, address).is_none() {
                    state.ipam.release(&network, address, 0);
                }
            }
        }
        state
    }

    /// The deletion of all records of networks that no longer exist: a daemon that was killed while removing a network
    /// leaves them.
    pub(crate) fn stale_records(stored: &Stored) -> Vec<Record> {
        let is_gone = |name: &NetworkName| !stored.networks.iter().any(|network| network.name == *name);
        let endpoints = stored.endpoints.iter().filter(|endpoint| is_gone(&endpoint.network));
        let released = stored.released.iter().filter(|(network, ..)| is_gone(network));
        let released = released.map(|(network, address, _)| Record::DeleteReleased(network.clone(), *address));
        endpoints.map(|endpoint| Record::DeleteEndpoint(endpoint.key())).chain(released).collect()
    }

    /// The records that make an endpoint's addresses sticky for the next container of its name, if the network has the
    /// option. A container whose only name is its id never returns.
    pub(crate) fn sticky_records(&self, endpoint: &Endpoint) -> Vec<Record> {
        let (network, name) = (&endpoint.network, &endpoint.container.name);
        let keeps = self.desired.network(network).is_some_and(|network| network.sticky && network.assigns_addresses());
        if !keeps || name.as_str() == endpoint.container.id.as_str() {
            return Vec::new();
        }
        let mut records = Vec::new();
        let mut count = self.sticky.of_network(network).len();
        let kept = self.sticky.addresses(network, name);
        for address in endpoint.addresses.iter().map(IpNetwork::ip) {
            if !kept.contains(&address) {
                records.push(Record::PutSticky(network.clone(), address, name.clone()));
                count += usize::from(!self.sticky.of_network(network).any(|other| other == address));
            }
            // One of each address family, except where a container has several interfaces on the network.
            let own = |other: &IpAddr| {
                self.desired.at_address(*other).is_some_and(|holder| holder.container.id == endpoint.container.id)
            };
            let old = kept.iter().filter(|other| other.is_ipv4() == address.is_ipv4() && !own(other));
            records.extend(old.map(|old| Record::DeleteSticky(network.clone(), *old)));
        }
        if count > sticky::MOST {
            records.extend(self.longest_free(network).map(|old| Record::DeleteSticky(network.clone(), old)));
        }
        records
    }

    /// The sticky address that has been free for longest.
    fn longest_free(&self, network: &NetworkName) -> Option<IpAddr> {
        let kept = self.sticky.of_network(network);
        let free = kept.filter_map(|address| Some((self.ipam.released(network, address)?, address)));
        free.min().map(|(_, address)| address)
    }

    /// The record of the host's ULA prefix.
    pub(crate) fn ula_record(prefix: Subnet) -> Record {
        Record::PutSetting(ULA_SETTING.into(), prefix.to_string())
    }

    /// The record of the networks that are served within their containers.
    pub(crate) fn blocked_record(gateway_blocked: &Blocked) -> Record {
        let names: Vec<&str> = gateway_blocked.iter().map(NetworkName::as_str).collect();
        Record::PutSetting(BLOCKED_SETTING.into(), names.join(" "))
    }

    /// The records that add the endpoint, or replace the one with its key, and those that revert them. An address that
    /// was released before is in use again, and one that the replaced endpoint loses is released.
    pub(crate) fn put_records(&self, endpoint: &Endpoint) -> (Vec<Record>, Vec<Record>) {
        let before = self.desired.endpoint(&endpoint.key());
        let network = &endpoint.network;
        let (mut records, mut rollback) = (Vec::new(), Vec::new());
        let mut order = self.ipam.last_release();
        for address in before.iter().flat_map(|before| &before.addresses).filter(|a| !endpoint.addresses.contains(a)) {
            order += 1;
            records.push(Record::PutReleased(network.clone(), address.ip(), order));
            rollback.push(Record::DeleteReleased(network.clone(), address.ip()));
        }
        let is_new = |address: &&IpNetwork| !before.is_some_and(|before| before.addresses.contains(address));
        for address in endpoint.addresses.iter().filter(is_new) {
            if self.ipam.released(network, address.ip()).is_some() {
                records.push(Record::DeleteReleased(network.clone(), address.ip()));
            }
            // A failed attempt counts as a use: the address goes to the end of the queue.
            order += 1;
            rollback.push(Record::PutReleased(network.clone(), address.ip(), order));
        }
        records.push(Record::PutEndpoint(Box::new(endpoint.clone())));
        let revert = match before {
            Some(before) => Record::PutEndpoint(Box::new(before.as_ref().clone())),
            None => Record::DeleteEndpoint(endpoint.key()),
        };
        rollback.insert(0, revert);
        (records, rollback)
    }

    /// The records that remove the endpoints and release their addresses.
    pub(crate) fn release_records(&self, endpoints: &[Arc<Endpoint>]) -> Vec<Record> {
        let mut order = self.ipam.last_release();
        let mut records: Vec<Record> = endpoints.iter().map(|gone| Record::DeleteEndpoint(gone.key())).collect();
        for endpoint in endpoints {
            for address in &endpoint.addresses {
                order += 1;
                records.push(Record::PutReleased(endpoint.network.clone(), address.ip(), order));
            }
        }
        records
    }

    /// Carries out committed records. The state is always what a start would load from the store.
    pub(crate) fn apply(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::PutNetwork(network) => self.put_network(network.clone()),
                Record::DeleteNetwork(name) => self.drop_network(name),
                Record::PutEndpoint(endpoint) => self.put_endpoint(endpoint.as_ref().clone()),
                Record::DeleteEndpoint(key) => self.drop_endpoint(key),
                Record::PutReleased(network, address, order) => self.ipam.release(network, *address, *order),
                Record::DeleteReleased(network, address) => self.ipam.take(network, *address),
                Record::PutSticky(network, address, name) => drop(self.sticky.keep(network, *address, name)),
                Record::DeleteSticky(network, address) => self.sticky.forget(network, *address),
                Record::PutSetting(key, value) => self.set(key, value),
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            ULA_SETTING => self.ula = value.parse().ok(),
            BLOCKED_SETTING => {
                self.gateway_blocked = Arc::new(value.split(' ').filter_map(|name| name.parse().ok()).collect());
            }
            _ => {}
        }
    }

    fn put_network(&mut self, network: Network) {
        self.ipam.add_network(&network);
        self.desired.insert_network(network);
    }

    fn drop_network(&mut self, name: &NetworkName) {
        self.sticky.remove_network(name);
        if let Some(network) = self.desired.remove_network(name) {
            self.ipam.remove_network(&network);
        }
    }

    fn put_endpoint(&mut self, endpoint: Endpoint) {
        let key = endpoint.key();
        self.drop_endpoint(&key);
        for address in &endpoint.addresses {
            self.ipam.take(&endpoint.network, address.ip());
        }
        for publication in &endpoint.publications {
            self.ports.insert(publication, &key);
        }
        if endpoint.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some()) {
            self.limited.insert(interfaces::limiter(&endpoint.host_ifname), key.clone());
        }
        self.macs.entry((endpoint.network.clone(), endpoint.mac)).or_default().push(key.clone());
        self.namespaces.entry(endpoint.container.netns.id).or_default().push(key.clone());
        self.host_ifnames.insert(endpoint.host_ifname.clone(), key);
        *self.used.entry(endpoint.network.clone()).or_default() += 1;
        self.sequence = self.sequence.max(endpoint.sequence);
        self.desired.insert_endpoint(endpoint);
    }

    fn drop_endpoint(&mut self, key: &EndpointKey) {
        let Some(endpoint) = self.desired.remove_endpoint(key) else { return };
        for publication in &endpoint.publications {
            self.ports.remove(publication, key);
        }
        for (index, name) in [
            (&mut self.host_ifnames, &endpoint.host_ifname),
            (&mut self.limited, &interfaces::limiter(&endpoint.host_ifname)),
        ] {
            // Another program may have reused the name.
            if index.get(name) == Some(key) {
                index.remove(name);
            }
        }
        forget(&mut self.macs, &(endpoint.network.clone(), endpoint.mac), key);
        forget(&mut self.namespaces, &endpoint.container.netns.id, key);
        if let Some(used) = self.used.get_mut(&key.network) {
            *used -= 1;
            if *used == 0 {
                self.used.remove(&key.network);
            }
        }
    }

    /// The container that has a namespace; the first one if there are two.
    pub(crate) fn container_in(&self, netns: &Netns) -> Option<&Container> {
        let endpoints = self.namespaces.get(&netns.id)?.iter().filter_map(|key| self.desired.endpoint(key));
        endpoints.min_by_key(|endpoint| endpoint.sequence).map(|endpoint| &endpoint.container)
    }

    /// The endpoints of a container, in the order in which they were connected.
    pub(crate) fn endpoints_of(&self, container: &crate::model::ids::ContainerId) -> Vec<Arc<Endpoint>> {
        self.desired.container(container).map(|attached| attached.endpoints.clone()).unwrap_or_default()
    }
}

/// Removes a holder from an index.
fn forget<T: Eq + std::hash::Hash>(index: &mut HashMap<T, Vec<EndpointKey>>, of: &T, key: &EndpointKey) {
    if let Some(holders) = index.get_mut(of) {
        holders.retain(|holder| holder != key);
        if holders.is_empty() {
            index.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that an earlier release wrote are read by these keys.
    #[test]
    fn settings_keep_their_keys() {
        let settings = [("dns-blocked", "net1 net2"), ("ula-prefix", "fd12:3456:789a::/48")];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let state = State::from_stored(Stored { settings, ..Stored::default() });
        let blocked: Vec<&str> = state.gateway_blocked.iter().map(NetworkName::as_str).collect();
        assert_eq!(blocked, ["net1", "net2"]);
        assert_eq!(state.ula.map(|prefix| prefix.to_string()).as_deref(), Some("fd12:3456:789a::/48"));
    }
}
