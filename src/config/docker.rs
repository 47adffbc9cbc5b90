//! The settings of what Docker and its tools use: Docker's driver, the Engine API, and the engine behind it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, file};
use crate::faces::engine_api::version::{ApiVersion, OLDEST_USUAL};

/// Where Docker looks for drivers (moby, pkg/plugins/discovery.go).
const DOCKER_PLUGIN: &str = "/run/docker/plugins/netd.sock";
/// The default path of Docker's API.
const DOCKER_API: &str = "/var/run/docker.sock";
/// The name of the Engine API's socket in the runtime folder.
const SOCKET: &str = "docker.sock";

/// Docker's driver `netd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerPlugin {
    /// Whether Docker can use netd's networks.
    pub enabled: bool,
    /// The socket at which Docker finds the driver, by the socket's name; absent: `/run/docker/plugins/netd.sock`, unless
    /// `runtime_dir` is set.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "file::some_path")]
    pub socket: Option<PathBuf>,
    /// The socket of Docker's API, at which netd asks for the names of containers and networks.
    #[serde(deserialize_with = "file::path")]
    pub api: PathBuf,
}

/// Docker's Engine API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerApi {
    /// The socket; absent: `docker.sock` in the runtime folder.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "file::some_path")]
    pub socket: Option<PathBuf>,
    /// The group that may connect, besides root. Its members can do what root can, if an engine is configured.
    pub group: String,
    /// The oldest version of the API that is spoken, 1.24 to the newest.
    #[serde(deserialize_with = "file::api_version")]
    pub min_api_version: ApiVersion,
}

/// The engine that runs containers: Docker, or Podman.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerEngine {
    /// The socket of its API.
    #[serde(deserialize_with = "file::path")]
    pub socket: PathBuf,
}

impl Config {
    /// Where Docker finds netd's driver; `None`: nowhere. A daemon with a runtime folder of its own is a second one on this
    /// machine, and leaves the usual place to the first.
    pub fn plugin_socket(&self) -> Option<PathBuf> {
        let plugin = &self.docker_plugin;
        let usual = || (self.runtime_dir == Self::default().runtime_dir).then(|| PathBuf::from(DOCKER_PLUGIN));
        plugin.socket.clone().or_else(usual).filter(|_| plugin.enabled)
    }

    /// The Engine API and its socket; `None`: off.
    pub fn engine_api(&self) -> Option<(PathBuf, DockerApi)> {
        let api = match (&self.docker_api, &self.engine) {
            (Some(api), _) => api.clone(),
            (None, Some(_)) => DockerApi::default(),
            (None, None) => return None,
        };
        let socket = api.socket.clone().unwrap_or_else(|| self.runtime_dir.join(SOCKET));
        Some((socket, api))
    }
}

impl Default for DockerApi {
    fn default() -> Self {
        Self { socket: None, group: "netd-docker".into(), min_api_version: OLDEST_USUAL }
    }
}

impl Default for DockerPlugin {
    fn default() -> Self {
        Self { enabled: true, socket: None, api: DOCKER_API.into() }
    }
}
