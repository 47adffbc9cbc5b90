//! Attachments: endpoints that runtimes request through CNI. A repeated request changes nothing; a failed one leaves
//! nothing behind.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::Error;
use crate::engine::commands::disconnect::Removal;
use crate::engine::decide::attachment::FoundInterface;
use crate::engine::decide::endpoint::Identity;
use crate::engine::decide::{address, attachment, endpoint, names, transaction};
use crate::engine::event::Change;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::refusal::Refusal;
use crate::logic::target;
use crate::model::endpoint::{Container, Endpoint, Netns};
use crate::model::host::observed::ForeignNetwork;
use crate::model::host::step::Step;
use crate::model::ids::{ContainerId, NetworkId};
use crate::model::names::{Alias, ContainerName, IfName, NetworkName};
use crate::model::network::Network;
use crate::model::request::{AttachmentKey, CheckSpec, EndpointSpec, InterfaceSource, RuntimeRequest};
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Attaches a container. A repeated request returns the existing attachment.
    pub(crate) fn attach_for_runtime(
        &mut self,
        request: &RuntimeRequest,
        spec: &EndpointSpec,
        foreign: Vec<ForeignNetwork>,
    ) -> Result<Arc<Endpoint>, Error> {
        let (request, spec, left_out) = names::answerable(request, spec, &self.config.domain);
        let netns = self.kernel.netns(&request.netns)?;
        if let Some(endpoint) = self.find_attachment(&request.key)
            && let Some(endpoint) = self.attach_again(&endpoint, &request, &spec, &netns)?
        {
            return Ok(endpoint);
        }
        let attached = self.attach_anew(&request, &spec, netns, foreign)?;
        for message in left_out {
            self.tell(Change::Name { endpoint: attached.clone(), message });
        }
        Ok(attached)
    }

    fn attach_anew(
        &mut self,
        request: &RuntimeRequest,
        spec: &EndpointSpec,
        netns: Netns,
        foreign: Vec<ForeignNetwork>,
    ) -> Result<Arc<Endpoint>, Error> {
        let identity = self.runtime_container(request, netns)?;
        if request.interface == InterfaceSource::Found {
            return self.adopt(request, spec, &identity);
        }
        let (network, is_new) = self.network_for(&request.network, foreign)?;
        let attached = self.create_endpoint(&network, spec, |_| Ok(identity.clone()));
        if attached.is_err() && is_new {
            self.forget_network(&network);
        }
        attached
    }

    /// Returns the attachment with this key.
    pub(crate) fn find_attachment(&self, key: &AttachmentKey) -> Option<Arc<Endpoint>> {
        self.state.desired.attachment(key).cloned()
    }

    /// Handles a request for an existing attachment. Returns `None` if that attachment belonged to a namespace that no
    /// longer exists.
    fn attach_again(
        &mut self,
        endpoint: &Arc<Endpoint>,
        request: &RuntimeRequest,
        spec: &EndpointSpec,
        netns: &Netns,
    ) -> Result<Option<Arc<Endpoint>>, Error> {
        let (container, ifname) = (endpoint.container.name.clone(), endpoint.ifname.clone());
        if endpoint.container.netns.id != netns.id {
            if self.is_alive(&endpoint.container.netns) {
                let what = "its network namespace";
                return Err(Refusal::AttachedOtherwise { container, ifname, what }.into());
            }
            self.release_container(&endpoint.container.id);
            return Ok(None);
        }
        if request.interface == InterfaceSource::Found && !self.is_as_adopted(endpoint)? {
            self.disconnect(&[Removal::requested(endpoint.key())])?;
            return Ok(None);
        }
        if let Some(what) = attachment::differs(endpoint, request, spec) {
            return Err(Refusal::AttachedOtherwise { container, ifname, what }.into());
        }
        if request.interface == InterfaceSource::Given && endpoint.addresses.is_empty() {
            return self.give_addresses(endpoint, spec).map(Some);
        }
        self.make_whole(endpoint, request)
    }

    /// Repairs the missing parts of an attachment. A successful `ADD` promises all of them, even if an earlier one was
    /// interrupted or another program has removed a part since. Returns `None` if the interface belonged to another
    /// program, which has recreated it.
    fn make_whole(
        &mut self,
        endpoint: &Arc<Endpoint>,
        request: &RuntimeRequest,
    ) -> Result<Option<Arc<Endpoint>>, Error> {
        let key = endpoint.key();
        let network = self.find_network(key.network.as_str())?;
        let expected = CheckSpec { mtu: Some(network.mtu), ..CheckSpec::of(request) };
        if self.kernel_difference(endpoint, &expected)?.is_none() {
            return Ok(Some(endpoint.clone()));
        }
        if request.interface == InterfaceSource::Found {
            self.disconnect(&[Removal::because_gone(key)])?;
            return Ok(None);
        }
        self.reconcile();
        // Missing addresses and routes can be restored on an existing interface; anything else requires a new
        // interface.
        let link = target::interface(&network, endpoint, &self.state.endpoints_of(&key.container)).own();
        if let Some(link) = link.filter(|link| !link.addresses.is_empty())
            && self.kernel_difference(endpoint, &expected)?.is_some()
            && let Err(error) = self.kernel.apply(&Step::Address(link))
        {
            tracing::debug!(%error, "cannot restore addresses and routes");
        }
        if self.kernel_difference(endpoint, &expected)?.is_some() {
            for step in self.anew_steps(&network, endpoint) {
                self.kernel.apply(&step)?;
            }
        }
        self.publish();
        match self.kernel_difference(endpoint, &expected)? {
            None => Ok(Some(endpoint.clone())),
            Some(part) => {
                let container = endpoint.container.name.clone();
                Err(Refusal::Changed { container, ifname: endpoint.ifname.clone(), part }.into())
            }
        }
    }

    /// The steps that recreate an endpoint's interface, whatever is left of it.
    fn anew_steps(&self, network: &Network, endpoint: &Endpoint) -> Vec<Step> {
        let all = self.state.endpoints_of(&endpoint.container.id);
        let link = target::interface(network, endpoint, &all).own();
        let anew = link.map(|link| [Step::Detach(vec![(*link).clone()]), Step::Attach(link)]);
        let limits = target::shaping(network, endpoint).map(|shaping| Step::Shape(Box::new(shaping)));
        anew.into_iter().flatten().chain(limits).collect()
    }

    /// Whether the interface that another program made is still the one that netd adopted.
    fn is_as_adopted(&mut self, endpoint: &Endpoint) -> Result<bool, Error> {
        let observed = self.kernel.interface(&endpoint.container.netns, &endpoint.ifname)?;
        let end = observed.as_ref().and_then(|observed| observed.host_end.as_ref());
        Ok(observed.as_ref().and_then(|observed| observed.mac) == Some(endpoint.mac)
            && end.is_some_and(|end| end.name == endpoint.host_ifname))
    }

    /// The container with the name that its runtime gives it. The name becomes an alias if another living container has
    /// it, or if netd already knows the container of this namespace by another name: a name conflict must not make a
    /// runtime's container fail to start.
    fn runtime_container(&mut self, request: &RuntimeRequest, netns: Netns) -> Result<Identity, Error> {
        let id = &request.key.container;
        let name = attachment::requested_name(request)?;
        if let Some(known) = self.state.desired.container(id).map(|attached| attached.container.clone()) {
            if known.netns.id == netns.id {
                let alias = name.filter(|name| *name != known.name).as_ref().and_then(alias);
                return Ok(Identity { alias, ..known.into() });
            }
            if self.is_alive(&known.netns) {
                return Err(Refusal::ContainerNameTaken { name: known.name, id: id.short().to_owned() }.into());
            }
            self.release_container(id);
        }
        if let Some(holder) = self.occupant(&netns) {
            let alias = name.as_ref().and_then(alias).or_else(|| id.as_str().parse().ok());
            return Ok(Identity { container: holder, attached_as: Some(id.clone()), alias });
        }
        let scope = request.scope.clone().filter(|_| name.is_some());
        let container = |name| Container { id: id.clone(), name, netns, scope, of_engine: false };
        let mut other_name = None;
        if let Some(name) = name {
            if self.is_name_free(&name) {
                return Ok(container(name).into());
            }
            other_name = alias(&name);
        }
        let name: ContainerName = id.as_str().parse().map_err(Refusal::from)?;
        if !self.is_name_free(&name) {
            let holder = self.state.desired.exact_container(name.as_str()).map(|a| a.container.id.short().to_owned());
            return Err(Refusal::ContainerNameTaken { name, id: holder.unwrap_or_default() }.into());
        }
        Ok(Identity { alias: other_name, ..container(name).into() })
    }

    /// Whether no living container has the name. Releases a holder whose namespace no longer exists.
    pub(super) fn is_name_free(&mut self, name: &ContainerName) -> bool {
        let Some(holder) = self.state.desired.exact_container(name.as_str()).map(|a| a.container.clone()) else {
            return true;
        };
        if self.is_alive(&holder.netns) {
            return false;
        }
        self.release_container(&holder.id);
        true
    }

    /// Adds names, ports, firewall elements and limits to an interface that another program made.
    fn adopt(
        &mut self,
        request: &RuntimeRequest,
        spec: &EndpointSpec,
        identity: &Identity,
    ) -> Result<Arc<Endpoint>, Error> {
        let ifname = &request.key.ifname;
        let missing =
            || Refusal::CannotAdopt { ifname: ifname.clone(), why: "the container has no such interface".into() };
        let observed = self.kernel.interface(&identity.container.netns, ifname)?.ok_or_else(missing)?;
        let known = self.state.desired.network(&request.network.name).filter(|known| !known.makes_interfaces());
        let trusted: Vec<IpAddr> =
            known.iter().flat_map(|known| &known.subnets).filter_map(|known| known.gateway).collect();
        // The host's facts are collected for the first container of a network only.
        let all_known = spec.addresses.iter().all(|asked| asked.gateway.is_some_and(|ip| trusted.contains(&ip)));
        let facts = if all_known { None } else { Some(self.facts()?) };
        let of_host = facts.as_ref().map(|facts| facts.addresses.as_slice()).unwrap_or_default();
        let on_host = |ip: &IpAddr| trusted.contains(ip) || of_host.iter().any(|(address, _)| address.ip() == *ip);
        let found: FoundInterface = attachment::found(ifname, &spec.addresses, observed, on_host)?;
        let new = (NetworkId::from_random(rand::random()), crate::base::clock::unix_seconds());
        let wanted = attachment::adopted_network(&self.state, &request.network, &found, new)?;
        let known = self.state.desired.network(&wanted.name).cloned();
        let (network, is_new) = match known {
            Some(known) if *known == wanted => (known, false),
            known => {
                if let Some(stale) = known {
                    self.remove_network(stale.name.as_str())?;
                }
                let facts = facts.map_or_else(|| self.facts(), Ok)?;
                (self.add_network(&wanted, None, &facts)?, true)
            }
        };
        let endpoint = self.decided(|state| endpoint::adopt(state, &network, identity.clone(), spec, &found));
        let attached = endpoint.map_err(Error::from).and_then(|endpoint| self.attach(&network, endpoint, spec));
        if attached.is_err() && is_new {
            self.forget_network(&network);
        }
        attached
    }

    /// The second phase of an attachment whose addresses come from an IPAM plugin that works through the interface.
    fn give_addresses(&mut self, bare: &Arc<Endpoint>, spec: &EndpointSpec) -> Result<Arc<Endpoint>, Error> {
        let network = self.find_network(bare.network.as_str())?;
        let endpoint = self.decided(|state| endpoint::addressed(state, &network, bare, spec))?;
        let endpoint = Arc::new(endpoint);
        let mut transaction = transaction::address(&self.state, &network, &endpoint, &|all| self.resolv_conf(all));
        transaction.asked_by(spec.process());
        self.execute(&transaction)?;
        self.serve_inside(&endpoint.container.id);
        self.proxy(&endpoint.container.id);
        self.publish();
        self.tell_connected(&endpoint);
        self.try_gateway(&network, &endpoint.key());
        Ok(endpoint)
    }

    /// Detaches every attachment of the owner but those.
    pub(crate) fn gc(
        &mut self,
        owner: &NetworkName,
        valid: &[(ContainerId, IfName)],
    ) -> Result<Vec<Arc<Endpoint>>, Error> {
        let valid: HashSet<(&ContainerId, &IfName)> = valid.iter().map(|(id, ifname)| (id, ifname)).collect();
        let is_valid = |e: &Endpoint| valid.contains(&(e.runtime_id(), &e.ifname));
        let stale = self.state.desired.endpoints().filter(|e| e.owner.as_ref() == Some(owner) && !is_valid(e));
        let stale: Vec<Removal> = stale.map(|endpoint| Removal::requested(endpoint.key())).collect();
        self.disconnect(&stale)
    }

    /// Checks whether another container could join the network.
    pub(crate) fn capacity(&mut self, network: &str) -> Result<(), Error> {
        let network = self.find_network(network)?;
        endpoint::has_room(&self.state, &network)?;
        if network.assigns_addresses() {
            address::any_left(&mut self.state, &network)?;
        }
        Ok(())
    }
}

fn alias(name: &ContainerName) -> Option<Alias> {
    name.as_str().parse().ok()
}
