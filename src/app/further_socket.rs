//! Further unix sockets, at which Docker finds netd's driver, and Docker's tools the Engine API. Their folders may come
//! later or be emptied by others: such a socket is made again. That it cannot be made is a problem, not the daemon's end.

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::socket::{self, SocketAccess, SocketFile};
use crate::base::descriptors::Capacity;
use crate::engine::{Handle, Subject};
use crate::faces::shared::server::access::Access;
use crate::faces::shared::server::dialect::Dialect;
use crate::faces::shared::server::serve;

/// How often the file is looked at, and tried again.
const EVERY: Duration = Duration::from_secs(5);

/// A socket to serve.
pub(super) struct Further {
    pub(super) path: PathBuf,
    pub(super) router: Router,
    pub(super) dialect: Dialect,
    /// The group that may connect, besides root, and the setting that names it.
    pub(super) group: Option<(String, &'static str)>,
    /// The problem if it cannot be served.
    pub(super) subject: Subject,
    /// What does not work then, and where to look.
    pub(super) without: &'static str,
    pub(super) look: &'static str,
}

impl Further {
    /// Serves until `stop` is cancelled.
    pub(super) async fn run(self, handle: Handle, capacity: Capacity, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // The group may be made later.
            let group = self.group.as_ref().and_then(|(name, _)| socket::group(name));
            let access = SocketAccess { group, everyone: false };
            let bound = socket::bind(&self.path, access);
            let bound = bound.and_then(|bound| Ok((UnixListener::from_std(bound.listener)?, bound.file)));
            let problem = match bound {
                Ok((listener, file)) => {
                    handle.report(self.subject.clone(), None).await;
                    tracing::info!(socket = %self.path.display(), "listening");
                    let access = self.rights(group);
                    let local = serve::Local { listener, access, inherited: false, dialect: self.dialect };
                    let ended = until_gone(file.as_ref(), &stop);
                    let served = serve::serve_unix(local, self.router.clone(), capacity, ended).await;
                    served.err().map(|error| error.to_string())
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = problem.filter(|_| !stop.is_cancelled()) {
                let message = format!("{}: listen on {}: {why} ({})", self.without, self.path.display(), self.look);
                handle.report(self.subject.clone(), Some(message)).await;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(EVERY) => {}
                }
            }
        }
    }

    fn rights(&self, group: Option<u32>) -> Access {
        match &self.group {
            Some((name, setting)) => Access { group, group_name: name.clone(), setting, ..Access::own() },
            None => Access::own(),
        }
    }
}

/// Completes when the file is gone, or `stop` is cancelled.
async fn until_gone(file: Option<&SocketFile>, stop: &CancellationToken) {
    while file.is_none_or(SocketFile::is_there) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
