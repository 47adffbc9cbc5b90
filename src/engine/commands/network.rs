//! Creates and removes networks.

use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::Error;
use crate::engine::decide::{self, transaction};
use crate::engine::event::Change;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::alloc::interfaces;
use crate::logic::refusal::Refusal;
use crate::logic::target;
use crate::model::address::{Families, Pool, Subnet};
use crate::model::host::observed::{ForeignNetwork, HostFacts};
use crate::model::ids::NetworkId;
use crate::model::names::NetworkName;
use crate::model::network::Network;
use crate::model::request::NetworkSpec;
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    pub(crate) fn create_network(
        &mut self,
        spec: &NetworkSpec,
        foreign: Vec<ForeignNetwork>,
    ) -> Result<Arc<Network>, Error> {
        let facts = self.facts_about(foreign, std::iter::once(spec))?;
        let (network, ula) = self.decide_network(spec, &facts)?;
        self.add_network(&network, ula, &facts)
    }

    /// The network that the request describes, and the host's ULA prefix if it was drawn for this network.
    pub(crate) fn decide_network(
        &self,
        spec: &NetworkSpec,
        facts: &HostFacts,
    ) -> Result<(Network, Option<Subnet>), Refusal> {
        let (pools, ula) = self.pools(spec.ipv6);
        let bridge = spec.bridge.clone().or_else(|| interfaces::bridge(spec.name.as_str(), |_| false));
        let choice = decide::network::NetworkChoice {
            facts: &self.unexplained.facts_for(bridge.as_ref(), facts),
            pools: &pools,
            id: NetworkId::from_random(rand::random()),
            created: crate::base::clock::unix_seconds(),
        };
        Ok((decide::network::create_network(&self.state, spec, choice)?, ula))
    }

    /// Commits the network and creates what the kernel needs for it; `ula` is the host's prefix if it is new.
    pub(crate) fn add_network(
        &mut self,
        network: &Network,
        ula: Option<Subnet>,
        facts: &HostFacts,
    ) -> Result<Arc<Network>, Error> {
        let mut transaction = transaction::create_network(&self.state, network, ula);
        self.unexplained.spare(&mut transaction.steps);
        self.before_forwarding(target::forwarding_of(network))?;
        if let Err(error) = self.execute(&transaction) {
            self.follow_forwarding();
            return Err(error);
        }
        let network = self.find_network(network.name.as_str())?;
        self.search.clone_from(&facts.search);
        self.listen();
        self.adapt_foreign();
        self.explain();
        self.forwarding_changed(&network, facts);
        let bridge = network.bridge().map(ToString::to_string).unwrap_or_default();
        tracing::info!(network = %network.name, bridge, "network created");
        self.tell(Change::NetworkCreated(network.clone()));
        Ok(network)
    }

    /// The pools for a new network; draws the host's ULA prefix when it is needed for the first time.
    pub(super) fn pools(&self, ipv6: bool) -> (Vec<Pool>, Option<Subnet>) {
        let mut pools = self.config.pools.clone();
        if !self.config.ula || !ipv6 {
            return (pools, None);
        }
        let drawn = self.state.ula.is_none().then(|| {
            // RFC 4193, section 3.1: fd00::/8 and 40 random bits make the /48.
            let mut bytes = [0u8; 16];
            bytes[0] = 0xfd;
            bytes[1..6].copy_from_slice(&rand::random::<[u8; 5]>());
            Subnet::containing(IpAddr::from(bytes), 48)
        });
        let prefix = self.state.ula.or(drawn.flatten());
        pools.extend(prefix.map(|base| Pool { base, size: 64 }));
        (pools, drawn.flatten())
    }

    pub(crate) fn remove_network(&mut self, text: &str) -> Result<Arc<Network>, Error> {
        let network = decide::network::remove_network(&self.state, text)?;
        let transaction = transaction::remove_network(&self.state, &network);
        let released = self.state.ipam.all_released(&network).into_iter();
        let released = released.map(|address| Record::DeleteReleased(network.name.clone(), address));
        let released: Vec<Record> = released.collect();
        let errors = self.remove(&transaction, |worker| {
            worker.compensate(&released);
            worker.forget_gateway(&network.name);
            worker.listen();
        })?;
        self.adapt_foreign();
        self.follow_forwarding();
        if errors.is_empty() && self.problems.has(&Subject::Forwarding) {
            self.reconcile();
        }
        self.publish();
        tracing::info!(network = %network.name, "network removed");
        self.tell(Change::NetworkRemoved(network.clone()));
        self.tell_why_forwarding_stays(&network);
        self.finish(errors).map(|()| network)
    }

    pub(crate) fn prune_networks(&mut self) -> Result<Vec<NetworkName>, Error> {
        let names: Vec<NetworkName> = self.unused_networks().iter().map(|network| network.name.clone()).collect();
        for name in &names {
            self.remove_network(name.as_str())?;
        }
        Ok(names)
    }

    /// The networks without containers that no other engine has.
    pub(crate) fn unused_networks(&self) -> Vec<Arc<Network>> {
        let unused = |network: &&Arc<Network>| !self.state.is_used(&network.name) && network.engines.is_empty();
        self.state.desired.networks().filter(unused).cloned().collect()
    }

    /// Tells which settings of the host a new network has changed. An adopted bridge is not kept apart any more.
    pub(super) fn forwarding_changed(&mut self, network: &Network, facts: &HostFacts) {
        self.follow_networks();
        let enabled = target::forwarding_of(network).without(facts.forwarding);
        let restricted = Families::which(|family| enabled.has(family) && self.restricted().has(family));
        let why = network.name.as_str();
        for sysctl in enabled.forwarding_settings() {
            tracing::info!(sysctl, network = why, "forwarding turned on");
            let alone = "; between the host's other interfaces nothing is forwarded (netd.toml(5), forwarding)";
            let alone = if restricted.forwarding_settings().contains(&sysctl) { alone } else { "" };
            self.tell(Change::HostChanged(format!("{sysctl} set to 1: network {why} needs forwarding{alone}")));
        }
    }
}
