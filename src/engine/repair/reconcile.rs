//! Reconciling: observe the kernel, compare it with the target, repair the drift. Converges from any state: at start
//! after a crash, and when another program changed what is netd's.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::event::Change;
use crate::engine::state::problems::Subject;
use crate::engine::state::unexplained::Unexplained;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError, find_port_owners};
use crate::logic::drift::{self, Drift};
use crate::logic::plan::stale_flows;
use crate::logic::refusal;
use crate::logic::target;
use crate::model::desired::Attached;
use crate::model::host::element::{Element, Table};
use crate::model::host::observed::{Firewall, Observed, ObservedKind, ObservedLink, Structure};
use crate::model::host::step::{Flows, HostPorts, Step};
use crate::model::names::IfName;
use crate::model::network::Network;
use crate::model::reservation::Reservation;
use crate::model::service::Service;
use crate::store::Store;

/// The problem on a kernel without tables of the family bridge.
const UNGUARDED: &str = "this kernel has no nftables for bridges (CONFIG_NF_TABLES_BRIDGE): a container can take the \
                         address of another container of its network";

/// The problem on a kernel that cannot hash in its firewall.
const NO_SERVICES: &str = "this kernel cannot lead connections to the members of services (CONFIG_NFT_HASH, \
                           CONFIG_NFT_REJECT_INET): virtual addresses and published ports of services do not answer; use --mode dns";

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Repairs all drift. What cannot be repaired is a problem, in `netd status` and an event.
    pub(crate) fn reconcile(&mut self) {
        let left = self.finish_renumbering();
        self.finish_leases();
        let Some(mut observed) = self.observe() else { return };
        self.problems.begin_repair();
        if let Some((link, error)) = left {
            let said =
                format!("it has addresses of the former subnets of its network, and cannot be made anew: {error}");
            self.problem(Subject::Interface(link), said);
        }
        self.look_at_store();
        let look_inside = std::mem::take(&mut self.look_inside);
        if self.rename_back(&observed) {
            let Some(anew) = self.observe() else { return };
            observed = anew;
        }
        self.recover(&observed);
        self.claim_forwarding(&mut observed);
        self.remove_all_strays(&observed);
        self.repair_bridges(&observed);
        self.repair_shims(&observed);
        if look_inside {
            self.look_for_inner_strays();
        }
        self.repair_links(&observed, look_inside);
        self.open_and_close();
        self.serve_all_inside();
        self.repair_elements(&observed);
        self.repair_forwarding();
        self.hold_ports(&observed);
        self.proxy_all();
        if !self.adopting {
            self.repair_files();
        }
        self.look_at_foreign();
        self.look_for_overlaps();
        self.probe_again();
        self.repairs_done();
        self.publish();
        self.initial_sync &= self.adopting;
    }

    fn observe(&mut self) -> Option<Observed> {
        match self.kernel.observe() {
            Ok(observed) => Some(observed),
            Err(error) => {
                self.problem(Subject::Observation, format!("cannot read the host's network state: {error}"));
                self.agenda.retry_if(true, true);
                self.publish();
                None
            }
        }
    }

    /// Removes what carries netd's mark but belongs to no object.
    pub(crate) fn remove_all_strays(&mut self, observed: &Observed) {
        let freed = self.remove_stray_limits(observed);
        self.remove_strays(observed, &freed);
    }

    /// Removes limits that no endpoint needs: a killed daemon left them on interfaces of other programs. The
    /// intermediate devices, which it returns, go with their redirects; a redirect to a missing device drops everything.
    fn remove_stray_limits(&mut self, observed: &Observed) -> BTreeSet<IfName> {
        let mut freed = BTreeSet::new();
        for name in &observed.limited {
            let endpoint = self.state.host_ifnames.get(name).and_then(|key| self.state.desired.endpoint(key));
            if self.unexplained.contains(name) || endpoint.is_some_and(|endpoint| endpoint.bandwidth.is_some()) {
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
        for name in self.strays(observed).into_iter().filter(|name| !freed.contains(name)) {
            if self.unexplained.contains(&name) {
                self.report_unexplained(&name);
                continue;
            }
            let step = Step::DeleteStray(name.clone());
            if !self.repair(&step, Subject::Interface(name.clone()), &format!("stray interface {name}")) {
                // Its default route may stand in the way of another one.
                self.look_inside = true;
            }
        }
    }

    /// The links with netd's mark that belong to no network and no endpoint.
    pub(crate) fn strays(&self, observed: &Observed) -> Vec<IfName> {
        let own = |network: &Arc<Network>| network.own_bridge().map(|bridge| bridge.name.clone());
        let bridges: BTreeSet<IfName> = self.state.desired.networks().filter_map(own).collect();
        let is_stray = |(name, link): &(&IfName, &ObservedLink)| match link.kind {
            _ if !link.ours => false,
            ObservedKind::Bridge => !bridges.contains(*name),
            ObservedKind::Macvlan => !self.is_shim(name),
            ObservedKind::Ifb => !self.state.limited.contains_key(*name),
            ObservedKind::Veth => !self.state.host_ifnames.contains_key(*name),
            // netd makes none: another program put it into the group.
            ObservedKind::Tun | ObservedKind::Netkit | ObservedKind::Other(_) | ObservedKind::Hardware => false,
        };
        observed.links.iter().filter(is_stray).map(|(name, _)| name.clone()).collect()
    }

    fn repair_elements(&mut self, observed: &Observed) {
        if observed.firewall.unguarded {
            self.problem(Subject::Guard, UNGUARDED.to_owned());
        }
        if observed.firewall.no_services && self.state.desired.services().any(|service| service.is_balanced()) {
            self.problem(Subject::Services, NO_SERVICES.to_owned());
        }
        self.state.hands_nothing_over = observed.firewall.hands_nothing_over;
        if let Some(why) = self.why_none_is_strict(observed) {
            self.problem(Subject::Strict, format!("nobody reaches published ports with publish=strict: {why}"));
        }
        if *self.refused != observed.firewall.refused {
            self.refused = Arc::new(observed.firewall.refused.clone());
        }
        let elements = self.wanted_elements();
        // What follows from members is a part of them.
        _ = self.take_touched();
        self.served = self.state.desired.clone();
        let missing: Vec<_> = elements.difference(&observed.firewall.elements).cloned().collect();
        // Clients that sent while the ports were not published.
        self.stale_flows.extend(stale_flows(&missing));
        if self.adopting {
            self.take_up_ways();
        }
        let is_unsure = std::mem::take(&mut self.ways_out_unsure) || observed.firewall.opened_unsure;
        let mut lost = false;
        for (step, subject, what) in self.table_repairs(observed, &elements, missing) {
            lost |= matches!(step, Step::Table(Table::Inet, _));
            if !self.repair(&step, subject, &what) {
                self.ways_out_unsure |= is_unsure || lost;
                return;
            }
        }
        if is_unsure || lost {
            self.look_at_ways(lost);
        }
        if self.stale_flows.is_empty() {
            return;
        }
        let flows: Vec<Flows> = self.stale_flows.iter().cloned().collect();
        match self.kernel.apply(&Step::ForgetFlows(flows)) {
            Ok(()) => self.stale_flows.clear(),
            Err(error) => self.problem(Subject::Elements, error.to_string()),
        }
    }

    /// Why first packets to strict ports do not arrive, if there are such ports.
    fn why_none_is_strict(&self, observed: &Observed) -> Option<String> {
        let is_strict = |element: &Element| matches!(element, Element::Strict(..) | Element::StrictAt(..));
        let Firewall { elements, hands_nothing_over, resends_nothing, .. } = &observed.firewall;
        if *hands_nothing_over {
            return elements.iter().any(is_strict).then(|| refusal::HANDS_NOTHING_OVER.to_owned());
        }
        resends_nothing.clone()
    }

    /// The steps that repair the tables, and what each repairs.
    fn table_repairs(
        &self,
        observed: &Observed,
        elements: &BTreeSet<Element>,
        missing: Vec<Element>,
    ) -> Vec<(Step, Subject, String)> {
        let replace = |(table, drift): (Table, Drift)| {
            let elements = elements.iter().filter(|element| element.table() == table).cloned().collect();
            (Step::Table(table, elements), Subject::Table(table), drift.to_string())
        };
        let mut steps: Vec<_> = drift::tables(elements, observed).into_iter().map(replace).collect();
        let is_intact = |element: &Element| observed.firewall.structure(element.table()) == Structure::Intact;
        let add: Vec<_> = missing.into_iter().filter(is_intact).collect();
        // Links that belong to nothing have elements that belong to nothing.
        let are_strays = self.unexplained == Unexplained::Nothing;
        let excess = observed.firewall.elements.difference(elements).filter(|_| are_strays);
        let remove: Vec<_> = excess.cloned().collect();
        if !add.is_empty() || !remove.is_empty() {
            let what = format!("firewall: {} elements missing, {} too many", add.len(), remove.len());
            steps.push((Step::Elements { remove, add }, Subject::Elements, what));
        }
        steps
    }

    /// Binds what can be bound, and serves it. The first repair binds the rest, and reports what cannot be bound.
    pub(crate) fn hold_at_start(&mut self) {
        for (.., ports) in self.ports_to_hold() {
            if let Err(error) = self.kernel.apply(&Step::Hold(ports.into_iter().collect())) {
                tracing::debug!(%error, "a published port is not held yet");
            }
        }
        self.proxy_all();
    }

    /// Binds the published and the reserved ports. A port that another process took while netd was down is a problem, and
    /// stays published or reserved.
    fn hold_ports(&mut self, observed: &Observed) {
        let wanted = self.ports_to_hold();
        let ports = wanted.iter().flat_map(|(.., ports)| ports).copied();
        let ports: BTreeSet<HostPorts> = ports.chain(self.shared_ports()).collect();
        let stale: Vec<_> = observed.held.difference(&ports).copied().collect();
        if !stale.is_empty() {
            self.repair(&Step::Release(stale), Subject::StalePorts, "host ports were held that are not published");
        }
        self.share_again(&observed.held);
        let mut failures = Vec::new();
        for (subject, whose, ports) in wanted {
            if let Err(error) = self.kernel.apply(&Step::Hold(ports.into_iter().collect())) {
                failures.push((subject, whose, error));
            }
        }
        self.kernel.release_given_ports();
        // One search for all of them.
        let owners = failures.iter_mut().filter_map(|(.., error)| match error {
            KernelError::PortTaken { owner, .. } => Some(owner),
            _ => None,
        });
        find_port_owners(&mut owners.collect::<Vec<_>>());
        let taken = failures.iter().filter_map(|(subject, _, error)| match (subject, error) {
            (Subject::Ports(id), KernelError::PortTaken { port, owner }) => {
                Some((id.clone(), (*port, owner.to_string())))
            }
            _ => None,
        });
        self.taken_ports = Arc::new(taken.collect());
        for (subject, whose, error) in failures {
            self.problem(subject, format!("cannot hold the ports of {whose}: {error}"));
        }
    }

    /// The ports of each container, each reservation and each service.
    pub(crate) fn ports_to_hold(&self) -> Vec<(Subject, String, BTreeSet<HostPorts>)> {
        let desired = &self.state.desired;
        let of_container = |attached: &Arc<Attached>| {
            let Attached { container, endpoints } = attached.as_ref();
            (Subject::Ports(container.id.clone()), container.name.to_string(), target::host_ports(endpoints))
        };
        let of_reservation = |reservation: &Arc<Reservation>| {
            let ports = target::reserved_ports(desired.network(&reservation.network)?, reservation);
            let id = reservation.id.clone();
            Some((Subject::ReservedPorts(id), format!("reservation {}", reservation.id), ports))
        };
        let of_service = |service: &Arc<Service>| {
            let ports = target::services::held(desired, service);
            (Subject::ServicePorts(service.name.clone()), format!("service {}", service.name), ports)
        };
        let services = desired.services().filter(|service| !service.publications.is_empty()).map(of_service);
        let reservations = desired.reservations().filter_map(of_reservation);
        desired.containers().map(of_container).chain(reservations).chain(services).collect()
    }

    fn repair_files(&mut self) {
        let containers = self.state.desired.containers().filter_map(|attached| attached.container.netns.name());
        let named: BTreeSet<String> = containers.map(str::to_owned).collect();
        for netns in self.kernel.written_files().into_iter().filter(|netns| !named.contains(netns)) {
            let what = format!("resolv.conf of {netns} was left behind");
            let subject = Subject::ResolvConf(netns.clone());
            self.repair(&Step::Resolv { netns, before: None, now: None }, subject, &what);
        }
        let attached: Vec<_> = self.state.desired.containers().cloned().collect();
        for attached in attached {
            let Some(netns) = attached.container.netns.name().map(str::to_owned) else { continue };
            let now = self.resolv_conf(&attached.endpoints);
            let subject = Subject::ResolvConf(netns.clone());
            match self.kernel.file_differs(&netns, now.as_deref()) {
                Ok(false) => {}
                Ok(true) => {
                    let what = format!("resolv.conf of {netns} was missing or changed");
                    self.repair(&Step::Resolv { netns, before: now.clone(), now }, subject, &what);
                }
                Err(error) => self.problem(subject, error.to_string()),
            }
        }
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

    /// Returns whether the step was applied. What another program changes again and again is left alone for a while.
    pub(crate) fn repair(&mut self, step: &Step, subject: Subject, what: &str) -> bool {
        if !self.agenda.may_repair(&subject) {
            self.problem(subject, format!("{what}; another program changes it again and again, netd waits 10 s"));
            return false;
        }
        match self.kernel.apply(step) {
            // A first start without networks repairs nothing: it creates the table.
            Ok(()) if self.initial_sync && self.state.desired.counts().0 == 0 => {
                tracing::info!("created at start: {what}");
            }
            Ok(()) => self.repaired(subject.kind(), what),
            Err(error) => {
                self.problem(subject, format!("{what}; repair failed: {error}"));
                return false;
            }
        }
        true
    }

    /// Reports and counts a repair.
    pub(crate) fn repaired(&self, kind: &'static str, what: &str) {
        self.telemetry.repairs.count(kind);
        tracing::warn!("repaired: {what}");
        self.tell(Change::Repaired(what.to_owned()));
    }
}
