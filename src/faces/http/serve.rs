//! Serving a router on a listener until told to stop.
//!
//! One task per connection, owned by axum's server. On stop no connection is accepted any more, event streams end,
//! requests in hand are answered, and what is not done by [`DRAIN`] is dropped: its effects are the engine's, which
//! finishes every command it has taken.

use std::io;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use axum::{Extension, Router};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;

/// How long requests in hand may take after the stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Tells streams without an end that the server stops.
#[derive(Clone, Default)]
pub(super) struct Stopping(CancellationToken);

impl Stopping {
    /// Ends when the server stops.
    pub(super) fn stopped(self) -> impl Future<Output = ()> + Send + 'static {
        self.0.cancelled_owned()
    }
}

/// Serves on a unix socket until `shutdown` ends.
pub async fn serve_unix(listener: UnixListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    serve(listener, router, shutdown).await
}

/// Serves on TCP until `shutdown` ends. There is no authentication: whoever reaches the address may do everything.
pub async fn serve_tcp(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    serve(listener, router, shutdown).await
}

async fn serve<L>(listener: L, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()>
where
    L: Listener<Addr: std::fmt::Debug>,
    Caller: for<'a> Connected<IncomingStream<'a, L>>,
{
    let stopping = Stopping::default();
    let router = router.layer(Extension(stopping.clone()));
    let server = axum::serve(listener, router.into_make_service_with_connect_info::<Caller>())
        .with_graceful_shutdown(stopping.clone().stopped());
    let mut server = Box::pin(server.into_future());
    tokio::select! {
        // Only an error of the listener itself ends it early; those of connections do not.
        ended = &mut server => return ended,
        () = shutdown => stopping.0.cancel(),
    }
    match tokio::time::timeout(DRAIN, server).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!(seconds = DRAIN.as_secs(), "HTTP connections did not end in time and are closed");
            Ok(())
        }
    }
}
