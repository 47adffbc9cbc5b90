//! The container's end of an interface: whether it is as it was made, and what puts it right.

use std::sync::Arc;

use super::worker::Worker;
use super::{Error, check};
use crate::kernel::{Kernel, KernelError};
use crate::logic::wanted;
use crate::model::endpoint::Endpoint;
use crate::model::network::Network;
use crate::model::step::Step;
use crate::store::Store;

/// What a look at an endpoint's interface finds.
pub(super) enum Inside {
    Right,
    /// What must be given to the interface, which is there.
    Lacks(String),
    /// Why it must be made anew.
    Broken(String),
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Looks at an interface that netd made. Fails with `NoNetns` when the container's namespace is gone.
    fn look_inside(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Inside, KernelError> {
        let seen = self.kernel.interface(&endpoint.container.netns, &endpoint.ifname)?;
        let Some(seen) = seen.filter(|_| self.kernel.has_link(&endpoint.host_ifname)) else {
            return Ok(Inside::Broken(format!("interface {} was gone", endpoint.ifname)));
        };
        if !seen.up {
            // A daemon that was killed while it made it leaves it so.
            return Ok(Inside::Broken(format!("interface {} was down", endpoint.ifname)));
        }
        let all = self.state.endpoints_of(&endpoint.container.id);
        let lost = check::addresses(endpoint, &[], &seen).or_else(|| check::routes(network, endpoint, &all, &seen));
        Ok(lost.map_or(Inside::Right, Inside::Lacks))
    }

    /// At a start, when what a killed daemon had not finished is to be found: whether the endpoint's interface is there.
    /// What it lacks is given to it.
    pub(super) fn stands(&mut self, network: &Network, endpoint: &Endpoint) -> bool {
        let all = self.state.endpoints_of(&endpoint.container.id);
        let Some(link) = wanted::endpoint_link(network, endpoint, &all) else {
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
            Ok(Inside::Broken(_)) | Err(KernelError::NoNetns { .. }) => false,
            Err(error) => {
                self.problem(&format!("inside {}", endpoint.host_ifname), error.to_string());
                true
            }
        }
    }

    /// Puts the interface of an endpoint right; fails where it cannot be.
    pub(super) fn stand_again(&mut self, endpoint: &Arc<Endpoint>) -> Result<(), Error> {
        let network = self.find_network(endpoint.network.as_str())?;
        let all = self.state.endpoints_of(&endpoint.container.id);
        let Some(link) = wanted::endpoint_link(&network, endpoint, &all) else { return Ok(()) };
        let (steps, what) = match self.look_inside(&network, endpoint)? {
            Inside::Right => return Ok(()),
            Inside::Lacks(what) => (vec![Step::Address(Box::new(link))], what),
            Inside::Broken(what) => {
                let shape = wanted::shaping(&network, endpoint).map(|shaping| Step::Shape(Box::new(shaping)));
                let anew = [Step::Detach(vec![link.clone()]), Step::Attach(Box::new(link))];
                (anew.into_iter().chain(shape).collect(), what)
            }
        };
        for step in &steps {
            self.kernel.apply(step)?;
        }
        self.repaired(&format!("{} on {}: {what}", link_of(endpoint), network.name));
        self.publish();
        Ok(())
    }
}

fn link_of(endpoint: &Endpoint) -> String {
    format!("interface {} of {}", endpoint.ifname, endpoint.container.name)
}
