//! Disconnects containers: all waiting requests together, and containers whose namespace no longer exists.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::Error;
use crate::engine::command::{Command, Reply};
use crate::engine::decide::{self, transaction};
use crate::engine::event::{Cause, Change};
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelEvent};
use crate::logic::refusal::Refusal;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::handover::Handover;
use crate::model::ids::ContainerId;
use crate::model::names::ReservationId;
use crate::model::request::Attachments;
use crate::model::reservation::Reservation;
use crate::store::Store;

/// An endpoint to remove, and why.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    key: EndpointKey,
    cause: Cause,
    /// The reservation that it becomes.
    keep: Option<Arc<Reservation>>,
}

impl Removal {
    pub(crate) fn requested(key: EndpointKey) -> Self {
        Self { key, cause: Cause::Requested, keep: None }
    }

    pub(crate) fn undone(key: EndpointKey) -> Self {
        Self { key, cause: Cause::Undone, keep: None }
    }

    pub(crate) fn because_gone(key: EndpointKey) -> Self {
        Self { key, cause: Cause::Gone, keep: None }
    }
}

/// Who waits for the removal of an endpoint.
enum Client {
    Person(Reply<Arc<Endpoint>>),
    Runtime(Reply<()>),
}

/// What a group of commands removes together, and who waits for it.
#[derive(Default)]
struct Batch {
    removals: Vec<Removal>,
    /// Each with the first endpoint that it asked for.
    waiting: Vec<(EndpointKey, Client)>,
}

impl Batch {
    fn has(&self, key: &EndpointKey) -> bool {
        self.removals.iter().any(|removal| removal.key == *key)
    }

    /// Whether another request makes a reservation with that id.
    fn keeps(&self, id: &ReservationId) -> bool {
        self.removals.iter().filter_map(|removal| removal.keep.as_ref()).any(|kept| kept.id == *id)
    }

    fn add(&mut self, removal: Removal) {
        if !self.has(&removal.key) {
            self.removals.push(removal);
        }
    }

    fn reply(self, result: &Result<Vec<Arc<Endpoint>>, Arc<Error>>) {
        for (key, client) in self.waiting {
            let answer = match result {
                Ok(gone) => gone.iter().find(|endpoint| endpoint.key() == key).cloned().ok_or(Error::Stopped),
                Err(error) => Err(Error::Shared(error.clone())),
            };
            match client {
                Client::Person(reply) => drop(reply.send(answer)),
                Client::Runtime(reply) => drop(reply.send(answer.map(drop))),
            }
        }
    }
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Disconnects everything that the waiting commands name, in one batch.
    pub(crate) fn disconnect_group(&mut self, group: Vec<Command>) {
        if group.iter().any(|command| self.is_bridge_gone(command)) {
            // A lost bridge detaches its ports, too: reconcile everything before judging single interfaces.
            self.reconcile();
        }
        let mut batch = Batch::default();
        for command in group {
            match command {
                Command::Disconnect { network, container, keep, reply } => {
                    self.add_disconnect(&mut batch, &network, (container, keep), reply);
                }
                Command::Detach(wanted, reply) => self.add_detach(&mut batch, &wanted, reply),
                Command::Kernel(KernelEvent::LinkGone(ifname)) => {
                    self.settle_staged(&ifname);
                    // netd may have deleted the link itself, and the name may be in use again.
                    if let Some(key) = self.state.host_ifnames.get(&ifname).cloned()
                        && !self.kernel.has_link(&ifname)
                        && !batch.has(&key)
                        && !self.make_again(&key)
                    {
                        batch.add(Removal::because_gone(key));
                    }
                }
                Command::Kernel(KernelEvent::NetnsGone(path)) => {
                    self.endpoints_gone_with(&path).into_iter().for_each(|key| batch.add(Removal::because_gone(key)));
                }
                _ => {}
            }
        }
        let result = self.disconnect_or_tell(&batch.removals).map_err(Arc::new);
        batch.reply(&result);
    }

