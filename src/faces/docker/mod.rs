//! Docker's network and IPAM driver `netd`: libnetwork's remote driver protocol on a unix socket that Docker finds by its
//! name (`/run/docker/plugins/netd.sock`).
//!
//! Docker calls the driver before a container's namespace exists (`Join`), takes the interface into the namespace itself
//! and assigns the addresses; netd prepares everything on the host, so that names and ports are there before the
//! container's first instruction, and looks after the interface in the container as soon as it is complete.
//!
//! | Docker | netd |
//! |---|---|
//! | network | a network of its own, under Docker's name where that is free; with `netd.network=NAME` one that exists |
//! | address of the IPAM driver | a reservation `docker-address-…` |
//! | endpoint | a reservation `docker-ENDPOINT`, from `Join` on an endpoint whose interface is handed over |
//! | endpoint with the container's default route | the ports of the container are published there |
//!
//! The protocol has no names of networks and containers. Docker is asked for them, at its API socket ([`crate::engine::docker`]).

mod driver;
mod endpoint;
mod follow;
mod ipam;
mod messages;
mod ports;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::engine;
use crate::engine::Handle;
use crate::engine::docker::Docker;
use crate::faces::shared::server::extract::Raw;
use crate::faces::shared::server::problem::Problem;
use crate::model::Invalid;
use crate::model::address::Subnet;
use crate::model::network::Network;

/// The beginning of the ids of reservations for addresses that no endpoint has as yet.
const ADDRESS: &str = "docker-address-";

/// The longest request, in bytes: a container that publishes every port, which Docker lists one by one, twice.
const BODY_MAX: usize = 4 << 20;

/// The driver.
pub struct Driver {
    handle: Handle,
    docker: Arc<dyn Docker>,
    /// Subnets that were promised to Docker for networks to come.
    pools: Mutex<HashMap<Subnet, Promise>>,
    /// Addresses that netd released with their endpoint, and that Docker is about to release.
    released: Mutex<HashSet<IpAddr>>,
    /// Something is to be followed.
    wake: Notify,
}

/// A promised subnet.
#[derive(Debug, Clone)]
struct Promise {
    /// The range of automatic addresses.
    range: Option<Subnet>,
    since: Instant,
}

/// Why a request fails, in one line.
#[derive(Debug)]
struct Failure(String);

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self(invalid.to_string())
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self(error.to_string())
    }
}

/// The reply, or why there is none.
type Reply = Result<Value, Failure>;

impl Driver {
    /// The driver that works through this engine, and asks this Docker.
    pub fn new(handle: Handle, docker: Arc<dyn Docker>) -> Arc<Self> {
        let (pools, released, wake) = (Mutex::default(), Mutex::default(), Notify::new());
        Arc::new(Self { handle, docker, pools, released, wake })
    }

    /// netd's network that is Docker's network with this id.
    fn network(&self, id: &str) -> Result<Arc<Network>, Failure> {
        let snapshot = self.handle.snapshot();
        let is_it = |network: &&Arc<Network>| network.engines.iter().any(|known| known.id == id);
        let found = snapshot.desired.networks().find(is_it).cloned();
        found.ok_or_else(|| Failure(format!("netd has no network for Docker's network {id}: see `netd network ls`")))
    }
}

/// What a panicked holder left is whole: each change is a single call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The routes of the protocol. An unknown method is not found, which Docker takes for one that the driver does not have.
pub fn router(driver: Arc<Driver>) -> Router {
    Router::new()
        .route("/Plugin.Activate", post(|| async { reply(json!({"Implements": ["NetworkDriver", "IpamDriver"]})) }))
        .route("/{method}", post(dispatch))
        .with_state(driver)
}

async fn dispatch(
    State(driver): State<Arc<Driver>>,
    axum::extract::Path(method): axum::extract::Path<String>,
    body: Result<Raw<BODY_MAX>, Problem>,
) -> Response {
    let body = match body {
        Ok(Raw(body)) => body,
        Err(problem) => {
            let (status, why) = problem.into_parts();
            return (status, reply(json!({"Err": why}))).into_response();
        }
    };
    let body: &[u8] = if body.iter().all(u8::is_ascii_whitespace) { b"null" } else { &body };
    let (reply_with, error): (Option<Reply>, _) = match method.split_once('.') {
        Some(("NetworkDriver", method)) => (driver.network_driver(method, body).await, "Err"),
        Some(("IpamDriver", method)) => (driver.ipam_driver(method, body).await, "Error"),
        _ => (None, "Err"),
    };
    match reply_with {
        Some(Ok(value)) => reply(value),
        Some(Err(Failure(why))) => {
            tracing::warn!(%method, "refused Docker: {why}");
            reply(json!({ error: why }))
        }
        None => {
            let why = format!("netd's driver has no method {:?}", method.chars().take(64).collect::<String>());
            (StatusCode::NOT_FOUND, reply(json!({"Err": why}))).into_response()
        }
    }
}

fn reply(value: Value) -> Response {
    axum::Json(value).into_response()
}

/// The request, as the method expects it.
fn parse<T: DeserializeOwned>(method: &str, body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure(format!("invalid request {method}: {error}")))
}

impl Driver {
    /// `None`: there is no such method.
    async fn network_driver(self: &Arc<Self>, method: &str, body: &[u8]) -> Option<Reply> {
        let done = |done: Result<(), Failure>| done.map(|()| json!({}));
        Some(match method {
            "GetCapabilities" => Ok(json!({"Scope": "local", "ConnectivityScope": "local"})),
            "CreateNetwork" => match parse(method, body) {
                Ok(request) => done(self.create_network(request).await),
                Err(failure) => Err(failure),
            },
            "DeleteNetwork" => match parse(method, body) {
                Ok(request) => done(self.delete_network(request).await),
                Err(failure) => Err(failure),
            },
            "CreateEndpoint" => match parse(method, body) {
                Ok(request) => self.create_endpoint(request).await,
                Err(failure) => Err(failure),
            },
            "EndpointOperInfo" => parse(method, body).map(|request| self.endpoint_info(&request)),
            "DeleteEndpoint" => match parse(method, body) {
                Ok(request) => done(self.delete_endpoint(request).await),
                Err(failure) => Err(failure),
            },
            "Join" => match parse(method, body) {
                Ok(request) => self.join(request).await,
                Err(failure) => Err(failure),
            },
            "Leave" => match parse(method, body) {
                Ok(request) => done(self.leave(request).await),
                Err(failure) => Err(failure),
            },
            "ProgramExternalConnectivity" => match parse(method, body) {
                Ok(request) => done(self.program(request).await),
                Err(failure) => Err(failure),
            },
            "RevokeExternalConnectivity" => match parse(method, body) {
                Ok(request) => done(self.revoke(request).await),
                Err(failure) => Err(failure),
            },
            // Of other nodes of a cluster, which concern no local network.
            "DiscoverNew" | "DiscoverDelete" => Ok(json!({})),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
