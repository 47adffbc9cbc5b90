//! The monitors of the kernel's notifications: one that stopped is a problem, and when it runs again, everything is
//! looked at once.

use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    pub(crate) fn monitor_stopped(&mut self, monitor: &'static str, why: &str) {
        let problem = format!("{monitor} monitor stopped: {why}; netd notices changes by other programs late");
        self.report(Subject::Monitor(monitor), Some(problem));
    }

    /// Repairs what was changed while the monitor did not run.
    pub(crate) fn monitor_runs(&mut self, monitor: &'static str) {
        self.report(Subject::Monitor(monitor), None);
        self.reconcile();
        self.firewall_changed();
    }
}