    fn add_disconnect(
        &self,
        batch: &mut Batch,
        network: &str,
        (container, keep): (String, Option<ReservationId>),
        reply: Reply<Arc<Endpoint>>,
    ) {
        let mut found = match self.find_attached(network, &container) {
            Ok(found) => found,
            Err(refusal) => return drop(reply.send(Err(refusal.into()))),
        };
        let network = found[0].network.clone();
        let keep = match keep.map(|id| self.kept(batch, &found, &id)).transpose() {
            Ok(keep) => keep,
            Err(refusal) => return drop(reply.send(Err(refusal.into()))),
        };
        found.retain(|key| !batch.has(key));
        match found.first().cloned() {
            // Two requests for the same endpoint in one group: the second finds nothing.
            None => drop(reply.send(Err(Refusal::NotConnected { container, network }.into()))),
            Some(first) => {
                batch.waiting.push((first, Client::Person(reply)));
                for key in found {
                    batch.add(Removal { keep: keep.clone(), ..Removal::requested(key) });
                }
            }
        }
    }

    fn add_detach(&self, batch: &mut Batch, wanted: &Attachments, reply: Reply<()>) {
        let named = |endpoint: &&Arc<Endpoint>| match (&wanted.only, &endpoint.owner) {
            (None, _) => true,
            (Some(only), Some(owner)) => only.contains(&(owner.clone(), endpoint.ifname.clone())),
            (Some(_), None) => false,
        };
        let found = self.state.desired.attachments_of(&wanted.container).filter(named);
        let keys: Vec<EndpointKey> = found.map(|endpoint| endpoint.key()).collect();
        match keys.first().cloned() {
            // None of them exists, as requested.
            None => drop(reply.send(Ok(()))),
            Some(first) => {
                keys.into_iter().for_each(|key| batch.add(Removal::requested(key)));
                batch.waiting.push((first, Client::Runtime(reply)));
            }
        }
    }

    /// The reservation that the endpoints of a container become.
    fn kept(&self, batch: &Batch, keys: &[EndpointKey], id: &ReservationId) -> Result<Arc<Reservation>, Refusal> {
        if batch.keeps(id) {
            return Err(Refusal::ReservationExists(id.clone()));
        }
        let created = crate::base::clock::unix_seconds();
        decide::reservation::keep(&self.state, keys, id, created).map(Arc::new)
    }

    /// Makes a deleted interface again, and shows a problem if that fails. Returns false if its container has ended.
    fn make_again(&mut self, key: &EndpointKey) -> bool {
        let stays = self.reattach(key, "it was deleted");
        self.publish();
        stays
    }

