//! The engine that runs containers (Docker or Podman), behind its own API socket: what netd asks it, and the requests that
//! are passed on to it. Each request has a connection of its own, which ends with it.

mod containers;
mod create;
mod events;
mod networks;
mod pass;
mod tasks;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

pub(super) use self::create::default_network;
use super::failure::Failure;
use super::version::{ApiVersion, NEWEST};
use crate::base::monotonic;

/// How long the engine may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what it has said is used.
const KNOWN: Duration = Duration::from_secs(10);
/// How long it is not asked again when it did not answer.
const UNKNOWN: Duration = Duration::from_secs(2);
/// How long it may take for a question of netd: it may have to make a network, or wait for a container that starts.
const ANSWERS: Duration = Duration::from_secs(120);
/// How many answers are read as a whole at the same time.
const READING: usize = 4;
/// The longest answer that netd reads as a whole, in bytes: a list of some ten thousand containers.
const ANSWER_MAX: usize = 64 << 20;
/// The version of an engine that does not say its own.
const OWN: ApiVersion = ApiVersion::one(40);

/// Which engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Docker,
    Podman,
}

/// What an engine says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct About {
    pub(super) kind: Kind,
    /// The newest version that both netd and the engine speak.
    pub(super) version: ApiVersion,
    /// Whether it builds images with BuildKit.
    pub(super) buildkit: bool,
}

/// The engine.
pub(super) struct Upstream {
    socket: PathBuf,
    about: Mutex<Said>,
    /// Held while the engine is asked what it is.
    asking: tokio::sync::Mutex<()>,
    /// How many answers may be read as a whole at the same time.
    reading: tokio::sync::Semaphore,
    /// Held while a network is made in the engine, so that it is made once.
    making: tokio::sync::Mutex<()>,
}

/// What the engine has said about itself.
#[derive(Default)]
struct Said {
    /// When it was last asked, and what came.
    at: Option<(Instant, Result<About, Failure>)>,
    /// The last that it said.
    known: Option<About>,
}

/// The engine's answer to a question of netd.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) value: Value,
}

impl Answer {
    /// The value, or the failure that the engine reports.
    pub(super) fn value(self) -> Result<Value, Failure> {
        if self.status.is_success() {
            return Ok(self.value);
        }
        let message = self.value["message"].as_str().unwrap_or("the engine gave no reason").to_owned();
        Err(Failure::new(self.status, message))
    }
}

impl Upstream {
    pub(super) fn new(socket: PathBuf) -> Self {
        let (asking, making) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        Self { socket, about: Mutex::default(), asking, reading: tokio::sync::Semaphore::new(READING), making }
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> Failure {
        let at = self.socket.display();
        let why = format!("the engine at {at} does not answer: {why}: start it, or see [engine] in netd.toml(5)");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    /// What the engine is; as it was when it cannot be asked now.
    pub(super) async fn about(&self) -> Result<About, Failure> {
        let known = self.fresh();
        if let Some(known) = known {
            return known;
        }
        // One asks for all.
        let _asking = self.asking.lock().await;
        if let Some(known) = self.fresh() {
            return known;
        }
        let known = self.lock().known;
        let ping = Request::builder().uri("/_ping").header(HOST, "netd").body(Body::empty());
        let ping = ping.map_err(|error| self.unreachable(error))?;
        let said = match timeout(PATIENCE, self.send(ping)).await {
            Ok(Ok(reply)) if reply.status().is_success() => Ok(about(reply.headers())),
            Ok(Ok(reply)) => Err(self.unreachable(format!("it answers a ping with {}", reply.status()))),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        let said = match (said, known) {
            (Err(_), Some(about)) => Ok(about),
            (said, _) => said,
        };
        let known = said.as_ref().ok().copied().or(known);
        *self.lock() = Said { at: Some((monotonic::now(), said.clone())), known };
        said
    }

    /// What it has said, or that it did not answer, if that is not long ago.
    fn fresh(&self) -> Option<Result<About, Failure>> {
        let (at, said) = self.lock().at.clone()?;
        let patience = if said.is_ok() { KNOWN } else { UNKNOWN };
        (at.elapsed() < patience).then_some(said)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        // A value is replaced as a whole.
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request on a connection of its own.
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        request.headers_mut().insert(super::ASKED_BY, HeaderValue::from_static("1"));
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))?;
        tokio::spawn(async move {
            // Whoever reads the reply gets the error.
            let _ = connection.with_upgrades().await;
        });
        sender.send_request(request).await.map_err(|error| self.unreachable(error))
    }

    /// Asks the engine something, and reads the whole answer.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let version = self.about().await?.version;
        let mut request = Request::builder().method(method).uri(format!("/v{version}{path}")).header(HOST, "netd");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.body(body).map_err(|error| self.unreachable(error))?;
        let asked = async { self.read(self.send(request).await?).await };
        let late = || self.unreachable(format!("no answer within {} s", ANSWERS.as_secs()));
        timeout(ANSWERS, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// What the engine replies to a request of a client, for netd to change it.
    pub(super) async fn get(&self, uri: &Uri) -> Result<Value, Failure> {
        let request = Request::builder().uri(uri.clone()).header(HOST, "netd").body(Body::empty());
        self.read(self.send(request.map_err(|error| self.unreachable(error))?).await?).await?.value()
    }

    /// The whole reply.
    async fn read(&self, reply: Response<Incoming>) -> Result<Answer, Failure> {
        let (parts, body) = reply.into_parts();
        // The semaphore is never closed.
        let _turn = self.reading.acquire().await;
        let bytes = axum::body::to_bytes(Body::new(body), ANSWER_MAX).await;
        let bytes = bytes.map_err(|error| self.unreachable(error))?;
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status: parts.status, value })
    }
}

fn about(headers: &HeaderMap) -> About {
    let kind = if headers.contains_key("libpod-api-version") { Kind::Podman } else { Kind::Docker };
    let version = headers.get("api-version").and_then(|version| version.to_str().ok()?.parse().ok());
    let buildkit = headers.get("builder-version").is_some_and(|builder| builder == "2");
    About { kind, version: version.unwrap_or(OWN).min(NEWEST), buildkit }
}
