//! How often netd repaired what another program changed, by kind.

use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds, as in metrics.
pub const KINDS: [&str; 8] =
    ["forwarding", "interface", "container", "limits", "table", "ports", "resolv_conf", "foreign_firewall"];

/// The counters.
#[derive(Debug, Default)]
pub struct Repairs {
    counts: [AtomicU64; KINDS.len()],
    drift: AtomicU64,
}

impl Repairs {
    /// Counts one repair; a kind that is not in [`KINDS`] is not counted.
    pub(crate) fn count(&self, kind: &str) {
        if let Some(place) = KINDS.iter().position(|known| *known == kind) {
            self.counts[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each kind and its count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// The number of objects that differ from the target and could not be repaired at the last try.
    pub fn drift(&self) -> u64 {
        self.drift.load(Ordering::Relaxed)
    }

    pub(crate) fn set_drift(&self, objects: usize) {
        self.drift.store(objects as u64, Ordering::Relaxed);
    }
}
