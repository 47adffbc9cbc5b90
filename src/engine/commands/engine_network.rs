//! Networks of other engines (Docker) that are networks of netd.

use std::sync::Arc;

use crate::engine::Error;
use crate::engine::decide::{self, transaction};
use crate::engine::event::Change;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::alloc::{interfaces, subnets};
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::address::{Family, Subnet};
use crate::model::host::observed::{ForeignNetwork, HostFacts};
use crate::model::names::NetworkName;
use crate::model::network::{Driver, Network};
use crate::model::request::EngineNetworkChange;
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Carries out what the engine tells. Returns netd's network as it is now, or as it was if it is gone.
    pub(crate) fn change_engine_network(
        &mut self,
        change: &EngineNetworkChange,
    ) -> Result<Option<Arc<Network>>, Error> {
        match change {
            EngineNetworkChange::Join { network, engine } => {
                let network = self.find_network(network)?;
                if network.engines.iter().any(|known| known.id == engine.id) {
                    return Ok(Some(network));
                }
                let mut joined = network.as_ref().clone();
                joined.engines.push(engine.clone());
                self.put_network(&network, joined).map(Some)
            }
            EngineNetworkChange::Leave { id } => {
                let Some(network) = self.of_engine(id) else { return Ok(None) };
                let mut left = network.as_ref().clone();
                left.engines.retain(|known| known.id != *id);
                let owned = network.engines.iter().any(|known| known.id == *id && known.owns);
                if owned && left.engines.is_empty() {
                    if !self.state.is_used(&network.name) {
                        return self.remove_network(network.name.as_str()).map(Some);
                    }
                    // Docker has forgotten it, whatever is replied; others are on it. It goes with the last of them.
                    left.on_demand = true;
                }
                self.emptied.extend(left.on_demand.then(|| network.name.clone()));
                self.put_network(&network, left).map(Some)
            }
            EngineNetworkChange::Name { id, name } => {
                let Some(network) = self.of_engine(id) else { return Ok(None) };
                self.name_network(&network, name).map(Some)
            }
        }
    }

    /// The pools of other engines that no network has as its subnet.
    fn engine_pools(&self) -> Vec<Subnet> {
        let pools = |network: &Arc<Network>| {
            let is_own = |pool: &Subnet| network.subnets.iter().any(|known| known.subnet == *pool);
            let pools = network.engines.iter().flat_map(|engine| engine.pools.clone());
            pools.filter(|pool| !is_own(pool)).collect::<Vec<_>>()
        };
        self.state.desired.networks().flat_map(pools).collect()
    }

    fn of_engine(&self, id: &str) -> Option<Arc<Network>> {
        let is_it = |network: &&Arc<Network>| network.engines.iter().any(|known| known.id == *id);
        self.state.desired.networks().find(is_it).cloned()
    }

    /// Replaces the record of a network. Nothing in the kernel changes.
    fn put_network(&mut self, before: &Network, after: Network) -> Result<Arc<Network>, Error> {
        self.commit(&[Record::PutNetwork(Box::new(after))])?;
        self.publish();
        Ok(self.find_network(before.name.as_str())?)
    }

    /// Gives the network the name; a network that cannot have it keeps its own.
    fn name_network(&mut self, network: &Arc<Network>, name: &NetworkName) -> Result<Arc<Network>, Error> {
        let owned = network.engines.iter().all(|known| known.owns);
        let in_use = self.state.is_used(&network.name);
        let is_free = decide::network::name_is_free(&self.state, name).is_ok();
        if network.name == *name || !owned || in_use || !is_free {
            return Ok(network.clone());
        }
        let mut named = network.as_ref().clone();
        named.name = name.clone();
        if let Driver::Bridge(bridge) = &mut named.driver
            && Some(&bridge.name) == interfaces::bridge(network.name.as_str(), |_| false).as_ref()
        {
            let facts = self.facts()?;
            let taken = |name: &_| facts.interfaces.contains(name);
            bridge.name = interfaces::bridge(name.as_str(), taken).unwrap_or_else(|| bridge.name.clone());
        }
        self.execute(&transaction::rename_network(&self.state, network, &named))?;
        self.forget_gateway(&network.name);
        self.listen();
        self.adapt_foreign();
        self.publish();
        tracing::info!(network = %named.name, before = %network.name, "network named");
        self.tell(Change::NetworkRemoved(network.clone()));
        let named = self.find_network(name.as_str())?;
        self.tell(Change::NetworkCreated(named.clone()));
        Ok(named)
    }

    /// A subnet for a network to come: the wanted one if it is free, else one of the pools. `avoid`: those that were
    /// chosen before and have no network yet.
    pub(crate) fn choose_subnet(
        &mut self,
        family: Family,
        wanted: Option<Subnet>,
        avoid: Vec<Subnet>,
        foreign: Vec<ForeignNetwork>,
    ) -> Result<Subnet, Error> {
        let promised = ForeignNetwork {
            whose: "a network that is being created".into(),
            name: String::new(),
            subnets: avoid.into_iter().chain(self.engine_pools()).collect(),
        };
        let foreign = foreign.into_iter().chain([promised]).collect();
        let facts = HostFacts { foreign, ..self.facts()? };
        if let Some(wanted) = wanted {
            if wanted.family() != family {
                let why = "it is of the other address family";
                return Err(Refusal::from(Invalid::new("subnet", wanted.to_string(), why)).into());
            }
            subnets::check(wanted, &self.state.desired, &facts)?;
            return Ok(wanted);
        }
        let (pools, ula) = self.pools(family == Family::V6);
        let subnet = subnets::choose(&pools, family, &self.state.desired, &facts)?;
        if let Some(ula) = ula {
            // Drawn for this subnet: the next one is of the same prefix.
            self.compensate(&[crate::engine::state::State::ula_record(ula)]);
        }
        Ok(subnet)
    }
}
