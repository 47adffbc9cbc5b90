//! What the server gives a request along: what its client may take, and the end of the server.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::caller::Client;
use crate::base::shares::{Share, Shares};

/// Tells streams without an end, and who waits for a body, that the server stops.
#[derive(Clone, Default)]
pub(super) struct Stopping(CancellationToken);

impl Stopping {
    /// The server stops.
    pub(super) fn stop(&self) {
        self.0.cancel();
    }

    /// Ends when the server stops.
    pub(super) fn stopped(self) -> impl Future<Output = ()> + Send + 'static {
        self.0.cancelled_owned()
    }
}

/// What is bounded per client besides connections.
#[derive(Clone)]
pub(super) struct Budget {
    pub(super) client: Client,
    pub(super) bodies: Arc<Shares<Client>>,
    pub(super) streams: Arc<Shares<Client>>,
}

/// What of the budget for bodies a request has taken; given back when the last clone is dropped.
#[derive(Clone, Default)]
pub(super) struct Weight(Arc<OnceLock<Share<Client>>>);

impl Weight {
    /// The share goes back with the request. A request has one body; a second share would be kept by nobody.
    pub(super) fn set(&self, share: Share<Client>) {
        let _ = self.0.set(share);
    }
}
