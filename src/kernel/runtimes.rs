//! Containers of the runtimes on this host, found by name over their API sockets (Docker's API, which Podman has too).

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use crate::model::ids::ContainerId;

/// How long one runtime may take to answer before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where runtimes listen by default.
const SOCKETS: [(&str, &str); 2] = [("Docker", "/var/run/docker.sock"), ("Podman", "/run/podman/podman.sock")];

/// A running container of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The runtime's id.
    pub id: ContainerId,
    /// The runtime's name for it.
    pub name: String,
    /// Its first process.
    pub pid: u32,
}

/// What a search found, and each place that was looked at with what was seen there.
pub type Search<'a> = Pin<Box<dyn Future<Output = (Option<Found>, Vec<String>)> + Send + 'a>>;

/// Somebody who knows containers by name.
pub trait Runtimes: Send + Sync + 'static {
    /// Looks for a running container of that name or id.
    fn find<'a>(&'a self, name: &'a str) -> Search<'a>;
}

/// The runtimes whose sockets are on this host, asked one after the other.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<(String, PathBuf)>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { sockets: SOCKETS.iter().map(|(name, path)| ((*name).to_owned(), PathBuf::from(path))).collect() }
    }
}

impl Sockets {
    /// These sockets instead of the usual ones: (runtime's name, path).
    pub fn new(sockets: Vec<(String, PathBuf)>) -> Self {
        Self { sockets }
    }
}

impl Runtimes for Sockets {
    fn find<'a>(&'a self, name: &'a str) -> Search<'a> {
        Box::pin(async move {
            let mut looked = Vec::new();
            for (runtime, socket) in &self.sockets {
                let seen = match ask(socket, name).await {
                    Ok(found) => return (Some(found), looked),
                    Err(seen) => seen,
                };
                looked.push(format!("{runtime} at {} ({seen})", socket.display()));
            }
            (None, looked)
        })
    }
}

/// The container, or what was seen instead.
async fn ask(socket: &Path, name: &str) -> Result<Found, String> {
    if !socket.exists() {
        return Err("not there".into());
    }
    let address = socket.to_str().ok_or("its path is not UTF-8")?;
    let client = bollard::Docker::connect_with_unix(address, PATIENCE.as_secs(), bollard::API_DEFAULT_VERSION)
        .map_err(|error| error.to_string())?;
    let inspect = client.inspect_container(name, None::<bollard::query_parameters::InspectContainerOptions>);
    let container = match tokio::time::timeout(PATIENCE, inspect).await {
        Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })) => {
            return Err("knows no such container".into());
        }
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(container)) => container,
    };
    let pid =
        container.state.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    let pid = pid.ok_or("knows it, but it is not running")?;
    let id = container.id.and_then(|id| id.parse().ok()).ok_or("knows it, but gave no usable id")?;
    let given = container.name.unwrap_or_default();
    Ok(Found { id, name: given.trim_start_matches('/').to_owned(), pid })
}

/// No runtime at all.
#[derive(Debug, Default)]
pub struct NoRuntimes;

impl Runtimes for NoRuntimes {
    fn find<'a>(&'a self, _: &'a str) -> Search<'a> {
        Box::pin(async { (None, Vec::new()) })
    }
}
