//! Repairs the links on the host: bridges and the host ends of pairs. What stands is restored in place, because a
//! container loses its connections with a deleted interface.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::commands::disconnect::Removal;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::drift::{self, Drift, Link};
use crate::logic::target::{self, Interface};
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::host::observed::{Observed, ObservedKind};
use crate::model::host::step::{EndpointLink, Step};
use crate::model::names::IfName;
use crate::model::network::Network;
use crate::store::Store;

/// How many repaired host ends an event names.
const NAMED: usize = 3;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Gives links that another program renamed their names back. Returns whether there was one.
    pub(crate) fn rename_back(&mut self, observed: &Observed) -> bool {
        let mut renamed: Vec<(IfName, IfName)> = Vec::new();
        let targets: Vec<_> = self
            .state
            .desired
            .networks()
            .filter_map(|network| target::bridge_with_services(&self.state.desired, network))
            .collect();
        let names: BTreeSet<&IfName> = targets.iter().map(|target| &target.name).collect();
        for target in targets.iter().filter(|target| !observed.links.contains_key(&target.name)) {
            let alias = target.alias();
            let mut same = observed.links.iter().filter(|(name, link)| {
                link.kind == ObservedKind::Bridge && link.alias.as_ref() == Some(&alias) && !names.contains(name)
            });
            renamed.extend(same.next().map(|(name, _)| (name.clone(), target.name.clone())));
        }
        let is_lost = |endpoint: &&Arc<Endpoint>| {
            let on = self.state.desired.network(&endpoint.network);
            let made = on.is_some_and(|network| network.makes_interfaces() && network.has_host_ends());
            made && !observed.links.contains_key(&endpoint.host_ifname)
        };
        let lost: Vec<Arc<Endpoint>> = self.state.desired.endpoints().filter(is_lost).cloned().collect();
        for endpoint in lost {
            let seen = self.kernel.interface(&endpoint.container.netns, &endpoint.ifname);
            let end = seen.ok().flatten().and_then(|seen| seen.host_end);
            let end = end.filter(|end| !self.state.host_ifnames.contains_key(&end.name));
            renamed.extend(end.map(|end| (end.name, endpoint.host_ifname.clone())));
        }
        for (from, to) in &renamed {
            let step = Step::Rename { from: from.clone(), to: to.clone() };
            self.repair(&step, Subject::Interface(to.clone()), &format!("interface {to} was renamed to {from}"));
        }
        !renamed.is_empty()
    }

    pub(crate) fn repair_bridges(&mut self, observed: &Observed) {
        let networks: Vec<Arc<Network>> = self.state.desired.networks().cloned().collect();
        for network in networks {
            let Some(target_link) = target::bridge_with_services(&self.state.desired, &network) else { continue };
            let drift = drift::bridge(&target_link, observed);
            if !drift.is_empty() {
                let subject = Subject::Interface(target_link.name.clone());
                self.repair(&Step::AddBridge(target_link), subject, &listed(&drift));
            }
        }
    }

    pub(crate) fn repair_links(&mut self, observed: &Observed, look_inside: bool) {
        self.settle_all();
        let endpoints: Vec<Arc<Endpoint>> = self.state.desired.endpoints().cloned().collect();
        let (mut gone, mut ports) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            let Some(network) = self.state.desired.network(&endpoint.network).cloned() else { continue };
            let all = self.state.endpoints_of(&endpoint.container.id);
            let mut looks_inside = look_inside;
            let drift = match target::interface(&network, &endpoint, &all) {
                // It is seen in the container only.
                Interface::Own(link) if link.kind.pair().is_none() => {
                    if look_inside {
                        self.follow_inner(&link);
                    }
                    looks_inside = true;
                    Vec::new()
                }
                Interface::Own(link) => {
                    let seen = observed.links.get(&endpoint.host_ifname);
                    let drift = drift::host_link(&link, &network, &endpoint, seen);
                    let stands = !drift.iter().any(|drift| matches!(drift, Drift::Gone(_) | Drift::Unfinished(_)));
                    if stands && !drift.is_empty() {
                        ports.push((endpoint.host_ifname.clone(), *link, listed(&drift)));
                        Vec::new()
                    } else {
                        drift
                    }
                }
                // Another program made it and must repair it.
                Interface::Adopted(_) => {
                    let name = &endpoint.host_ifname;
                    let gone = (!self.kernel.has_link(name)).then(|| Drift::Gone(Link::HostEnd(name.clone())));
                    gone.into_iter().collect()
                }
                Interface::Nothing => Vec::new(),
            };
            // The kernel removes the interfaces of a deleted namespace with a delay: they may still exist.
            let stands = |worker: &mut Self| !looks_inside || worker.stands(&network, &endpoint);
            if drift.is_empty() && !self.is_kept_for_nothing(&endpoint.container.id) && stands(self) {
                self.repair_limits(&network, &endpoint);
                continue;
            }
            let why = if drift.is_empty() { "its setup was incomplete".to_owned() } else { listed(&drift) };
            if !self.reattach(&endpoint.key(), &why) {
                gone.push(Removal::because_gone(endpoint.key()));
            }
        }
        self.restore_ports(ports);
        self.release(&gone);
    }

    /// Releases containers whose namespaces have ended.
    pub(crate) fn release(&mut self, gone: &[Removal]) {
        if let Err(error) = self.disconnect(gone) {
            self.problem(Subject::Release, format!("cannot release containers that have ended: {error}"));
        }
    }

    /// Restores host ends that stand, all together: one by one, each would wait for the kernel.
    fn restore_ports(&mut self, ports: Vec<(IfName, EndpointLink, String)>) {
        let Some((first, ..)) = ports.first() else { return };
        let subject = Subject::Interface(first.clone());
        let mut what = String::new();
        for (place, (name, link, drift)) in ports.iter().take(NAMED).enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            what += &format!("{separator}interface {name} of {} on {}: {drift}", link.container, link.network);
        }
        if ports.len() > NAMED {
            what += &format!("; and {} more interfaces", ports.len() - NAMED);
        }
        let links = ports.into_iter().map(|(_, link, _)| link).collect();
        self.repair(&Step::RestorePorts(links), subject, &what);
    }

    /// Recreates the endpoint's interface, because of `drift`. Returns false if the container's namespace no longer
    /// exists, so that the endpoint must be removed too.
    pub(crate) fn reattach(&mut self, key: &EndpointKey, drift: &str) -> bool {
        let Some(known) = self.state.desired.endpoint(key).cloned() else { return true };
        let Some(network) = self.state.desired.network(&key.network).cloned() else { return true };
        if !self.is_alive(&known.container.netns) {
            return self.is_held(&known);
        }
        // Its namespace may have been found at another path.
        let Some(endpoint) = self.state.desired.endpoint(key).cloned() else { return true };
        let all = self.state.endpoints_of(&key.container);
        let link = match target::interface(&network, &endpoint, &all) {
            Interface::Own(link) => link,
            Interface::Adopted(_) => {
                // Once the other program has made it again, it must be prepared.
                self.look_inside = true;
                return true;
            }
            Interface::Nothing => return true,
        };
        let _ = self.kernel.apply(&Step::Detach(vec![(*link).clone()]));
        let what = format!("interface {} of {} on {}", endpoint.host_ifname, link.container, link.network);
        let subject = Subject::Interface(endpoint.host_ifname.clone());
        if !self.repair(&Step::Attach(link), subject, &format!("{what}: {drift}")) {
            self.look_inside = true;
        }
        self.repair_limits(&network, &endpoint);
        true
    }

    fn repair_limits(&mut self, network: &Network, endpoint: &Endpoint) {
        let Some(shaping) = target::shaping(network, endpoint) else { return };
        match self.kernel.shaping_differs(&shaping) {
            Ok(None) => {}
            Ok(Some(what)) => {
                let whose = format!("limits of {} on {}", endpoint.container.name, network.name);
                let subject = Subject::Limits(shaping.host_ifname.clone());
                self.repair(&Step::Shape(Box::new(shaping)), subject, &format!("{whose}: {what}"));
            }
            Err(error) => self.problem(Subject::Limits(shaping.host_ifname.clone()), error.to_string()),
        }
    }
}

/// The differences in one line.
pub(super) fn listed(drift: &[Drift]) -> String {
    drift.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
