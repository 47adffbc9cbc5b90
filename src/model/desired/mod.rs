//! Desired state: everything that people and runtimes requested, indexed for all readers.
//!
//! The maps are persistent (they share unchanged parts), so a clone copies a handful of pointers and a change copies
//! O(log n). Invariant between the maps: each endpoint is in `endpoints`, in its container's list, under each of its
//! DNS names and under each of its addresses, and nowhere else; only `insert_endpoint` and `remove_endpoint` change
//! them.

pub mod egress;
mod names;
mod policies;
mod published;
mod reservations;
mod services;
mod version;

use std::net::IpAddr;
use std::sync::Arc;

use rpds::{HashTrieMapSync as Index, RedBlackTreeMapSync as Map};

use super::address::Family;
use super::endpoint::{Container, Endpoint, EndpointKey};
use super::ids::ContainerId;
use super::names::{IfName, NetworkName};
use super::network::Network;
use super::policy::Policy;
use super::publication::{Publication, PublishMode};
use super::request::AttachmentKey;
use names::Names;
use reservations::Reservations;
pub use services::Member;
use services::Services;
use version::Version;

/// A container and its endpoints in the order in which they were connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The container.
    pub container: Container,
    /// At least one.
    pub endpoints: Vec<Arc<Endpoint>>,
}

impl Attached {
    /// The publications, each once, with the endpoint that it leads to. A runtime may pass them to each of the
    /// container's networks; they lead to the endpoint with the default route.
    pub fn publications(&self) -> impl Iterator<Item = (&Arc<Endpoint>, &Publication)> {
        let all = self.endpoints.iter().flat_map(|endpoint| endpoint.publications.iter().map(move |p| (endpoint, p)));
        all.filter(|(endpoint, publication)| self.shown_on(publication).is_some_and(|on| Arc::ptr_eq(on, endpoint)))
    }

    /// Among the endpoints with this publication: the one with the default route, else the first.
    fn shown_on(&self, publication: &Publication) -> Option<&Arc<Endpoint>> {
        let leads = |endpoint: &&Arc<Endpoint>| {
            [Family::V4, Family::V6].into_iter().filter(|family| publication.covers(*family)).any(|family| {
                let way_out = self.endpoints.iter().find(|endpoint| endpoint.gateway(family).is_some());
                way_out.is_some_and(|way_out| Arc::ptr_eq(way_out, endpoint))
            })
        };
        let mut holders = self.endpoints.iter().filter(|endpoint| endpoint.publications.contains(publication));
        holders.clone().find(leads).or_else(|| holders.next())
    }
}

/// The result of a lookup by user input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// Exactly one object matches.
    One(T),
    /// No object matches.
    None,
    /// A prefix of more than one id.
    Ambiguous(usize),
}

/// The holder of an address: the endpoint, and its container as it is in `containers`.
#[derive(Debug, Clone)]
struct Holder {
    endpoint: Arc<Endpoint>,
    attached: Arc<Attached>,
}

/// Networks, endpoints, reservations, services and policies, with their indices.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    version: Version,
    networks: Map<NetworkName, Arc<Network>>,
    /// Networks by their names in lower case; in one list, those that differ only in case, by name.
    network_names: Index<String, Vec<Arc<Network>>>,
    endpoints: Map<EndpointKey, Arc<Endpoint>>,
    containers: Map<ContainerId, Arc<Attached>>,
    container_names: Map<String, ContainerId>,
    names: Map<NetworkName, Names>,
    /// How many networks have an alias that covers every name below another name.
    with_wildcards: usize,
    /// The endpoints of all networks, by those of their DNS names that contain a dot.
    dotted: Index<String, Vec<Arc<Endpoint>>>,
    /// The indices that every DNS query uses are hashed, which touches less memory than a tree lookup.
    addresses: Index<IpAddr, Holder>,
    gateways: Map<IpAddr, NetworkName>,
    /// By [`ContainerId::own_address`].
    own_addresses: Map<IpAddr, ContainerId>,
    /// Containers by the other ids under which runtimes attached them.
    attached_as: Map<ContainerId, ContainerId>,
    reservations: Reservations,
    services: Services,
    policies: Map<u64, Arc<Policy>>,
    /// The mode of ports of which neither their publication nor their network says it.
    publish: PublishMode,
    held: egress::Held,
}

