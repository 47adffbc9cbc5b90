//! Endpoints whose interface another engine takes into its container (Docker's libnetwork): made on the host, looked after
//! there until the engine has taken it, and in the container from then on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::engine::Error;
use crate::engine::decide;
use crate::engine::decide::endpoint::Choice;
use crate::engine::decide::port::Changed;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::alloc::interfaces;
use crate::logic::refusal::Refusal;
use crate::model::endpoint::{Container, Endpoint, Netns};
use crate::model::handover::Handover;
use crate::model::host::observed::{HostFacts, Traced};
use crate::model::ids::ContainerId;
use crate::model::names::{Alias, ContainerName, IfName};
use crate::model::publication::PortSpec;
use crate::model::request::{ContainerRef, HandoverAction, HandoverChange};
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// The namespace of the host.
    pub(crate) fn host_netns(&mut self) -> Result<Netns, Error> {
        Ok(self.kernel.own_netns()?)
    }

    /// The container of another engine that has its namespace at that path, or will have: until then its namespace counts
    /// as the host's, where its interfaces wait. A name that another container has does not make its start fail.
    pub(crate) fn container_in_sandbox(&mut self, asked: &ContainerRef, sandbox: &Path) -> Result<Container, Error> {
        let id = asked.id.clone().unwrap_or_else(|| ContainerId::from_random(rand::random()));
        if let Some(known) = self.state.desired.by_any_id(&id).map(|attached| attached.container.clone()) {
            if self.is_alive(&known.netns) {
                return Ok(known);
            }
            self.release_container(&known.id);
        }
        let netns = match self.kernel.netns(sandbox) {
            Ok(netns) => netns,
            Err(KernelError::NoNetns { .. }) => self.host_netns()?,
            Err(error) => return Err(error.into()),
        };
        let asked: ContainerName = asked.name.parse().map_err(Refusal::from)?;
        let short: ContainerName = id.short().parse().map_err(Refusal::from)?;
        let name = if self.is_name_free(&asked) { asked } else { short };
        Ok(Container { id, name, netns, scope: None, of_engine: true })
    }

    /// Carries out what the engine tells.
    pub(crate) fn change_handover(&mut self, change: &HandoverChange) -> Result<Arc<Endpoint>, Error> {
        let endpoint = decide::handover::find(&self.state, &change.endpoint)?;
        match &change.action {
            HandoverAction::Settle => Ok(self.settle(&endpoint)),
            HandoverAction::GiveBack => Ok(self.give_back(&endpoint)),
            HandoverAction::Lead(ports) => self.lead(&endpoint, ports),
            HandoverAction::StopLeading => self.stop_leading(&endpoint),
            HandoverAction::Identify { id, name, aliases } => {
                Ok(self.identify(&endpoint, (id.as_ref(), name.as_ref()), aliases.as_deref()))
            }
        }
    }

    /// Settles every endpoint whose interface waits.
    pub(crate) fn settle_all(&mut self) {
        let waiting: Vec<_> =
            self.state.desired.endpoints().filter(|endpoint| endpoint.is_waiting()).cloned().collect();
        for endpoint in waiting {
            self.settle(&endpoint);
        }
    }

    /// Settles the endpoint whose interface had this name on the host.
    pub(crate) fn settle_staged(&mut self, ifname: &IfName) {
        let is_it = |endpoint: &&Arc<Endpoint>| endpoint.is_waiting() && endpoint.ifname == *ifname;
        let waiting = self.state.desired.endpoints().find(is_it).cloned();
        if let Some(endpoint) = waiting.filter(|_| ifname.as_str().starts_with(interfaces::STAGED)) {
            self.settle(&endpoint);
        }
    }

    /// If the engine has taken the interface and configured it completely: looks after it in the container from now on.
    pub(crate) fn settle(&mut self, endpoint: &Arc<Endpoint>) -> Arc<Endpoint> {
        let Some(handover) = endpoint.handover.as_ref().filter(|handover| !handover.taken) else {
            return endpoint.clone();
        };
        if self.kernel.has_link(&handover.staged) {
            return endpoint.clone();
        }
        match self.kernel.trace_into(&endpoint.host_ifname, &handover.sandbox) {
            Ok(Some(found)) if decide::handover::is_complete(endpoint, &found.inside) => self.taken(endpoint, found),
            Ok(_) | Err(KernelError::NoNetns { .. }) => endpoint.clone(),
            Err(error) => {
                tracing::warn!(container = %endpoint.container.name, "cannot look for its interface: {error}");
                endpoint.clone()
            }
        }
    }

    fn taken(&mut self, endpoint: &Arc<Endpoint>, found: Traced) -> Arc<Endpoint> {
        let mut taken = endpoint.as_ref().clone();
        taken.ifname = found.ifname;
        taken.container.netns = found.netns;
        if let Some(handover) = &mut taken.handover {
            handover.taken = true;
        }
        tracing::info!(network = %taken.network, container = %taken.container.name, ifname = %taken.ifname,
            "the engine has taken the interface");
        self.replace(endpoint, taken)
    }

    fn give_back(&mut self, endpoint: &Arc<Endpoint>) -> Arc<Endpoint> {
        let Some(handover) = endpoint.handover.clone().filter(|handover| handover.taken) else {
            return endpoint.clone();
        };
        let mut waiting = endpoint.as_ref().clone();
        waiting.ifname = handover.staged.clone();
        let stays = |other: &Arc<Endpoint>| other.key() != endpoint.key() && !other.is_waiting();
        if !self.state.endpoints_of(&endpoint.container.id).iter().any(stays) {
            // The namespace is about to end, and nothing of netd's may keep it.
            waiting.container.netns = handover.host.clone();
        }
        waiting.handover = Some(Handover { taken: false, ..handover });
        self.replace(endpoint, waiting)
    }

    fn identify(
        &mut self,
        endpoint: &Arc<Endpoint>,
        (id, name): (Option<&ContainerId>, Option<&ContainerName>),
        aliases: Option<&[Alias]>,
    ) -> Arc<Endpoint> {
        let mut known = endpoint.as_ref().clone();
        if let Some(aliases) = aliases {
            known.aliases = aliases.to_vec();
        }
        // A container that netd knows by that id already is another one: the engine gives each id once.
        if let Some(id) = id.filter(|id| self.state.desired.container(id).is_none()) {
            known.container.id = id.clone();
        }
        if let Some(name) = name.filter(|name| **name != endpoint.container.name)
            && self.is_name_free(name)
        {
            known.container.name = name.clone();
        }
        if known == **endpoint { endpoint.clone() } else { self.replace(endpoint, known) }
    }

    /// Replaces the endpoint's record, and the container in those of the container's other endpoints. Nothing of what is
    /// in the kernel changes.
    fn replace(&mut self, before: &Arc<Endpoint>, after: Endpoint) -> Arc<Endpoint> {
        let mut records = vec![Record::DeleteEndpoint(before.key()), Record::PutEndpoint(Box::new(after.clone()))];
        for other in self.state.endpoints_of(&before.container.id) {
            if other.key() != before.key() && other.container != after.container {
                let same = Endpoint { container: after.container.clone(), ..other.as_ref().clone() };
                records.extend([Record::DeleteEndpoint(other.key()), Record::PutEndpoint(Box::new(same))]);
            }
        }
        self.compensate(&records);
        // What was served for the container under its former id ends there.
        for id in BTreeSet::from([&before.container.id, &after.container.id]) {
            self.serve_inside(id);
            self.proxy(id);
        }
        self.publish();
        Arc::new(after)
    }

    fn lead(&mut self, endpoint: &Arc<Endpoint>, ports: &[PortSpec]) -> Result<Arc<Endpoint>, Error> {
        if endpoint.handover.as_ref().is_some_and(|handover| handover.leads) {
            return Ok(endpoint.clone());
        }
        let decide = |worker: &mut Self, choice: (&Choice, &HostFacts)| {
            worker.decided(|state| decide::handover::lead(state, endpoint, ports, choice))
        };
        Ok(self.publish_ports(ports, decide)?.0)
    }

    fn stop_leading(&mut self, endpoint: &Arc<Endpoint>) -> Result<Arc<Endpoint>, Error> {
        let mut beside = endpoint.as_ref().clone();
        let publications = std::mem::take(&mut beside.publications);
        beside.opened.clear();
        if let Some(handover) = &mut beside.handover {
            handover.leads = false;
        }
        if beside == **endpoint {
            return Ok(endpoint.clone());
        }
        Ok(self.unpublish_ports(Changed { endpoint: Arc::new(beside), publications }, false)?.0)
    }
}
