//! Which request is whose: netd's own, the engine's, or nobody's.

use std::sync::Arc;

use axum::extract::{FromRequestParts as _, Request};
use axum::http::Method;
use axum::http::StatusCode;
use axum::response::Response;

use super::failure::Failure;
use super::{Asked, EngineApi, swarm, version};
use crate::faces::shared::server::budget::Stopping;
use crate::faces::shared::server::extract::Stream;

/// The first segments of paths that are an engine's.
const OF_ENGINES: [&str; 16] = [
    "containers",
    "images",
    "build",
    "volumes",
    "exec",
    "auth",
    "commit",
    "session",
    "grpc",
    "distribution",
    "system",
    "plugins",
    "libpod",
    "debug",
    "checkpoints",
    "build-cache",
];

pub(super) async fn dispatch(api: &Arc<EngineApi>, asked: Asked, request: Request) -> Result<Response, Failure> {
    let path = decoded(version::split(request.uri().path()).1)?;
    let method = request.method().clone();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (&method, parts.as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => Ok(api.ping(&method).await),
        (&Method::GET, ["version"]) => api.version(&asked).await,
        (&Method::GET, ["info"]) => api.info(&asked).await,
        (&Method::GET, ["events"]) => {
            let (headers, (stopping, place)) = (request.headers().clone(), stream_of(request).await?);
            api.list_events(&asked, &headers, stopping, place).await
        }
        (&Method::GET, ["networks"] | ["networks", ""]) => api.list_networks(&asked).await,
        (&Method::POST, ["networks", "create"]) => api.create_network(&asked, request).await,
        (&Method::POST, ["networks", "prune"]) => api.prune_networks(&asked).await,
        (&Method::POST, ["networks", id @ .., "connect"]) if !id.is_empty() => {
            api.connect(&asked, &id.join("/"), request).await
        }
        (&Method::POST, ["networks", id @ .., "disconnect"]) if !id.is_empty() => {
            api.disconnect(&asked, &id.join("/"), request).await
        }
        (&Method::GET, ["networks", id @ ..]) => api.inspect_network(&asked, &id.join("/")).await,
        (&Method::DELETE, ["networks", id @ ..]) if !id.is_empty() => api.remove_network(&asked, &id.join("/")).await,
        (_, [first, ..]) if swarm::PATHS.contains(first) => swarm::dispatch(api, &asked, request, &parts).await,
        (_, ["containers", ..]) => containers(api, asked, request, &parts).await,
        (_, [first, ..]) => others(api, asked, request, first, &parts).await,
        (_, []) => Err(Failure::no_page()),
    }
}

async fn containers(api: &EngineApi, asked: Asked, request: Request, parts: &[&str]) -> Result<Response, Failure> {
    let (method, uri, snapshot) = (request.method().clone(), asked.upstream.clone(), api.handle.snapshot());
    let Some(engine) = &api.engine else {
        return match (&method, parts) {
            (&Method::GET, ["containers", "json"]) => api.own_containers(&asked),
            (&Method::GET, ["containers", id, "json"]) => api.own_container(&asked, id),
            (&Method::GET, ["containers", id, "stats"]) => {
                let (stopping, place) = stream_of(request).await?;
                api.own_stats(&asked, id, stopping, place)
            }
            _ => Ok(EngineApi::no_engine(&parts.join("/"))),
        };
    };
    match (&method, parts) {
        (&Method::GET, ["containers", "json"]) => engine.containers(&snapshot, request, &asked).await,
        (&Method::POST, ["containers", "create"]) => engine.create_container(&api.handle, request, uri).await,
        (&Method::GET, ["containers", id, "json"]) => match engine.container(&snapshot, request, &asked).await? {
            Some(reply) => Ok(reply),
            None => api.own_container(&asked, id),
        },
        _ => engine.pass(request, uri).await,
    }
}

async fn others(
    api: &EngineApi,
    asked: Asked,
    request: Request,
    first: &str,
    parts: &[&str],
) -> Result<Response, Failure> {
    match &api.engine {
        Some(engine) if first == "build" => {
            let uri = engine.on_networks(&api.handle, &asked).await?;
            engine.pass(request, uri).await
        }
        Some(engine) if first != "networks" => engine.pass(request, asked.upstream).await,
        None if OF_ENGINES.contains(&first) => match (request.method(), parts) {
            // `docker inspect` looks for its object among these.
            (&Method::GET, ["images", image, "json"]) => missing(format!("No such image: {image}")),
            (&Method::GET, ["volumes", volume]) => missing(format!("get {volume}: no such volume")),
            (&Method::GET, ["plugins", plugin, "json"]) => missing(format!("plugin {plugin:?} not found")),
            _ => Ok(EngineApi::no_engine(&parts.join("/"))),
        },
        _ => Err(Failure::no_page()),
    }
}

fn missing(what: String) -> Result<Response, Failure> {
    Err(Failure::new(StatusCode::NOT_FOUND, what))
}

/// What an endless reply needs of its request.
async fn stream_of(request: Request) -> Result<(Stopping, Stream), Failure> {
    let (mut parts, _) = request.into_parts();
    let stopping = parts.extensions.get::<Stopping>().cloned().unwrap_or_default();
    Ok((stopping, Stream::from_request_parts(&mut parts, &()).await?))
}

/// The path without percent signs.
fn decoded(path: &str) -> Result<String, Failure> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()), hex(rest.next()));
                let value = high.zip(low).map(|(high, low)| high * 16 + low);
                value.and_then(|value| u8::try_from(value).ok()).ok_or_else(Failure::no_page)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Failure::no_page())
}
