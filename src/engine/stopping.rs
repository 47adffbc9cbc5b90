//! The flag that ends the engine: whether another command may begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// Whether the daemon is stopping: the command in hand is finished, and no other begins. A clone is the same flag.
#[derive(Debug, Clone, Default)]
pub(super) struct Stopping {
    set: Arc<AtomicBool>,
    torn_down: CancellationToken,
}

impl Stopping {
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Everything is removed: the daemon must end.
    pub(super) fn torn_down(&self) {
        self.set();
        self.torn_down.cancel();
    }

    pub(super) async fn until_torn_down(&self) {
        self.torn_down.cancelled().await;
    }
}
