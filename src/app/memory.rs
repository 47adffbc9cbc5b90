//! Gives memory back to the system once a burst is over.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::dns::names::Names;
use crate::os::memory;

/// How often it is looked whether a burst is over.
const EVERY: Duration = Duration::from_secs(5);
/// The burst goes on as long as so many bytes wait.
const QUIET: u64 = 1 << 20;
/// So many bytes more than after the last time are worth the walk over all that is free.
const MUCH: u64 = 8 << 20;

/// Never ends.
pub(super) async fn give_back(names: Arc<dyn Names>) {
    let mut least = memory::resident();
    loop {
        tokio::time::sleep(EVERY).await;
        let resident = memory::resident();
        least = least.min(resident);
        if resident > least + MUCH && names.waiting() < QUIET {
            // It takes a while, and the runtime's threads have other things to do. It cannot fail.
            let _ = tokio::task::spawn_blocking(memory::give_back).await;
            least = memory::resident();
        }
    }
}