impl Desired {
    /// Every network, by name.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
    }

    /// The network with that name.
    pub fn network(&self, name: &NetworkName) -> Option<&Arc<Network>> {
        self.networks.get(name)
    }

    /// The networks with that name (lower case), compared without case: one, unless an earlier release made more.
    pub fn networks_called(&self, name: &str) -> &[Arc<Network>] {
        self.network_names.get(name).map_or(&[], Vec::as_slice)
    }

    /// A network by full name, full id, or unique prefix of its id.
    pub fn find_network(&self, text: &str) -> Lookup<Arc<Network>> {
        if let Some(network) = text.parse().ok().and_then(|name: NetworkName| self.networks.get(&name)) {
            return Lookup::One(network.clone());
        }
        one(self.networks.values().filter(|network| id_fits(network.id.as_str(), text)).cloned())
    }

    /// Every endpoint, by network and container id.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    /// The endpoint with that key.
    pub fn endpoint(&self, key: &EndpointKey) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(key)
    }

    /// The endpoint of the attachment with that key.
    pub fn attachment(&self, key: &AttachmentKey) -> Option<&Arc<Endpoint>> {
        let is_it = |e: &&Arc<Endpoint>| e.owner.as_ref() == Some(&key.owner) && e.ifname == key.ifname;
        self.attachments_of(&key.container).find(is_it)
    }

    /// The endpoints that runtimes asked for, of the container that they know by this id.
    pub fn attachments_of<'a, 'b>(
        &'a self,
        container: &'b ContainerId,
    ) -> impl Iterator<Item = &'a Arc<Endpoint>> + use<'a, 'b> {
        let other = self.attached_as.get(container).and_then(|id| self.containers.get(id));
        let endpoints = self.containers.get(container).into_iter().chain(other).flat_map(|a| &a.endpoints);
        endpoints.filter(move |e| e.owner.is_some() && e.runtime_id() == container)
    }

    /// The endpoints of one network.
    pub fn endpoints_of<'a>(&'a self, network: &'a NetworkName) -> impl Iterator<Item = &'a Arc<Endpoint>> {
        self.endpoints
            .range((std::ops::Bound::Included(lowest(network)), std::ops::Bound::Unbounded))
            .map(|(_, endpoint)| endpoint)
            .take_while(move |endpoint| endpoint.network == *network)
    }

    /// Every container, by id.
    pub fn containers(&self) -> impl Iterator<Item = &Arc<Attached>> {
        self.containers.values()
    }

    /// The number of networks, containers and endpoints.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.networks.size(), self.containers.size(), self.endpoints.size())
    }

    /// The container with that id.
    pub fn container(&self, id: &ContainerId) -> Option<&Arc<Attached>> {
        self.containers.get(id)
    }

    /// A container by name (without case: names are DNS names), full id, or unique prefix of its id.
    pub fn find_container(&self, text: &str) -> Lookup<Arc<Attached>> {
        if let Some(attached) = self.exact_container(text) {
            return Lookup::One(attached.clone());
        }
        // In the map's order, ids with this prefix follow the text.
        let Ok(from) = text.parse::<ContainerId>() else { return Lookup::None };
        let behind = self.containers.range((std::ops::Bound::Included(from), std::ops::Bound::Unbounded));
        one(behind.map(|(_, attached)| attached.clone()).take_while(|a| id_fits(a.container.id.as_str(), text)))
    }

    /// A container by name (without case) or full id.
    pub fn exact_container(&self, text: &str) -> Option<&Arc<Attached>> {
        let by_name = self.container_names.get(&text.to_ascii_lowercase()).and_then(|id| self.containers.get(id));
        by_name.or_else(|| self.by_any_id(&text.parse().ok()?))
    }

    /// A container by its id, or by another one under which a runtime attached it.
    pub fn by_any_id(&self, id: &ContainerId) -> Option<&Arc<Attached>> {
        self.containers.get(id).or_else(|| self.containers.get(self.attached_as.get(id)?))
    }

    /// The holder of the address; for a container's own address ([`ContainerId::own_address`]), its first endpoint.
    pub fn at_address(&self, address: IpAddr) -> Option<&Arc<Endpoint>> {
        let own = || self.containers.get(self.own_addresses.get(&address)?)?.endpoints.first();
        self.addresses.get(&address).map(|holder| &holder.endpoint).or_else(own)
    }

    /// The container that holds the address, including its own address.
    pub fn container_at(&self, address: IpAddr) -> Option<&Arc<Attached>> {
        let own = || self.containers.get(self.own_addresses.get(&address)?);
        self.addresses.get(&address).map(|holder| &holder.attached).or_else(own)
    }

    /// The network with this gateway.
    pub fn at_gateway(&self, address: IpAddr) -> Option<&Arc<Network>> {
        self.gateways.get(&address).and_then(|name| self.networks.get(name))
    }

    /// Adds the network, or replaces the one with the same name.
    pub fn insert_network(&mut self, network: Network) -> Arc<Network> {
        self.remove_network(&network.name.clone());
        self.version = Version::default();
        for gateway in network.behind_gateways() {
            self.gateways.insert_mut(gateway, network.name.clone());
        }
        let network = Arc::new(network);
        self.networks.insert_mut(network.name.clone(), network.clone());
        if !network.egress.is_unsaid() {
            self.count_all_held();
        }
        self.change_called(&network.name, |networks| {
            let place = networks.partition_point(|other| other.name < network.name);
            networks.insert(place, network.clone());
        });
        network
    }

    /// Removes the network. Its endpoints and reservations must have been removed before.
    pub fn remove_network(&mut self, name: &NetworkName) -> Option<Arc<Network>> {
        let network = self.networks.get(name)?.clone();
        self.networks.remove_mut(name);
        self.version = Version::default();
        if !network.egress.is_unsaid() {
            self.count_all_held();
        }
        for gateway in network.behind_gateways() {
            self.gateways.remove_mut(&gateway);
        }
        self.change_called(name, |networks| networks.retain(|other| other.name != *name));
        Some(network)
    }

    fn change_called(&mut self, name: &NetworkName, change: impl FnOnce(&mut Vec<Arc<Network>>)) {
        let key = name.as_str().to_ascii_lowercase();
        let mut networks = self.network_names.get(&key).cloned().unwrap_or_default();
        change(&mut networks);
        if networks.is_empty() {
            self.network_names.remove_mut(&key);
        } else {
            self.network_names.insert_mut(key, networks);
        }
    }

    /// Adds the endpoint, or replaces the one with the same key.
    pub fn insert_endpoint(&mut self, endpoint: Endpoint) -> Arc<Endpoint> {
        self.remove_endpoint(&endpoint.key());
        self.version = Version::default();
        self.count_held(&endpoint.container.id, -1);
        let endpoint = Arc::new(endpoint);
        self.endpoints.insert_mut(endpoint.key(), endpoint.clone());
        let mut names = self.names.get(&endpoint.network).cloned().unwrap_or_default();
        for name in &endpoint.dns_names() {
            names.insert(name, &endpoint);
            self.change_dotted(name, |holders| insert_in_order(holders, &endpoint));
        }
        self.replace_names(&endpoint.network, names);
        let id = &endpoint.container.id;
        let mut endpoints = self.containers.get(id).map(|attached| attached.endpoints.clone()).unwrap_or_default();
        insert_in_order(&mut endpoints, &endpoint);
        let container = endpoint.container.clone();
        self.container_names.insert_mut(container.name.as_str().to_ascii_lowercase(), id.clone());
        self.own_addresses.insert_mut(id.own_address(), id.clone());
        if let Some(other) = &endpoint.attached_as {
            self.attached_as.insert_mut(other.clone(), id.clone());
        }
        let attached = Arc::new(Attached { container, endpoints });
        for address in &endpoint.addresses {
            let holder = Holder { endpoint: endpoint.clone(), attached: attached.clone() };
            self.addresses.insert_mut(address.ip(), holder);
        }
        self.replace_container(attached);
        self.count_held(&endpoint.container.id, 1);
        self.enlist(&endpoint);
        endpoint
    }

    /// Removes the endpoint, and its container if it has no other endpoint.
    pub fn remove_endpoint(&mut self, key: &EndpointKey) -> Option<Arc<Endpoint>> {
        let endpoint = self.endpoints.get(key)?.clone();
        self.count_held(&key.container, -1);
        self.endpoints.remove_mut(key);
        self.withdraw(key);
        self.version = Version::default();
        for address in &endpoint.addresses {
            self.addresses.remove_mut(&address.ip());
        }
        let mut names = self.names.get(&key.network).cloned().unwrap_or_default();
        for name in &endpoint.dns_names() {
            names.remove(name, &endpoint);
            self.change_dotted(name, |holders| holders.retain(|holder| holder.key() != *key));
        }
        self.replace_names(&key.network, names);
        if let Some(attached) = self.containers.get(&key.container).cloned() {
            let mut attached = Attached::clone(&attached);
            attached.endpoints.retain(|other| other.key() != *key);
            let is_last = |other| !attached.endpoints.iter().any(|e| e.attached_as.as_ref() == Some(other));
            if let Some(other) = endpoint.attached_as.as_ref().filter(|other| is_last(other)) {
                self.attached_as.remove_mut(other);
            }
            if attached.endpoints.is_empty() {
                self.containers.remove_mut(&key.container);
                self.own_addresses.remove_mut(&key.container.own_address());
                self.container_names.remove_mut(&attached.container.name.as_str().to_ascii_lowercase());
            } else {
                self.replace_container(Arc::new(attached));
            }
        }
        self.count_held(&key.container, 1);
        Some(endpoint)
    }

    fn replace_names(&mut self, network: &NetworkName, names: Names) {
        let before = self.names.get(network).is_some_and(Names::has_wildcards);
        self.with_wildcards = self.with_wildcards - usize::from(before) + usize::from(names.has_wildcards());
        if names.is_empty() {
            self.names.remove_mut(network);
        } else {
            self.names.insert_mut(network.clone(), names);
        }
    }

    fn change_dotted(&mut self, name: &str, change: impl FnOnce(&mut Vec<Arc<Endpoint>>)) {
        if !name.contains('.') || name.starts_with(names::WILDCARD) {
            return;
        }
        let mut holders = self.dotted.get(name).cloned().unwrap_or_default();
        change(&mut holders);
        if holders.is_empty() {
            self.dotted.remove_mut(name);
        } else {
            self.dotted.insert_mut(name.to_owned(), holders);
        }
    }

    /// Updates the container in the indices by id and by address.
    fn replace_container(&mut self, attached: Arc<Attached>) {
        for endpoint in &attached.endpoints {
            for ip in endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip) {
                // Another container may have taken over the address.
                if self.at_address(ip).is_some_and(|holder| Arc::ptr_eq(holder, endpoint)) {
                    let holder = Holder { endpoint: endpoint.clone(), attached: attached.clone() };
                    self.addresses.insert_mut(ip, holder);
                }
            }
        }
        self.containers.insert_mut(attached.container.id.clone(), attached);
    }
}

/// The lowest key of the network: no container id sorts below it.
fn lowest(network: &NetworkName) -> EndpointKey {
    EndpointKey { network: network.clone(), container: ContainerId::lowest(), ifname: IfName::lowest() }
}

fn insert_in_order(list: &mut Vec<Arc<Endpoint>>, endpoint: &Arc<Endpoint>) {
    let place = list.partition_point(|other| other.sequence < endpoint.sequence);
    list.insert(place, endpoint.clone());
}

/// A prefix must have at least three characters, so that a mistyped name does not match by chance.
fn id_fits(id: &str, text: &str) -> bool {
    text.len() >= 3 && id.starts_with(text)
}

fn one<T>(mut found: impl Iterator<Item = T>) -> Lookup<T> {
    match (found.next(), found.next()) {
        (None, _) => Lookup::None,
        (Some(only), None) => Lookup::One(only),
        (Some(_), Some(_)) => Lookup::Ambiguous(2 + found.count()),
    }
}
