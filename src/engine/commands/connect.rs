//! Connects containers.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::Error;
use crate::engine::decide::endpoint::{Choice, Identity};
use crate::engine::decide::{self, transaction};
use crate::engine::event::Change;
use crate::engine::state::State;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError, netns_of_process};
use crate::logic::dns::claims;
use crate::logic::refusal::Refusal;
use crate::logic::target;
use crate::model::desired::Lookup;
use crate::model::endpoint::{Container, Endpoint, Netns};
use crate::model::host::observed::{ForeignNetwork, HostFacts};
use crate::model::ids::ContainerId;
use crate::model::names::ContainerName;
use crate::model::network::Network;
use crate::model::publication::PortSpec;
use crate::model::request::{ContainerRef, EndpointSpec, NetnsRef, Requester};
use crate::store::Store;

/// How often a command retries with another free name or port before it fails.
pub(super) const TRIES: usize = 64;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Creates the endpoint that a person or a runtime asks for. `foreign`: the networks of other programs, if a runtime's
    /// network may have to be created.
    pub(crate) fn endpoint(
        &mut self,
        spec: &EndpointSpec,
        foreign: Vec<ForeignNetwork>,
    ) -> Result<Arc<Endpoint>, Error> {
        match &spec.requester {
            Requester::Person(request) => {
                let network = self.find_network(&request.network)?;
                self.create_endpoint(&network, spec, |worker| Ok(worker.container(&request.container)?.into()))
            }
            Requester::Runtime(request) => self.attach_for_runtime(request, spec, foreign),
        }
    }

    /// Creates the requested endpoint. `who` identifies the container and is evaluated again for each try, because the
    /// container meant first may have ended in the meantime.
    pub(crate) fn create_endpoint(
        &mut self,
        network: &Network,
        requested: &EndpointSpec,
        mut who: impl FnMut(&mut Self) -> Result<Identity, Error>,
    ) -> Result<Arc<Endpoint>, Error> {
        if network.own_bridge().is_some_and(|bridge| !self.kernel.has_link(&bridge.name)) {
            // The kernel reports deletions, but not renames.
            self.reconcile();
        }
        let facts = self.facts_for(&requested.ports)?;
        let mut choice = Choice { random: rand::random(), parent: self.parent_of(network)?, ..Choice::default() };
        choice.host = requested.handover.as_ref().map(|_| self.host_netns()).transpose()?;
        let mut last = None;
        for _ in 0..TRIES {
            let identity = who(self)?;
            let container = identity.container.clone();
            let endpoint = match self.decide_endpoint(network, &identity, requested, (&choice, &facts)) {
                // The connected container has ended but its end has not been reported yet; another may have taken its
                // name.
                Err(Refusal::AlreadyConnected { .. }) if !self.is_alive(&container.netns) => {
                    self.release_container(&container.id);
                    continue;
                }
                decided => decided?,
            };
            match self.attach(network, endpoint, requested) {
                Ok(endpoint) => return Ok(endpoint),
                Err(Error::Kernel { error, undo }) => {
                    if !self.choose_again(&mut choice, requested, &container, &error) {
                        return Err(Error::Kernel { error, undo });
                    }
                    last = Some(Error::Kernel { error, undo });
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::Stopped))
    }

    /// Decides what the requested endpoint becomes.
    pub(crate) fn decide_endpoint(
        &mut self,
        network: &Network,
        identity: &Identity,
        requested: &EndpointSpec,
        choice: (&Choice, &HostFacts),
    ) -> Result<Endpoint, Refusal> {
        let domain = self.config.domain.clone();
        self.decided(|state| {
            // The container of a runtime or of another engine is not refused because of a name.
            if requested.owner().is_none() && requested.handover.is_none() {
                decide::names::check(&state.desired, &domain, &identity.container, &requested.aliases)?;
            }
            let endpoint = decide::endpoint::connect(state, network, identity.clone(), requested, choice)?;
            decide::egress::check(state, network, &endpoint)?;
            Ok(endpoint)
        })
    }

    /// The facts that choosing free ports requires.
    pub(crate) fn facts_for(&mut self, ports: &[PortSpec]) -> Result<HostFacts, Error> {
        let chooses_port = ports.iter().any(|port| port.host.is_none());
        if chooses_port { self.facts() } else { Ok(HostFacts::default()) }
    }

    /// Runs a decision, and repeats it if a container that has ended, but whose end has not been reported yet, holds
    /// what was requested.
    pub(crate) fn decided<T>(
        &mut self,
        mut decide: impl FnMut(&mut State) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        loop {
            match decide(&mut self.state) {
                Err(refusal) if self.evict_dead_holder(&refusal) => {}
                decided => return decided,
            }
        }
    }

    /// Releases the container that caused the refusal, if its namespace no longer exists.
    fn evict_dead_holder(&mut self, refusal: &Refusal) -> bool {
        let desired = &self.state.desired;
        let holder = match refusal {
            Refusal::AddressTaken { address, .. } => desired.at_address(*address).map(|holder| &holder.container),
            Refusal::NameOfAnother { holder, .. } => desired.exact_container(holder.as_str()).map(|a| &a.container),
            Refusal::MacTaken { holder, .. } | Refusal::PortTaken { owner: holder, .. } => {
                holder.container().and_then(|name| desired.exact_container(name)).map(|a| &a.container)
            }
            Refusal::IfNameTaken { ifname, .. } => {
                let holder = self.state.host_ifnames.get(ifname).and_then(|key| desired.endpoint(key));
                holder.map(|holder| &holder.container)
            }
            _ => None,
        };
        let Some(holder) = holder.cloned() else { return false };
        if self.is_alive(&holder.netns) {
            return false;
        }
        self.release_container(&holder.id);
        self.state.desired.container(&holder.id).is_none()
    }

    /// Publishes `Connected`. An interface without addresses counts as connected once it has some.
    pub(crate) fn tell_connected(&self, endpoint: &Arc<Endpoint>) {
        if !endpoint.addresses.is_empty() {
            self.tell(Change::Connected(endpoint.clone()));
        }
    }

    /// Whether another automatic choice may succeed where this one failed.
    fn choose_again(
        &mut self,
        choice: &mut Choice,
        requested: &EndpointSpec,
        container: &Container,
        error: &KernelError,
    ) -> bool {
        match error {
            KernelError::NameTaken { ifname, .. } if ifname.as_str().starts_with("ndv-") => {
                choice.host_ifnames.insert(ifname.clone())
            }
            KernelError::NameTaken { ifname, .. } if requested.ifname.is_none() => {
                choice.ifnames.insert(ifname.clone())
            }
            KernelError::PortTaken { port, .. } => choice.avoid_port(port, &requested.ports),
            // The container that had this name has ended, and another may have taken its place.
            KernelError::NoNetns { .. } if self.state.desired.container(&container.id).is_some() => {
                self.release_container(&container.id);
                true
            }
            _ => false,
        }
    }

    /// Finds the container: by the location that the user gave, among known containers, then among named network
    /// namespaces.
    pub(crate) fn container(&mut self, container: &ContainerRef) -> Result<Container, Error> {
        let text = container.name.as_str();
        if let Some(netns_ref) = &container.netns {
            return self.container_at(container, netns_ref);
        }
        if let Some(attached) = self.state.desired.exact_container(text) {
            return Ok(attached.container.clone());
        }
        let path = PathBuf::from("/run/netns").join(text);
        let searched = vec!["containers that netd knows".to_owned(), path.display().to_string()];
        let unknown = || Error::from(Refusal::NoSuchContainer { name: text.to_owned(), searched: searched.clone() });
        let name: ContainerName = text.parse().ok().filter(ContainerName::resolves).ok_or_else(unknown)?;
        match self.kernel.netns(&path) {
            Ok(netns) => {
                self.check_vacant(&name, &netns)?;
                let of_engine = self.kernel.is_of_engine(&netns);
                Ok(Container { id: ContainerId::from_random(rand::random()), name, netns, scope: None, of_engine })
            }
            // A prefix of an id is tried last: a namespace with exactly that name takes precedence.
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

    fn container_at(&mut self, container: &ContainerRef, netns_ref: &NetnsRef) -> Result<Container, Error> {
        let name: ContainerName = container.name.parse().map_err(Refusal::from)?;
        let path = match netns_ref {
            NetnsRef::Sandbox(path) => return self.container_in_sandbox(container, path),
            NetnsRef::Path(path) => path.clone(),
            NetnsRef::Pid(pid) | NetnsRef::OfEngine(pid) => netns_of_process(*pid),
        };
        let netns = self.kernel.netns(&path)?;
        let of_engine = matches!(netns_ref, NetnsRef::OfEngine(_)) || self.kernel.is_of_engine(&netns);
        let desired = &self.state.desired;
        let by_id = container.id.as_ref().and_then(|id| desired.by_any_id(id));
        let known = by_id.or_else(|| desired.exact_container(name.as_str())).map(|attached| attached.container.clone());
        match known {
            Some(known) if known.netns.id == netns.id => Ok(known),
            Some(known) if self.is_alive(&known.netns) => {
                Err(Refusal::ContainerNameTaken { name, id: known.id.short().to_owned() }.into())
            }
            known => {
                if let Some(gone) = known {
                    self.release_container(&gone.id);
                }
                self.check_vacant(&name, &netns)?;
                let id = container.id.clone().unwrap_or_else(|| ContainerId::from_random(rand::random()));
                Ok(Container { id, name, netns, scope: None, of_engine })
            }
        }
    }

    /// Refuses a new name for a namespace that already belongs to a container: the two would overwrite each other's
    /// routes and resolv.conf.
    fn check_vacant(&mut self, name: &ContainerName, netns: &Netns) -> Result<(), Error> {
        let Some(holder) = self.occupant(netns) else { return Ok(()) };
        let (name, netns) = (name.clone(), netns.path.clone());
        Err(Refusal::NetnsTaken { name, netns, holder: holder.name }.into())
    }

    /// Returns the living container that has the namespace. Releases a container whose own path leads elsewhere by now.
    pub(crate) fn occupant(&mut self, netns: &Netns) -> Option<Container> {
        let mut last = None;
        while let Some(holder) = self.state.container_in(netns).cloned() {
            // A container that cannot be released, because the store fails, stays.
            if last.as_ref() == Some(&holder.id) || self.is_alive(&holder.netns) {
                return Some(holder);
            }
            self.release_container(&holder.id);
            last = Some(holder.id);
        }
        None
    }

    /// Attaches the endpoint that was requested, which takes the place of the reservation that it consumes.
    pub(crate) fn attach(
        &mut self,
        network: &Network,
        endpoint: Endpoint,
        requested: &EndpointSpec,
    ) -> Result<Arc<Endpoint>, Error> {
        let consumed = requested.reservation();
        let told_inside = target::is_told_inside(network, &self.state.gateway_blocked);
        let endpoint = Arc::new(Endpoint { told_inside, ..endpoint });
        let mut transaction = {
            let consumed = self.consumed(consumed);
            transaction::attach(&self.state, network, &endpoint, consumed, &|all| self.resolv_conf(all))
        };
        transaction.asked_by(requested.process());
        self.execute(&transaction)?;
        if let Some(id) = consumed {
            self.problems.clear(&Subject::ReservedPorts(id.clone()));
        }
        self.keep_addresses(std::slice::from_ref(&endpoint));
        self.serve_inside(&endpoint.container.id);
        self.proxy(&endpoint.container.id);
        self.publish();
        tracing::info!(network = %network.name, container = %endpoint.container.name, "connected");
        self.tell_connected(&endpoint);
        self.tell_names(&endpoint);
        self.try_gateway(network, &endpoint.key());
        Ok(endpoint)
    }

    /// Reports the names and aliases that now mean another container.
    fn tell_names(&self, endpoint: &Arc<Endpoint>) {
        for claims::Lost { name, by, to } in claims::lost(&self.state.desired, &self.config.domain, endpoint) {
            let message = format!(
                "{name} does not resolve to container {}: it is the name of container {} on network {}",
                by.container.name, to.container.name, to.network
            );
            self.tell(Change::Name { endpoint: by, message });
        }
    }

    /// The content of a named namespace's resolv.conf; `None` without endpoints.
    pub(crate) fn resolv_conf(&self, endpoints: &[Arc<Endpoint>]) -> Option<String> {
        let container = endpoints.first()?.container.clone();
        let attached = crate::model::desired::Attached { container, endpoints: endpoints.to_vec() };
        let snapshot = crate::engine::Snapshot {
            desired: self.state.desired.clone(),
            search: self.search.clone(),
            gateway_blocked: self.state.gateway_blocked.clone(),
            ..crate::engine::Snapshot::default()
        };
        Some(snapshot.resolv_conf(&attached))
    }
}
