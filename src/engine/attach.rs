//! Connecting and disconnecting containers.

use std::path::PathBuf;
use std::sync::Arc;

use super::decide::{self, Choice};
use super::event::Change;
use super::worker::Worker;
use super::{Command, Error, apply};
use crate::kernel::{Kernel, KernelError, KernelEvent, netns_of_process};
use crate::logic::refusal::Refusal;
use crate::logic::wanted;
use crate::model::desired::Lookup;
use crate::model::endpoint::{Container, Endpoint, EndpointKey};
use crate::model::ids::ContainerId;
use crate::model::names::ContainerName;
use crate::model::network::Network;
use crate::model::observed::HostFacts;
use crate::model::request::{ConnectSpec, Place, Target};
use crate::model::step::{DefaultRoute, Flows, Step};
use crate::store::{Record, Store};

/// How often a connect tries again with another free name or port before it gives up.
const TRIES: usize = 64;

impl<K: Kernel, S: Store> Worker<K, S> {
    pub(super) fn connect(&mut self, spec: &ConnectSpec) -> Result<Arc<Endpoint>, Error> {
        let network = self.find_network(&spec.network)?;
        let chooses_port = spec.ports.iter().any(|port| port.host.is_none());
        let facts = if chooses_port { self.facts()? } else { HostFacts::default() };
        let mut choice = Choice { random: rand::random(), ..Choice::default() };
        let mut last = None;
        for _ in 0..TRIES {
            let container = self.container(&spec.target)?;
            let endpoint = decide::connect(&mut self.state, &network, container.clone(), spec, (&choice, &facts))?;
            match self.attach(&network, endpoint) {
                Ok(endpoint) => return Ok(endpoint),
                Err(Error::Kernel { error, undo }) => {
                    if !self.choose_again(&mut choice, spec, &container, &error) {
                        return Err(Error::Kernel { error, undo });
                    }
                    last = Some(Error::Kernel { error, undo });
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::Stopped))
    }

    /// Whether another choice of netd's own may succeed where this one did not.
    fn choose_again(
        &mut self,
        choice: &mut Choice,
        spec: &ConnectSpec,
        container: &Container,
        error: &KernelError,
    ) -> bool {
        match error {
            KernelError::NameTaken { ifname, .. } if ifname.as_str().starts_with("ndv-") => {
                choice.host_ifnames.insert(ifname.clone())
            }
            KernelError::NameTaken { ifname, .. } if spec.ifname.is_none() => choice.ifnames.insert(ifname.clone()),
            KernelError::PortTaken { port, .. } => {
                let chosen = |asked: &crate::model::publication::PortSpec| {
                    let free = asked.host.is_none_or(|host| host.count() != asked.container.count());
                    free && asked.protocol == port.protocol
                };
                spec.ports.iter().any(chosen) && choice.ports.insert((port.protocol, port.port))
            }
            // The container that had this name is gone, and another one may have come in its place.
            KernelError::NoNetns { .. } if self.state.desired.container(&container.id).is_some() => {
                self.release_container(&container.id);
                true
            }
            _ => false,
        }
    }

    /// Which container is meant: the place the user gave, one netd knows, a named network namespace.
    fn container(&mut self, target: &Target) -> Result<Container, Error> {
        let text = target.container.as_str();
        if let Some(place) = &target.place {
            return self.container_at(target, place);
        }
        if let Some(attached) = self.state.desired.exact_container(text) {
            return Ok(attached.container.clone());
        }
        let path = PathBuf::from("/run/netns").join(text);
        let looked = vec!["containers that netd knows".to_owned(), path.display().to_string()];
        let unknown = || Error::from(Refusal::NoSuchContainer { name: text.to_owned(), looked: looked.clone() });
        let name: ContainerName = text.parse().map_err(|_| unknown())?;
        match self.kernel.netns(&path) {
            Ok(netns) => Ok(Container { id: ContainerId::from_random(rand::random()), name, netns, scope: None }),
            // The beginning of an id is the last guess: a namespace of that very name is what was meant.
            Err(KernelError::NoNetns { .. }) => match self.state.desired.find_container(text) {
                Lookup::One(attached) => Ok(attached.container.clone()),
                Lookup::None => Err(unknown()),
                Lookup::Ambiguous(count) => {
                    Err(Refusal::Ambiguous { what: "container", text: text.to_owned(), count }.into())
                }
            },
            Err(error) => Err(error.into()),
        }
    }

    fn container_at(&mut self, target: &Target, place: &Place) -> Result<Container, Error> {
        let name: ContainerName = target.container.parse().map_err(Refusal::from)?;
        let path = match place {
            Place::Path(path) => path.clone(),
            Place::Pid(pid) => netns_of_process(*pid),
        };
        let netns = self.kernel.netns(&path)?;
        let desired = &self.state.desired;
        let by_id = target.id.as_ref().and_then(|id| desired.container(id));
        let known = by_id.or_else(|| desired.exact_container(name.as_str())).map(|attached| attached.container.clone());
        match known {
            Some(known) if known.netns.id == netns.id => Ok(known),
            Some(known) if self.kernel.netns_alive(&known.netns) => {
                Err(Refusal::ContainerNameTaken { name, id: known.id.short().to_owned() }.into())
            }
            known => {
                if let Some(gone) = known {
                    self.release_container(&gone.id);
                }
                let id = target.id.clone().unwrap_or_else(|| ContainerId::from_random(rand::random()));
                Ok(Container { id, name, netns, scope: None })
            }
        }
    }

    fn attach(&mut self, network: &Network, endpoint: Endpoint) -> Result<Arc<Endpoint>, Error> {
        let before = self.state.endpoints_of(&endpoint.container.id);
        let key = endpoint.key();
        let mut records = vec![Record::PutEndpoint(Box::new(endpoint.clone()))];
        let (endpoint, released) = self.state.put_endpoint(endpoint);
        records.extend(released);
        if let Err(error) = self.store.commit(&records) {
            self.state.drop_endpoint(&key);
            return Err(error.into());
        }
        let after = self.state.endpoints_of(&endpoint.container.id);
        let steps = self.attach_steps(network, &endpoint, &before, &after);
        if let Err(failed) = apply::all_or_nothing(&mut self.kernel, &steps) {
            let mut records = vec![Record::DeleteEndpoint(key.clone())];
            if let Some((_, released)) = self.state.drop_endpoint(&key) {
                records.extend(released);
            }
            self.compensate(&records);
            self.after_undo(&failed.undo);
            return Err(Error::Kernel { error: failed.error, undo: failed.undo });
        }
        self.publish();
        tracing::info!(network = %network.name, container = %endpoint.container.name, "connected");
        self.tell(Change::Connected(endpoint.clone()));
        Ok(endpoint)
    }

    pub(super) fn attach_steps(
        &self,
        network: &Network,
        endpoint: &Arc<Endpoint>,
        before: &[Arc<Endpoint>],
        after: &[Arc<Endpoint>],
    ) -> Vec<Step> {
        let difference = decide::difference(before, after);
        let stale: Vec<Flows> = difference
            .hold
            .iter()
            .filter(|port| port.protocol != crate::model::publication::Protocol::Tcp)
            .map(|port| Flows::To(*port))
            .collect();
        let mut steps = Vec::new();
        if !difference.hold.is_empty() {
            steps.push(Step::Hold(difference.hold));
        }
        steps.push(Step::Attach(Box::new(wanted::endpoint_link(network, endpoint, after))));
        if !difference.remove.is_empty() || !difference.add.is_empty() {
            steps.push(Step::Elements { remove: difference.remove, add: difference.add });
        }
        if !stale.is_empty() {
            steps.push(Step::ForgetFlows(stale));
        }
        if let Some(netns) = endpoint.container.netns.name() {
            let now = self.resolv_conf(after);
            let before = self.resolv_conf(before);
            if now != before {
                steps.push(Step::Resolv { netns: netns.to_owned(), before, now });
            }
        }
        steps
    }

    /// The content of a named namespace's resolv.conf; `None` without endpoints.
    pub(super) fn resolv_conf(&self, endpoints: &[Arc<Endpoint>]) -> Option<String> {
        let container = endpoints.first()?.container.clone();
        let attached = crate::model::desired::Attached { container, endpoints: endpoints.to_vec() };
        let snapshot = super::Snapshot {
            desired: self.state.desired.clone(),
            search: self.search.clone(),
            ..super::Snapshot::default()
        };
        Some(snapshot.resolv_conf(&attached))
    }

    /// Disconnects all that wait for it, together.
    pub(super) fn disconnect_group(&mut self, group: Vec<Command>) {
        let mut asked = Vec::new();
        let mut keys = Vec::new();
        if group.iter().any(|command| self.is_bridge_gone(command)) {
            // Its ports are loose, too: look at everything before judging single interfaces.
            self.reconcile();
        }
        for command in group {
            match command {
                Command::Disconnect { network, container, reply } => match self.find_attached(&network, &container) {
                    Ok(key) if keys.iter().any(|(known, _)| *known == key) => {
                        // The same one twice in one group: the second finds nothing.
                        let network = key.network.clone();
                        drop(reply.send(Err(Refusal::NotConnected { container, network }.into())));
                    }
                    Ok(key) => {
                        keys.push((key.clone(), true));
                        asked.push((key, reply));
                    }
                    Err(refusal) => drop(reply.send(Err(refusal.into()))),
                },
                Command::Kernel(KernelEvent::LinkGone(ifname)) => {
                    // It may have been netd's own deletion, and the name may be in use again.
                    if let Some(key) = self.state.host_ifnames.get(&ifname).cloned()
                        && !self.kernel.has_link(&ifname)
                        && !keys.iter().any(|(known, _)| *known == key)
                        && !self.reattach(&key)
                    {
                        keys.push((key, false));
                    }
                }
                _ => {}
            }
        }
        let result = self.disconnect(&keys).map_err(Arc::new);
        for (key, reply) in asked {
            let answer = match &result {
                Ok(gone) => gone.iter().find(|endpoint| endpoint.key() == key).cloned().ok_or(Error::Stopped),
                Err(error) => Err(Error::Shared(error.clone())),
            };
            drop(reply.send(answer));
        }
    }

    fn is_bridge_gone(&self, command: &Command) -> bool {
        let Command::Kernel(KernelEvent::LinkGone(ifname)) = command else { return false };
        self.state.desired.networks().any(|network| network.bridge().name == *ifname)
    }

    fn find_attached(&self, network: &str, container: &str) -> Result<EndpointKey, Refusal> {
        let network = self.find_network(network)?;
        decide::find_endpoint(&self.state, &network.name, container)
    }

    /// Every endpoint of a container whose namespace is gone.
    pub(super) fn release_container(&mut self, id: &ContainerId) {
        let keys: Vec<_> = self.state.endpoints_of(id).iter().map(|endpoint| (endpoint.key(), false)).collect();
        if let Err(error) = self.disconnect(&keys) {
            tracing::warn!(container = %id, "releasing a container that is gone: {error}");
        }
    }

    /// Disconnects the endpoints; `true` beside a key: somebody asked for it.
    pub(super) fn disconnect(&mut self, keys: &[(EndpointKey, bool)]) -> Result<Vec<Arc<Endpoint>>, Error> {
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
        let steps = self.detach_steps(&containers, &gone);
        let errors = apply::all_that_can(&mut self.kernel, &steps);
        self.compensate(&released);
        for (endpoint, asked) in &gone {
            tracing::info!(network = %endpoint.network, container = %endpoint.container.name, asked, "disconnected");
            self.tell(Change::Disconnected { endpoint: endpoint.clone(), asked: *asked });
        }
        let gone = gone.into_iter().map(|(endpoint, _)| endpoint).collect();
        self.finish(errors).map(|()| gone)
    }

    fn detach_steps(
        &self,
        containers: &[(ContainerId, Vec<Arc<Endpoint>>)],
        gone: &[(Arc<Endpoint>, bool)],
    ) -> Vec<Step> {
        let (mut remove, mut add, mut release, mut last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut hold, mut flows) = (Vec::new(), Vec::new());
        for (id, before) in containers {
            let after = self.state.endpoints_of(id);
            let difference = decide::difference(before, &after);
            remove.extend(difference.remove);
            add.extend(difference.add);
            release.extend(difference.release);
            hold.extend(difference.hold);
            let Some(netns) = before.first().map(|endpoint| endpoint.container.netns.clone()) else { continue };
            let (old, new) = (wanted::default_routes(before), wanted::default_routes(&after));
            let add: Vec<_> = new.iter().filter(|route| !old.contains(route)).cloned().collect();
            if !add.is_empty() {
                // The old ones went with their interface, or stay on one that stays.
                let stays =
                    |route: &&DefaultRoute| !new.contains(route) && after.iter().any(|e| e.ifname == route.ifname);
                let remove = old.iter().filter(stays).cloned().collect();
                last.push(Step::DefaultRoutes { netns: netns.clone(), remove, add });
            }
            let (before, now) = (self.resolv_conf(before), self.resolv_conf(&after));
            if let Some(name) = netns.name().filter(|_| before != now) {
                last.push(Step::Resolv { netns: name.to_owned(), before, now });
            }
        }
        flows.extend(gone.iter().flat_map(|(e, _)| e.addresses.iter().map(|ip| Flows::Of(ip.ip()))));
        let links = gone.iter().filter_map(|(endpoint, _)| {
            let network = self.state.desired.network(&endpoint.network)?;
            Some(wanted::endpoint_link(network, endpoint, &[]))
        });
        let mut steps = vec![Step::Elements { remove, add }, Step::Detach(links.collect())];
        steps.extend(
            [Step::Release(release), Step::Hold(hold), Step::ForgetFlows(flows)].into_iter().filter(Step::does),
        );
        steps.extend(last);
        steps
    }
}
