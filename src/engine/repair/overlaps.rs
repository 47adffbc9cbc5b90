//! What the host has that networks depend on, and that may come or go later: routes and addresses that lead to a network's
//! addresses elsewhere (a VPN, another LAN), and the addresses from which its containers are to be seen.

use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::alloc::subnets::overlaps;
use crate::model::desired::Desired;
use crate::model::host::observed::HostFacts;
use crate::model::names::NetworkName;
use crate::model::network::Network;
use crate::store::Store;

/// What it means, and what helps.
const MEANS: &str = "what is at these addresses is reached in one of both places only; give the network another subnet \
                     (netd network renumber), or change the route";

/// The same for a source address.
const NO_REPLIES: &str =
    "replies to its containers do not arrive here unless somebody routes them to the host; see `ip address`";

/// The source addresses of networks that the host does not have.
fn lacking_sources(desired: &Desired, facts: &HostFacts) -> Vec<(NetworkName, IpAddr)> {
    let has = |source: &IpAddr| facts.addresses.iter().any(|(address, _)| address.ip() == *source);
    let of = |network: &Arc<Network>| {
        let sources = network.own_bridge().map(|bridge| bridge.source.clone()).unwrap_or_default();
        let lacking = sources.into_iter().filter(|source| !has(source));
        lacking.map(|source| (network.name.clone(), source)).collect::<Vec<_>>()
    };
    desired.networks().flat_map(of).collect()
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Reports them. netd changes neither.
    pub(crate) fn look_for_overlaps(&mut self) {
        if self.state.desired.counts().0 == 0 {
            return;
        }
        match self.kernel.facts() {
            Ok(facts) => {
                for ((network, ifname), said) in overlaps(&self.state.desired, &facts) {
                    self.problem(Subject::Overlap(network, ifname), format!("{said}: {MEANS}"));
                }
                for (network, source) in lacking_sources(&self.state.desired, &facts) {
                    let said = format!("the host does not have {source}, the source address of network {network}");
                    self.problem(Subject::Source(network, source), format!("{said}: {NO_REPLIES}"));
                }
            }
            Err(error) => self.problem(Subject::Observation, format!("cannot read the host's routes: {error}")),
        }
    }
}
