//! What Docker knows about its networks and containers, asked at its API socket. The questions do not wait for a container
//! that Docker is just starting, except [`Docker::aliases`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, InspectNetworkOptions, ListContainersOptions};

/// How long Docker may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same where it may wait for a container that starts.
const PATIENCE_STARTING: Duration = Duration::from_secs(60);
/// The key of an endpoint in a network's list as long as it belongs to no container.
const NO_CONTAINER: &str = "ep-";

/// An answer to come; the error says why there is none.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// A network of Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerNetwork {
    /// Its name.
    pub name: String,
    /// Its endpoints.
    pub endpoints: Vec<DockerEndpoint>,
}

/// An endpoint of a network of Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerEndpoint {
    /// Its id.
    pub id: String,
    /// The name of its container.
    pub name: String,
    /// The id of its container, once it belongs to one.
    pub container: Option<String>,
}

/// What is asked of Docker.
pub trait Docker: Send + Sync + 'static {
    /// The network with this id; `None` if Docker has none.
    fn network<'a>(&'a self, id: &'a str) -> Answer<'a, Option<DockerNetwork>>;

    /// The id of the container with this name, running or not.
    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<String>>;

    /// The further names of a container on the network with this id. Waits until the container has started.
    fn aliases<'a>(&'a self, container: &'a str, network: &'a str) -> Answer<'a, Vec<String>>;
}

/// Docker at a unix socket.
#[derive(Debug, Clone)]
pub struct Socket {
    /// The socket.
    pub api: PathBuf,
    /// That of netd's own Engine API, which knows nothing of Docker's networks: what it does not have is not gone.
    pub own: Option<PathBuf>,
}

impl Socket {
    fn client(&self, patience: Duration) -> Result<bollard::Docker, String> {
        let file = |path: &Path| path.canonicalize().ok();
        if self.own.as_deref().and_then(file).is_some_and(|own| file(&self.api) == Some(own)) {
            return Err(format!("{} is netd's own socket: see api of [docker_plugin]", self.api.display()));
        }
        client(&self.api, patience)
    }
}

fn client(socket: &Path, patience: Duration) -> Result<bollard::Docker, String> {
    if !socket.exists() {
        return Err(format!("{} is not there", socket.display()));
    }
    let path = socket.to_str().ok_or("the path of Docker's socket is not UTF-8")?;
    bollard::Docker::connect_with_unix(path, patience.as_secs(), bollard::API_DEFAULT_VERSION)
        .map_err(|error| error.to_string())
}

/// `None` where Docker knows no such thing.
async fn found<T>(patience: Duration, asked: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, String> {
    match tokio::time::timeout(patience, asked).await {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Ok(None),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
    }
}

impl Docker for Socket {
    fn network<'a>(&'a self, id: &'a str) -> Answer<'a, Option<DockerNetwork>> {
        Box::pin(async move {
            let client = self.client(PATIENCE)?;
            let Some(network) = found(PATIENCE, client.inspect_network(id, None::<InspectNetworkOptions>)).await?
            else {
                return Ok(None);
            };
            let endpoints = network.containers.unwrap_or_default().into_iter().filter_map(|(key, endpoint)| {
                let container = (!key.starts_with(NO_CONTAINER)).then_some(key);
                Some(DockerEndpoint { id: endpoint.endpoint_id?, name: endpoint.name.unwrap_or_default(), container })
            });
            Ok(Some(DockerNetwork { name: network.name.unwrap_or_default(), endpoints: endpoints.collect() }))
        })
    }

    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let client = self.client(PATIENCE)?;
            // Docker takes the filter for a part of the name.
            let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
            let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
            let containers = found(PATIENCE, client.list_containers(Some(options))).await?.unwrap_or_default();
            let whole = format!("/{name}");
            let is_it = |names: &Option<Vec<String>>| names.iter().flatten().any(|name| *name == whole);
            Ok(containers.into_iter().find(|container| is_it(&container.names)).and_then(|container| container.id))
        })
    }

    fn aliases<'a>(&'a self, container: &'a str, network: &'a str) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let client = self.client(PATIENCE_STARTING)?;
            let asked = client.inspect_container(container, None::<InspectContainerOptions>);
            let Some(container) = found(PATIENCE_STARTING, asked).await? else { return Ok(Vec::new()) };
            let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
            let on_it = networks.into_values().find(|on| on.network_id.as_deref() == Some(network));
            Ok(on_it.and_then(|on| on.aliases).unwrap_or_default())
        })
    }
}
