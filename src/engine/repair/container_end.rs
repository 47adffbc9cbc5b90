//! The container's end of an interface: whether it is as it was made, and what puts it right.

use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::{
    drift::{self, Drift},
    target,
};
use crate::model::endpoint::Endpoint;
use crate::model::host::step::Step;
use crate::model::network::Network;
use crate::store::Store;

/// What a look at an endpoint's interface finds.
pub(crate) enum Inside {
    Right,
    /// What must be given to the interface, which is there.
    Lacks(Drift),
    /// It must be made anew.
    Broken,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Looks at an interface that netd made. Fails with `NoNetns` when the container's namespace is gone.
    fn look_inside(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Inside, KernelError> {
        let seen = self.kernel.interface(&endpoint.container.netns, &endpoint.ifname)?;
        let Some(seen) = seen.filter(|_| self.kernel.has_link(&endpoint.host_ifname)) else {
            return Ok(Inside::Broken);
        };
        if !seen.up {
            // A daemon that was killed while it made it leaves it so.
            return Ok(Inside::Broken);
        }
        let all = self.state.endpoints_of(&endpoint.container.id);
        let lost = drift::addresses(endpoint, &[], &seen).or_else(|| drift::routes(network, endpoint, &all, &seen));
        Ok(lost.map_or(Inside::Right, Inside::Lacks))
    }

    /// At a start, when what a killed daemon had not finished is to be found: whether the endpoint's interface is there.
    /// What it lacks is given to it.
    pub(crate) fn stands(&mut self, network: &Network, endpoint: &Endpoint) -> bool {
        let all = self.state.endpoints_of(&endpoint.container.id);
        let Some(link) = target::endpoint_link(network, endpoint, &all) else {
            return self.kernel.netns_alive(&endpoint.container.netns);
        };
        match self.look_inside(network, endpoint) {
            Ok(Inside::Right) => true,
            Ok(Inside::Lacks(what)) => {
                self.repair(
                    &Step::Address(Box::new(link)),
                    &format!("{} on {}: {what}", link_of(endpoint), network.name),
                );
                true
            }
            Ok(Inside::Broken) | Err(KernelError::NoNetns { .. }) => false,
            Err(error) => {
                self.problem(&format!("inside {}", endpoint.host_ifname), error.to_string());
                true
            }
        }
    }
}

fn link_of(endpoint: &Endpoint) -> String {
    format!("interface {} of {}", endpoint.ifname, endpoint.container.name)
}
