//! The container's end of an interface: checks it against the target and repairs it.

use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::{
    drift::{self, Drift},
    target::{self, Interface},
};
use crate::model::endpoint::Endpoint;
use crate::model::host::step::Step;
use crate::model::names::IfName;
use crate::model::network::Network;
use crate::store::Store;

/// The result of inspecting an endpoint's interface.
pub(crate) enum Condition {
    Right,
    /// The interface exists but lacks these parts.
    Lacks(Drift),
    /// The interface must be recreated.
    Broken,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Inspects an interface that netd made. Fails with `NoNetns` if the container's namespace no longer exists.
    fn inspect(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Condition, KernelError> {
        let observed = self.kernel.interface(&endpoint.container.netns, &endpoint.ifname)?;
        let Some(observed) = observed.filter(|_| self.kernel.has_link(&endpoint.host_ifname)) else {
            return Ok(Condition::Broken);
        };
        if !observed.up {
            // A daemon that was killed while creating the interface leaves it like this.
            return Ok(Condition::Broken);
        }
        if !self.initial_sync && endpoint.addresses.is_empty() && !observed.addresses.is_empty() {
            // netd gave it addresses for a command that failed, and could not take them away.
            return Ok(Condition::Broken);
        }
        let all = self.state.endpoints_of(&endpoint.container.id);
        let lost =
            drift::addresses(endpoint, &[], &observed).or_else(|| drift::routes(network, endpoint, &all, &observed));
        Ok(lost.map_or(Condition::Right, Condition::Lacks))
    }

    /// At a start, to find what a killed daemon left unfinished, and after a step in a container failed: whether the
    /// endpoint's interface exists. Adds the parts that it lacks.
    pub(crate) fn stands(&mut self, network: &Network, endpoint: &Endpoint) -> bool {
        let all = self.state.endpoints_of(&endpoint.container.id);
        let link = match target::interface(network, endpoint, &all) {
            Interface::Own(link) => link,
            Interface::Adopted(name) => {
                self.prepare_adopted(name);
                return self.kernel.netns_alive(&endpoint.container.netns);
            }
        };
        match self.inspect(network, endpoint) {
            Ok(Condition::Right) => true,
            Ok(Condition::Lacks(what)) => {
                let what = format!("{} on {}: {what}", link_of(endpoint), network.name);
                let subject = Subject::ContainerEnd(endpoint.host_ifname.clone());
                if !self.repair(&Step::Address(link), subject, &what) {
                    self.look_inside = true;
                }
                true
            }
            Ok(Condition::Broken) | Err(KernelError::NoNetns { .. }) => false,
            Err(error) => {
                self.problem(Subject::ContainerEnd(endpoint.host_ifname.clone()), error.to_string());
                self.look_inside = true;
                true
            }
        }
    }

    /// Prepares an interface of another program, which may have made it anew, or which a killed daemon had not prepared.
    fn prepare_adopted(&mut self, name: &IfName) {
        if let Err(error) = self.kernel.apply(&Step::Adopt(name.clone())) {
            self.look_inside = true;
            self.problem(
                Subject::Interface(name.clone()),
                format!("cannot prepare {name} for published ports: {error}"),
            );
        }
    }
}

fn link_of(endpoint: &Endpoint) -> String {
    format!("interface {} of {}", endpoint.ifname, endpoint.container.name)
}
