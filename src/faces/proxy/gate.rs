//! Whom policies let through a port of the proxy, when it comes and for as long as it stays.

use std::fmt;

use crate::engine::Handle;
use crate::engine::{Arrival, Behind};

/// The policies about one port.
#[derive(Clone)]
pub(super) struct Gate {
    engine: Option<Handle>,
    behind: Behind,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.behind.fmt(f)
    }
}

impl Gate {
    /// `engine`: who knows the policies; without, there are none.
    pub(super) fn new(engine: Option<Handle>, behind: Behind) -> Self {
        Self { engine, behind }
    }

    /// Whether it may pass now.
    pub(super) fn admits(&self, arrival: Arrival) -> bool {
        self.engine.as_ref().is_none_or(|engine| engine.snapshot().admits(arrival, self.behind))
    }

    /// Returns when it may not pass any more.
    pub(super) async fn closed(&self, arrival: Arrival) {
        let Some(engine) = &self.engine else { return std::future::pending().await };
        let mut revisions = engine.revisions();
        while self.admits(arrival) {
            if revisions.changed().await.is_err() {
                // The daemon ends, and the proxy ends what it passes on.
                std::future::pending::<()>().await;
            }
        }
    }
}
