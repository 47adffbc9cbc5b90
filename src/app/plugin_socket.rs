//! The socket at which Docker finds netd's driver. Docker reads it from a folder of its own, which may come later or be
//! emptied: the socket is made again. That it cannot be made is a problem, not the daemon's end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::socket::{self, SocketAccess, SocketFile};
use crate::base::descriptors::Capacity;
use crate::engine::{Handle, Subject};
use crate::faces::docker::{self, Driver};
use crate::faces::shared::server::access::Access;
use crate::faces::shared::server::dialect::Dialect;
use crate::faces::shared::server::serve;

/// How often the file is looked at, and tried again.
const EVERY: Duration = Duration::from_secs(5);
/// Only root, as which Docker runs.
const ACCESS: SocketAccess = SocketAccess { group: None, everyone: false };

/// Serves Docker's requests until `stop` is cancelled.
pub(super) async fn run(
    path: PathBuf,
    driver: Arc<Driver>,
    handle: Handle,
    capacity: Capacity,
    stop: CancellationToken,
) -> &'static str {
    let follow = tokio::spawn(driver.clone().follow(stop.clone()));
    while !stop.is_cancelled() {
        let bound =
            socket::bind(&path, ACCESS).and_then(|bound| Ok((UnixListener::from_std(bound.listener)?, bound.file)));
        let problem = match bound {
            Ok((listener, file)) => {
                handle.report(Subject::DockerPlugin, None).await;
                tracing::info!(socket = %path.display(), "Docker's driver is ready");
                let local =
                    serve::Local { listener, access: Access::own(), inherited: false, dialect: Dialect::Plugin };
                let ended = until_gone(file.as_ref(), &stop);
                let served = serve::serve_unix(local, docker::router(driver.clone()), capacity, ended).await;
                served.err().map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = problem.filter(|_| !stop.is_cancelled()) {
            handle.report(Subject::DockerPlugin, Some(message(&path, &why))).await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
    follow.abort();
    "Docker's driver"
}

fn message(path: &Path, why: &str) -> String {
    format!(
        "Docker cannot use netd's networks: listen on {}: {why} (see [docker_plugin] in netd.toml(5))",
        path.display()
    )
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
