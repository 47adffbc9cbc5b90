//! The container's end of an interface: checks it against the target and repairs it.

use super::links::listed;
use crate::engine::commands::disconnect::Removal;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::{
    drift::{self, Drift},
    target::{self, Interface},
};
use crate::model::endpoint::Endpoint;
use crate::model::host::step::Step;
use crate::model::ids::ContainerId;
use crate::model::names::IfName;
use crate::model::network::Network;
use crate::store::Store;

/// The result of inspecting an endpoint's interface.
pub(crate) enum Condition {
    Right,
    /// The interface exists but lacks these parts.
    Lacks(Vec<Drift>),
    /// The interface must be recreated.
    Broken,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Inspects an interface that netd made, and learns its MAC address. Fails with `NoNetns` if the container's namespace no longer exists.
    fn inspect(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Condition, KernelError> {
        let observed = self.kernel.interface(&endpoint.container.netns, &endpoint.ifname)?;
        let is_whole = !network.has_host_ends() || self.kernel.has_link(&endpoint.host_ifname);
        let Some(observed) = observed.filter(|_| is_whole) else {
            return Ok(Condition::Broken);
        };
        self.learn_mac(endpoint, observed.mac);
        if !self.initial_sync && endpoint.addresses.is_empty() && !observed.addresses.is_empty() {
            // netd gave it addresses for a command that failed, and could not take them away.
            return Ok(Condition::Broken);
        }
        let all = self.state.endpoints_of(&endpoint.container.id);
        let lost = drift::inside(network, endpoint, &all, &observed);
        Ok(if lost.is_empty() { Condition::Right } else { Condition::Lacks(lost) })
    }

    /// Looks into a container whose interfaces may have been changed, and repairs what is missing there.
    pub(crate) fn repair_container(&mut self, id: &ContainerId) {
        let mut gone = Vec::new();
        for endpoint in self.state.endpoints_of(id) {
            let Some(network) = self.state.desired.network(&endpoint.network).cloned() else { continue };
            if !network.makes_interfaces() {
                continue;
            }
            self.problems.clear(&Subject::ContainerEnd(endpoint.host_ifname.clone()));
            let stands = self.stands(&network, &endpoint);
            if !stands && !self.reattach(&endpoint.key(), "its end in the container is gone") {
                gone.push(Removal::because_gone(endpoint.key()));
            }
        }
        self.release(&gone);
        self.repair_redirection(id);
    }

    /// Restores the redirection of the container's questions to the name service within it.
    pub(crate) fn repair_redirection(&mut self, id: &ContainerId) {
        let Some((inside, port)) = self.in_container.get(id).cloned() else { return };
        let subject = Subject::WithinContainer(id.clone());
        match self.kernel.is_led_inside(&inside, port) {
            Ok(true) | Err(KernelError::NoNetns { .. }) => {}
            Ok(false) if !self.agenda.may_repair(&subject) => {
                let what = "the redirection of DNS queries in the container is removed again and again";
                self.problem(subject, format!("{what}; netd waits 10 s"));
            }
            Ok(false) => match self.kernel.lead_inside(&inside, port) {
                Ok(()) => {
                    self.problems.clear(&subject);
                    self.repaired(
                        subject.kind(),
                        &format!("redirection of DNS queries in container {} was gone", id.short()),
                    );
                }
                Err(error) => self.problem(subject, format!("cannot redirect DNS queries in the container: {error}")),
            },
            Err(error) => self.problem(subject, format!("cannot check the redirection of DNS queries: {error}")),
        }
    }

    /// At a start, to find what a killed daemon left unfinished, and after a step in a container failed: whether the
    /// endpoint's interface exists. Adds the parts that it lacks.
    pub(crate) fn stands(&mut self, network: &Network, endpoint: &Endpoint) -> bool {
        if endpoint.is_waiting() {
            // Another engine may be taking it just now.
            return true;
        }
        let all = self.state.endpoints_of(&endpoint.container.id);
        let link = match target::interface(network, endpoint, &all) {
            Interface::Own(link) => link,
            Interface::Adopted(name) => {
                self.prepare_adopted(name);
                return self.is_alive(&endpoint.container.netns);
            }
            Interface::Nothing => return self.is_alive(&endpoint.container.netns),
        };
        match self.inspect(network, endpoint) {
            Ok(Condition::Right) => true,
            Ok(Condition::Lacks(what)) => {
                let what = format!("{} on {}: {}", link_of(endpoint), network.name, listed(&what));
                let subject = Subject::ContainerEnd(endpoint.host_ifname.clone());
                let step = Step::Restore { link, link_layer: endpoint.owner.is_none() };
                if !self.repair(&step, subject, &what) {
                    self.look_inside = true;
                }
                true
            }
            Ok(Condition::Broken) => false,
            Err(KernelError::NoNetns { .. }) if self.is_alive(&endpoint.container.netns) => {
                // It is known by another path now, and is looked into again.
                self.look_inside = true;
                true
            }
            Err(KernelError::NoNetns { .. }) => self.is_held(endpoint),
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
