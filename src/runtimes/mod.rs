//! The runtimes on this host, queried through their API sockets (Docker's API, which Podman supports too): containers
//! by name, and the networks that they define.

pub mod containers;
pub mod docker;
pub(crate) mod networks;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bollard::query_parameters::ListNetworksOptions;
use futures_util::future::join_all;

use crate::model::host::observed::ForeignNetwork;
use crate::model::ids::ContainerId;
use crate::runtimes::networks::Files;

/// How long one runtime may take to answer before the query fails.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for queries of networks: a subnet can be chosen without the answer.
const PATIENCE_NETWORKS: Duration = Duration::from_secs(1);
/// The default sockets of the runtimes.
const SOCKETS: [(&str, &str); 2] = [("Docker", "/var/run/docker.sock"), ("Podman", "/run/podman/podman.sock")];

/// A running container of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundContainer {
    /// The runtime's id.
    pub id: ContainerId,
    /// The runtime's name for it.
    pub name: String,
    /// The id of its first process.
    pub pid: u32,
}

/// The result of a search, and each place that was searched with the finding there.
pub type Search<'a> = Pin<Box<dyn Future<Output = (Option<FoundContainer>, Vec<String>)> + Send + 'a>>;

/// The networks of other programs.
pub type Networks<'a> = Pin<Box<dyn Future<Output = Vec<ForeignNetwork>> + Send + 'a>>;

/// A source of containers by name, and of other programs' networks.
pub trait Runtimes: Send + Sync + 'static {
    /// Searches for a running container with that name or id.
    fn find<'a>(&'a self, name: &'a str) -> Search<'a>;

    /// The networks that other programs define. A program that does not answer within a second is left out.
    fn networks(&self) -> Networks<'_> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// The runtimes with a socket on this host, queried one after the other.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<(String, PathBuf)>,
    files: Files,
}

impl Default for Sockets {
    fn default() -> Self {
        let sockets = SOCKETS.iter().map(|(name, path)| ((*name).to_owned(), PathBuf::from(path))).collect();
        Self { sockets, files: Files::default() }
    }
}

impl Runtimes for Sockets {
    fn find<'a>(&'a self, name: &'a str) -> Search<'a> {
        Box::pin(async move {
            let mut searched = Vec::new();
            for (runtime, socket) in &self.sockets {
                let answer = match ask(socket, name).await {
                    Ok(found) => return (Some(found), searched),
                    Err(answer) => answer,
                };
                searched.push(format!("{runtime} at {} ({answer})", socket.display()));
            }
            (None, searched)
        })
    }

    fn networks(&self) -> Networks<'_> {
        Box::pin(async move {
            let files = self.files.clone();
            let files = tokio::task::spawn_blocking(move || files.read());
            let reported = join_all(self.sockets.iter().map(|(runtime, socket)| networks_of(runtime, socket)));
            let (files, reported) = tokio::join!(files, reported);
            // A reader that panicked contributes nothing.
            networks::together(reported.into_iter().flatten().collect(), files.unwrap_or_default())
        })
    }
}

/// The networks of a runtime; none if it does not answer.
async fn networks_of(runtime: &str, socket: &Path) -> Vec<ForeignNetwork> {
    let asked = async {
        let address = socket.to_str().ok_or("its path is not UTF-8")?;
        let patience = PATIENCE_NETWORKS.as_secs();
        let client = bollard::Docker::connect_with_unix(address, patience, bollard::API_DEFAULT_VERSION);
        let client = client.map_err(|error| error.to_string())?;
        client.list_networks(None::<ListNetworksOptions>).await.map_err(|error| error.to_string())
    };
    if !socket.exists() {
        return Vec::new();
    }
    let networks = match tokio::time::timeout(PATIENCE_NETWORKS, asked).await {
        Ok(Ok(networks)) => networks,
        Ok(Err(why)) => {
            tracing::debug!(runtime, socket = %socket.display(), "its networks are unknown: {why}");
            return Vec::new();
        }
        Err(_) => {
            tracing::debug!(runtime, socket = %socket.display(), "its networks are unknown: it does not answer");
            return Vec::new();
        }
    };
    let theirs = networks.into_iter().filter(|network| !network.driver.as_deref().is_some_and(networks::is_own));
    let known = theirs.filter_map(|network| {
        let name = network.name?;
        let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let subnets = configs.iter().filter_map(|config| networks::subnet(config.subnet.as_deref()?)).collect();
        Some(ForeignNetwork { whose: format!("{runtime}'s network {name}"), name, subnets })
    });
    known.filter(|network| !network.subnets.is_empty()).collect()
}

/// Returns the container, or a description of what was found instead.
async fn ask(socket: &Path, name: &str) -> Result<FoundContainer, String> {
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
    Ok(FoundContainer { id, name: given.trim_start_matches('/').to_owned(), pid })
}

/// No runtimes at all.
#[derive(Debug, Default)]
pub struct NoRuntimes;

impl Runtimes for NoRuntimes {
    fn find<'a>(&'a self, _: &'a str) -> Search<'a> {
        Box::pin(async { (None, Vec::new()) })
    }
}
