//! Reconciling: observe the kernel, compare it with the target, repair the drift. Converges from any state: at start
//! after a crash, and when another program changed what is netd's.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::commands::disconnect::Removal;
use crate::engine::event::Change;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError, find_port_owners};
use crate::logic::drift::{self, Drift, Link};
use crate::logic::target::{self, Interface};
use crate::model::desired::Attached;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::host::observed::{Observed, ObservedKind};
use crate::model::host::step::Step;
use crate::model::names::IfName;
use crate::model::network::{Driver, Network};
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Repairs all drift. What cannot be repaired is a problem, in `netd status` and an event.
    pub(crate) fn reconcile(&mut self) {
        let observed = match self.kernel.observe() {
            Ok(observed) => observed,
            Err(error) => {
                self.problem(Subject::Observation, format!("cannot read the host's network state: {error}"));
                return self.publish();
            }
        };
        self.problems.begin_repair();
        // What the store refused.
        self.compensate(&[]);
        let look_inside = std::mem::take(&mut self.look_inside);
        self.repair_forwarding(&observed);
        let freed = self.remove_stray_limits(&observed);
        self.remove_strays(&observed, &freed);
        let rebuilt = self.repair_bridges(&observed);
        self.repair_links(&observed, &rebuilt, look_inside);
        self.open_and_close();
        self.serve_all_inside();
        self.repair_elements(&observed);
        self.hold_ports(&observed);
        self.repair_files();
        self.look_at_foreign();
        self.probe_again();
        self.publish();
        self.initial_sync = false;
    }

    fn repair_forwarding(&mut self, observed: &Observed) {
        let missing = target::forwarding(&self.state.desired).without(observed.forwarding);
        if !missing.is_empty() {
            self.repair(&Step::Forwarding(missing), Subject::Forwarding, "forwarding was off");
        }
    }

    /// Removes limits that no endpoint needs: a killed daemon left them on interfaces of other programs. The
    /// intermediate devices, which it returns, go with their redirects; a redirect to a missing device drops everything.
    fn remove_stray_limits(&mut self, observed: &Observed) -> BTreeSet<IfName> {
        let mut freed = BTreeSet::new();
        for name in &observed.limited {
            let endpoint = self.state.host_ifnames.get(name).and_then(|key| self.state.desired.endpoint(key));
            if endpoint.is_some_and(|endpoint| endpoint.bandwidth.is_some()) {
                continue;
            }
            let limited = target::limited_interface(name);
            freed.insert(limited.ifb.clone());
            let what = format!("limits of nobody on interface {name}");
            self.repair(&Step::Unshape(vec![limited]), Subject::Limits(name.clone()), &what);
        }
        freed
    }

    /// Removes links that carry netd's mark but belong to no object: a killed daemon left them unfinished.
    fn remove_strays(&mut self, observed: &Observed, freed: &BTreeSet<IfName>) {
        let own = |network: &Arc<Network>| network.own_bridge().map(|bridge| bridge.name.clone());
        let bridges: BTreeSet<IfName> = self.state.desired.networks().filter_map(own).collect();
        for (name, link) in observed.links.iter().filter(|(name, link)| link.ours && !freed.contains(*name)) {
            let is_stray = match link.kind {
                ObservedKind::Bridge => !bridges.contains(name),
                ObservedKind::Ifb => !self.state.limited.contains_key(name),
                ObservedKind::Veth => !self.state.host_ifnames.contains_key(name),
                // netd makes none: another program put it into the group.
                ObservedKind::Tun | ObservedKind::Netkit | ObservedKind::Other(_) | ObservedKind::Hardware => false,
            };
            if !is_stray {
                continue;
            }
            let step = Step::DeleteStray(name.clone());
            if !self.repair(&step, Subject::Interface(name.clone()), &format!("stray interface {name}")) {
                // Its default route may stand in the way of another one.
                self.look_inside = true;
            }
        }
    }

    /// Returns the bridges that were missing.
    fn repair_bridges(&mut self, observed: &Observed) -> BTreeSet<IfName> {
        let networks: Vec<Arc<Network>> = self.state.desired.networks().cloned().collect();
        let mut rebuilt = BTreeSet::new();
        for network in networks {
            let Some(target_link) = target::bridge_link(&network) else { continue };
            if let Some(drift) = drift::bridge(&target_link, observed) {
                let subject = Subject::Interface(target_link.name.clone());
                self.repair(&Step::AddBridge(target_link.clone()), subject, &drift.to_string());
                rebuilt.insert(target_link.name);
            }
        }
        rebuilt
    }

    fn repair_links(&mut self, observed: &Observed, rebuilt: &BTreeSet<IfName>, look_inside: bool) {
        let endpoints: Vec<Arc<Endpoint>> = self.state.desired.endpoints().cloned().collect();
        let mut gone = Vec::new();
        for endpoint in endpoints {
            let Some(network) = self.state.desired.network(&endpoint.network).cloned() else { continue };
            let drift = match &network.driver {
                Driver::Bridge(bridge) if rebuilt.contains(&bridge.name) => Some("its bridge was recreated".to_owned()),
                Driver::Bridge(_) => {
                    let link = observed.links.get(&endpoint.host_ifname);
                    drift::host_link(&network, &endpoint, link).map(|drift| drift.to_string())
                }
                // Another program made it and must repair it.
                Driver::Adopted(_) => {
                    let name = &endpoint.host_ifname;
                    (!self.kernel.has_link(name)).then(|| Drift::Gone(Link::HostEnd(name.clone())).to_string())
                }
            };
            // The kernel removes the interfaces of a deleted namespace with a delay: they may still exist.
            let stands = |worker: &mut Self| !look_inside || worker.stands(&network, &endpoint);
            if drift.is_none() && !self.is_kept_for_nothing(&endpoint.container.id) && stands(self) {
                self.repair_limits(&network, &endpoint);
                continue;
            }
            if !self.reattach(&endpoint.key(), &drift.unwrap_or_else(|| "its setup was incomplete".to_owned())) {
                gone.push(Removal::because_gone(endpoint.key()));
            }
        }
        if let Err(error) = self.disconnect(&gone) {
            self.problem(Subject::Release, format!("cannot release containers that have ended: {error}"));
        }
    }

    /// Recreates the endpoint's interface, because of `drift`. Returns false if the container's namespace no longer
    /// exists, so that the endpoint must be removed too.
    pub(crate) fn reattach(&mut self, key: &EndpointKey, drift: &str) -> bool {
        let Some(endpoint) = self.state.desired.endpoint(key).cloned() else { return true };
        let Some(network) = self.state.desired.network(&key.network).cloned() else { return true };
        if !self.kernel.netns_alive(&endpoint.container.netns) {
            return false;
        }
        let all = self.state.endpoints_of(&key.container);
        let link = match target::interface(&network, &endpoint, &all) {
            Interface::Own(link) => link,
            Interface::Adopted(_) => {
                // Once the other program has made it again, it must be prepared.
                self.look_inside = true;
                return true;
            }
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

    fn repair_elements(&mut self, observed: &Observed) {
        let elements = self.wanted_elements();
        let (step, what) = match drift::table(observed) {
            Some(drift) => (Step::Table(elements.into_iter().collect()), drift.to_string()),
            None => {
                let add: Vec<_> = elements.difference(&observed.elements).cloned().collect();
                let remove: Vec<_> = observed.elements.difference(&elements).cloned().collect();
                if add.is_empty() && remove.is_empty() {
                    return;
                }
                let what = format!("table inet netd: {} elements missing, {} too many", add.len(), remove.len());
                (Step::Elements { remove, add }, what)
            }
        };
        self.repair(&step, Subject::Table, &what);
    }

    /// Binds the published ports. A port that another process took while netd was down is a problem, and stays
    /// published.
    fn hold_ports(&mut self, observed: &Observed) {
        let attached: Vec<_> = self.state.desired.containers().cloned().collect();
        let ports: BTreeSet<_> = attached.iter().flat_map(|attached| target::host_ports(&attached.endpoints)).collect();
        let stale: Vec<_> = observed.held.difference(&ports).copied().collect();
        if !stale.is_empty() {
            self.repair(&Step::Release(stale), Subject::StalePorts, "host ports were held that are not published");
        }
        let mut failures = Vec::new();
        for Attached { container, endpoints } in attached.iter().map(|attached| &**attached) {
            let ports: Vec<_> = target::host_ports(endpoints).into_iter().collect();
            if let Err(error) = self.kernel.apply(&Step::Hold(ports)) {
                failures.push((container, error));
            }
        }
        // One search for all of them.
        let owners = failures.iter_mut().filter_map(|(_, error)| match error {
            KernelError::PortTaken { owner, .. } => Some(owner),
            _ => None,
        });
        find_port_owners(&mut owners.collect::<Vec<_>>());
        for (container, error) in failures {
            let message = format!("cannot hold the ports of {}: {error}", container.name);
            self.problem(Subject::Ports(container.id.clone()), message);
        }
    }

    fn repair_files(&mut self) {
        let containers = self.state.desired.containers().filter_map(|attached| attached.container.netns.name());
        let named: BTreeSet<String> = containers.map(str::to_owned).collect();
        for netns in self.kernel.written_files().into_iter().filter(|netns| !named.contains(netns)) {
            let what = format!("resolv.conf of {netns} was left behind");
            let subject = Subject::ResolvConf(netns.clone());
            self.repair(&Step::Resolv { netns, before: None, now: None }, subject, &what);
        }
        self.write_files();
    }

    /// Writes the resolv.conf of every named namespace.
    pub(crate) fn write_files(&mut self) {
        let attached: Vec<_> = self.state.desired.containers().cloned().collect();
        for attached in attached {
            let now = self.resolv_conf(&attached.endpoints);
            if let Some(netns) = attached.container.netns.name() {
                let step = Step::Resolv { netns: netns.to_owned(), before: now.clone(), now };
                if let Err(error) = self.kernel.apply(&step) {
                    self.problem(
                        Subject::ResolvConf(netns.to_owned()),
                        format!("cannot write resolv.conf of {netns}: {error}"),
                    );
                }
            }
        }
    }

    /// Returns whether the step was applied.
    pub(crate) fn repair(&mut self, step: &Step, subject: Subject, what: &str) -> bool {
        match self.kernel.apply(step) {
            // A first start without networks repairs nothing: it creates the table.
            Ok(()) if self.initial_sync && self.state.desired.counts().0 == 0 => {
                tracing::info!("created at start: {what}");
            }
            Ok(()) => self.repaired(what),
            Err(error) => {
                self.problem(subject, format!("{what}; repair failed: {error}"));
                return false;
            }
        }
        true
    }

    pub(crate) fn repaired(&self, what: &str) {
        tracing::warn!("repaired: {what}");
        self.tell(Change::Repaired(what.to_owned()));
    }
}
