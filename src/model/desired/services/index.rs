//! The indices of services: by name, by selected label, by listed container, by address; and their members.

use std::net::IpAddr;
use std::sync::Arc;

use rpds::{HashTrieMapSync as Index, RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};

use crate::model::desired::insert_in_order;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::ids::ContainerId;
use crate::model::names::{NetworkName, ServiceName};
use crate::model::service::{Condition, Service, ServiceNetwork};

/// Services by the lower case of their names.
type Names = Map<String, Set<ServiceName>>;

/// Invariants: each service is in `all`, under each of its names in `names`, and under its addresses; `members` has its
/// members in the order in which they were connected, and `of_endpoints` is the inverse of it.
#[derive(Debug, Clone, Default)]
pub(in crate::model::desired) struct Services {
    pub(super) all: Map<ServiceName, Arc<Service>>,
    /// Every name in lower case.
    pub(super) lower: Map<String, ServiceName>,
    /// The services with a name or an alias on a network.
    pub(super) names: Map<NetworkName, Names>,
    /// The services on a network that select this label (`key=value`), the first one of each.
    pub(super) selecting: Map<(NetworkName, String), Set<ServiceName>>,
    /// The services that list this container, by name in lower case or id.
    pub(super) listing: Names,
    pub(super) addresses: Index<IpAddr, Arc<Service>>,
    pub(super) members: Map<ServiceName, Arc<Vec<Arc<Endpoint>>>>,
    pub(super) of_endpoints: Map<EndpointKey, Set<ServiceName>>,
    pub(super) conditions: Map<ContainerId, Arc<Condition>>,
    /// How many services there are on a network.
    pub(super) counts: Map<NetworkName, usize>,
    /// The services whose members, or their conditions, changed since [`Desired::take_touched`]; each once, in order.
    pub(super) touched: Vec<ServiceName>,
}

impl Services {
    /// Notes that the members of a service, or their conditions, may have changed.
    pub(super) fn touch(&mut self, name: &ServiceName) {
        if let Err(place) = self.touched.binary_search(name) {
            self.touched.insert(place, name.clone());
        }
    }

    pub(super) fn enter(&mut self, service: &Arc<Service>) {
        let name = &service.name;
        self.touch(name);
        self.lower.insert_mut(name.as_str().to_ascii_lowercase(), name.clone());
        for on in &service.networks {
            let mut names = self.names.get(&on.network).cloned().unwrap_or_default();
            service_names(service, on).for_each(|key| add(&mut names, key, name));
            self.names.insert_mut(on.network.clone(), names);
            on.addresses.iter().for_each(|address| self.addresses.insert_mut(*address, service.clone()));
            if let Some((key, value)) = service.select.first_key_value() {
                add(&mut self.selecting, (on.network.clone(), format!("{key}={value}")), name);
            }
            let count = self.counts.get(&on.network).copied().unwrap_or_default();
            self.counts.insert_mut(on.network.clone(), count + 1);
        }
        for member in &service.members {
            add(&mut self.listing, member.to_ascii_lowercase(), name);
        }
        self.all.insert_mut(name.clone(), service.clone());
    }

    /// The inverse of [`Self::enter`], and its members.
    pub(super) fn leave(&mut self, service: &Arc<Service>) {
        let name = &service.name;
        let Some(service) = self.all.get(name).cloned() else { return };
        self.touch(name);
        self.all.remove_mut(name);
        self.lower.remove_mut(&name.as_str().to_ascii_lowercase());
        for on in &service.networks {
            let mut names = self.names.get(&on.network).cloned().unwrap_or_default();
            service_names(&service, on).for_each(|key| remove(&mut names, &key, name));
            if names.is_empty() {
                self.names.remove_mut(&on.network);
            } else {
                self.names.insert_mut(on.network.clone(), names);
            }
            for address in &on.addresses {
                self.addresses.remove_mut(address);
            }
            if let Some((key, value)) = service.select.first_key_value() {
                remove(&mut self.selecting, &(on.network.clone(), format!("{key}={value}")), name);
            }
            match self.counts.get(&on.network).copied() {
                Some(count) if count > 1 => self.counts.insert_mut(on.network.clone(), count - 1),
                _ => _ = self.counts.remove_mut(&on.network),
            }
        }
        for member in &service.members {
            remove(&mut self.listing, &member.to_ascii_lowercase(), name);
        }
        let members = self.members.get(name).cloned().unwrap_or_default();
        self.members.remove_mut(name);
        members.iter().for_each(|member| remove(&mut self.of_endpoints, &member.key(), name));
    }

    pub(super) fn add_member(&mut self, name: &ServiceName, endpoint: &Arc<Endpoint>) {
        let mut members = self.members.get(name).map(|members| Vec::clone(members)).unwrap_or_default();
        if members.iter().any(|member| Arc::ptr_eq(member, endpoint)) {
            return;
        }
        self.touch(name);
        insert_in_order(&mut members, endpoint);
        self.members.insert_mut(name.clone(), Arc::new(members));
        add(&mut self.of_endpoints, endpoint.key(), name);
    }

    /// Returns those that are left.
    pub(super) fn remove_member(&mut self, name: &ServiceName, key: &EndpointKey) -> Vec<Arc<Endpoint>> {
        let mut members = self.members.get(name).map(|members| Vec::clone(members)).unwrap_or_default();
        self.touch(name);
        members.retain(|member| member.key() != *key);
        if members.is_empty() {
            self.members.remove_mut(name);
        } else {
            self.members.insert_mut(name.clone(), Arc::new(members.clone()));
        }
        members
    }
}

/// The names of a service on a network, in lower case, each once.
fn service_names(service: &Service, on: &ServiceNetwork) -> impl Iterator<Item = String> {
    let own = service.name.as_str().to_ascii_lowercase();
    let mut names: Vec<String> = on.aliases.iter().map(crate::model::names::Alias::key).collect();
    names.push(own);
    names.sort();
    names.dedup();
    names.into_iter()
}

fn add<K: Ord + Clone>(map: &mut Map<K, Set<ServiceName>>, key: K, name: &ServiceName) {
    let names = map.get(&key).cloned().unwrap_or_default();
    map.insert_mut(key, names.insert(name.clone()));
}

fn remove<K: Ord + Clone>(map: &mut Map<K, Set<ServiceName>>, key: &K, name: &ServiceName) {
    let Some(names) = map.get(key).map(|names| names.remove(name)) else { return };
    if names.is_empty() {
        map.remove_mut(key);
    } else {
        map.insert_mut(key.clone(), names);
    }
}
