//! The monitors of the kernel's notifications: one that stopped is a problem, and when it runs again, everything is
//! looked at once.

use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, RESENDING};
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    pub(crate) fn monitor_stopped(&mut self, monitor: &'static str, why: &str) {
        let without = match monitor {
            RESENDING => "new connections do not reach strict ports",
            _ => "netd notices changes by other programs late",
        };
        let problem = format!("{monitor} monitor stopped: {why}; {without}");
        self.report(Subject::Monitor(monitor), Some(problem));
    }

    /// Repairs what was changed while the monitor did not run.
    pub(crate) fn monitor_runs(&mut self, monitor: &'static str) {
        self.report(Subject::Monitor(monitor), None);
        self.reconcile();
        self.firewall_changed();
    }
}
