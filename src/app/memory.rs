//! Returns memory to the system after a burst.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::dns::names::Names;
use crate::os::memory;

/// How often to check whether a burst has ended.
const EVERY: Duration = Duration::from_secs(5);
/// A burst continues as long as this many bytes wait.
const QUIET: u64 = 1 << 20;
/// The growth since the last time, in bytes, that justifies walking over all free memory.
const MUCH: u64 = 8 << 20;

/// Never returns.
pub(super) async fn give_back(names: Arc<dyn Names>) {
    let mut least = memory::resident();
    loop {
        tokio::time::sleep(EVERY).await;
        let resident = memory::resident();
        least = least.min(resident);
        if resident > least + MUCH && names.waiting() < QUIET {
            // It takes a while, so it runs on a blocking thread instead of one of the runtime's. It cannot fail.
            let _ = tokio::task::spawn_blocking(memory::give_back).await;
            least = memory::resident();
        }
    }
}
