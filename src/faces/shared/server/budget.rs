//! What the server attaches to each request: the limits of its client, and the notification that the server stops.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::caller::Client;
use crate::base::connections::{Admitted, Busy};
use crate::base::shares::{Share, Shares};

/// Notifies endless streams, and readers that wait for a body, that the server stops.
#[derive(Clone, Default)]
pub(in crate::faces) struct Stopping(CancellationToken);

impl Stopping {
    /// Notifies that the server stops.
    pub(super) fn stop(&self) {
        self.0.cancel();
    }

    /// Completes when the server stops.
    pub(in crate::faces) fn stopped(self) -> impl Future<Output = ()> + Send + 'static {
        self.0.cancelled_owned()
    }
}

/// The limits per client besides the number of connections.
#[derive(Clone)]
pub(super) struct Budget {
    pub(super) client: Client,
    pub(super) bodies: Arc<Shares<Client>>,
    pub(super) streams: Arc<Shares<Client>>,
}

/// A request's share of the budget for bodies. Dropping the last clone returns it.
#[derive(Clone, Default)]
pub(super) struct Weight(Arc<OnceLock<Share<Client>>>);

impl Weight {
    /// Holds the share until the request ends. A request has one body; a second share would be dropped at once.
    pub(super) fn set(&self, share: Share<Client>) {
        let _ = self.0.set(share);
    }
}

/// A connection's place among all connections. Whoever takes the connection over (an upgrade, RFC 9110, 7.8) keeps it, so
/// that the connection counts, and is not taken for an idle one, until it ends.
#[derive(Clone)]
pub(in crate::faces) struct Place {
    _busy: Arc<Busy<Client>>,
    _admitted: Arc<Admitted<Client>>,
}

impl Place {
    pub(super) fn new(admitted: &Arc<Admitted<Client>>) -> Self {
        Self { _busy: Arc::new(admitted.busy()), _admitted: admitted.clone() }
    }
}
