//! Signs of life for the service manager, which restarts a daemon that gives none (`WatchdogSec=`, systemd.service(5)).

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::engine::Handle;
use crate::os::service::Manager;

/// Signs of life per interval that the service manager allows.
const TIMES: u32 = 3;

/// Tells the service manager that the daemon is alive, as long as the engine's thread and that of the name service
/// answer. `interval`: how often it wants to be told; `None`: never.
pub(super) fn start(manager: &Manager, interval: Option<Duration>, handle: &Handle) -> JoinHandle<()> {
    let (manager, handle) = (manager.clone(), handle.clone());
    tokio::spawn(async move {
        let Some(interval) = interval else { return };
        loop {
            if handle.is_alive(interval).await {
                manager.tell("WATCHDOG=1");
            } else {
                tracing::error!("the engine or the name service has not answered for {interval:?}");
            }
            tokio::time::sleep(interval / TIMES).await;
        }
    })
}
