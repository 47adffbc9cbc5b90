//! The monitors of the fake kernel: a test sends their events.

use std::sync::{Arc, Mutex, PoisonError};

use super::Fake;
use crate::kernel::KernelEvent;

type Told = Box<dyn Fn(KernelEvent) + Send>;

/// Where the events go, once the engine watches.
#[derive(Clone, Default)]
pub(super) struct Monitors(Arc<Mutex<Option<Told>>>);

impl std::fmt::Debug for Monitors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitors").finish_non_exhaustive()
    }
}

impl Monitors {
    pub(super) fn start(&self, tell: Told) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
    }
}

impl Fake {
    /// Sends an event to the engine that watches last; without one it is lost. Commands that are sent afterwards are
    /// carried out after it.
    pub fn tell(&self, event: KernelEvent) {
        if let Some(tell) = &*self.monitors.0.lock().unwrap_or_else(PoisonError::into_inner) {
            tell(event);
        }
    }
}
