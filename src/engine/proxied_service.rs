//! Keeps the proxy in step with the services' published ports, and tells it the way to their members.
//!
//! What the proxy accepts for a service it sends to the same port of an address of the host, where the kernel leads it to
//! a member as it leads connections of the host itself. So one place chooses members, whichever way a client comes, and
//! what ends the connections of a drained member ends these too.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::proxy::listener::listen;
use super::proxy::{PortSocket, ProxiedService, Proxying};
use super::state::problems::Subject;
use super::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::target::services;
use crate::model::host::step::HostPort;
use crate::model::names::ServiceName;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Makes the proxy match the service's published ports and members. It is called after the kernel leads connections to
    /// new members.
    pub(crate) fn proxy_service(&mut self, name: &ServiceName) {
        let desired = &self.state.desired;
        let service = desired.service(name).filter(|service| !service.publications.is_empty());
        let wanted = service.map(|service| services::proxied(desired, service)).unwrap_or_default();
        let way = service.and_then(|service| services::way(desired, service));
        let there = self.proxied_services.get(name).map(|there| there.ports.clone()).unwrap_or_default();
        self.stop_proxying_service(name, there.difference(&wanted).copied().collect());
        if wanted.is_empty() {
            self.proxied_services.remove(name);
            return;
        }
        let fresh =
            || ProxiedService { ports: BTreeSet::new(), listeners: BTreeMap::new(), way: watch::Sender::new(way) };
        let entry = self.proxied_services.entry(name.clone()).or_insert_with(fresh);
        entry.way.send_if_modified(|now| std::mem::replace(now, way) != way);
        self.start_proxying_service(name, wanted.difference(&there).copied().collect());
        if way.is_some() {
            self.listen_for(name);
        }
    }

    /// The service's ports listen when this returns: what they take waits for the proxy.
    fn listen_for(&mut self, name: &ServiceName) {
        let Some(entry) = self.proxied_services.get(name) else { return };
        if let Some(error) = entry.listeners.values().find_map(|socket| listen(socket).err()) {
            // The proxy tries again.
            tracing::warn!(%error, service = %name, "cannot listen at a published port");
        }
    }

    /// The same for all services.
    pub(super) fn proxy_services(&mut self) {
        let mut all: BTreeSet<ServiceName> = self.proxied_services.keys().cloned().collect();
        all.extend(self.state.desired.services().map(|service| service.name.clone()));
        all.iter().for_each(|name| self.proxy_service(name));
    }

    fn start_proxying_service(&mut self, name: &ServiceName, ports: Vec<HostPort>) {
        let mut served = Vec::with_capacity(ports.len());
        for port in ports {
            let Some(socket) = self.proxied_socket(&port, || Subject::ServiceProxy(name.clone())) else { continue };
            if let (PortSocket::Tcp(listener), Some(entry)) = (&socket, self.proxied_services.get_mut(name))
                && let Ok(listener) = listener.try_clone()
            {
                entry.listeners.insert(port, listener);
            }
            served.push((port, socket));
        }
        let Some(entry) = self.proxied_services.get_mut(name).filter(|_| !served.is_empty()) else { return };
        let ports: Vec<HostPort> = served.iter().map(|(port, _)| *port).collect();
        if self.proxying.send(Proxying::ServeService(served, entry.way.subscribe())).is_ok() {
            entry.ports.extend(ports);
        }
    }

    /// Returns when the proxy has closed its sockets and what they have accepted.
    fn stop_proxying_service(&mut self, name: &ServiceName, ports: Vec<HostPort>) {
        if ports.is_empty() {
            return;
        }
        if let Some(there) = self.proxied_services.get_mut(name) {
            there.ports.retain(|port| !ports.contains(port));
            there.listeners.retain(|port, _| !ports.contains(port));
        }
        self.close_proxied(ports, None, &Subject::ServiceProxy(name.clone()));
    }
}
