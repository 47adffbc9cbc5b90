//! Docker's Engine API, its network part, on a unix socket: `docker`, docker-py, Traefik and the like speak to netd with
//! `DOCKER_HOST=unix:///run/netd/docker.sock`.
//!
//! Networks are netd's. Where an engine is configured, containers are the engine's: what is not networking is passed on to
//! it as a stream, containers are made on netd's networks, and what the engine shows of containers gets netd's part.
//! Without an engine, the containers that netd knows are shown, and what needs an engine is refused with 501.
//!
//! Versions, routes, statuses and texts are those of moby (daemon/server, api/swagger.yaml).

mod body;
mod connect;
mod container_json;
mod containers;
mod create_network;
mod event_frame;
mod events;
mod failure;
mod filters;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod named;
mod network_json;
mod networks;
mod podman_networks;
mod routes;
mod stats;
mod swarm;
mod swarm_state;
mod system;
mod tasks;
mod time;
mod upstream;
pub mod version;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use self::events::Log;
use self::failure::Failure;
pub use self::system::Facts;
use self::upstream::Upstream;
use self::version::{ApiVersion, NEWEST};
use crate::engine::Handle;
use crate::model::desired::Attached;

/// The Engine API.
pub struct EngineApi {
    handle: Handle,
    /// What runs containers.
    engine: Option<Upstream>,
    /// The oldest version that is spoken.
    oldest: ApiVersion,
    facts: Facts,
    events: Arc<Log>,
    /// Held while networks are pruned.
    pruning: tokio::sync::Mutex<()>,
    /// Whether the network of containers for which none is given has been made.
    prepared: tokio::sync::OnceCell<()>,
    /// Held while the swarm is changed.
    swarm_changes: tokio::sync::Mutex<()>,
    tasks: tasks::Tasks,
}

/// A request, as far as all handlers need it.
pub(in crate::faces::engine_api) struct Asked {
    /// The version of the reply.
    version: ApiVersion,
    query: HashMap<String, String>,
    /// Path and query as the engine gets them.
    upstream: Uri,
}

impl Asked {
    fn query(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }
}

impl EngineApi {
    /// The API that works through this engine of netd. `upstream`: the socket of the engine that runs containers.
    pub fn new(handle: Handle, upstream: Option<PathBuf>, oldest: ApiVersion, facts: Facts) -> Arc<Self> {
        let changes = handle.events();
        let snapshot = handle.snapshot();
        let count = |attached: &Arc<Attached>| (attached.container.id.clone(), attached.endpoints.len());
        let ends = snapshot.desired.containers().map(count).collect();
        let (events, pruning) = (Arc::new(Log::new(changes, ends)), tokio::sync::Mutex::default());
        let (engine, prepared) = (upstream.map(Upstream::new), tokio::sync::OnceCell::new());
        let (swarm_changes, tasks) = (tokio::sync::Mutex::default(), tasks::Tasks::default());
        Arc::new(Self { handle, engine, oldest, facts, events, pruning, prepared, swarm_changes, tasks })
    }

    /// Makes the network `bridge` once it is known that Docker is the engine: Docker's users expect that it is there.
    async fn prepare(&self) {
        let Some(engine) = &self.engine else { return };
        let make = || async {
            match engine.about().await {
                Ok(about) if about.kind == upstream::Kind::Docker => {
                    upstream::default_network(&self.handle).await.map(drop)
                }
                Ok(_) => Ok(()),
                Err(failure) => Err(failure),
            }
        };
        if let Err(failure) = self.prepared.get_or_try_init(make).await {
            tracing::debug!("there is no network bridge yet: {}", failure.message);
        }
    }

    /// The newest version that is spoken: the engine's, if it is older than netd's.
    async fn newest(&self) -> ApiVersion {
        match &self.engine {
            Some(engine) => engine.about().await.map_or(NEWEST, |about| about.version),
            None => NEWEST,
        }
    }

    /// Reads version and query.
    async fn asked(&self, uri: &Uri, newest: ApiVersion) -> Result<Asked, Failure> {
        let (version, path) = version::split(uri.path());
        let version = match version {
            None => newest,
            Some(text) => {
                let given: ApiVersion = text.parse()?;
                if given > newest {
                    let why = format!("client version {text} is too new. Maximum supported API version is {newest}");
                    return Err(Failure::bad(why));
                }
                if given < self.oldest {
                    let why =
                        format!("client version {text} is too old. Minimum supported API version is {}", self.oldest);
                    return Err(Failure::bad(format!("{why}, please upgrade your client to a newer version")));
                }
                given
            }
        };
        let query = Query::<HashMap<String, String>>::try_from_uri(uri).map(|Query(query)| query);
        let query = query.map_err(|error| Failure::bad(format!("invalid query: {error}")))?;
        let after = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let upstream = format!("/v{version}{path}{after}").parse().map_err(|_| Failure::no_page())?;
        Ok(Asked { version, query, upstream })
    }
}

/// The header of netd's requests to the engine, by which netd knows itself.
const ASKED_BY: &str = "x-netd-asks";

/// The routes. Ids in paths may contain slashes, and every path may begin with a version: there is one route.
pub fn router(api: Arc<EngineApi>) -> Router {
    Router::new().fallback(answer).with_state(api)
}

async fn answer(State(api): State<Arc<EngineApi>>, request: Request) -> Response {
    if request.headers().contains_key(ASKED_BY) {
        let why = "the socket of [engine] in netd.toml is netd's own: name that of Docker or Podman";
        return Failure::new(StatusCode::LOOP_DETECTED, why).into_response();
    }
    let newest = api.newest().await;
    api.prepare().await;
    let asked = api.asked(&request.uri().clone(), newest).await;
    let reply = match asked {
        Ok(asked) => routes::dispatch(&api, asked, request).await,
        Err(failure) => Err(failure),
    };
    let mut reply = reply.unwrap_or_else(IntoResponse::into_response);
    let server = concat!("netd/", env!("CARGO_PKG_VERSION"), " (linux)");
    let headers = reply.headers_mut();
    let version = HeaderValue::from_str(&newest.to_string()).unwrap_or(HeaderValue::from_static("1.40"));
    headers.insert("api-version", version);
    for (name, value) in [("server", server), ("ostype", "linux"), ("docker-experimental", "false")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

#[cfg(test)]
mod tests;
