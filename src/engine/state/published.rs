//! The snapshot as readers have it: the current one, and a notice when it is replaced.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::snapshot::Snapshot;

/// The current snapshot.
#[derive(Debug, Default)]
pub(crate) struct Published {
    current: ArcSwap<Snapshot>,
    revision: watch::Sender<u64>,
}

impl Published {
    /// It, for a moment.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// It, to keep.
    pub(crate) fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces it, then tells those who wait for the change.
    pub(crate) fn store(&self, snapshot: Arc<Snapshot>) {
        let revision = snapshot.revision;
        self.current.store(snapshot);
        self.revision.send_replace(revision);
    }

    /// The revision, from now on.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}
