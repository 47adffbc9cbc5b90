//! Carries out the agenda: repairs what is due between two commands, and ends the connections of drained members.

use std::collections::{BTreeSet, VecDeque};

use crate::base::monotonic;
use crate::engine::command::Command;
use crate::engine::state::agenda::Due;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelEvent};
use crate::model::ids::ContainerId;
use crate::model::names::IfName;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Repairs what is due now.
    pub(crate) fn repair_what_is_due(&mut self) {
        self.end_graces();
        let Some(due) = self.agenda.take_due() else { return };
        let start = monotonic::now();
        match due {
            Due::Everything => self.reconcile(),
            Due::Containers(ends) => self.look_into(&ends),
        }
        self.agenda.took(start);
    }

    /// Takes a notification of the kernel, but for those of what has gone. What waits and says the same is dropped.
    pub(crate) fn hear(&mut self, event: KernelEvent, waiting: &mut VecDeque<Command>) {
        match event {
            KernelEvent::Changed => self.agenda.look_at_host(),
            KernelEvent::ContainersChanged(ends) => self.agenda.look_into(ends),
            KernelEvent::ContainerTablesChanged(namespaces) => self.tables_changed(&namespaces),
            KernelEvent::LinksChanged => {
                waiting.retain(|other| !matches!(other, Command::Kernel(KernelEvent::LinksChanged)));
                self.serve_beside();
            }
            KernelEvent::UplinksChanged => self.follow_forwarding(),
            KernelEvent::FirewallChanged => {
                waiting.retain(|other| !matches!(other, Command::Kernel(KernelEvent::FirewallChanged)));
                self.firewall_changed();
            }
            KernelEvent::Tick => self.tick(),
            KernelEvent::MonitorStopped { monitor, why } => self.monitor_stopped(monitor, &why),
            KernelEvent::MonitorRuns(monitor) => self.monitor_runs(monitor),
            // They remove endpoints.
            KernelEvent::LinkGone(_) | KernelEvent::NetnsGone(_) => {}
        }
    }

    /// After each command: asks from networks that have waited long enough; a repair that failed is tried again, and
    /// `netd status` says what is wrong.
    pub(crate) fn after_command(&mut self) {
        self.undo_ended();
        if self.ways.are_due() && !self.stopping.is_set() {
            self.probe_next();
        }
        self.follow_policies();
        self.agenda.retry_if(self.has_something_to_retry(), false);
        if self.problems.messages() != self.snapshot.load().problems {
            self.publish();
        }
    }

    /// Looks from time to time at what the kernel does not report: settings, files, ports that another process held,
    /// tables of `iptables-legacy`, the host's outgoing interfaces, gateways that did not answer.
    pub(crate) fn tick(&mut self) {
        self.foreign_tick();
        self.look_at_store();
        self.probe_tick();
        self.follow_paths();
        self.count_denied();
        if self.state.desired.counts().0 > 0 || !self.state.turned_on.families.is_empty() {
            self.agenda.look_at_host();
        }
    }

    /// netd's table in containers may have changed; only those that are served within have one.
    pub(crate) fn tables_changed(&mut self, namespaces: &BTreeSet<i32>) {
        if self.in_container.is_empty() {
            return;
        }
        if namespaces.is_empty() {
            let served: Vec<ContainerId> = self.in_container.keys().cloned().collect();
            return served.iter().for_each(|id| self.repair_redirection(id));
        }
        match self.kernel.ends_into(namespaces) {
            Ok(ends) => self.agenda.look_into(ends),
            Err(error) => {
                tracing::warn!(%error, "cannot find the containers whose firewall was changed");
                self.agenda.look_at_host();
            }
        }
    }

    /// Looks into the containers with these host ends.
    fn look_into(&mut self, ends: &BTreeSet<IfName>) {
        let containers: BTreeSet<ContainerId> =
            ends.iter().filter_map(|end| Some(self.state.host_ifnames.get(end)?.container.clone())).collect();
        for container in containers {
            self.repair_container(&container);
        }
        self.repairs_done();
        self.publish();
    }

    /// After a repair: what failed is tried again.
    pub(crate) fn repairs_done(&mut self) {
        self.telemetry.repairs.set_drift(self.problems.count(Subject::is_about_what_netd_made));
        self.agenda.retry_if(self.has_something_to_retry(), true);
    }

    /// Whether something differs from the target that a later repair may mend.
    pub(crate) fn has_something_to_retry(&self) -> bool {
        !self.owed.is_empty() || self.look_inside || self.problems.any(Subject::is_tried_again)
    }
}