    /// Nobody waits for the release of a container that has ended: if it fails, that is a problem.
    fn disconnect_or_tell(&mut self, removals: &[Removal]) -> Result<Vec<Arc<Endpoint>>, Error> {
        let gone = self.disconnect(removals);
        let ended: Vec<Removal> = removals.iter().filter(|removal| removal.cause == Cause::Gone).cloned().collect();
        let failure = match &gone {
            Ok(_) => None,
            // What was requested stays as it is, but the store keeps no container that has ended.
            Err(Error::Store(_)) => self.disconnect(&ended).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let (Some(error), Some(Removal { key, .. })) = (failure, ended.first()) {
            let why = format!("cannot release container {}, which has ended: {error}", key.container);
            self.problem(Subject::Release, why);
            self.publish();
        }
        gone
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
        let endpoints = self.state.endpoints_of(id);
        let removals: Vec<_> = endpoints.iter().map(|endpoint| Removal::because_gone(endpoint.key())).collect();
        if let Err(error) = self.disconnect(&removals) {
            tracing::warn!(container = %id, "cannot release a container that has ended: {error}");
        }
    }

    /// What another engine has for an endpoint does not end with the namespace: nobody else gets the addresses until the
    /// engine deletes the endpoint.
    fn kept_for_engine(&self, endpoint: &Endpoint, cause: Cause) -> Option<Arc<Reservation>> {
        let handover = endpoint.handover.as_ref().filter(|_| cause == Cause::Gone)?;
        let id = Handover::reservation(&handover.endpoint).ok()?;
        let Endpoint { network, addresses, mac, .. } = endpoint.clone();
        let created = crate::base::clock::unix_seconds();
        Some(Arc::new(Reservation { id, network, addresses, mac, publications: Vec::new(), created }))
    }

    /// Removes the endpoints together; returns those that existed.
    pub(crate) fn disconnect(&mut self, removals: &[Removal]) -> Result<Vec<Arc<Endpoint>>, Error> {
        let found = |removal: &Removal| {
            let endpoint = self.state.desired.endpoint(&removal.key)?.clone();
            let keep = removal.keep.clone().or_else(|| self.kept_for_engine(&endpoint, removal.cause));
            Some((endpoint, Removal { keep, ..removal.clone() }))
        };
        let gone: Vec<(Arc<Endpoint>, Removal)> = removals.iter().filter_map(found).collect();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<EndpointKey> = gone.iter().map(|(endpoint, _)| endpoint.key()).collect();
        let kept: Vec<&Reservation> = gone.iter().filter_map(|(_, removal)| removal.keep.as_deref()).collect();
        let transaction = transaction::detach(&self.state, &keys, &kept, &|all| self.resolv_conf(all));
        if self.planning {
            self.state.apply(&transaction.records);
            return Ok(gone.into_iter().map(|(endpoint, _)| endpoint).collect());
        }
        let problems = self.problems.clone();
        let mut strayed = false;
        let before = |worker: &mut Self| {
            let containers: BTreeSet<&ContainerId> = keys.iter().map(|key| &key.container).collect();
            for id in containers {
                worker.serve_inside(id);
                worker.proxy(id);
            }
            worker.end_probe_problems();
            let endpoints: Vec<Arc<Endpoint>> = gone.iter().map(|(endpoint, _)| endpoint.clone()).collect();
            worker.end_leases(&endpoints);
            strayed = gone.iter().any(|(endpoint, _)| worker.has_strayed(endpoint));
            // Ports that are not held do not become so by themselves.
            let lacks = |id: &ContainerId| worker.problems.has(&Subject::Ports(id.clone()));
            strayed |= gone.iter().any(|(endpoint, gone)| gone.keep.is_some() && lacks(&endpoint.container.id));
            // One that could not be released would stay held until the next repair.
            strayed |= worker.problems.has(&Subject::StalePorts);
        };
        let errors = if gone.iter().all(|(_, removal)| removal.cause != Cause::Requested) {
            self.remove_ended(&transaction, before)
        } else {
            self.remove(&transaction, before)?
        };
        for (endpoint, Removal { cause, keep, .. }) in &gone {
            let (network, container) = (&endpoint.network, &endpoint.container.name);
            tracing::info!(%network, %container, ?cause, "disconnected");
            if endpoint.is_announced() {
                self.tell(Change::Disconnected { endpoint: endpoint.clone(), cause: *cause });
            }
            if let Some(kept) = keep {
                self.tell(Change::Reserved(kept.clone()));
            }
        }
        if strayed {
            self.reconcile();
        } else if self.problems != problems {
            self.publish();
        }
        self.emptied.extend(gone.iter().map(|(endpoint, _)| endpoint.network.clone()));
        self.finish(errors).map(|()| gone.into_iter().map(|(endpoint, _)| endpoint).collect())
    }

    /// Whether the interface has another name by now: it is found by its mark only.
    fn has_strayed(&mut self, endpoint: &Endpoint) -> bool {
        let on = self.state.desired.network(&endpoint.network);
        let ours = on.is_some_and(|network| network.makes_interfaces() && network.has_host_ends());
        ours && !self.kernel.has_link(&endpoint.host_ifname) && self.is_alive(&endpoint.container.netns)
    }
}
