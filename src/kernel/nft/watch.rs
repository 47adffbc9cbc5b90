//! Watching for changes by other programs.

use std::sync::Arc;

use super::seen::HEARS;
use super::{Nft, containers, failed, monitor};
use crate::kernel::{KernelError, Tell};

/// Whom monitors tell, once somebody watches.
#[derive(Default, Clone)]
pub(super) struct Teller(pub(super) Option<Tell>);

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Teller").field(&self.0.is_some()).finish()
    }
}

impl Nft {
    /// Calls `tell` from a separate thread whenever another program changed netd's table, until this `Nft` is dropped.
    pub fn monitor(&mut self, tell: Tell) -> Result<(), KernelError> {
        self.tell = Teller(Some(tell.clone()));
        let inner = containers::monitor(tell.clone());
        self.containers = Some(inner.map_err(failed("watch", "the firewall of containers"))?);
        let monitor = monitor::monitor(Arc::clone(&self.own), self.netfilter.port(), tell);
        self.watch = Some(monitor.map_err(failed("watch", "the firewall"))?);
        Ok(())
    }

    /// Counts the changes that other programs have made in tables of theirs; `None` if it is not certain how many there are.
    pub fn elsewhere(&mut self) -> Option<(u64, u64)> {
        let generation = self.generation().ok().filter(|_| self.watch.is_some())?;
        let heard = self.own.heard_of(generation, HEARS);
        (heard.generation == generation).then_some((heard.elsewhere, heard.lost))
    }
}
