//! Keeps the proxy in step with the containers' networks and held ports; for services: [`super::proxied_service`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::proxy::{PortSocket, Proxying, Served};
use super::state::problems::Subject;
use super::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::target;
use crate::model::endpoint::Netns;
use crate::model::host::backend::Backend;
use crate::model::host::step::{HostPort, HostPorts, Step};
use crate::model::ids::ContainerId;
use crate::store::Store;

/// How long closing sockets may take the proxy.
const CLOSING: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Makes the proxy match the container's networks and held ports.
    pub(crate) fn proxy(&mut self, id: &ContainerId) {
        self.proxy_or_drain(id, false);
    }

    /// The same; `drain`: what was accepted at ports that end stays, for as long as the container has the address.
    pub(crate) fn proxy_or_drain(&mut self, id: &ContainerId, drain: bool) {
        let attached = self.state.desired.container(id);
        // Where nobody can look whether somebody listens, nothing is served.
        let attached = attached.filter(|attached| !attached.endpoints.iter().any(|e| e.has_no_namespace()));
        let mut wanted = attached.map(|attached| target::proxied(&attached.endpoints)).unwrap_or_default();
        let mut shared = attached.map(|attached| target::proxied_for_runtimes(&attached.endpoints)).unwrap_or_default();
        shared.retain(|port, _| !wanted.contains_key(port));
        let asked: BTreeSet<HostPort> = shared.keys().copied().collect();
        wanted.extend(shared);
        let there = self.proxied.get(id);
        let is_there = |port: &HostPort, to: &Backend| there.is_some_and(|there| there.get(port) == Some(to));
        let stale = there.into_iter().flatten().filter(|(port, to)| wanted.get(port) != Some(to));
        let stale: Vec<HostPort> = stale.map(|(port, _)| *port).collect();
        let new: Vec<_> = wanted.into_iter().filter(|(port, to)| !is_there(port, to)).collect();
        let netns = attached.map(|attached| attached.container.netns.clone());
        let endpoints = attached.into_iter().flat_map(|attached| &attached.endpoints);
        let addresses: BTreeSet<IpAddr> =
            endpoints.flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip)).collect();
        self.end_draining(id, &addresses);
        self.stop_proxying(id, stale, drain);
        self.share(id, &asked);
        // What is not there has no ports.
        if let Some(netns) = netns.filter(|_| !new.is_empty()) {
            self.start_proxying(id, netns, new);
        }
    }

    /// The same for all containers and services.
    pub(crate) fn proxy_all(&mut self) {
        let mut all: BTreeSet<ContainerId> = self.proxied.keys().chain(self.draining.keys()).cloned().collect();
        all.extend(self.state.desired.containers().map(|attached| attached.container.id.clone()));
        all.iter().for_each(|id| self.proxy(id));
        self.proxy_services();
    }

    /// Holds those ports that a runtime asked for and nobody else has, and no other one of its ports. Each is tried once,
    /// when it is published or the daemon starts: later, a runtime that restarts its container may have just released it.
    fn share(&mut self, id: &ContainerId, asked: &BTreeSet<HostPort>) {
        let mut shared = self.shared.remove(id).unwrap_or_default();
        let ended: Vec<HostPorts> = shared
            .iter()
            .filter(|(port, held)| **held && !asked.contains(port))
            .filter_map(|(port, _)| port.alone())
            .collect();
        if !ended.is_empty()
            && let Err(error) = self.kernel.apply(&Step::Release(ended))
        {
            // A repair releases what nobody needs.
            self.problem(Subject::StalePorts, error.to_string());
        }
        shared.retain(|port, _| asked.contains(port));
        for port in asked {
            if shared.contains_key(port) {
                continue;
            }
            match self.kernel.apply(&Step::Hold(port.alone().into_iter().collect())) {
                Ok(()) => _ = shared.insert(*port, true),
                Err(error) => {
                    if !matches!(error, KernelError::PortTaken { .. }) {
                        tracing::warn!(%error, "what the kernel does not translate is not passed on");
                    }
                    shared.insert(*port, false);
                }
            }
        }
        let others: BTreeSet<HostPort> = shared.iter().filter(|(_, held)| !**held).map(|(port, _)| *port).collect();
        self.set_unproxied(id, others);
        if !shared.is_empty() {
            self.shared.insert(id.clone(), shared);
        }
    }

    /// Those of them that are no longer held are tried again.
    pub(crate) fn share_again(&mut self, held: &BTreeSet<HostPorts>) {
        for ports in self.shared.values_mut() {
            ports.retain(|port, was_held| !*was_held || port.alone().is_some_and(|ports| held.contains(&ports)));
        }
    }

    fn set_unproxied(&mut self, id: &ContainerId, ports: BTreeSet<HostPort>) {
        if !ports.is_empty() {
            self.unproxied.insert_mut(id.clone(), ports);
        } else if self.unproxied.contains_key(id) {
            self.unproxied.remove_mut(id);
        }
    }

    /// The ports that netd holds for runtimes.
    pub(crate) fn shared_ports(&self) -> impl Iterator<Item = HostPorts> {
        self.shared.keys().flat_map(|id| self.shared_with(id))
    }

    /// Those of a container.
    pub(crate) fn shared_with(&self, id: &ContainerId) -> impl Iterator<Item = HostPorts> {
        let ports = self.shared.get(id).into_iter().flatten();
        ports.filter(|(_, held)| **held).filter_map(|(port, _)| port.alone())
    }

    fn start_proxying(&mut self, id: &ContainerId, netns: Netns, ports: Vec<(HostPort, Backend)>) {
        let mut served = Vec::with_capacity(ports.len());
        for (port, to) in ports {
            if let Some(socket) = self.proxied_socket(&port, || Subject::Proxy(id.clone())) {
                served.push(Served { port, socket, to });
            }
        }
        if served.is_empty() {
            return;
        }
        let ports: Vec<_> = served.iter().map(|served| (served.port, served.to.clone())).collect();
        if self.proxying.send(Proxying::Serve(served, netns)).is_ok() {
            self.proxied.entry(id.clone()).or_default().extend(ports);
        }
    }

    /// Returns when the proxy has closed its sockets; what still holds the ports refuses again.
    fn stop_proxying(&mut self, id: &ContainerId, ports: Vec<HostPort>, drain: bool) {
        if ports.is_empty() {
            return;
        }
        if let Some(there) = self.proxied.get_mut(id) {
            let ended = ports.iter().filter_map(|port| there.remove(port));
            let addresses: BTreeSet<IpAddr> = ended.map(|to| to.at.ip()).collect();
            if there.is_empty() {
                self.proxied.remove(id);
            }
            if drain {
                self.draining.entry(id.clone()).or_default().extend(addresses);
            }
        }
        let drain = drain.then(|| id.clone());
        self.close_proxied(ports, drain, &Subject::Proxy(id.clone()));
    }

    /// The port's socket for the proxy. `subject`: what a failure is about.
    pub(super) fn proxied_socket(&mut self, port: &HostPort, subject: impl FnOnce() -> Subject) -> Option<PortSocket> {
        // If another process has it, that is a problem already, unless a runtime asked for it, and the next repair tries
        // again.
        self.kernel.serve_port(port).unwrap_or_else(|error| {
            self.problem(subject(), format!("cannot serve what the kernel does not translate: {error}"));
            None
        })
    }

    /// Returns when the proxy has closed these sockets; what still holds the ports refuses again.
    pub(super) fn close_proxied(&mut self, ports: Vec<HostPort>, drain: Option<ContainerId>, subject: &Subject) {
        self.proxy_closes(|closed| Proxying::Stop { ports: ports.clone(), drain, closed });
        self.problems.clear(subject);
        for port in ports {
            if let Err(error) = self.kernel.idle_port(&port) {
                self.problem(subject.clone(), error.to_string());
            }
        }
    }

    /// Ends what drains to addresses that the container does not have any more.
    fn end_draining(&mut self, id: &ContainerId, addresses: &BTreeSet<IpAddr>) {
        let Some(there) = self.draining.get_mut(id) else { return };
        let left: BTreeSet<IpAddr> = there.difference(addresses).copied().collect();
        there.retain(|address| addresses.contains(address));
        if there.is_empty() {
            self.draining.remove(id);
        }
        if !left.is_empty() {
            self.proxy_closes(|closed| Proxying::Left { container: id.clone(), addresses: left, closed });
        }
    }

    fn proxy_closes(&self, message: impl FnOnce(Sender<()>) -> Proxying) {
        let (closed, wait) = channel();
        if self.proxying.send(message(closed)).is_ok() {
            // The channel closes when the sockets are closed; a proxy that hangs must not block the engine.
            let _ = wait.recv_timeout(CLOSING);
        }
    }
}
