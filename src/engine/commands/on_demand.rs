//! The networks of runtimes' attachments: made with the first of them, and those on demand removed with the last.

use std::sync::Arc;

use crate::engine::Error;
use crate::engine::decide::network;
use crate::engine::event::Change;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::refusal::Refusal;
use crate::model::host::observed::ForeignNetwork;
use crate::model::network::{Network, NetworkDns};
use crate::model::request::NetworkSpec;
use crate::model::upstream::Upstream;
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Returns the network with that name, creating it if necessary, and whether it was created. One on demand follows
    /// the definition that its runtime gives.
    pub(super) fn network_for(
        &mut self,
        spec: &NetworkSpec,
        foreign: Vec<ForeignNetwork>,
    ) -> Result<(Arc<Network>, bool), Error> {
        let Some(known) = self.state.desired.network(&spec.name).cloned() else {
            return Ok((self.create_network(spec, foreign)?, true));
        };
        if !known.on_demand || !spec.on_demand {
            return Ok((known, false));
        }
        let Some(what) = network::differs(&known, spec) else {
            return Ok((self.set_upstreams(known.name.as_str(), &spec.dns.upstreams)?, false));
        };
        if self.state.is_used(&known.name) {
            let mut containers: Vec<String> =
                self.state.desired.endpoints_of(&known.name).map(|e| e.container.name.to_string()).collect();
            containers.dedup();
            return Err(Refusal::DefinedAnew(known.name.clone(), what, containers).into());
        }
        self.remove_network(known.name.as_str())?;
        Ok((self.create_network(spec, foreign)?, true))
    }

    /// Removes a network that was created for an attachment that failed.
    pub(super) fn forget_network(&mut self, network: &Network) {
        if let Err(error) = self.remove_network(network.name.as_str()) {
            tracing::warn!(network = %network.name, "cannot remove a failed attachment's network: {error}");
            self.emptied.insert(network.name.clone());
        }
    }

    /// Removes the networks on demand that the last command left without a user. Not before its end: what it does after
    /// a disconnect may need them. One that cannot be removed is tried again after the next command.
    pub(crate) fn remove_emptied(&mut self) {
        for name in std::mem::take(&mut self.emptied) {
            // A network of Docker that has joined it is a user, too.
            let on_demand = |network: &Arc<Network>| network.on_demand && network.engines.is_empty();
            if self.state.desired.network(&name).is_some_and(on_demand)
                && !self.state.is_used(&name)
                && let Err(error) = self.remove_network(name.as_str())
            {
                tracing::debug!(network = %name, "cannot remove a network that nothing uses any more: {error}");
                self.emptied.insert(name);
            }
        }
    }

    /// Looks at all networks on demand: a killed daemon leaves one that nothing uses.
    pub(crate) fn remove_all_emptied(&mut self) {
        let on_demand = self.state.desired.networks().filter(|network| network.on_demand);
        self.emptied.extend(on_demand.map(|network| network.name.clone()));
        self.remove_emptied();
    }

    /// Changes who is asked for the names of a network's containers that are not netd's.
    pub(crate) fn set_upstreams(&mut self, text: &str, upstreams: &[Upstream]) -> Result<Arc<Network>, Error> {
        let known = self.find_network(text)?;
        if known.dns.upstreams == upstreams {
            return Ok(known);
        }
        let dns = NetworkDns { upstreams: upstreams.to_vec(), ..known.dns.clone() };
        let changed = Network { dns, ..known.as_ref().clone() };
        self.commit(&[Record::PutNetwork(Box::new(changed))])?;
        self.publish();
        let network = self.find_network(known.name.as_str())?;
        tracing::info!(network = %network.name, "name servers changed");
        self.tell(Change::NetworkChanged(network.clone()));
        Ok(network)
    }
}
