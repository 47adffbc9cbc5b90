//! The sockets of the name service, at the gateways of networks and within containers, and the firewall elements that
//! direct questions to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::engine::listener::Listening;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::target;
use crate::model::endpoint::EndpointKey;
use crate::model::host::element::Element;
use crate::model::host::step::Step;
use crate::model::ids::ContainerId;
use crate::model::inside::Inside;
use crate::store::Store;

/// How long closing the name service's sockets at an address may take.
const CLOSING: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Opens the name service's sockets at new gateways and closes them at old ones. Questions reach them when it
    /// returns.
    pub(crate) fn listen(&mut self) {
        let before = self.dns_listeners.clone();
        self.open_and_close();
        let (old, new) = (name_servers(&before), name_servers(&self.dns_listeners));
        let remove: Vec<Element> = old.iter().filter(|element| !new.contains(element)).cloned().collect();
        let add: Vec<Element> = new.iter().filter(|element| !old.contains(element)).cloned().collect();
        let step = Step::Elements { remove, add };
        if !step.is_noop()
            && let Err(error) = self.kernel.apply(&step)
        {
            tracing::warn!(%error, "cannot redirect DNS queries to the name service");
            self.reconcile();
        }
    }

    /// The elements that the table must have: those of networks and containers, and those that direct questions to the
    /// name service.
    pub(crate) fn wanted_elements(&self) -> BTreeSet<Element> {
        let mut elements = target::all_elements(&self.state.desired);
        elements.extend(name_servers(&self.dns_listeners));
        elements.extend(self.transit_elements());
        elements
    }

    /// Opens and closes the sockets only; the caller applies the elements.
    pub(crate) fn open_and_close(&mut self) {
        let gateways = target::gateways(&self.state.desired);
        let stale: Vec<IpAddr> =
            self.dns_listeners.keys().filter(|address| !gateways.contains(address)).copied().collect();
        for address in stale {
            self.dns_listeners.remove(&address);
            self.close(address);
        }
        self.kernel.keep_dns_sockets(&gateways);
        // Also of gateways at which no socket could be opened.
        let stays = |subject: &Subject| !matches!(subject, Subject::Gateway(address) if !gateways.contains(address));
        self.problems.retain(stays);
        for address in gateways {
            if self.dns_listeners.contains_key(&address) {
                continue;
            }
            match self.kernel.dns_sockets(address, self.config.dns_port) {
                Ok((port, sockets)) => {
                    self.dns_listeners.insert(address, port);
                    self.problems.clear(&Subject::Gateway(address));
                    let _ = sockets.map(|sockets| self.listening.send(Listening::Serve(sockets)));
                }
                Err(error) => {
                    self.problem(Subject::Gateway(address), format!("cannot serve DNS at the gateway: {error}"));
                }
            }
        }
    }

    /// Makes the name service within every container match its networks.
    pub(crate) fn serve_all_inside(&mut self) {
        let mut all: BTreeSet<ContainerId> = self.in_container.keys().chain(self.redirected.keys()).cloned().collect();
        all.extend(self.state.desired.containers().map(|attached| attached.container.id.clone()));
        all.iter().for_each(|id| self.serve_inside(id));
    }

    /// Opens, redirects or closes a container's inner name service, as its networks require.
    pub(crate) fn serve_inside(&mut self, id: &ContainerId) {
        let beside = self.has_resolver(id);
        let (desired, blocked) = (&self.state.desired, &self.state.gateway_blocked);
        let attached =
            desired.container(id).filter(|attached| !attached.endpoints.iter().any(|e| e.has_no_namespace()));
        let needed = attached.and_then(|attached| target::inside(desired, blocked, attached, beside));
        let there = self.in_container.get(id).cloned();
        let outcome = match (there, needed) {
            (None, None) => self.end_redirection(id),
            (Some((there, _)), Some(needed)) if there == needed => return,
            (Some((there, port)), Some(needed)) if there.netns == needed.netns && there.beside == needed.beside => self
                .kernel
                .lead_inside(&needed, port)
                .map(|()| drop(self.in_container.insert(id.clone(), (needed, port)))),
            (there, needed) => {
                let closed = there.map_or(Ok(()), |(there, _)| self.close_inside(&there));
                needed.map_or(closed, |needed| self.open_inside(needed))
            }
        };
        match outcome {
            Ok(()) => self.problems.clear(&Subject::WithinContainer(id.clone())),
            // The container is about to be released.
            Err(KernelError::NoNetns { .. }) => {}
            Err(error) => {
                self.problem(
                    Subject::WithinContainer(id.clone()),
                    format!("cannot serve DNS inside the container: {error}"),
                );
            }
        }
    }

    /// Whether another resolver answers the container at 127.0.0.11. Checked in containers of other engines, and when
    /// netd is about to use that address itself.
    fn has_resolver(&mut self, id: &ContainerId) -> bool {
        let Some(attached) = self.state.desired.container(id) else {
            self.resolvers.remove(id);
            return false;
        };
        if attached.endpoints.iter().any(|endpoint| endpoint.has_no_namespace()) {
            self.resolvers.remove(id);
            return false;
        }
        // Docker serves every container on a network of a driver, except while it is down.
        if self.resolvers.contains(id) || attached.endpoints.iter().any(|endpoint| endpoint.handover.is_some()) {
            return true;
        }
        let (own, container) = (self.in_container.get(id).map(|(_, port)| *port), attached.container.clone());
        let takes = || target::inside(&self.state.desired, &self.state.gateway_blocked, attached, false).is_some();
        let looks = container.of_engine || (own.is_none() && takes());
        let found = looks && self.kernel.has_resolver(&container.netns, own);
        if found {
            self.resolvers.insert(id.clone());
        }
        found
    }

    /// Searches for resolvers that other engines have given their containers since the last check.
    pub(crate) fn serve_beside(&mut self) {
        let unknown = |id: &ContainerId| !self.resolvers.contains(id);
        let of_engines = self.state.desired.containers().filter(|attached| attached.container.of_engine);
        let ids: Vec<ContainerId> = of_engines.map(|attached| attached.container.id.clone()).filter(unknown).collect();
        for id in &ids {
            self.serve_inside(id);
        }
        if ids.iter().any(|id| self.resolvers.contains(id)) {
            self.publish();
        }
    }

    fn open_inside(&mut self, inside: Inside) -> Result<(), KernelError> {
        let (port, sockets) = self.kernel.open_inside(&inside)?;
        let _ = sockets.map(|sockets| self.listening.send(Listening::Serve(sockets)));
        self.redirected.remove(&inside.container);
        self.in_container.insert(inside.container.clone(), (inside, port));
        Ok(())
    }

    fn close_inside(&mut self, there: &Inside) -> Result<(), KernelError> {
        self.in_container.remove(&there.container);
        self.close(there.container.own_address());
        self.redirected.insert(there.container.clone(), there.netns.clone());
        self.end_redirection(&there.container)
    }

    /// Removes a redirection to closed sockets: one that could not be removed before, or, at the start, one that a killed
    /// daemon left.
    fn end_redirection(&mut self, id: &ContainerId) -> Result<(), KernelError> {
        if self.initial_sync
            && !self.adopting
            && let Some(netns) = self.state.desired.container(id).map(|attached| attached.container.netns.clone())
            // Another netd may serve the container.
            && !self.kernel.has_resolver(&netns, None)
        {
            self.redirected.insert(id.clone(), netns);
        }
        if let Some(netns) = self.redirected.get(id) {
            self.kernel.leave_inside(netns)?;
            self.redirected.remove(id);
        }
        Ok(())
    }

    /// Returns when the name service has closed its sockets at that address.
    fn close(&mut self, address: IpAddr) {
        let (closed, wait) = std::sync::mpsc::channel();
        if self.listening.send(Listening::Stop { address, closed }).is_ok() {
            // The channel closes when the sockets are closed; a name service that hangs must not block the engine.
            let _ = wait.recv_timeout(CLOSING);
        }
    }

    /// The endpoints of containers whose namespace was at that path and is not any more. The kernel does not report the
    /// removal of their interfaces, because the name service's sockets keep the namespace alive.
    pub(crate) fn endpoints_gone_with(&mut self, path: &Path) -> Vec<EndpointKey> {
        let held = self.in_container.values().map(|(inside, _)| inside).filter(|inside| inside.netns.path == path);
        let held: Vec<Inside> = held.cloned().collect();
        let gone = held.into_iter().filter(|inside| !self.is_alive(&inside.netns)).collect::<Vec<_>>();
        gone.iter().flat_map(|inside| self.state.endpoints_of(&inside.container)).map(|e| e.key()).collect()
    }

    /// Whether the container's namespace has ended, and only the name service's sockets keep its interfaces alive.
    pub(crate) fn is_kept_for_nothing(&mut self, id: &ContainerId) -> bool {
        let inside = self.in_container.get(id).map(|(inside, _)| inside.netns.clone());
        inside.is_some_and(|netns| !self.is_alive(&netns))
    }
}

fn name_servers(served: &BTreeMap<IpAddr, u16>) -> Vec<Element> {
    served.iter().flat_map(|(gateway, port)| target::name_server(*gateway, *port)).collect()
}
