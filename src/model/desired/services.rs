//! The services, by name, by the names that they have on networks, and by virtual address; their members; and the
//! conditions of containers.
//!
//! Members are derived: each change of a service, an endpoint or a container's labels keeps them. A change costs what it
//! touches, however many services there are.

mod derived;
mod index;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Desired, Lookup, Version, id_fits, one};
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::ids::ContainerId;
use crate::model::names::{NetworkName, ServiceName};
use crate::model::service::{Condition, Service, Standing};
use derived::derived;
pub(super) use index::Services;

/// A member of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its endpoint on one of the service's networks.
    pub endpoint: &'a Arc<Endpoint>,
    /// Whether it is used.
    pub standing: Standing,
}

impl Desired {
    /// Every service, by name: those that were defined, and those that follow from labels of containers.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        self.services.all.values()
    }

    /// The service with that name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.all.get(name)
    }

    /// The service with that name, compared without case.
    pub fn service_called(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.lower.get(&name.to_ascii_lowercase()).and_then(|name| self.service(name))
    }

    /// A service by name (without case), id, or unique prefix of its id.
    pub fn find_service(&self, text: &str) -> Lookup<Arc<Service>> {
        if let Some(service) = self.service_called(text) {
            return Lookup::One(service.clone());
        }
        one(self.services().filter(|service| id_fits(service.id.as_str(), text)).cloned())
    }

    /// The services with this name or alias (lower case) on a network.
    pub fn services_named(&self, network: &NetworkName, name: &str) -> impl Iterator<Item = &Arc<Service>> {
        let names = self.services.names.get(network).and_then(|names| names.get(name));
        names.into_iter().flatten().filter_map(|name| self.service(name))
    }

    /// Whether there are services on the network.
    pub fn has_services(&self, network: &NetworkName) -> bool {
        self.services.counts.contains_key(network)
    }

    /// The services on the network, by name.
    pub fn services_of<'a>(&'a self, network: &'a NetworkName) -> impl Iterator<Item = &'a Arc<Service>> {
        let any = self.has_services(network);
        self.services().filter(move |service| any && service.on(network).is_some())
    }

    /// The service with this virtual address.
    pub fn service_at(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.services.addresses.get(&address)
    }

    /// The virtual addresses on a network.
    pub fn virtual_addresses<'a>(&'a self, network: &'a NetworkName) -> impl Iterator<Item = IpAddr> + 'a {
        self.services_of(network).flat_map(|service| service.on(network)).flat_map(|on| on.addresses.iter().copied())
    }

    /// The members of a service, in the order in which they were connected.
    pub fn members<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = Member<'a>> {
        let members = self.services.members.get(&service.name);
        members.into_iter().flat_map(|members| members.iter()).map(|endpoint| Member {
            endpoint,
            standing: Standing::of(service, endpoint, self.condition(&endpoint.container.id).map(Arc::as_ref)),
        })
    }

    /// The services of which an endpoint is a member.
    pub fn services_with<'a>(&'a self, endpoint: &EndpointKey) -> impl Iterator<Item = &'a ServiceName> + use<'a> {
        self.services.of_endpoints.get(endpoint).into_iter().flatten()
    }

    /// Every condition, by container.
    pub fn conditions(&self) -> impl Iterator<Item = &Arc<Condition>> {
        self.services.conditions.values()
    }

    /// What is known of a container.
    pub fn condition(&self, container: &ContainerId) -> Option<&Arc<Condition>> {
        self.services.conditions.get(container)
    }

    /// Adds the service, or replaces the one with the same name.
    pub fn insert_service(&mut self, service: Service) -> Arc<Service> {
        self.remove_service(&service.name);
        self.enter_service(service)
    }

    fn enter_service(&mut self, service: Service) -> Arc<Service> {
        self.version = Version::default();
        let service = Arc::new(service);
        self.services.enter(&service);
        let found: Vec<Arc<Endpoint>> = service
            .networks
            .iter()
            .flat_map(|on| self.endpoints_of(&on.network))
            .filter(|endpoint| self.is_member(&service, endpoint))
            .cloned()
            .collect();
        for endpoint in found {
            self.services.add_member(&service.name, &endpoint);
        }
        service
    }

    /// Removes the service. What its containers' labels say takes effect again.
    pub fn remove_service(&mut self, name: &ServiceName) -> Option<Arc<Service>> {
        let service = self.services.all.get(name)?.clone();
        self.version = Version::default();
        self.services.leave(&service);
        if service.is_defined() {
            // It may have stood before one that follows from labels.
            let labelled: Vec<Arc<Endpoint>> =
                service.networks.iter().flat_map(|on| self.endpoints_of(&on.network)).cloned().collect();
            labelled.iter().for_each(|endpoint| self.derive(endpoint));
        }
        Some(service)
    }

    /// Replaces what is known of a container.
    pub fn insert_condition(&mut self, condition: Condition) {
        self.version = Version::default();
        let id = condition.container.clone();
        let before = self.services.conditions.get(&id).cloned();
        let is_same = before.is_some_and(|before| before.labels == condition.labels);
        if condition.is_empty() {
            self.services.conditions.remove_mut(&id);
        } else {
            self.services.conditions.insert_mut(id.clone(), Arc::new(condition));
        }
        let endpoints = self.container(&id).map(|attached| attached.endpoints.clone()).unwrap_or_default();
        for endpoint in &endpoints {
            let names: Vec<ServiceName> = self.services_with(&endpoint.key()).cloned().collect();
            names.iter().for_each(|name| self.services.touch(name));
        }
        if !is_same {
            for endpoint in endpoints {
                self.withdraw(&endpoint.key());
                self.enlist(&endpoint);
            }
        }
    }

    /// The services whose members, or their conditions, may have changed since the last call, by name.
    pub fn take_touched(&mut self) -> Vec<ServiceName> {
        std::mem::take(&mut self.services.touched)
    }

    /// Forgets what is known of a container.
    pub fn remove_condition(&mut self, container: &ContainerId) {
        self.insert_condition(Condition::new(container.clone()));
    }

    /// Enters an endpoint as a member of the services that it belongs to.
    pub(super) fn enlist(&mut self, endpoint: &Arc<Endpoint>) {
        self.derive(endpoint);
        if !self.has_services(&endpoint.network) {
            return;
        }
        for name in self.candidates(endpoint) {
            if self.service(&name).is_some_and(|service| self.is_member(service, endpoint)) {
                self.services.add_member(&name, endpoint);
            }
        }
    }

    /// Removes an endpoint from the services that it belongs to, and with it a service that only its labels made.
    pub(super) fn withdraw(&mut self, key: &EndpointKey) {
        let Some(names) = self.services.of_endpoints.get(key).cloned() else { return };
        self.services.of_endpoints.remove_mut(key);
        for name in &names {
            let Some(service) = self.service(name).cloned() else { continue };
            let left = self.services.remove_member(name, key);
            if service.is_defined() {
                continue;
            }
            if left.is_empty() {
                self.services.leave(&service);
            } else if !left.iter().any(|endpoint| endpoint.network == key.network) {
                let mut service = service.as_ref().clone();
                service.networks.retain(|on| on.network != key.network);
                self.services.leave(&Arc::new(service.clone()));
                self.enter_service(service);
            }
        }
    }

    /// The services that may have the endpoint as a member.
    fn candidates(&self, endpoint: &Endpoint) -> Vec<ServiceName> {
        let labels = self.labels(endpoint);
        let selecting = labels.iter().filter_map(|(key, value)| {
            self.services.selecting.get(&(endpoint.network.clone(), format!("{key}={value}")))
        });
        let container = &endpoint.container;
        let keys = [container.name.as_str().to_ascii_lowercase(), container.id.as_str().to_owned()];
        let mut names: Vec<ServiceName> = selecting.flatten().cloned().collect();
        if !self.services.listing.is_empty() {
            let short = container.id.short().to_owned();
            let listing = keys.into_iter().chain([short]).filter_map(|key| self.services.listing.get(&key));
            names.extend(listing.flatten().cloned());
        }
        names.sort();
        names.dedup();
        names
    }

    fn is_member(&self, service: &Service, endpoint: &Endpoint) -> bool {
        if service.on(&endpoint.network).is_none() {
            return false;
        }
        let container = &endpoint.container;
        let is_it = |text: &String| {
            text.eq_ignore_ascii_case(container.name.as_str())
                || text == container.id.as_str()
                || text == container.id.short()
        };
        if service.members.iter().any(is_it) {
            return true;
        }
        let condition = self.condition(&container.id);
        let has = |(key, value): (&String, &String)| {
            let own = endpoint.labels.get(key);
            own.or_else(|| condition.and_then(|condition| condition.labels.get(key))) == Some(value)
        };
        !service.select.is_empty() && service.select.iter().all(has)
    }

    /// The labels of an endpoint, and those that its container's engine has.
    pub fn labels(&self, endpoint: &Endpoint) -> BTreeMap<String, String> {
        let mut labels = self.condition(&endpoint.container.id).map(|condition| condition.labels.clone());
        let labels = labels.get_or_insert_default();
        labels.extend(endpoint.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        std::mem::take(labels)
    }

    /// Makes the service that the labels of docker-compose or podman-compose describe, or adds the endpoint's network to
    /// it. A defined service of that name stands before it.
    fn derive(&mut self, endpoint: &Arc<Endpoint>) {
        let has_labels = !endpoint.labels.is_empty()
            || self.condition(&endpoint.container.id).is_some_and(|condition| !condition.labels.is_empty());
        let Some(service) = has_labels.then(|| derived(&self.labels(endpoint), endpoint)).flatten() else { return };
        match self.service_called(service.name.as_str()).cloned() {
            Some(there) if there.is_defined() || there.on(&endpoint.network).is_some() => {}
            Some(there) => {
                let mut wider = there.as_ref().clone();
                wider.networks.extend(service.networks);
                self.services.leave(&there);
                self.enter_service(wider);
            }
            None => drop(self.enter_service(service)),
        }
    }
}
