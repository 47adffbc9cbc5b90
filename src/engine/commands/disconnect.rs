//! Disconnects containers: all waiting requests together, and containers whose namespace no longer exists.

use std::sync::Arc;

use crate::engine::event::Change;
use crate::engine::worker::Worker;
use crate::engine::{Command, Error, Reply, decide, transaction};
use crate::kernel::{Kernel, KernelEvent};
use crate::logic::plan::endpoint::Detached;
use crate::logic::plan::{self, Change as PlanChange};
use crate::logic::refusal::Refusal;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::ids::ContainerId;
use crate::store::{Record, Store};

/// Who waits for the removal of an endpoint.
enum Client {
    Person(Reply<Arc<Endpoint>>),
    Runtime(Reply<()>),
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Disconnects everything that the waiting commands name, in one batch.
    pub(crate) fn disconnect_group(&mut self, group: Vec<Command>) {
        let mut asked = Vec::new();
        let mut keys = Vec::new();
        if group.iter().any(|command| self.is_bridge_gone(command)) {
            // A lost bridge detaches its ports, too: reconcile everything before judging single interfaces.
            self.reconcile();
        }
        for command in group {
            match command {
                Command::Disconnect { network, container, reply } => match self.find_attached(&network, &container) {
                    Ok(mut found) => {
                        let network = found[0].network.clone();
                        found.retain(|key| !keys.iter().any(|(known, _)| known == key));
                        match found.first().cloned() {
                            // Two requests for the same endpoint in one group: the second finds nothing.
                            None => drop(reply.send(Err(Refusal::NotConnected { container, network }.into()))),
                            Some(first) => {
                                asked.push((first, Client::Person(reply)));
                                keys.extend(found.into_iter().map(|key| (key, true)));
                            }
                        }
                    }
                    Err(refusal) => drop(reply.send(Err(refusal.into()))),
                },
                Command::Detach(key, reply) => match self.find_attachment(&key).map(|endpoint| endpoint.key()) {
                    Some(key) => {
                        if !keys.iter().any(|(known, _)| *known == key) {
                            keys.push((key.clone(), true));
                        }
                        asked.push((key, Client::Runtime(reply)));
                    }
                    // The endpoint does not exist, as requested.
                    None => drop(reply.send(Ok(()))),
                },
                Command::Kernel(KernelEvent::LinkGone(ifname)) => {
                    // netd may have deleted the link itself, and the name may be in use again.
                    if let Some(key) = self.state.host_ifnames.get(&ifname).cloned()
                        && !self.kernel.has_link(&ifname)
                        && !keys.iter().any(|(known, _)| *known == key)
                        && !self.reattach(&key, "it was deleted")
                    {
                        keys.push((key, false));
                    }
                }
                Command::Kernel(KernelEvent::NetnsGone(path)) => {
                    let mut gone = self.endpoints_gone_with(&path);
                    gone.retain(|key| !keys.iter().any(|(known, _)| known == key));
                    keys.extend(gone.into_iter().map(|key| (key, false)));
                }
                _ => {}
            }
        }
        let result = self.disconnect(&keys).map_err(Arc::new);
        for (key, client) in asked {
            let answer = match &result {
                Ok(gone) => gone.iter().find(|endpoint| endpoint.key() == key).cloned().ok_or(Error::Stopped),
                Err(error) => Err(Error::Shared(error.clone())),
            };
            match client {
                Client::Person(reply) => drop(reply.send(answer)),
                Client::Runtime(reply) => drop(reply.send(answer.map(drop))),
            }
        }
    }

    /// Whether the event reports the loss of something that several interfaces, or only a part of one, depend on.
    fn is_bridge_gone(&mut self, command: &Command) -> bool {
        let Command::Kernel(KernelEvent::LinkGone(ifname)) = command else { return false };
        self.state.desired.networks().any(|network| network.bridge() == Some(ifname))
            || (self.state.limited.contains_key(ifname) && !self.kernel.has_link(ifname))
    }

    /// Returns at least one key.
    fn find_attached(&self, network: &str, container: &str) -> Result<Vec<EndpointKey>, Refusal> {
        let network = self.find_network(network)?;
        decide::find_endpoints(&self.state, &network.name, container)
    }

    /// Releases every endpoint of a container whose namespace no longer exists.
    pub(crate) fn release_container(&mut self, id: &ContainerId) {
        let keys: Vec<_> = self.state.endpoints_of(id).iter().map(|endpoint| (endpoint.key(), false)).collect();
        if let Err(error) = self.disconnect(&keys) {
            tracing::warn!(container = %id, "releasing a container that is gone: {error}");
        }
    }

    /// Disconnects the endpoints. The `bool` beside a key is true if the disconnect was requested.
    pub(crate) fn disconnect(&mut self, keys: &[(EndpointKey, bool)]) -> Result<Vec<Arc<Endpoint>>, Error> {
        let mut containers: Vec<(ContainerId, Vec<Arc<Endpoint>>)> = Vec::new();
        for (key, _) in keys {
            if !containers.iter().any(|(id, _)| *id == key.container) {
                containers.push((key.container.clone(), self.state.endpoints_of(&key.container)));
            }
        }
        let records: Vec<Record> = keys.iter().map(|(key, _)| Record::DeleteEndpoint(key.clone())).collect();
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.store.commit(&records)?;
        let (mut gone, mut released) = (Vec::new(), Vec::new());
        for (key, asked) in keys {
            if let Some((endpoint, records)) = self.state.drop_endpoint(key) {
                released.extend(records);
                gone.push((endpoint, *asked));
            }
        }
        self.publish();
        containers.iter().for_each(|(id, _)| self.serve_inside(id));
        let strayed = gone.iter().any(|(endpoint, _)| self.has_strayed(endpoint));
        let detached = |(id, before): (ContainerId, Vec<Arc<Endpoint>>)| {
            let after = self.state.endpoints_of(&id);
            let resolv_conf = self.resolv_confs(PlanChange { before: &before, after: &after });
            Detached { before, after, resolv_conf }
        };
        let endpoints: Vec<Arc<Endpoint>> = gone.iter().map(|(endpoint, _)| endpoint.clone()).collect();
        let containers = containers.into_iter().map(detached).collect();
        let steps = plan::endpoint::detach(&self.state.desired, containers, &endpoints);
        let errors = transaction::best_effort(&mut self.kernel, &steps);
        self.compensate(&released);
        for (endpoint, asked) in &gone {
            tracing::info!(network = %endpoint.network, container = %endpoint.container.name, asked, "disconnected");
            if !endpoint.addresses.is_empty() {
                self.tell(Change::Disconnected { endpoint: endpoint.clone(), asked: *asked });
            }
        }
        let gone = gone.into_iter().map(|(endpoint, _)| endpoint).collect();
        if strayed {
            self.reconcile();
        }
        self.finish(errors).map(|()| gone)
    }

    /// Whether the interface has another name by now: it is found by its mark only.
    fn has_strayed(&mut self, endpoint: &Endpoint) -> bool {
        let ours = self.state.desired.network(&endpoint.network).is_some_and(|network| network.own_bridge().is_some());
        ours && !self.kernel.has_link(&endpoint.host_ifname) && self.kernel.netns_alive(&endpoint.container.netns)
    }
}
